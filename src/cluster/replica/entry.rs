//! What a node keeps under a key, and how two of them become one.

use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::session::{
    Credential, Forked, Idle, Loaded, Presented, Record, Register, Root, SecretHash, Stamp,
    Timestamp, UPDATES_MAX,
};

use super::expired::Mark;

/// A node's knowledge of one session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// The whole session.
    Live(Arc<Record>),
    /// Changes of a session that this node has not seen whole: an update never creates one. It is
    /// invisible until the rest arrives.
    Fragment(Arc<Fragment>),
    /// The session has expired, and copies of a former state of it may be elsewhere.
    Expired(Box<Mark>),
    /// The session was deleted, which is for ever.
    Dead {
        /// The entry is kept until then: no copy of the session can be alive anywhere after that.
        until: Timestamp,
    },
}

/// A part of a session: what one request wrote.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fragment {
    /// Sorted by name, one per name.
    pub(crate) registers: Vec<Register>,
    pub(crate) max_inactive: Option<(Stamp, Idle)>,
    pub(crate) accessed_at: Timestamp,
    /// The version of that access.
    pub(crate) access: u64,
    /// The new secret, after a rotation.
    pub(crate) credential: Option<Credential>,
    /// The stamps of atomic updates in here.
    pub(crate) updates: Vec<Stamp>,
}

impl Entry {
    /// Moves the points in time inside from another node's clock to this node's.
    pub(crate) fn rebase(&mut self, theirs: Timestamp, ours: Timestamp) {
        match self {
            Self::Live(record) => rebase_record(record, theirs, ours),
            Self::Fragment(fragment) => rebase_fragment(fragment, theirs, ours),
            Self::Expired(mark) => {
                mark.credential.rebase(|at| rebased(at, theirs, ours));
                mark.until = rebased(mark.until, theirs, ours);
            }
            Self::Dead { until } => *until = rebased(*until, theirs, ours),
        }
    }

    /// A tombstone for a session: it outlives every copy, also one with a later login on the other
    /// side of a partition.
    pub(crate) fn tombstone(now: Timestamp, record: &Record) -> Self {
        let granted = record.ends_at().since(record.began_at());
        let latest = record.ends_at().max(now.plus(granted));
        Self::Dead {
            until: latest.plus(TOMBSTONE_MARGIN),
        }
    }

    /// Takes over what `other`, a live session or a part of one, knows and this does not. A deleted
    /// session takes nothing, and two copies whose credentials fork are deleted. Returns what has
    /// become of this entry.
    pub(crate) fn merge(&mut self, now: Timestamp, other: &Self) -> Merged {
        let merged = match (&mut *self, other) {
            (Self::Dead { .. }, _) | (_, Self::Dead { .. }) => return Merged::Unchanged,
            (Self::Live(record), Self::Live(theirs)) if record == theirs => {
                return Merged::Unchanged;
            }
            (Self::Live(record), Self::Live(theirs)) => Arc::make_mut(record).merge(theirs),
            (Self::Expired(mark), Self::Expired(theirs)) if mark == theirs => {
                return Merged::Unchanged;
            }
            (Self::Expired(mark), Self::Expired(theirs)) => mark.merge(theirs),
            (Self::Expired(mark), Self::Live(record)) => {
                let mut whole = Record::clone(record);
                let applied = mark.apply(&mut whole);
                *self = Self::Live(Arc::new(whole));
                applied
            }
            (Self::Expired(mark), Self::Fragment(fragment)) => {
                let mut part = Fragment::clone(fragment);
                let applied = mark.apply_to_part(&mut part);
                *self = Self::Fragment(Arc::new(part));
                applied
            }
            (Self::Live(record), Self::Expired(mark)) => {
                let before = record.clone();
                let applied = mark.apply(Arc::make_mut(record));
                if applied.is_ok() && before == *record {
                    return Merged::Unchanged;
                }
                applied
            }
            (Self::Fragment(fragment), Self::Expired(mark)) => {
                mark.apply_to_part(Arc::make_mut(fragment))
            }
            (Self::Live(record), Self::Fragment(fragment)) => fragment.apply(Arc::make_mut(record)),
            (Self::Fragment(fragment), Self::Live(record)) => {
                let mut whole = Record::clone(record);
                let applied = fragment.apply(&mut whole);
                *self = Self::Live(Arc::new(whole));
                applied
            }
            (Self::Fragment(fragment), Self::Fragment(theirs)) => {
                Arc::make_mut(fragment).merge(theirs)
            }
        };
        match merged {
            Ok(()) => Merged::Changed,
            Err(Forked) => {
                let ends_at = self.ends_at().max(other.ends_at());
                let granted = self.granted().max(other.granted());
                *self = Self::Dead {
                    until: ends_at.max(now.plus(granted)).plus(TOMBSTONE_MARGIN),
                };
                Merged::Forked
            }
        }
    }

