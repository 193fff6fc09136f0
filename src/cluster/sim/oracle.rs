//! What clients were told, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::session::{Record, SessionKey, Stamp};

/// Everything that clients know of one session.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) key: SessionKey,
    pub(super) life: Life,
    /// The largest acknowledged stamp of each attribute.
    pub(super) acked: BTreeMap<&'static str, Stamp>,
    /// Results of acknowledged atomic updates.
    pub(super) counts: BTreeSet<u64>,
    /// Atomic updates whose outcome nobody knows.
    pub(super) doubtful_updates: u64,
    /// When it was last used, and when that was last acknowledged, in microseconds.
    pub(super) used_at: u64,
    /// A commit is under way that moves or ends the session.
    pub(super) moving: bool,
}

/// Whether a session is alive, as far as clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Created, and nobody has tried to end it.
    Live,
    /// Somebody has tried to end or to move it, and does not know whether it worked.
    Doubtful,
    /// Ended, and that was acknowledged.
    Ended,
}

/// What clients knew when a call began: whatever they are told must not be older.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) life: Life,
    pub(super) acked: BTreeMap<&'static str, Stamp>,
}

impl Model {
    pub(super) fn new(key: SessionKey, now: u64) -> Self {
        Self {
            key,
            life: Life::Live,
            acked: BTreeMap::new(),
            counts: BTreeSet::new(),
            doubtful_updates: 0,
            used_at: now,
            moving: false,
        }
    }

    pub(super) fn known(&self) -> Known {
        Known {
            life: self.life,
            acked: self.acked.clone(),
        }
    }

    /// A client was told that its write of an attribute is in this record.
    pub(super) fn acknowledge(&mut self, name: &'static str, record: &Arc<Record>) {
        if let Some(stamp) = record.stamp(name) {
            let known = self.acked.entry(name).or_default();
            *known = stamp.max(*known);
        }
    }
}
