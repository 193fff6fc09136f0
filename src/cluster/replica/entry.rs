//! Entries: the state of one session at one node, and how two states merge.

use std::sync::Arc;
use std::time::Duration;

use crate::session::{Forked, Loaded, Presented, Record, SecretHash, Timestamp};

use crate::cluster::replica::delta::{ATTRIBUTE_BYTES, Delta};
use crate::cluster::replica::expired::{Mark, TOMBSTONE_MARGIN};

/// The state of one session at one node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// The whole session.
    Live(Arc<Record>),
    /// Changes of a session that is not here. A delta never creates a session: it is invisible
    /// until the session arrives. Otherwise a late change could bring a part of a deleted session
    /// back.
    Delta(Arc<Delta>),
    /// The session has expired, and earlier states of it may exist on other nodes.
    Expired(Box<Mark>),
    /// The session was deleted, permanently.
    Tombstone {
        /// The entry is kept until then: no copy of the session can be alive anywhere after that.
        until: Timestamp,
    },
}

impl Entry {
    /// Returns a tombstone that outlives every copy of the session, including one that was extended
    /// by a login on the other side of a partition.
    pub(crate) fn tombstone(now: Timestamp, record: &Record) -> Self {
        let granted = record.absolute_deadline().since(record.began_at());
        let latest = record.absolute_deadline().max(now.plus(granted));
        Self::Tombstone {
            until: latest.plus(TOMBSTONE_MARGIN),
        }
    }

    /// Merges `other`, a session or a part of one, into this entry. It changes nothing if either is
    /// deleted: the caller keeps the tombstone. Two copies whose credentials have forked are
    /// deleted: both sides of a partition have rotated the id, and neither id may open the other
    /// side's session.
    pub(crate) fn merge(&mut self, now: Timestamp, other: &Self) -> MergeEffect {
        let merged = match (&mut *self, other) {
            (Self::Tombstone { .. }, _) | (_, Self::Tombstone { .. }) => {
                return MergeEffect::Unchanged;
            }
            (Self::Live(record), Self::Live(theirs)) if record == theirs => {
                return MergeEffect::Unchanged;
            }
            (Self::Live(record), Self::Live(theirs)) => Arc::make_mut(record).merge(theirs),
            (Self::Expired(mark), Self::Expired(theirs)) if mark == theirs => {
                return MergeEffect::Unchanged;
            }
            (Self::Expired(mark), Self::Expired(theirs)) => mark.merge(theirs),
            // The copy was accessed elsewhere, and continues. Without the credential of the mark it
            // could be opened with the id from before the rotation.
            (Self::Expired(mark), Self::Live(record)) => {
                let mut whole = Record::clone(record);
                let applied = mark.apply(&mut whole);
                *self = Self::Live(Arc::new(whole));
                applied
            }
            (Self::Expired(mark), Self::Delta(delta)) => {
                let mut changes = Delta::clone(delta);
                let applied = mark.apply_to_delta(&mut changes);
                *self = Self::Delta(Arc::new(changes));
                applied
            }
            (Self::Live(record), Self::Expired(mark)) => {
                let before = record.clone();
                let applied = mark.apply(Arc::make_mut(record));
                if applied.is_ok() && before == *record {
                    return MergeEffect::Unchanged;
                }
                applied
            }
            (Self::Delta(delta), Self::Expired(mark)) => mark.apply_to_delta(Arc::make_mut(delta)),
            (Self::Live(record), Self::Delta(delta)) => delta.apply(Arc::make_mut(record)),
            (Self::Delta(delta), Self::Live(record)) => {
                let mut whole = Record::clone(record);
                let applied = delta.apply(&mut whole);
                *self = Self::Live(Arc::new(whole));
                applied
            }
            (Self::Delta(delta), Self::Delta(theirs)) => Arc::make_mut(delta).merge(theirs),
        };
        match merged {
            Ok(()) => MergeEffect::Changed,
            Err(Forked) => {
                // Longer than either copy can live: one that was sent before the fork was noticed
                // would otherwise open one side's session after the tombstone is gone.
                let absolute_deadline = self.absolute_deadline().max(other.absolute_deadline());
                let granted = self.granted().max(other.granted());
                *self = Self::Tombstone {
                    until: absolute_deadline
                        .max(now.plus(granted))
                        .plus(TOMBSTONE_MARGIN),
                };
                MergeEffect::Forked
            }
        }
    }

    /// Merges what another member has replied to a read.
    ///
    /// Holders have slightly different times of one access: the delay of the message that carried
    /// it. The earlier counts, unless this copy has expired by it and the other member goes on
    /// serving the session. An expired copy must not win over a live one, as a missing copy does
    /// not: otherwise a call that ends all sessions of a user would find no session here, and the
    /// next request at the other member would prolong the session.
    pub(crate) fn merge_found(&mut self, now: Timestamp, other: &Self) -> MergeEffect {
        let merged = self.merge(now, other);
        if let (Self::Live(record), Self::Live(theirs)) = (&mut *self, other)
            && record.lifetime.access == theirs.lifetime.access
            && !record.is_live(now)
            && theirs.is_live(now)
        {
            Arc::make_mut(record).lifetime.accessed_at = theirs.lifetime.accessed_at;
            return MergeEffect::Changed;
        }
        merged
    }

    /// Returns the absolute deadline, if known.
    fn absolute_deadline(&self) -> Timestamp {
        match self {
            Self::Live(record) => record.absolute_deadline(),
            Self::Delta(delta) => delta
                .credential
                .as_ref()
                .map_or_else(Timestamp::default, |credential| {
                    credential.absolute_deadline
                }),
            Self::Expired(mark) => mark.credential.absolute_deadline,
            Self::Tombstone { until } => *until,
        }
    }

