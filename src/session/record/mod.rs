//! A session as a store keeps it, and how two copies of it become one.
//!
//! # Removed attributes
//!
//! Where copies are merged, a removed attribute stays as a *mark*, a register without a value, so
//! that an older write of the name on another copy does not bring it back. Marks do not stay for
//! ever: a record may have a *floor*, a stamp at or below which this copy has seen every write that
//! any copy has. Marks at or below the floor are dropped. What the other copy then has at or below
//! the floor, and this copy does not, was removed here, and is dropped as well.
//!
//! So a floor that is raised too early loses writes. When it may be raised is the business of the
//! store that merges records (`cluster::replica::floors`). As long as floors are true, merging is
//! associative. Where one was raised although the copy had not seen everything, the order of merges
//! decides what is lost, and the copies agree all the same once all have met.
//!
//! The floor is kept as a register under a name that no attribute has. A session from which nothing
//! was removed has none.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::idle::Idle;
use super::{
    Credential, Forked, Login, Name, Presented, SecretHash, Stamp, Timestamp, UserKey, Value,
    Writer,
};

/// A live session: its attributes, each with the stamp of its last write, and its lifetime.
///
/// A record is a join-semilattice: merging keeps per attribute the larger stamp and
/// per lifetime field the value that cannot end the session early, so copies that exchange their
/// changes agree, whatever was lost, repeated or reordered on the way. Stores hand records out as
/// `Arc<Record>`: a loaded session costs no copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub(crate) credential: Credential,
    pub(crate) lifetime: Lifetime,
    /// Sorted by name, one per name.
    attributes: Box<[Register]>,
    /// The largest stamp of any write, also of one whose attribute is not there any more.
    latest: Stamp,
    /// Stamps of the last atomic updates, largest first: lets a repeated update be recognised.
    updates: Box<[Stamp]>,
}

/// One attribute: the last write that its holder has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The attribute's name.
    pub name: Name,
    /// When it was last written.
    pub stamp: Stamp,
    /// What was written; `None` when the attribute was removed.
    pub value: Option<Value>,
}

/// The name under which a record keeps its floor.
pub(crate) const FLOOR: &str = "\0";

impl Register {
    /// The register that holds a record's floor.
    pub(crate) fn floor(stamp: Stamp) -> Self {
        Self {
            name: FLOOR.into(),
            stamp,
            value: None,
        }
    }

    /// Returns `true` if it holds the floor, and is no attribute.
    pub(crate) fn is_floor(&self) -> bool {
        &*self.name == FLOOR
    }

    /// Returns `true` if it says that an attribute was removed.
    pub(crate) fn is_mark(&self) -> bool {
        self.value.is_none() && !self.is_floor()
    }

    /// Order of precedence between two writes of one name: stamp, then a removal, then bytes. A floor
    /// drops what has the stamp of a mark below it, so the mark has to come before it as well.
    pub(crate) fn precedence(&self) -> (Stamp, bool, &Option<Value>) {
        (self.stamp, self.value.is_none(), &self.value)
    }
}

/// How long a session lives. Points in time are on the holder's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// When it was created, as its creator's clock said.
    pub(crate) created_at: Timestamp,
    /// The last request that was recorded.
    pub(crate) accessed_at: Timestamp,
    /// Orders what different holders know of accesses; larger is later.
    pub(crate) access: u64,
    /// Allowed time between two requests; `None`: only the absolute deadline counts.
    pub(crate) max_inactive: (Stamp, Idle),
    /// A shorter idle time until somebody has come back with the cookie.
    pub(crate) first_visit: Idle,
    /// Whether somebody has come back with the cookie.
    pub(crate) returned: bool,
}

impl Lifetime {
    /// The idle time in force.
    pub(crate) fn idle(&self) -> Option<Duration> {
        self.idle_if(self.returned)
    }

    /// The idle time in force for a browser that has `returned`, or not.
    fn idle_if(&self, returned: bool) -> Option<Duration> {
        let max = self.max_inactive.1.get();
        match self.first_visit.get() {
            Some(first) if !returned => Some(max.map_or(first, |max| max.min(first))),
            _ => max,
        }
    }

