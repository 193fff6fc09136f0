//! Entries: the state of one session at one node, and how two states merge.

use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::session::{
    AttributeEntry, Credential, Forked, Idle, Loaded, Presented, Record, Root, SecretHash,
    Timestamp, UPDATES_MAX, Version,
};

use super::expired::Mark;

/// The state of one session at one node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// The whole session.
    Live(Arc<Record>),
    /// Changes of a session that is not here. A delta never creates a session: it is invisible
    /// until the session arrives. Otherwise a late change could bring a deleted session back as a
    /// fragment.
    Delta(Arc<Delta>),
    /// The session has expired, and earlier states of it may exist on other nodes.
    Expired(Box<Mark>),
    /// The session was deleted, permanently.
    Dead {
        /// The entry is kept until then: no copy of the session can be alive anywhere after that.
        until: Timestamp,
    },
}

/// A delta: the part of a session that one request wrote.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delta {
    /// Sorted by name, one per name.
    pub(crate) entries: Vec<AttributeEntry>,
    pub(crate) idle_timeout: Option<(Version, Idle)>,
    pub(crate) accessed_at: Timestamp,
    /// The version of that access. 0: the delta is none, and `accessed_at` is the time of the
    /// write, from which a delta without its session is kept.
    pub(crate) access: u64,
    /// The new secret, after a rotation.
    pub(crate) credential: Option<Credential>,
    /// The versions that name the atomic updates in it.
    pub(crate) updates: Vec<Version>,
}

impl Entry {
    /// Converts the times in it from another node's clock to this node's.
    pub(crate) fn rebase(&mut self, theirs: Timestamp, ours: Timestamp) {
        match self {
            Self::Live(record) => rebase_record(record, theirs, ours),
            Self::Delta(fragment) => rebase_fragment(fragment, theirs, ours),
            Self::Expired(mark) => {
                mark.credential.rebase(|at| rebased(at, theirs, ours));
                mark.until = rebased(mark.until, theirs, ours);
            }
            Self::Dead { until } => *until = rebased(*until, theirs, ours),
        }
    }

    /// Returns a tombstone that outlives every copy of the session, including one that was extended
    /// by a login on the other side of a partition.
    pub(crate) fn tombstone(now: Timestamp, record: &Record) -> Self {
        let granted = record.absolute_deadline().since(record.began_at());
        let latest = record.absolute_deadline().max(now.plus(granted));
        Self::Dead {
            until: latest.plus(TOMBSTONE_MARGIN),
        }
    }

