//! What a node keeps under a key, and how two of them become one.

use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::session::{Idle, Record, Register, Root, Stamp, Timestamp, UPDATES_MAX};

/// A node's knowledge of one session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// The whole session.
    Live(Arc<Record>),
    /// Changes of a session that this node has not seen whole: an update never creates one. It is
    /// invisible until the rest arrives.
    Fragment(Arc<Fragment>),
    /// The id is dead, which is for ever.
    Dead(Box<Tombstone>),
}

/// What remains of a session that was ended, or moved to another id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tombstone {
    /// Kept until then: no copy of the session can be alive anywhere after that.
    pub(crate) until: Timestamp,
    /// Where the session was moved to; `None`: it was ended. Whatever was written to the old id by
    /// somebody who did not know of the move goes to the new one.
    pub(crate) moved: Option<Move>,
}

/// Where a session has gone. Of two moves of one session the larger counts, at every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Move {
    /// In which era of the cluster it was asked for: see [`Standing::era`](super::standing::Standing).
    /// A move that was given up and comes to light when its holder is back is older than one that was
    /// begun without that holder.
    pub(crate) era: u64,
    pub(crate) to: Root,
}

impl Tombstone {
    /// What remains of `record`.
    pub(crate) fn of(record: &Record, moved: Option<Move>) -> Self {
        Self {
            until: record.ends_at().plus(TOMBSTONE_MARGIN),
            moved,
        }
    }
}

/// A part of a session: what one request wrote.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fragment {
    /// Sorted by name, one per name.
    pub(crate) registers: Vec<Register>,
    pub(crate) max_inactive: Option<(Stamp, Idle)>,
    pub(crate) accessed_at: Timestamp,
    /// The stamps of atomic updates in here.
    pub(crate) updates: Vec<Stamp>,
}

impl Entry {
    /// Moves the points in time inside from another node's clock to this node's.
    pub(crate) fn rebase(&mut self, theirs: Timestamp, ours: Timestamp) {
        match self {
            Self::Live(record) => rebase_record(record, theirs, ours),
            Self::Fragment(fragment) => rebase_fragment(fragment, theirs, ours),
            Self::Dead(tombstone) => tombstone.until = rebased(tombstone.until, theirs, ours),
        }
    }

    /// Takes over what `other`, a live session or a part of one, knows and this does not. A dead
    /// entry takes nothing. Says whether anything was taken.
    pub(crate) fn merge(&mut self, other: &Self) -> bool {
        match (&mut *self, other) {
            (Self::Dead(_), _) | (_, Self::Dead(_)) => false,
            (Self::Live(record), Self::Live(theirs)) => {
                let differs = record != theirs;
                if differs {
                    Arc::make_mut(record).merge(theirs);
                }
                differs
            }
            (Self::Live(record), Self::Fragment(fragment)) => {
                fragment.apply(Arc::make_mut(record));
                true
            }
            (Self::Fragment(fragment), Self::Live(record)) => {
                let mut whole = Record::clone(record);
                fragment.apply(&mut whole);
                *self = Self::Live(Arc::new(whole));
                true
            }
            (Self::Fragment(fragment), Self::Fragment(theirs)) => {
                Arc::make_mut(fragment).merge(theirs);
                true
            }
        }
    }

    /// Adds what another member has of a session to what is known of it. Dead absorbs everything.
    pub(crate) fn join(known: &mut Option<Self>, other: Option<Self>) {
        match (&mut *known, other) {
            (_, None) => {}
            (Some(known), Some(other)) if !matches!(other, Self::Dead(_)) => {
                known.merge(&other);
            }
            (known, Some(other)) => *known = Some(other),
        }
    }

    /// The session, if it is whole and may be used.
    pub(crate) fn live(&self, now: Timestamp) -> Option<&Arc<Record>> {
        match self {
            Self::Live(record) if record.is_live(now) => Some(record),
            Self::Live(_) | Self::Fragment(_) | Self::Dead(_) => None,
        }
    }

    /// Whether others may know better: a session that has run out may have been used elsewhere
    /// since, and whose changes are here may be there as a whole.
    pub(crate) fn is_doubtful(&self, now: Timestamp) -> bool {
        match self {
            Self::Live(record) => !record.is_live(now) && now < record.ends_at(),
            Self::Fragment(_) => true,
            Self::Dead(_) => false,
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
            Self::Dead(tombstone) => tombstone.until,
        }
    }

    /// What of the entry every holder must agree on, as a number. Access times are not part of it.
    pub(crate) fn version(&self, key: &Root) -> u64 {
        let mut version = VersionHasher::new(key);
        match self {
            Self::Live(record) => {
                version.add(LIVE, record.lifetime.max_inactive.0);
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
            }
            Self::Dead(tombstone) => match tombstone.moved {
                Some(Move { era, to }) => {
                    let (clock, writer) = (era, 0);
                    version.add(&to.to_bytes(), Stamp { clock, writer });
                }
                None => version.add(DEAD, Stamp::default()),
            },
        }
        version.0
    }

    /// Bytes that the entry counts for in the limits, its key and the overhead included.
    pub(crate) fn weight(&self) -> usize {
        let payload = match self {
            Self::Live(record) => record.payload_bytes() + record.registers().len() * REGISTER,
            Self::Fragment(fragment) => fragment.payload_bytes(),
            Self::Dead(_) => 0,
        };
        payload + ENTRY
    }
}

impl Fragment {
    /// That somebody used the session.
    pub(crate) const fn of_access(accessed_at: Timestamp) -> Self {
        Self {
            registers: Vec::new(),
            max_inactive: None,
            accessed_at,
            updates: Vec::new(),
        }
    }

    /// Adds what this knows to a session.
    pub(crate) fn apply(&self, record: &mut Record) {
        for register in &self.registers {
            record.merge_register(register);
        }
        if let Some(max_inactive) = self.max_inactive {
            record.lifetime.max_inactive = record.lifetime.max_inactive.max(max_inactive);
        }
        for stamp in &self.updates {
            record.note_update(*stamp);
        }
        record.touch(self.accessed_at);
    }

    fn merge(&mut self, other: &Self) {
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
        self.updates.extend(&other.updates);
        keep_latest(&mut self.updates);
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

/// What an entry and an attribute cost beside their payload, as measured.
const ENTRY: usize = 192;
const REGISTER: usize = 96;

const LIVE: &[u8] = b"\0live";
const FRAGMENT: &[u8] = b"\0fragment";
const DEAD: &[u8] = b"\0dead";
const UPDATE: &[u8] = b"\0update";

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

/// Sorts the stamps of updates and keeps as many of the latest as a record does.
pub(crate) fn keep_latest(updates: &mut Vec<Stamp>) {
    updates.sort_unstable();
    updates.dedup();
    let older = updates.len().saturating_sub(UPDATES_MAX);
    updates.drain(..older);
}

/// Moves the points in time of a session from another node's clock to this node's.
pub(crate) fn rebase_record(record: &mut Arc<Record>, theirs: Timestamp, ours: Timestamp) {
    let lifetime = &mut Arc::make_mut(record).lifetime;
    lifetime.created_at = rebased(lifetime.created_at, theirs, ours);
    lifetime.ends_at = rebased(lifetime.ends_at, theirs, ours);
    lifetime.accessed_at = rebased(lifetime.accessed_at, theirs, ours);
}

/// The same of a part of one.
pub(crate) fn rebase_fragment(fragment: &mut Arc<Fragment>, theirs: Timestamp, ours: Timestamp) {
    let fragment = Arc::make_mut(fragment);
    fragment.accessed_at = rebased(fragment.accessed_at, theirs, ours);
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