    /// The absolute deadline, where it is known.
    fn ends_at(&self) -> Timestamp {
        match self {
            Self::Live(record) => record.ends_at(),
            Self::Fragment(fragment) => fragment
                .credential
                .as_ref()
                .map_or_else(Timestamp::default, |credential| credential.ends_at),
            Self::Expired(mark) => mark.credential.ends_at,
            Self::Dead { until } => *until,
        }
    }

    /// The absolute lifetime, where it is known.
    fn granted(&self) -> Duration {
        match self {
            Self::Live(record) => record.ends_at().since(record.began_at()),
            Self::Fragment(_) | Self::Expired(_) | Self::Dead { .. } => Duration::ZERO,
        }
    }

    /// Adds what another member has of a session to what is known of it. Dead absorbs everything.
    pub(crate) fn join(now: Timestamp, known: &mut Option<Self>, other: Option<Self>) {
        match (&mut *known, other) {
            (_, None) => {}
            (Some(known), Some(other)) if !matches!(other, Self::Dead { .. }) => {
                known.merge(now, &other);
            }
            (known, Some(other)) => *known = Some(other),
        }
    }

    /// The session, if it is whole and may be used.
    pub(crate) fn live(&self, now: Timestamp) -> Option<&Arc<Record>> {
        match self {
            Self::Live(record) if record.is_live(now) => Some(record),
            Self::Live(_) | Self::Fragment(_) | Self::Expired(_) | Self::Dead { .. } => None,
        }
    }

    /// What a read with this secret finds; `None`: others may know better.
    pub(crate) fn loaded(&self, now: Timestamp, secret: Option<&SecretHash>) -> Option<Loaded> {
        match self {
            Self::Live(record) if record.is_live(now) => Some(record.loaded(secret, now)),
            Self::Live(_) | Self::Expired(_) => None,
            Self::Fragment(fragment) => match fragment.credential.as_ref()?.check(secret?, now) {
                Presented::Current => None,
                Presented::Superseded => Some(Loaded::Superseded),
                Presented::Unknown => Some(Loaded::Absent),
            },
            Self::Dead { .. } => Some(Loaded::Absent),
        }
    }

    /// What a member gets that asks with this secret: of a live session with another one only what
    /// it takes to see that.
    pub(crate) fn shown_to(self, now: Timestamp, secret: Option<&SecretHash>) -> Self {
        match (&self, secret) {
            (Self::Live(record), Some(secret))
                if record.is_live(now) && !record.is_current(secret) =>
            {
                Self::Fragment(Arc::new(Fragment {
                    registers: Vec::new(),
                    max_inactive: None,
                    accessed_at: record.last_accessed_at(),
                    access: record.lifetime.access,
                    credential: Some(record.credential.clone()),
                    updates: Vec::new(),
                }))
            }
            _ => self,
        }
    }

    /// Returns `true` if others may know better: a session that has run out may have been used
    /// elsewhere since, and whose changes are here may be there as a whole.
    pub(crate) fn is_doubtful(&self, now: Timestamp) -> bool {
        match self {
            Self::Live(record) => !record.is_live(now) && now < record.ends_at(),
            Self::Fragment(_) => true,
            Self::Expired(mark) => now < mark.credential.ends_at,
            Self::Dead { .. } => false,
        }
    }

    /// From when on the entry means nothing to anybody and may be forgotten.
    pub(crate) fn forget_at(&self) -> Timestamp {
        match self {
            // Another holder may have heard of a later access: see `reads`.
            Self::Live(record) => {
                let idle = record.max_inactive_interval().unwrap_or(Duration::ZERO);
                let grace = (idle / 5).clamp(SWEEP_GRACE_MIN, SWEEP_GRACE_MAX);
                record.expires_at().plus(grace).min(record.ends_at())
            }
            Self::Fragment(fragment) => fragment.accessed_at.plus(FRAGMENT_AGE_MAX),
            Self::Expired(mark) => mark.until,
            Self::Dead { until } => *until,
        }
    }

    /// The version of the last access, which holders agree on as well.
    pub(crate) fn access(&self) -> u64 {
        match self {
            Self::Live(record) => record.lifetime.access,
            Self::Fragment(_) | Self::Expired(_) | Self::Dead { .. } => 0,
        }
    }

