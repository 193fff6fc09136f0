//! A session as a store keeps it, and the merge of two copies.
//!
//! # Removed attributes
//!
//! Where copies are merged, a removed attribute stays as a *mark* (a tombstone), a register without
//! a value, so that an older write of the name on another copy does not bring it back. Marks do not
//! stay forever: a record may have a *floor*, a version at or below which this copy has seen every
//! write that any copy has. Marks at or below the floor are dropped. An attribute that the other
//! copy has at or below the floor, and this copy does not have, was removed here, and is dropped as
//! well.
//!
//! A floor that is raised too early therefore loses writes. The store that merges records decides
//! when it may be raised (`cluster::replica::floors`). As long as floors are correct, merging is
//! associative. If one was raised although the copy had not seen everything, the order of merges
//! decides which writes are lost, and the copies still converge once all have been merged.
//!
//! The floor is kept as a register under a name that no attribute has. A session from which nothing
//! was removed has none.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
use super::Forked;
use super::idle::Idle;
use super::{
    Credential, Login, Name, Presented, SecretHash, Timestamp, UserKey, Value, Version, WriterId,
};

/// A live session: its attributes, each with the version of its last write, and its lifetime.
///
/// A record is a join-semilattice: merging keeps per attribute the larger version and per lifetime
/// field the value that cannot end the session early. Copies that exchange their changes converge,
/// even if messages are lost, repeated or reordered. Stores return records as `Arc<Record>`:
/// loading a session copies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub(crate) credential: Credential,
    pub(crate) lifetime: Lifetime,
    /// Sorted by name, one per name.
    attributes: Box<[AttributeEntry]>,
    /// The largest version of any write, including those of attributes that no longer exist.
    latest: Version,
    /// Stamps of the last atomic updates, largest first: a repeated update is recognized by them.
    updates: Box<[Version]>,
}

/// One attribute: the last write that its holder has seen (an LWW register).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeEntry {
    /// The attribute's name.
    pub name: Name,
    /// The version of its last write.
    pub version: Version,
    /// The written value; `None` if the attribute was removed.
    pub value: Option<Value>,
}

/// The name under which a record keeps its floor.
pub(crate) const FLOOR: &str = "\0";

impl AttributeEntry {
    /// The register that holds a record's floor.
    pub(crate) fn floor(version: Version) -> Self {
        Self {
            name: FLOOR.into(),
            version,
            value: None,
        }
    }

    /// Returns `true` if it holds the floor, and is not an attribute.
    pub(crate) fn is_floor(&self) -> bool {
        &*self.name == FLOOR
    }

    /// Returns `true` if it marks an attribute as removed.
    #[cfg(any(test, feature = "replicated"))]
    pub(crate) fn is_mark(&self) -> bool {
        self.value.is_none() && !self.is_floor()
    }

    /// Order of precedence between two writes of one name: version, then a removal, then bytes. A
    /// floor drops writes with the version of a mark below it, so the mark has to precede them here
    /// as well.
    pub(crate) fn precedence(&self) -> (Version, bool, &Option<Value>) {
        (self.version, self.value.is_none(), &self.value)
    }
}

/// The lifetime of a session. Points in time are on the holder's clock. The order of the fields is
/// that of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lifetime {
    /// The creation time, by its creator's clock.
    pub(crate) created_at: Timestamp,
    /// The time of the last recorded request.
    pub(crate) accessed_at: Timestamp,
    /// The version of the last access, which orders the accesses that different holders have
    /// recorded; larger is later.
    pub(crate) access: u64,
    /// The idle timeout; `None`: only the absolute deadline counts.
    pub(crate) idle_timeout: (Version, Idle),
    /// A shorter idle timeout until a client has returned the cookie.
    pub(crate) initial_idle_timeout: Idle,
    /// A client has returned the cookie.
    pub(crate) returned: bool,
}

impl Lifetime {
    /// The idle timeout in force.
    pub(crate) fn idle(&self) -> Option<Duration> {
        self.idle_if(self.returned)
    }

    /// The idle timeout in force for a browser that has `returned`, or has not.
    fn idle_if(&self, returned: bool) -> Option<Duration> {
        let max = self.idle_timeout.1.get();
        match self.initial_idle_timeout.get() {
            Some(first) if !returned => Some(max.map_or(first, |max| max.min(first))),
            _ => max,
        }
    }