    /// Merges `other`, a session or a part of one, into this entry. A deleted session absorbs
    /// everything. Two copies whose credentials have forked are deleted: both sides of a partition
    /// have rotated the id, and neither id may open the other side's session.
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
            (Self::Expired(mark), Self::Delta(fragment)) => {
                let mut part = Delta::clone(fragment);
                let applied = mark.apply_to_part(&mut part);
                *self = Self::Delta(Arc::new(part));
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
            (Self::Delta(fragment), Self::Expired(mark)) => {
                mark.apply_to_part(Arc::make_mut(fragment))
            }
            (Self::Live(record), Self::Delta(fragment)) => fragment.apply(Arc::make_mut(record)),
            (Self::Delta(fragment), Self::Live(record)) => {
                let mut whole = Record::clone(record);
                let applied = fragment.apply(&mut whole);
                *self = Self::Live(Arc::new(whole));
                applied
            }
            (Self::Delta(fragment), Self::Delta(theirs)) => Arc::make_mut(fragment).merge(theirs),
        };
        match merged {
            Ok(()) => Merged::Changed,
            Err(Forked) => {
                let absolute_deadline = self.absolute_deadline().max(other.absolute_deadline());
                let granted = self.granted().max(other.granted());
                *self = Self::Dead {
                    until: absolute_deadline
                        .max(now.plus(granted))
                        .plus(TOMBSTONE_MARGIN),
                };
                Merged::Forked
            }
        }
    }

    /// Merges what another member has replied to a read.
    ///
    /// Holders have slightly different times of one access: the delay of the message that carried
    /// it. The earlier counts, unless this copy has expired by it and the other member goes on
    /// serving the session. This copy is then worth as little as none, which would take over the
    /// other's time as well. Otherwise a call that ends all sessions of a user would find no
    /// session here, and leave alive the one that the next request there prolongs.
    pub(crate) fn merge_found(&mut self, now: Timestamp, other: &Self) -> Merged {
        let merged = self.merge(now, other);
        if let (Self::Live(record), Self::Live(theirs)) = (&mut *self, other)
            && record.lifetime.access == theirs.lifetime.access
            && !record.is_live(now)
            && theirs.is_live(now)
        {
            Arc::make_mut(record).lifetime.accessed_at = theirs.lifetime.accessed_at;
            return Merged::Changed;
        }
        merged
    }

    /// Returns the absolute deadline, if known.
    fn absolute_deadline(&self) -> Timestamp {
        match self {
            Self::Live(record) => record.absolute_deadline(),
            Self::Delta(fragment) => fragment
                .credential
                .as_ref()
                .map_or_else(Timestamp::default, |credential| {
                    credential.absolute_deadline
                }),
            Self::Expired(mark) => mark.credential.absolute_deadline,
            Self::Dead { until } => *until,
        }
    }

    /// Returns the absolute lifetime, if known.
    fn granted(&self) -> Duration {
        match self {
            Self::Live(record) => record.absolute_deadline().since(record.began_at()),
            Self::Delta(_) | Self::Expired(_) | Self::Dead { .. } => Duration::ZERO,
        }
    }

    /// Joins what another member has of a session with what is known. A deleted entry wins.
    pub(crate) fn join(now: Timestamp, known: &mut Option<Self>, other: Option<Self>) {
        match (&mut *known, other) {
            (_, None) => {}
            (Some(known), Some(other)) if !matches!(other, Self::Dead { .. }) => {
                known.merge_found(now, &other);
            }
            (known, Some(other)) => *known = Some(other),
        }
    }

    /// Returns the session, if it is whole and live.
    pub(crate) fn live(&self, now: Timestamp) -> Option<&Arc<Record>> {
        match self {
            Self::Live(record) if record.is_live(now) => Some(record),
            Self::Live(_) | Self::Delta(_) | Self::Expired(_) | Self::Dead { .. } => None,
        }
    }

    /// Returns the result of a read with this secret; `None` if other members may have a later
    /// state.
    pub(crate) fn loaded(&self, now: Timestamp, secret: Option<&SecretHash>) -> Option<Loaded> {
        match self {
            Self::Live(record) if record.is_live(now) => Some(record.loaded(secret, now)),
            Self::Live(_) | Self::Expired(_) => None,
            Self::Delta(fragment) => match fragment.credential.as_ref()?.check(secret?, now) {
                Presented::Current => None,
                Presented::Superseded => Some(Loaded::Superseded),
                Presented::Unknown => Some(Loaded::Absent),
            },
            Self::Dead { .. } => Some(Loaded::Absent),
        }
    }

    /// Returns the part of the entry to send to a member that asks with this secret. If a live
    /// session has another secret, that is only what shows it.
    pub(crate) fn shown_to(self, now: Timestamp, secret: Option<&SecretHash>) -> Self {
        match (&self, secret) {
            (Self::Live(record), Some(secret))
                if record.is_live(now) && !record.is_current(secret) =>
            {
                Self::Delta(Arc::new(Delta {
                    entries: Vec::new(),
                    idle_timeout: None,
                    accessed_at: record.last_accessed_at(),
                    access: record.lifetime.access,
                    credential: Some(record.credential.clone()),
                    updates: Vec::new(),
                }))
            }
            _ => self,
        }
    }

    /// Returns `true` if other members may have a later state: an expired session may have been
    /// accessed elsewhere since, and a session of which only changes are here may be whole
    /// elsewhere.
    pub(crate) fn is_doubtful(&self, now: Timestamp) -> bool {
        match self {
            Self::Live(record) => !record.is_live(now) && now < record.absolute_deadline(),
            Self::Delta(_) => true,
            Self::Expired(mark) => now < mark.credential.absolute_deadline,
            Self::Dead { .. } => false,
        }
    }

    /// Returns when the entry has no effect any more and may be forgotten.
    pub(crate) fn forget_at(&self) -> Timestamp {
        match self {
            // Another holder may have a later access: see `reads`.
            Self::Live(record) => {
                let idle = record.idle_timeout().unwrap_or(Duration::ZERO);
                let grace = (idle / 5).clamp(SWEEP_GRACE_MIN, SWEEP_GRACE_MAX);
                record
                    .expires_at()
                    .plus(grace)
                    .min(record.absolute_deadline())
            }
            Self::Delta(fragment) => fragment.accessed_at.plus(FRAGMENT_AGE_MAX),
            Self::Expired(mark) => mark.until,
            Self::Dead { until } => *until,
        }
    }

    /// Returns the version of the last access, on which holders agree as well.
    pub(crate) fn access(&self) -> u64 {
        match self {
            Self::Live(record) => record.lifetime.access,
            Self::Delta(_) | Self::Expired(_) | Self::Dead { .. } => 0,
        }
    }

    /// Returns the entry's contribution to the digest of its slot.
    pub(crate) fn digest(&self, key: &Root) -> u64 {
        let access = access_digest(key, self.access());
        self.version(key).wrapping_add(access)
    }

    /// Returns a hash of everything that holders must agree on, except accesses.
    pub(crate) fn version(&self, key: &Root) -> u64 {
        let mut hasher = VersionHasher::new(key);
        match self {
            Self::Live(record) => {
                hasher.add(LIVE, record.lifetime.idle_timeout.0);
                hasher.add(CREDENTIAL, record.credential.version());
                for register in record.entries() {
                    hasher.add(register.name.as_bytes(), register.version);
                }
                for version in record.updates() {
                    hasher.add(UPDATE, *version);
                }
            }
            Self::Delta(fragment) => {
                hasher.add(FRAGMENT, Version::default());
                for register in &fragment.entries {
                    hasher.add(register.name.as_bytes(), register.version);
                }
                if let Some(credential) = &fragment.credential {
                    hasher.add(CREDENTIAL, credential.version());
                }
            }
            Self::Expired(mark) => {
                hasher.add(EXPIRED, mark.idle_timeout.0);
                hasher.add(CREDENTIAL, mark.credential.version());
            }
            Self::Dead { .. } => hasher.add(DEAD, Version::default()),
        }
        hasher.0
    }

    /// Returns the bytes that count toward the limits, including the key and the overhead.
    pub(crate) fn weight(&self) -> usize {
        let payload = match self {
            Self::Live(record) => record.payload_bytes() + record.entries().len() * REGISTER,
            Self::Delta(fragment) => fragment.payload_bytes(),
            Self::Expired(_) | Self::Dead { .. } => return TOMBSTONE,
        };
        payload + ENTRY
    }
}