    /// What the entry adds to the digest of its slot.
    pub(crate) fn digest(&self, key: &Root) -> u64 {
        let access = access_digest(key, self.access());
        self.version(key).wrapping_add(access)
    }

    /// What of the entry every holder must agree on, as a number. Accesses are not part of it.
    pub(crate) fn version(&self, key: &Root) -> u64 {
        let mut version = VersionHasher::new(key);
        match self {
            Self::Live(record) => {
                version.add(LIVE, record.lifetime.max_inactive.0);
                version.add(CREDENTIAL, record.credential.version());
                for register in record.registers() {
                    version.add(register.name.as_bytes(), register.stamp);
                }
                for stamp in record.updates() {
                    version.add(UPDATE, *stamp);
                }
            }
            Self::Fragment(fragment) => {
                version.add(FRAGMENT, Stamp::default());
                for register in &fragment.registers {
                    version.add(register.name.as_bytes(), register.stamp);
                }
                if let Some(credential) = &fragment.credential {
                    version.add(CREDENTIAL, credential.version());
                }
            }
            Self::Expired(mark) => {
                version.add(EXPIRED, mark.max_inactive.0);
                version.add(CREDENTIAL, mark.credential.version());
            }
            Self::Dead { .. } => version.add(DEAD, Stamp::default()),
        }
        version.0
    }

    /// Bytes that the entry counts for in the limits, its key and the overhead included.
    pub(crate) fn weight(&self) -> usize {
        let payload = match self {
            Self::Live(record) => record.payload_bytes() + record.registers().len() * REGISTER,
            Self::Fragment(fragment) => fragment.payload_bytes(),
            Self::Expired(_) | Self::Dead { .. } => return TOMBSTONE,
        };
        payload + ENTRY
    }
}

/// Bytes that the marks of removed attributes count for in the limits.
pub(crate) fn marks_bytes(record: &Record) -> usize {
    record.marks().map(|mark| mark.name.len() + REGISTER).sum()
}

impl Fragment {
    /// An access alone.
    pub(crate) const fn of_access(accessed_at: Timestamp, access: u64) -> Self {
        Self {
            registers: Vec::new(),
            max_inactive: None,
            accessed_at,
            access,
            credential: None,
            updates: Vec::new(),
        }
    }

    /// A floor alone. It is no access: it has the last one of the session.
    pub(crate) fn of_floor(floor: Stamp, record: &Record) -> Self {
        let lifetime = &record.lifetime;
        Self {
            registers: vec![Register::floor(floor)],
            ..Self::of_access(lifetime.accessed_at, lifetime.access)
        }
    }

    /// Returns `true` if it is a floor alone.
    fn is_floor(&self) -> bool {
        matches!(&self.registers[..], [register] if register.is_floor())
            && self.updates.is_empty()
            && self.credential.is_none()
    }

    /// Adds what this knows to a session.
    pub(crate) fn apply(&self, record: &mut Record) -> Result<(), Forked> {
        if let Some(credential) = &self.credential {
            record.credential.merge(credential)?;
        }
        // The floor goes for what was written before it, and not for what comes with it.
        let (floor, writes): (Vec<_>, Vec<_>) = self.registers.iter().partition(|r| r.is_floor());
        for register in writes.into_iter().chain(floor) {
            record.merge_register(register);
        }
        if let Some(max_inactive) = self.max_inactive {
            record.lifetime.max_inactive = record.lifetime.max_inactive.max(max_inactive);
        }
        for stamp in &self.updates {
            record.note_update(*stamp);
        }
        record.lifetime.merge_access(self.accessed_at, self.access);
        record.lifetime.returned |= !self.is_floor();
        Ok(())
    }

    fn merge(&mut self, other: &Self) -> Result<(), Forked> {
        match (&mut self.credential, &other.credential) {
            (Some(ours), Some(theirs)) => ours.merge(theirs)?,
            (ours @ None, theirs) => ours.clone_from(theirs),
            (Some(_), None) => {}
        }
        for register in &other.registers {
            match self
                .registers
                .binary_search_by(|r| r.name.cmp(&register.name))
            {
                Ok(at) if self.registers[at].precedence() >= register.precedence() => {}
                Ok(at) => self.registers[at] = register.clone(),
                Err(at) => self.registers.insert(at, register.clone()),
            }
        }
        self.max_inactive = self.max_inactive.max(other.max_inactive);
        self.accessed_at = self.accessed_at.max(other.accessed_at);
        self.access = self.access.max(other.access);
        self.updates.extend(&other.updates);
        keep_latest(&mut self.updates);
        Ok(())
    }