    /// Returns the absolute timeout, if known.
    fn granted(&self) -> Duration {
        match self {
            Self::Live(record) => record.absolute_deadline().since(record.began_at()),
            Self::Delta(_) | Self::Expired(_) | Self::Tombstone { .. } => Duration::ZERO,
        }
    }

    /// Joins what another member has of a session with what is known. A deleted entry wins.
    pub(crate) fn join(now: Timestamp, known: &mut Option<Self>, other: Option<Self>) {
        match (&mut *known, other) {
            (_, None) => {}
            (Some(known), Some(other)) if !matches!(other, Self::Tombstone { .. }) => {
                known.merge_found(now, &other);
            }
            (known, Some(other)) => *known = Some(other),
        }
    }

    /// Returns the session, if it is whole and live.
    pub(crate) fn live(&self, now: Timestamp) -> Option<&Arc<Record>> {
        match self {
            Self::Live(record) if record.is_live(now) => Some(record),
            Self::Live(_) | Self::Delta(_) | Self::Expired(_) | Self::Tombstone { .. } => None,
        }
    }

    /// Returns the result of a read with this secret; `None` if other members may have a later
    /// state.
    pub(crate) fn loaded(&self, now: Timestamp, secret: Option<&SecretHash>) -> Option<Loaded> {
        match self {
            Self::Live(record) if record.is_live(now) => Some(record.loaded(secret, now)),
            Self::Live(_) | Self::Expired(_) => None,
            // A member that was asked with another secret than the current one has sent only the
            // credential, which decides.
            Self::Delta(delta) => match delta.credential.as_ref()?.check(secret?, now) {
                Presented::Current => None,
                Presented::Superseded => Some(Loaded::Superseded),
                Presented::Unknown => Some(Loaded::Absent),
            },
            Self::Tombstone { .. } => Some(Loaded::Absent),
        }
    }

    /// Returns the part of the entry to send to a member that asks with this secret. For a live
    /// session with a different secret, only its credential is sent.
    pub(crate) fn shown_to(self, now: Timestamp, secret: Option<&SecretHash>) -> Self {
        // A root is no secret: it is in logs. With nothing else, a client could make the owner send
        // the whole session with each request.
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
    pub(crate) fn may_be_stale(&self, now: Timestamp) -> bool {
        match self {
            Self::Live(record) => !record.is_live(now) && now < record.absolute_deadline(),
            Self::Delta(_) => true,
            Self::Expired(mark) => now < mark.credential.absolute_deadline,
            Self::Tombstone { .. } => false,
        }
    }

    /// Returns when the entry has no effect any more and may be forgotten.
    pub(crate) fn retain_until(&self) -> Timestamp {
        match self {
            Self::Live(record) => {
                let last = record.absolute_deadline().plus(DEADLINE_GRACE);
                let expires_at = record.expires_at();
                if expires_at >= record.absolute_deadline() {
                    return last;
                }
                // Another holder may have a later access: see `reads`.
                let idle = record.idle_timeout().unwrap_or(Duration::ZERO);
                let grace = (idle / 5).clamp(SWEEP_GRACE_MIN, SWEEP_GRACE_MAX);
                expires_at.plus(grace).min(last)
            }
            Self::Delta(delta) => delta.accessed_at.plus(DELTA_AGE_MAX),
            Self::Expired(mark) => mark.until,
            Self::Tombstone { until } => *until,
        }
    }

    /// Returns the version of the last access, on which holders agree as well.
    pub(crate) fn access(&self) -> u64 {
        match self {
            Self::Live(record) => record.lifetime.access,
            Self::Delta(_) | Self::Expired(_) | Self::Tombstone { .. } => 0,
        }
    }

    /// Returns the bytes that count toward the limits, including the key and the overhead.
    pub(crate) fn weight(&self) -> usize {
        let payload = match self {
            Self::Live(record) => record.payload_bytes() + record.entries().len() * ATTRIBUTE_BYTES,
            Self::Delta(delta) => delta.payload_bytes(),
            Self::Expired(_) | Self::Tombstone { .. } => return TOMBSTONE,
        };
        payload + ENTRY
    }
}

impl From<Mark> for Entry {
    fn from(mark: Mark) -> Self {
        Self::Expired(Box::new(mark))
    }
}

/// Returns the bytes that the marks of removed attributes count for in the limits.
pub(crate) fn marks_bytes(record: &Record) -> usize {
    record
        .marks()
        .map(|mark| mark.name.len() + ATTRIBUTE_BYTES)
        .sum()
}

/// How long a delta without its session is kept: longer than any hand-over takes.
const DELTA_AGE_MAX: Duration = Duration::from_secs(600);

/// Bounds of how long an expired session is kept although it cannot be used, a fifth of its idle
/// timeout: a later access may be under way from the node that handled it, or may have been lost
/// with a broken link.
const SWEEP_GRACE_MIN: Duration = Duration::from_millis(200);
const SWEEP_GRACE_MAX: Duration = Duration::from_secs(60);

/// How long a session is kept after its absolute deadline. Deadlines travel as remaining time, so
/// the copy of another holder may have a later one, and may lack the last changes. It must meet the
/// session here: if that were forgotten, the copy would continue it in an earlier state.
const DEADLINE_GRACE: Duration = Duration::from_secs(2);

/// The effect of merging into an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MergeEffect {
    Unchanged,
    Changed,
    /// Both sides of a partition have rotated the session's id: the session is deleted.
    Forked,
}

/// Bytes of a tombstone, as measured; a mark of an expired session takes about as many.
const TOMBSTONE: usize = 64;

/// Bytes of an entry in addition to its payload, as measured.
const ENTRY: usize = 192;