/// Returns the bytes that the marks of removed attributes count for in the limits.
pub(crate) fn marks_bytes(record: &Record) -> usize {
    record.marks().map(|mark| mark.name.len() + REGISTER).sum()
}

impl Delta {
    /// Returns a delta with an access only.
    pub(crate) const fn of_access(accessed_at: Timestamp, access: u64) -> Self {
        Self {
            entries: Vec::new(),
            idle_timeout: None,
            accessed_at,
            access,
            credential: None,
            updates: Vec::new(),
        }
    }

    /// Returns a delta with a floor only. It is no access: it repeats the session's last one.
    pub(crate) fn of_floor(floor: Version, record: &Record) -> Self {
        let lifetime = &record.lifetime;
        Self {
            entries: vec![AttributeEntry::floor(floor)],
            ..Self::of_access(lifetime.accessed_at, lifetime.access)
        }
    }

    /// Returns `true` if it is a floor alone, or what is [shown](Entry::shown_to) of a session to a
    /// request with another secret, neither of which is an access: both have the last one of the
    /// session. Changes [without an access](crate::session::Changes::without_access) have none.
    fn is_no_access(&self) -> bool {
        let is_shown = self.entries.is_empty() && self.credential.is_some();
        let is_floor = matches!(&self.entries[..], [register] if register.is_floor())
            && self.credential.is_none();
        let repeats = is_shown || is_floor;
        self.access == 0 || repeats && self.updates.is_empty() && self.idle_timeout.is_none()
    }

    /// Applies the delta to a session.
    pub(crate) fn apply(&self, record: &mut Record) -> Result<(), Forked> {
        if let Some(credential) = &self.credential {
            record.credential.merge(credential)?;
        }
        // The floor applies to earlier writes, not to those in the same delta.
        let (floor, writes): (Vec<_>, Vec<_>) = self.entries.iter().partition(|r| r.is_floor());
        for register in writes.into_iter().chain(floor) {
            record.merge_register(register);
        }
        if let Some(idle_timeout) = self.idle_timeout {
            record.lifetime.idle_timeout = record.lifetime.idle_timeout.max(idle_timeout);
        }
        for version in &self.updates {
            record.note_update(*version);
        }
        if self.access > 0 {
            record.lifetime.merge_access(self.accessed_at, self.access);
        }
        record.lifetime.returned |= !self.is_no_access();
        Ok(())
    }

    fn merge(&mut self, other: &Self) -> Result<(), Forked> {
        match (&mut self.credential, &other.credential) {
            (Some(ours), Some(theirs)) => ours.merge(theirs)?,
            (ours @ None, theirs) => ours.clone_from(theirs),
            (Some(_), None) => {}
        }
        for register in &other.entries {
            match self
                .entries
                .binary_search_by(|r| r.name.cmp(&register.name))
            {
                Ok(at) if self.entries[at].precedence() >= register.precedence() => {}
                Ok(at) => self.entries[at] = register.clone(),
                Err(at) => self.entries.insert(at, register.clone()),
            }
        }
        self.idle_timeout = self.idle_timeout.max(other.idle_timeout);
        self.accessed_at = self.accessed_at.max(other.accessed_at);
        self.access = self.access.max(other.access);
        self.updates.extend(&other.updates);
        keep_latest(&mut self.updates);
        Ok(())
    }