    fn idle_deadline(&self, idle: Duration) -> Timestamp {
        self.accessed_at.plus(idle).plus(touch_interval(idle))
    }

    fn merge(&mut self, other: &Self) {
        self.created_at = self.created_at.min(other.created_at);
        self.merge_access(other.accessed_at, other.access);
        self.max_inactive = self.max_inactive.max(other.max_inactive);
        self.first_visit = self.first_visit.max(other.first_visit);
        self.returned |= other.returned;
    }

    /// Takes over an access that another holder has recorded.
    ///
    /// Equal versions are one access, whose time differs by what its way here has taken: the
    /// earlier counts. A later time that comes with a smaller version, because clocks differ, gets
    /// a new version, the same on every holder; otherwise whoever knows only the larger one would
    /// not learn of it.
    pub(crate) fn merge_access(&mut self, at: Timestamp, version: u64) {
        let (ours, theirs) = ((self.access, self.accessed_at), (version, at));
        if ours.0 == theirs.0 {
            self.accessed_at = ours.1.min(theirs.1);
            return;
        }
        let ((_, smaller), (larger, with_larger)) = (ours.min(theirs), ours.max(theirs));
        let is_behind = smaller > with_larger.plus(ACCESS_TOLERANCE);
        self.access = larger + u64::from(is_behind);
        self.accessed_at = smaller.max(with_larger);
    }
}

/// What a store has under a root, for a presented secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "these three are the contract between stores and the middleware"
)]
pub enum Loaded {
    /// The session.
    Live(Arc<Record>),
    /// The session has had another secret for less than a minute. The request is one that was sent
    /// before the answer to the rotation arrived: it gets no session, and no new one either.
    Superseded,
    /// There certainly is no live session with this id.
    Absent,
}

impl Loaded {
    /// The session, if it is live and the secret is current.
    #[must_use]
    pub fn into_live(self) -> Option<Arc<Record>> {
        match self {
            Self::Live(record) => Some(record),
            Self::Superseded | Self::Absent => None,
        }
    }
}

/// How much of the idle time may pass before an access is written down: a tenth, at most a minute.
///
/// A session therefore lives up to this much longer than its idle time, and never shorter.
fn touch_interval(idle: Duration) -> Duration {
    (idle / 10).min(TOUCH_INTERVAL_MAX)
}

const TOUCH_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// How much later an access must be that comes with a smaller version to count: more than messages
/// between nodes differ in what they take.
const ACCESS_TOLERANCE: Duration = Duration::from_millis(200);

impl Record {
    pub(crate) fn new(credential: Credential, lifetime: Lifetime) -> Self {
        Self {
            credential,
            lifetime,
            attributes: Box::default(),
            latest: Stamp::default(),
            updates: Box::default(),
        }
    }

    /// Puts a record together from parts that came from outside; `None` when they are not what
    /// [`registers`](Self::registers) and [`updates`](Self::updates) give: in order, one per name,
    /// no stamp that could not be followed.
    #[cfg(any(feature = "redis", feature = "replicated", feature = "snapshot"))]
    pub(crate) fn from_parts(
        credential: Credential,
        lifetime: Lifetime,
        attributes: Vec<Register>,
        updates: Vec<Stamp>,
    ) -> Option<Self> {
        let ordered = attributes.is_sorted_by(|a, b| a.name < b.name)
            && updates.is_sorted_by(|a, b| a > b)
            && updates.len() <= UPDATES_MAX;
        let sane = attributes.iter().all(|r| r.stamp.is_sane())
            && attributes
                .iter()
                .all(|r| !r.is_floor() || r.value.is_none())
            && updates.iter().all(Stamp::is_sane)
            && credential.version().is_sane()
            && lifetime.access <= Stamp::MAX_CLOCK
            && lifetime.max_inactive.0.is_sane();
        let latest = attributes.iter().map(|r| r.stamp).max();
        (ordered && sane).then_some(Self {
            credential,
            lifetime,
            latest: latest.unwrap_or_default(),
            attributes: attributes.into(),
            updates: updates.into(),
        })
    }

