//! What is kept of an expired session whose former states must not come back.
//!
//! An expired session is forgotten, for it is dead everywhere. Not where a partition lasts: on one side
//! the id may be rotated, or the idle time shortened, and the session expire; on the other side it goes
//! on in its former state. When the sides meet, the former id must not open the session again. So a
//! session that was ever rotated or had its idle time set leaves a mark until no copy can be alive:
//! its credential and the version of its idle time. The mark takes in copies that are older in either,
//! and gives way to others: those show that the session has been used since.

use crate::session::{Credential, Forked, Record, Stamp, Timestamp};

use super::entry::{Entry, TOMBSTONE_MARGIN};

/// What is kept of an expired session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mark {
    pub(crate) credential: Credential,
    /// The version of its idle time.
    pub(crate) idle: Stamp,
    /// No copy of the session can be alive anywhere after that.
    pub(crate) until: Timestamp,
}

impl Mark {
    /// The mark that `record` leaves; `None` if its former states are as good as its last.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let idle = record.lifetime.max_inactive.0;
        let is_plain = record.credential.version() == Stamp::default() && idle == Stamp::default();
        (!is_plain && !record.is_index()).then(|| Self {
            credential: record.credential.clone(),
            idle,
            until: record.ends_at().plus(TOMBSTONE_MARGIN),
        })
    }

    /// What becomes of a copy of the session that meets the mark: `true` if the copy is older and
    /// goes.
    pub(crate) fn absorbs(&self, record: &Record) -> Result<bool, Forked> {
        let mut latest = record.credential.clone();
        latest.merge(&self.credential)?;
        let is_rotated = latest.version() != record.credential.version();
        Ok(is_rotated || self.idle > record.lifetime.max_inactive.0)
    }

    /// Adds another mark of the session.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Forked> {
        self.credential.merge(&other.credential)?;
        self.idle = self.idle.max(other.idle);
        self.until = self.until.max(other.until);
        Ok(())
    }
}

impl From<Mark> for Entry {
    fn from(mark: Mark) -> Self {
        Self::Expired(Box::new(mark))
    }
}