    /// Returns how many bytes a session grows by at most when the delta is applied.
    pub(crate) fn payload_bytes(&self) -> usize {
        let size =
            |r: &AttributeEntry| r.name.len() + r.value.as_ref().map_or(0, |v| v.as_bytes().len());
        self.entries.iter().map(|r| size(r) + REGISTER).sum()
    }
}

/// How long a tombstone outlives the session's absolute deadline: longer than any message is under
/// way, so that no late copy arrives after the tombstone was forgotten.
pub(crate) const TOMBSTONE_MARGIN: Duration = Duration::from_secs(600);

/// How long a delta without its session is kept: longer than any hand-over takes.
const FRAGMENT_AGE_MAX: Duration = Duration::from_secs(600);

/// Bounds of how long an expired session is kept although it cannot be used, a fifth of its idle
/// timeout: a later access may be under way from the node that handled it, or may have been lost
/// with a broken link.
const SWEEP_GRACE_MIN: Duration = Duration::from_millis(200);
const SWEEP_GRACE_MAX: Duration = Duration::from_secs(60);

/// The effect of merging into an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    Unchanged,
    Changed,
    /// Both sides of a partition have rotated the session's id: the session is deleted.
    Forked,
}

/// Bytes of a tombstone, as measured; a mark of an expired session takes about as many.
const TOMBSTONE: usize = 64;

/// Bytes of an entry and of an attribute in addition to their payload, as measured.
const ENTRY: usize = 192;
const REGISTER: usize = 96;

const LIVE: &[u8] = b"\0live";
const FRAGMENT: &[u8] = b"\0fragment";
const EXPIRED: &[u8] = b"\0expired";
const DEAD: &[u8] = b"\0dead";
const CREDENTIAL: &[u8] = b"\0credential";
const UPDATE: &[u8] = b"\0update";

/// Returns a hash of the names and versions of the attributes at or below a floor.
pub(crate) fn content_below(floor: Version, key: &Root, record: &Record) -> u64 {
    let mut content = VersionHasher::new(key);
    for register in record.entries().iter().filter(|r| r.version <= floor) {
        content.add(register.name.as_bytes(), register.version);
    }
    content.0
}

/// A hash that is independent of order: the sum of the hashes of its parts.
struct VersionHasher(u64);

impl VersionHasher {
    fn new(key: &Root) -> Self {
        Self(xxh3_64_with_seed(&key.to_bytes(), 0))
    }

    fn add(&mut self, what: &[u8], version: Version) {
        let seed = version.clock.rotate_left(17) ^ u64::from(version.writer);
        self.0 = self.0.wrapping_add(xxh3_64_with_seed(what, seed));
    }
}

/// Returns the contribution of an access version to the digest of a slot.
pub(crate) fn access_digest(key: &Root, access: u64) -> u64 {
    match access {
        0 => 0,
        access => xxh3_64_with_seed(&key.to_bytes(), access),
    }
}

/// Sorts the versions of updates and keeps as many of the latest as a record does.
pub(crate) fn keep_latest(updates: &mut Vec<Version>) {
    updates.sort_unstable();
    updates.dedup();
    let older = updates.len().saturating_sub(UPDATES_MAX);
    updates.drain(..older);
}

/// Converts the times in a session from another node's clock to this node's.
pub(crate) fn rebase_record(record: &mut Arc<Record>, theirs: Timestamp, ours: Timestamp) {
    let record = Arc::make_mut(record);
    let lifetime = &mut record.lifetime;
    lifetime.created_at = rebased(lifetime.created_at, theirs, ours);
    lifetime.accessed_at = rebased(lifetime.accessed_at, theirs, ours);
    record.credential.rebase(|at| rebased(at, theirs, ours));
}

/// Converts the times in a delta from another node's clock to this node's.
pub(crate) fn rebase_fragment(fragment: &mut Arc<Delta>, theirs: Timestamp, ours: Timestamp) {
    let fragment = Arc::make_mut(fragment);
    fragment.accessed_at = rebased(fragment.accessed_at, theirs, ours);
    if let Some(credential) = &mut fragment.credential {
        credential.rebase(|at| rebased(at, theirs, ours));
    }
}

/// Converts a time from another node's clock to this node's.
pub(crate) fn rebased(time: Timestamp, theirs: Timestamp, ours: Timestamp) -> Timestamp {
    if time == Timestamp::NEVER {
        time
    } else if time >= theirs {
        ours.plus(time.since(theirs))
    } else {
        ours.minus(theirs.since(time))
    }
}
