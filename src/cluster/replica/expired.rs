//! Marks of expired sessions: what prevents an earlier state of an expired session from returning.
//!
//! An expired session is normally forgotten, because it has expired on all nodes. That does not
//! hold during a partition. On one side the id may be rotated or the idle timeout shortened, and
//! the session expire; on the other side it continues in its earlier state. When the partition
//! heals, the earlier id would open the session again. Therefore a session that was ever rotated,
//! or had its idle timeout set, leaves a mark with its credential and idle timeout until no copy
//! can be alive. The mark outlives the absolute deadline as a tombstone does: deadlines travel as
//! remaining time, so a copy that was sent over slow links has a later one, and would open the
//! session under its former id after the mark was gone.
//!
//! A copy that meets the mark takes over both values where they are later, as from any other copy,
//! and continues: the copy shows that the session has been accessed since. The mark does not delete
//! anything, and it is no tombstone.

use std::time::Duration;

use crate::session::{Credential, Forked, Idle, Record, SecretHash, Timestamp, Version};

use crate::cluster::replica::delta::Delta;

/// The remains of an expired session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mark {
    pub(crate) credential: Credential,
    pub(crate) idle_timeout: (Version, Idle),
    /// The absolute deadline and a margin. The deadline of an earlier state is later only by the
    /// delays of messages, since only a login moves it.
    pub(crate) until: Timestamp,
}

impl Mark {
    /// Returns the mark that `record` leaves; `None` if its earlier states need no protection.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        Self::needed(&record.credential, record.lifetime.idle_timeout)
    }

    /// Returns the mark that changes leave which have taken the place of one; `None` for others.
    pub(crate) fn of_delta(delta: &Delta) -> Option<Self> {
        // A mark has both. Changes alone do not show that the rest of the session has expired.
        Self::needed(delta.credential.as_ref()?, delta.idle_timeout?)
    }

    fn needed(credential: &Credential, idle_timeout: (Version, Idle)) -> Option<Self> {
        // Without these, an earlier state has the same id and idle timeout, and expires no later.
        let is_plain =
            credential.version() == Version::default() && idle_timeout.0 == Version::default();
        let is_index = credential.hash == SecretHash::NONE;
        (!is_plain && !is_index).then(|| Self {
            credential: credential.clone(),
            idle_timeout,
            until: credential.absolute_deadline.plus(TOMBSTONE_MARGIN),
        })
    }

    /// Merges the mark into a copy of the session.
    pub(crate) fn apply(&self, record: &mut Record) -> Result<(), Forked> {
        record.credential.merge(&self.credential)?;
        let known = &mut record.lifetime.idle_timeout;
        *known = self.idle_timeout.max(*known);
        Ok(())
    }

    /// Merges the mark into a delta of the session.
    pub(crate) fn apply_to_delta(&self, delta: &mut Delta) -> Result<(), Forked> {
        match &mut delta.credential {
            Some(credential) => credential.merge(&self.credential)?,
            none => *none = Some(self.credential.clone()),
        }
        delta.idle_timeout = delta.idle_timeout.max(Some(self.idle_timeout));
        Ok(())
    }

    /// Merges another mark of the same session.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Forked> {
        self.credential.merge(&other.credential)?;
        self.idle_timeout = self.idle_timeout.max(other.idle_timeout);
        self.until = self.until.max(other.until);
        Ok(())
    }
}

/// How long a tombstone outlives the session's absolute deadline: longer than any message is under
/// way, so that no late copy arrives after the tombstone was forgotten.
pub(crate) const TOMBSTONE_MARGIN: Duration = Duration::from_secs(600);