    /// The value of an attribute; `None` when it is absent or removed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.register(name)?.value.as_ref()
    }

    /// The stamp of an attribute's last write, which may have been its removal.
    #[must_use]
    pub fn stamp(&self, name: &str) -> Option<Stamp> {
        Some(self.register(name)?.stamp)
    }

    /// All attributes in the order of their names; in a replicated store, removed ones included, and
    /// what the store notes about these under the name `"\0"`.
    #[must_use]
    pub fn registers(&self) -> &[Register] {
        &self.attributes
    }

    /// The highest clock of any write in this session.
    #[must_use]
    pub fn clock(&self) -> u64 {
        self.latest().clock
    }

    /// The largest stamp of any write in this session.
    pub(crate) fn latest(&self) -> Stamp {
        let latest = self.latest.max(self.lifetime.max_inactive.0);
        latest.max(self.credential.version())
    }

    /// Takes note of a write whose attribute may not be here.
    pub(crate) fn note_latest(&mut self, stamp: Stamp) {
        self.latest = self.latest.max(stamp);
    }

    /// Forgets which attributes were removed: for stores that merge changes into one record, and
    /// never two records.
    pub(crate) fn forget_removed(&mut self) {
        self.retain(|register| register.value.is_some());
    }

    /// When the session was created, as its creator's clock said.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.lifetime.created_at
    }

    /// The last request that was written down. Accesses are recorded when a tenth of the idle time,
    /// at most a minute, has passed since the one before.
    #[must_use]
    pub const fn last_accessed_at(&self) -> Timestamp {
        self.lifetime.accessed_at
    }

    /// Allowed time between two requests; `None`: only the absolute lifetime counts.
    #[must_use]
    pub const fn max_inactive_interval(&self) -> Option<Duration> {
        self.lifetime.max_inactive.1.get()
    }

    /// When the session ends if nobody comes back: the earlier of the idle and absolute deadline.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_with(&self.lifetime)
    }

    fn expires_with(&self, lifetime: &Lifetime) -> Timestamp {
        let idle = lifetime.idle();
        let idle = idle.map_or(Timestamp::NEVER, |idle| lifetime.idle_deadline(idle));
        idle.min(self.ends_at())
    }

    /// When it would end if it was used now.
    #[cfg(feature = "replicated")]
    pub(crate) fn expires_if_used(&self, now: Timestamp) -> Timestamp {
        let used = Lifetime {
            accessed_at: now,
            returned: true,
            ..self.lifetime.clone()
        };
        self.expires_with(&used)
    }

    /// The absolute deadline, which only a login moves.
    #[must_use]
    pub const fn ends_at(&self) -> Timestamp {
        self.credential.ends_at
    }

    /// When the absolute lifetime began: with the session, or with its last login.
    pub(crate) fn began_at(&self) -> Timestamp {
        self.credential
            .began_at()
            .unwrap_or(self.lifetime.created_at)
    }

    /// The user whose session it is, after a login.
    #[must_use]
    pub fn user(&self) -> Option<UserKey> {
        self.credential.user()
    }

    /// Whether `secret` is the session's current one.
    #[must_use]
    pub fn is_current(&self, secret: &SecretHash) -> bool {
        self.credential.hash == *secret
    }

    /// What a store answers that has found this session and was asked for it with `secret`, or by a
    /// request that has presented its secret before.
    #[must_use]
    pub fn loaded(self: &Arc<Self>, secret: Option<&SecretHash>, now: Timestamp) -> Loaded {
        if !self.is_live(now) {
            return Loaded::Absent;
        }
        match secret.map_or(Presented::Current, |hash| self.credential.check(hash, now)) {
            Presented::Current => Loaded::Live(self.clone()),
            Presented::Superseded => Loaded::Superseded,
            Presented::Unknown => Loaded::Absent,
        }
    }

    /// Whether the session may still be used.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at()
    }

    /// Whether enough time has passed since the recorded access to record another.
    #[must_use]
    pub fn is_touch_due(&self, now: Timestamp) -> bool {
        self.is_touch_due_with(self.lifetime.idle(), now)
    }

    /// The idle time in force; for a browser that has `returned` now not that of a first visit.
    pub(crate) fn idle_time(&self, returned: bool) -> Option<Duration> {
        self.lifetime.idle_if(returned || self.lifetime.returned)
    }

    /// Returns `true` if the browser has come back with the session.
    pub(crate) const fn has_returned(&self) -> bool {
        self.lifetime.returned
    }

    /// Returns `true` if the idle time was set for this session, and is not the one that sessions
    /// were made with.
    pub(crate) fn has_own_idle_time(&self) -> bool {
        self.lifetime.max_inactive.0 != Stamp::default()
    }

    /// Like [`is_live`](Self::is_live), with another idle time.
    pub(crate) fn is_live_with(&self, idle: Option<Duration>, now: Timestamp) -> bool {
        let idle = idle.map_or(Timestamp::NEVER, |idle| self.lifetime.idle_deadline(idle));
        now < idle.min(self.ends_at())
    }

    /// Like [`is_touch_due`](Self::is_touch_due), with another idle time.
    pub(crate) fn is_touch_due_with(&self, idle: Option<Duration>, now: Timestamp) -> bool {
        let first = !self.lifetime.returned && self.lifetime.first_visit.get().is_some();
        let since = now.since(self.lifetime.accessed_at);
        first || idle.is_some_and(|idle| since >= touch_interval(idle))
    }

    /// Records an access by a client that came back with the session's id.
    pub fn touch(&mut self, now: Timestamp) {
        self.touch_as(now, 0);
    }

    /// The same on the node that `writer` tells from others.
    pub(crate) fn touch_as(&mut self, now: Timestamp, writer: Writer) {
        let lifetime = &mut self.lifetime;
        lifetime.accessed_at = lifetime.accessed_at.max(now);
        lifetime.returned = true;
        let next = lifetime.access.saturating_add(1);
        lifetime.access = access_version(now, writer).max(next);
    }

    /// Replaces the secret. `version` is the next one of the session's owner.
    pub(crate) fn rotate(
        &mut self,
        secret: SecretHash,
        login: Option<Login>,
        version: Stamp,
        now: Timestamp,
    ) {
        self.credential = self.credential.rotated(secret, login, version, now);
    }

    /// Names and values together, in bytes: what the limits of a store count.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let size = |r: &Register| r.name.len() + r.value.as_ref().map_or(0, |v| v.as_bytes().len());
        self.attributes.iter().map(size).sum()
    }

    /// How many attributes there are, and the bytes of their names and values; removed ones do not
    /// count.
    pub(crate) fn live_size(&self) -> (usize, usize) {
        let live = self.attributes.iter().filter_map(|register| {
            let value = register.value.as_ref()?;
            Some(register.name.len() + value.as_bytes().len())
        });
        live.fold((0, 0), |(names, bytes), size| (names + 1, bytes + size))
    }

    /// What this session takes in the memory of a node, about: what limits of memory count.
    #[must_use]
    pub fn footprint(&self) -> usize {
        SESSION_BYTES + self.attributes.len() * ATTRIBUTE_BYTES + self.payload_bytes()
    }

    /// Takes over everything that `other`, a copy of the same session, has seen and this has not.
    ///
    /// Commutative, associative and idempotent. Fails if both copies were rotated and neither knew of
    /// the other: then the session is to be deleted.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Forked> {
        self.credential.merge(&other.credential)?;
        self.lifetime.merge(&other.lifetime);
        self.note_latest(other.latest);
        // Against the floors as they are before: the other's goes for what this one lacks, and
        // this one's for what the other lacks.
        let theirs = other.floor();
        if theirs.is_some() {
            self.retain(|r| r.is_floor() || Some(r.stamp) > theirs || other.has(&r.name));
        }
        for register in other.attributes.iter().filter(|r| !r.is_floor()) {
            self.merge_register(register);
        }
        if let Some(floor) = theirs {
            self.raise_floor(floor);
        }
        for stamp in &other.updates {
            self.note_update(*stamp);
        }
        Ok(())
    }

    /// Takes over one write, unless a later one is already here or was dropped below the floor.
    /// Returns `true` if it was taken.
    pub(crate) fn merge_register(&mut self, register: &Register) -> bool {
        if register.is_floor() {
            return self.raise_floor(register.stamp);
        }
        self.note_latest(register.stamp);
        let is_below = Some(register.stamp) <= self.floor();
        match self.position(&register.name) {
            Ok(at) if self.attributes[at].precedence() >= register.precedence() => false,
            Ok(_) if is_below && register.value.is_none() => {
                self.retain(|r| r.name != register.name);
                true
            }
            Ok(at) => {
                self.attributes[at] = register.clone();
                true
            }
            Err(_) if is_below => false,
            Err(at) => {
                insert(&mut self.attributes, at, register.clone());
                true
            }
        }
    }

    /// The stamp at or below which this copy has seen every write; what is not here was removed.
    pub(crate) fn floor(&self) -> Option<Stamp> {
        self.stamp(FLOOR)
    }

    /// The largest stamp below which marks are or may be dropped: a write that is not later could
    /// be taken for one that was removed.
    #[cfg(feature = "replicated")]
    pub(crate) fn last_removal(&self) -> Option<Stamp> {
        let marks = self.marks().map(|mark| mark.stamp);
        marks.max().max(self.floor())
    }

    /// The marks of removed attributes.
    #[cfg(feature = "replicated")]
    pub(crate) fn marks(&self) -> impl Iterator<Item = &Register> {
        self.attributes.iter().filter(|r| r.is_mark())
    }

    /// Raises the floor, and drops the marks at or below it. Returns `true` if it was lower.
    fn raise_floor(&mut self, floor: Stamp) -> bool {
        self.note_latest(floor);
        if self.floor() >= Some(floor) {
            return false;
        }
        self.retain(|r| r.value.is_some() || r.stamp > floor);
        let (Ok(at) | Err(at)) = self.position(FLOOR);
        insert(&mut self.attributes, at, Register::floor(floor));
        true
    }

    fn has(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    fn retain(&mut self, wanted: impl Fn(&Register) -> bool) {
        if !self.attributes.iter().all(&wanted) {
            let mut attributes = mem::take(&mut self.attributes).into_vec();
            attributes.retain(wanted);
            self.attributes = attributes.into();
        }
    }

    /// Remembers the stamp of an atomic update, and forgets the oldest beyond [`UPDATES_MAX`].
    pub(crate) fn note_update(&mut self, stamp: Stamp) {
        if let Err(at) = self.updates.binary_search_by(|known| stamp.cmp(known))
            && at < UPDATES_MAX
        {
            if self.updates.len() < UPDATES_MAX {
                insert(&mut self.updates, at, stamp);
            } else {
                self.updates[at..].rotate_right(1);
                self.updates[at] = stamp;
            }
        }
    }

    /// Stamps of the last atomic updates, largest first.
    #[cfg(any(feature = "replicated", feature = "snapshot"))]
    pub(crate) fn updates(&self) -> &[Stamp] {
        &self.updates
    }

    /// What was last written under a name.
    pub(crate) fn register(&self, name: &str) -> Option<&Register> {
        self.position(name).ok().map(|at| &self.attributes[at])
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.attributes.binary_search_by(|r| (*r.name).cmp(name))
    }
}

/// The version of an access at `now`. The clock of a stamp has room for 65,536 writes in a
/// millisecond; here it tells writers apart.
pub(crate) fn access_version(now: Timestamp, writer: Writer) -> u64 {
    Stamp::after(0, now, writer).clock | u64::from(writer & 0xffff)
}

/// Makes room for exactly one more: sessions are many, and each has few.
fn insert<T>(slice: &mut Box<[T]>, at: usize, item: T) {
    let mut all = mem::take(slice).into_vec();
    all.reserve_exact(1);
    all.insert(at, item);
    *slice = all.into();
}

/// How many atomic updates of a session are remembered. A repeated update finds itself here unless
/// more than this many others have been applied since; then its outcome is called unknown.
pub(crate) const UPDATES_MAX: usize = 16;

/// What a session without attributes takes: the record, its place in a map, the allocator's share.
const SESSION_BYTES: usize = 192;

/// What an attribute takes beside its name and value: its register and an allocation.
const ATTRIBUTE_BYTES: usize = 96;

#[cfg(test)]
mod tests;
