//! What is kept of an expired session whose former states must not come back.
//!
//! An expired session is forgotten, for it is dead everywhere. Not where a partition lasts: on one side
//! the id may be rotated, or the idle time shortened, and the session expire; on the other side it goes
//! on in its former state. When the sides meet, the former id must not open the session again. So a
//! session that was ever rotated or had its idle time set leaves a mark until no copy can be alive:
//! its credential and its idle time. A copy that meets the mark takes both over where they are later,
//! as from any other copy, and goes on: it shows that the session has been used since.

use crate::session::{Credential, Forked, Idle, Record, Stamp, Timestamp};

use super::entry::{Delta, Entry};

/// What is kept of an expired session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mark {
    pub(crate) credential: Credential,
    pub(crate) max_inactive: (Stamp, Idle),
    /// The absolute deadline: that of a former state is not later, since only a login moves it.
    pub(crate) until: Timestamp,
}

impl Mark {
    /// The mark that `record` leaves; `None` if its former states are as good as its last.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let max_inactive = record.lifetime.max_inactive;
        let is_plain =
            record.credential.version() == Stamp::default() && max_inactive.0 == Stamp::default();
        (!is_plain && !record.is_index()).then(|| Self {
            credential: record.credential.clone(),
            max_inactive,
            until: record.ends_at(),
        })
    }

    /// Adds what the mark knows to a copy of the session.
    pub(crate) fn apply(&self, record: &mut Record) -> Result<(), Forked> {
        record.credential.merge(&self.credential)?;
        let known = &mut record.lifetime.max_inactive;
        *known = self.max_inactive.max(*known);
        Ok(())
    }

    /// Adds it to a part of the session.
    pub(crate) fn apply_to_part(&self, part: &mut Delta) -> Result<(), Forked> {
        match &mut part.credential {
            Some(credential) => credential.merge(&self.credential)?,
            none => *none = Some(self.credential.clone()),
        }
        part.max_inactive = part.max_inactive.max(Some(self.max_inactive));
        Ok(())
    }

    /// Adds another mark of the session.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Forked> {
        self.credential.merge(&other.credential)?;
        self.max_inactive = self.max_inactive.max(other.max_inactive);
        self.until = self.until.max(other.until);
        Ok(())
    }
}

impl From<Mark> for Entry {
    fn from(mark: Mark) -> Self {
        Self::Expired(Box::new(mark))
    }
}