    /// What a session grows by at most when this is applied to it.
    pub(crate) fn payload_bytes(&self) -> usize {
        let size = |r: &Register| r.name.len() + r.value.as_ref().map_or(0, |v| v.as_bytes().len());
        self.registers.iter().map(|r| size(r) + REGISTER).sum()
    }
}

/// How long a tombstone outlives the session's absolute deadline: more than any message is under
/// way, so that no late copy finds the tombstone gone.
pub(crate) const TOMBSTONE_MARGIN: Duration = Duration::from_secs(600);

/// How long an unfinished part of a session is kept: longer than any hand-over takes.
const FRAGMENT_AGE_MAX: Duration = Duration::from_secs(600);

/// How long a session that has run out is kept although nobody may use it, a fifth of its idle time
/// within these bounds: a later access may be on its way from the node that saw it, or may have
/// got lost with a broken link.
const SWEEP_GRACE_MIN: Duration = Duration::from_millis(200);
const SWEEP_GRACE_MAX: Duration = Duration::from_secs(60);

/// What became of an entry that another one was merged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    Unchanged,
    Changed,
    /// Both sides of a partition have rotated the session's id: it is deleted.
    Forked,
}

/// What a tombstone costs, as measured, and about what a mark does.
const TOMBSTONE: usize = 64;

/// What an entry and an attribute cost beside their payload, as measured.
const ENTRY: usize = 192;
const REGISTER: usize = 96;

const LIVE: &[u8] = b"\0live";
const FRAGMENT: &[u8] = b"\0fragment";
const EXPIRED: &[u8] = b"\0expired";
const DEAD: &[u8] = b"\0dead";
const CREDENTIAL: &[u8] = b"\0credential";
const UPDATE: &[u8] = b"\0update";

/// What a session has at or below a floor, as a number: the names and stamps of its attributes.
pub(crate) fn content_below(floor: Stamp, key: &Root, record: &Record) -> u64 {
    let mut content = VersionHasher::new(key);
    for register in record.registers().iter().filter(|r| r.stamp <= floor) {
        content.add(register.name.as_bytes(), register.stamp);
    }
    content.0
}

/// Order does not matter to it: the version is the sum of its parts.
struct VersionHasher(u64);

impl VersionHasher {
    fn new(key: &Root) -> Self {
        Self(xxh3_64_with_seed(&key.to_bytes(), 0))
    }

    fn add(&mut self, what: &[u8], stamp: Stamp) {
        let seed = stamp.clock.rotate_left(17) ^ u64::from(stamp.writer);
        self.0 = self.0.wrapping_add(xxh3_64_with_seed(what, seed));
    }
}

/// What the version of an access adds to the digest of a slot.
pub(crate) fn access_digest(key: &Root, access: u64) -> u64 {
    match access {
        0 => 0,
        access => xxh3_64_with_seed(&key.to_bytes(), access),
    }
}

/// Sorts the stamps of updates and keeps as many of the latest as a record does.
pub(crate) fn keep_latest(updates: &mut Vec<Stamp>) {
    updates.sort_unstable();
    updates.dedup();
    let older = updates.len().saturating_sub(UPDATES_MAX);
    updates.drain(..older);
}

/// Moves the points in time of a session from another node's clock to this node's.
pub(crate) fn rebase_record(record: &mut Arc<Record>, theirs: Timestamp, ours: Timestamp) {
    let record = Arc::make_mut(record);
    let lifetime = &mut record.lifetime;
    lifetime.created_at = rebased(lifetime.created_at, theirs, ours);
    lifetime.accessed_at = rebased(lifetime.accessed_at, theirs, ours);
    record.credential.rebase(|at| rebased(at, theirs, ours));
}

/// The same of a part of one.
pub(crate) fn rebase_fragment(fragment: &mut Arc<Fragment>, theirs: Timestamp, ours: Timestamp) {
    let fragment = Arc::make_mut(fragment);
    fragment.accessed_at = rebased(fragment.accessed_at, theirs, ours);
    if let Some(credential) = &mut fragment.credential {
        credential.rebase(|at| rebased(at, theirs, ours));
    }
}

fn rebased(time: Timestamp, theirs: Timestamp, ours: Timestamp) -> Timestamp {
    if time == Timestamp::NEVER {
        time
    } else if time >= theirs {
        ours.plus(time.since(theirs))
    } else {
        ours.minus(theirs.since(time))
    }
}