    fn idle_deadline(&self, idle: Duration) -> Timestamp {
        self.accessed_at.plus(idle).plus(touch_interval(idle))
    }

    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    fn merge(&mut self, other: &Self) {
        self.created_at = self.created_at.min(other.created_at);
        self.merge_access(other.accessed_at, other.access);
        self.idle_timeout = self.idle_timeout.max(other.idle_timeout);
        self.initial_idle_timeout = self.initial_idle_timeout.max(other.initial_idle_timeout);
        self.returned |= other.returned;
    }

    /// Merges an access that another holder has recorded.
    ///
    /// Equal versions are one access, whose times differ by the time that the message took: the
    /// earlier counts. A later time with a smaller version, caused by clock differences, gets a new
    /// version, the same on every holder; otherwise a holder that has only the larger version would
    /// not receive it.
    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    pub(crate) fn merge_access(&mut self, at: Timestamp, version: u64) {
        let (ours, theirs) = ((self.access, self.accessed_at), (version, at));
        if ours.0 == theirs.0 {
            self.accessed_at = ours.1.min(theirs.1);
            return;
        }
        let ((behind, smaller), (larger, with_larger)) = (ours.min(theirs), ours.max(theirs));
        self.access = if smaller > with_larger.plus(ACCESS_TOLERANCE) {
            raised(larger, behind)
        } else {
            larger
        };
        self.accessed_at = smaller.max(with_larger);
    }
}

/// Returns the new version of an access with version `behind` that is later than the one with the
/// larger version `seen`.
///
/// It depends on both. If it were the next one after `seen`, two later accesses, each of which one
/// holder has merged first, would have the same version: they would count as one, the earlier, and
/// the session would end early on all holders.
#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
const fn raised(seen: u64, behind: u64) -> u64 {
    let distinct = behind.wrapping_mul(MIXER) >> RAISED_SHIFT;
    seen.saturating_add(1).saturating_add(distinct)
}

/// The result of looking up a root with a presented secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "these three are the contract between stores and the middleware"
)]
pub enum Loaded {
    /// The session.
    Live(Arc<Record>),
    /// The session has had another secret for less than a minute. The request was sent before the
    /// response to the rotation arrived: it gets no session, and no new one either.
    Superseded,
    /// There is certainly no live session with this id.
    Absent,
}

impl Loaded {
    /// Returns the session, if it is live and the secret is current.
    #[must_use]
    pub fn into_live(self) -> Option<Arc<Record>> {
        match self {
            Self::Live(record) => Some(record),
            Self::Superseded | Self::Absent => None,
        }
    }
}

/// The part of the idle timeout that may pass before another access is recorded: a tenth, at most a
/// minute.
///
/// A session therefore lives up to this much longer than its idle timeout, and never shorter.
fn touch_interval(idle: Duration) -> Duration {
    (idle / 10).min(TOUCH_INTERVAL_MAX)
}

const TOUCH_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// How much later an access with a smaller version must be to count: more than the delays of
/// messages between nodes differ.
#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
const ACCESS_TOLERANCE: Duration = Duration::from_millis(200);

/// An odd number without a pattern, by which a product differs in its upper bits.
#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Leaves 24 bits: two raised versions are equal in one of 16 million cases, and a version is ahead
/// of the clock by at most a quarter of a second more.
#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
const RAISED_SHIFT: u32 = 40;

impl Record {
    pub(crate) fn new(credential: Credential, lifetime: Lifetime) -> Self {
        Self {
            credential,
            lifetime,
            attributes: Box::default(),
            latest: Version::default(),
            updates: Box::default(),
        }
    }

    /// Creates a record from parts that came from outside; `None` if they are not as
    /// [`entries`](Self::entries) and [`updates`](Self::updates) return them: in order, one per
    /// name, each version with room for a later one.
    pub(crate) fn from_parts(
        credential: Credential,
        lifetime: Lifetime,
        attributes: Vec<AttributeEntry>,
        updates: Vec<Version>,
    ) -> Option<Self> {
        let ordered = attributes.is_sorted_by(|a, b| a.name < b.name)
            && updates.is_sorted_by(|a, b| a > b)
            && updates.len() <= UPDATES_MAX;
        let sane = attributes.iter().all(|r| r.version.is_valid())
            && attributes
                .iter()
                .all(|r| !r.is_floor() || r.value.is_none())
            && updates.iter().all(Version::is_valid)
            && credential.version().is_valid()
            && lifetime.access <= Version::MAX_CLOCK
            && lifetime.idle_timeout.0.is_valid();
        let latest = attributes.iter().map(|r| r.version).max();
        (ordered && sane).then_some(Self {
            credential,
            lifetime,
            latest: latest.unwrap_or_default(),
            attributes: attributes.into(),
            updates: updates.into(),
        })
    }

    /// Returns the value of an attribute; `None` if it is absent or removed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.register(name)?.value.as_ref()
    }

    /// Returns the version of an attribute's last write, which may have been its removal.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<Version> {
        Some(self.register(name)?.version)
    }

    /// Returns all attributes in the order of their names; in a replicated store this includes
    /// removed ones and, under the name `"\0"`, the store's bookkeeping about them.
    #[must_use]
    pub fn entries(&self) -> &[AttributeEntry] {
        &self.attributes
    }

    /// Returns the highest clock of any write in this session.
    #[must_use]
    pub fn clock(&self) -> u64 {
        self.latest().clock
    }

    /// The largest version of any write in this session.
    pub(crate) fn latest(&self) -> Version {
        let latest = self.latest.max(self.lifetime.idle_timeout.0);
        latest.max(self.credential.version())
    }

    /// Records the version of a write whose attribute may not be here.
    pub(crate) fn note_latest(&mut self, version: Version) {
        self.latest = self.latest.max(version);
    }

    /// Returns `true` if `other`, the same session at another time, has been written or has another
    /// secret. Accesses do not count.
    pub(crate) fn was_changed_in(&self, other: &Self) -> bool {
        let live = |register: &&AttributeEntry| register.value.is_some();
        let written = |register: &AttributeEntry| (register.name.clone(), register.version);
        let ours = self.attributes.iter().filter(live).map(written);
        let theirs = other.attributes.iter().filter(live).map(written);
        self.latest() != other.latest()
            || self.credential.hash != other.credential.hash
            || ours.ne(theirs)
    }

    /// Drops the marks of removed attributes: for stores that merge changes into one record, and
    /// never two records.
    pub(crate) fn forget_removed(&mut self) {
        self.retain(|register| register.value.is_some());
    }

    /// Returns the creation time, by the creator's clock.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.lifetime.created_at
    }

    /// Returns the time of the last recorded request. Accesses are recorded when a tenth of the
    /// idle timeout, at most a minute, has passed since the last recorded one.
    #[must_use]
    pub const fn last_accessed_at(&self) -> Timestamp {
        self.lifetime.accessed_at
    }

    /// Returns the idle timeout; `None`: only the absolute timeout counts.
    #[must_use]
    pub const fn idle_timeout(&self) -> Option<Duration> {
        self.lifetime.idle_timeout.1.get()
    }

    /// Returns when the session expires unless it is used: the earlier of the idle and the absolute
    /// deadline.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_with(&self.lifetime)
    }

    fn expires_with(&self, lifetime: &Lifetime) -> Timestamp {
        let idle = lifetime.idle();
        let idle = idle.map_or(Timestamp::NEVER, |idle| lifetime.idle_deadline(idle));
        idle.min(self.absolute_deadline())
    }

    /// When it would expire if it was used now.
    #[cfg(feature = "replicated")]
    pub(crate) fn expires_if_used(&self, now: Timestamp) -> Timestamp {
        let used = Lifetime {
            accessed_at: now,
            returned: true,
            ..self.lifetime.clone()
        };
        self.expires_with(&used)
    }

    /// Returns the absolute deadline, which only a login moves.
    #[must_use]
    pub const fn absolute_deadline(&self) -> Timestamp {
        self.credential.absolute_deadline
    }

    /// The start of the absolute lifetime: the creation, or the last login.
    pub(crate) fn began_at(&self) -> Timestamp {
        self.credential
            .began_at()
            .unwrap_or(self.lifetime.created_at)
    }

    /// Returns the user of the session, after a login.
    #[must_use]
    pub fn user(&self) -> Option<UserKey> {
        self.credential.user()
    }

    /// Returns `true` if `secret` is the session's current one.
    #[must_use]
    pub fn is_current(&self, secret: &SecretHash) -> bool {
        self.credential.hash == *secret
    }

    /// Returns the answer of a store that has found this session, for a request that presents
    /// `secret`, or for one that has presented its secret before (`None`).
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

    /// Returns `true` if the session may still be used.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at()
    }

    /// Returns `true` if enough time has passed since the recorded access to record another.
    #[must_use]
    pub fn is_touch_due(&self, now: Timestamp) -> bool {
        self.is_touch_due_with(self.lifetime.idle(), now)
    }

    /// The idle timeout in force; for a browser that has `returned` now, not that of a first visit.
    pub(crate) fn idle_time(&self, returned: bool) -> Option<Duration> {
        self.lifetime.idle_if(returned || self.lifetime.returned)
    }

    /// Returns `true` if the browser has returned the session's cookie.
    pub(crate) const fn has_returned(&self) -> bool {
        self.lifetime.returned
    }

    /// Returns `true` if the idle timeout was set for this session, and is not the one that it was
    /// created with.
    pub(crate) fn has_own_idle_time(&self) -> bool {
        self.lifetime.idle_timeout.0 != Version::default()
    }

    /// Like [`is_live`](Self::is_live), with another idle timeout.
    pub(crate) fn is_live_with(&self, idle: Option<Duration>, now: Timestamp) -> bool {
        let idle = idle.map_or(Timestamp::NEVER, |idle| self.lifetime.idle_deadline(idle));
        now < idle.min(self.absolute_deadline())
    }

    /// Like [`is_touch_due`](Self::is_touch_due), with another idle timeout.
    pub(crate) fn is_touch_due_with(&self, idle: Option<Duration>, now: Timestamp) -> bool {
        let first = !self.lifetime.returned && self.lifetime.initial_idle_timeout.get().is_some();
        let since = now.since(self.lifetime.accessed_at);
        first || idle.is_some_and(|idle| since >= touch_interval(idle))
    }

    /// Records an access by a client that has returned the session's id.
    pub fn touch(&mut self, now: Timestamp) {
        self.touch_as(now, 0);
    }

    /// The same on the node identified by `writer`.
    pub(crate) fn touch_as(&mut self, now: Timestamp, writer: WriterId) {
        let lifetime = &mut self.lifetime;
        lifetime.accessed_at = lifetime.accessed_at.max(now);
        lifetime.returned = true;
        lifetime.access = next_access(lifetime.access, now, writer);
    }

    /// Replaces the secret. `version` is the owner's next one for this session.
    pub(crate) fn rotate(
        &mut self,
        secret: SecretHash,
        login: Option<Login>,
        version: Version,
        now: Timestamp,
    ) {
        self.credential = self.credential.rotated(secret, login, version, now);
    }

    /// Returns the size of names and values together, in bytes, which the limits of a store count.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let size =
            |r: &AttributeEntry| r.name.len() + r.value.as_ref().map_or(0, |v| v.as_bytes().len());
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

    /// Returns the approximate size of this session in the memory of a node, in bytes, which memory
    /// limits count.
    #[must_use]
    pub fn footprint(&self) -> usize {
        SESSION_BYTES + self.attributes.len() * ATTRIBUTE_BYTES + self.payload_bytes()
    }

    /// Merges everything that `other`, a copy of the same session, has seen and this copy has not.
    ///
    /// Commutative, associative and idempotent. Fails if both copies were rotated independently:
    /// then the session is to be deleted.
    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Forked> {
        self.credential.merge(&other.credential)?;
        self.lifetime.merge(&other.lifetime);
        self.note_latest(other.latest);
        // Compared with the previous floors: the other's applies to what this copy lacks, and this
        // copy's to what the other lacks.
        let theirs = other.floor();
        if theirs.is_some() {
            self.retain(|r| r.is_floor() || Some(r.version) > theirs || other.has(&r.name));
        }
        for register in other.attributes.iter().filter(|r| !r.is_floor()) {
            self.merge_register(register);
        }
        if let Some(floor) = theirs {
            self.raise_floor(floor);
        }
        for version in &other.updates {
            self.note_update(*version);
        }
        Ok(())
    }

    /// Merges one write, unless a later one is already here or was dropped below the floor. Returns
    /// `true` if it was merged.
    pub(crate) fn merge_register(&mut self, register: &AttributeEntry) -> bool {
        if register.is_floor() {
            return self.raise_floor(register.version);
        }
        self.note_latest(register.version);
        let is_below = Some(register.version) <= self.floor();
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

    /// The version at or below which this copy has seen every write; an attribute that is not here
    /// was removed.
    pub(crate) fn floor(&self) -> Option<Version> {
        self.version(FLOOR)
    }

    /// The largest version below which marks are or may be dropped: a write that is not later could
    /// be mistaken for one that was removed.
    #[cfg(feature = "replicated")]
    pub(crate) fn last_removal(&self) -> Option<Version> {
        let marks = self.marks().map(|mark| mark.version);
        marks.max().max(self.floor())
    }

    /// The marks of removed attributes.
    #[cfg(feature = "replicated")]
    pub(crate) fn marks(&self) -> impl Iterator<Item = &AttributeEntry> {
        self.attributes.iter().filter(|r| r.is_mark())
    }

    /// Raises the floor, and drops the marks at or below it. Returns `true` if it was lower.
    fn raise_floor(&mut self, floor: Version) -> bool {
        self.note_latest(floor);
        if self.floor() >= Some(floor) {
            return false;
        }
        self.retain(|r| r.value.is_some() || r.version > floor);
        let (Ok(at) | Err(at)) = self.position(FLOOR);
        insert(&mut self.attributes, at, AttributeEntry::floor(floor));
        true
    }

    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    fn has(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    fn retain(&mut self, wanted: impl Fn(&AttributeEntry) -> bool) {
        if !self.attributes.iter().all(&wanted) {
            let mut attributes = mem::take(&mut self.attributes).into_vec();
            attributes.retain(wanted);
            self.attributes = attributes.into();
        }
    }

    /// Records the version of an atomic update, and drops the oldest beyond [`UPDATES_MAX`].
    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    pub(crate) fn note_update(&mut self, version: Version) {
        if let Err(at) = self.updates.binary_search_by(|known| version.cmp(known))
            && at < UPDATES_MAX
        {
            if self.updates.len() < UPDATES_MAX {
                insert(&mut self.updates, at, version);
            } else {
                self.updates[at..].rotate_right(1);
                self.updates[at] = version;
            }
        }
    }

    /// Stamps of the last atomic updates, largest first.
    pub(crate) fn updates(&self) -> &[Version] {
        &self.updates
    }

    /// The last write of a name.
    pub(crate) fn register(&self, name: &str) -> Option<&AttributeEntry> {
        self.position(name).ok().map(|at| &self.attributes[at])
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.attributes.binary_search_by(|r| (*r.name).cmp(name))
    }
}

/// The version of an access at `now`. The clock of a version has room for 65,536 writes in a
/// millisecond; here these bits distinguish writers.
pub(crate) fn access_version(now: Timestamp, writer: WriterId) -> u64 {
    Version::next(0, now, writer).clock | u64::from(writer) & WRITER_BITS
}

/// The version of an access at `now` that is larger than `seen`.
///
/// It contains the writer also if `seen` is ahead of this writer's clock. Otherwise two nodes that
/// record an access at the same time would give both the same version, and the earlier access
/// would replace the later one.
fn next_access(seen: u64, now: Timestamp, writer: WriterId) -> u64 {
    let after = (seen | WRITER_BITS).saturating_add(1);
    let next = after.saturating_add(u64::from(writer) & WRITER_BITS);
    let version = access_version(now, writer);
    if version > seen { version } else { next }
}

/// The bits of an access's version that distinguish writers.
const WRITER_BITS: u64 = 0xffff;

/// Makes room for exactly one more: there are many sessions, each with few attributes.
fn insert<T>(slice: &mut Box<[T]>, at: usize, item: T) {
    let mut all = mem::take(slice).into_vec();
    all.reserve_exact(1);
    all.insert(at, item);
    *slice = all.into();
}

/// How many atomic updates of a session are remembered. A repeated update is recognized unless more
/// than this many others have been applied since; then its outcome is indeterminate.
pub(crate) const UPDATES_MAX: usize = 16;

/// The size of a session without attributes: the record, its entry in a map, the allocator's
/// overhead.
const SESSION_BYTES: usize = 192;

/// The size of an attribute in addition to its name and value: its register and an allocation.
const ATTRIBUTE_BYTES: usize = 96;

#[cfg(test)]
mod tests;
