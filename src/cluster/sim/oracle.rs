//! What clients were told, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::session::{Record, SessionKey, Stamp};

/// Everything that clients know of one session.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// Tells it from the one that was in its place before.
    pub(super) id: u64,
    pub(super) key: SessionKey,
    pub(super) life: Life,
    /// The largest acknowledged stamp of each attribute.
    pub(super) acked: BTreeMap<&'static str, Stamp>,
    /// Results of acknowledged atomic updates.
    pub(super) counts: BTreeSet<u64>,
    /// Atomic updates whose outcome nobody knows.
    pub(super) doubtful_updates: u64,
    /// Calls under way that move or end it.
    pub(super) moves: u32,
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
    pub(super) id: u64,
    pub(super) life: Life,
    pub(super) acked: BTreeMap<&'static str, Stamp>,
}

impl Model {
    /// A session that is being created.
    pub(super) const fn new(id: u64, key: SessionKey) -> Self {
        Self {
            id,
            key,
            life: Life::Doubtful,
            acked: BTreeMap::new(),
            counts: BTreeSet::new(),
            doubtful_updates: 0,
            moves: 0,
        }
    }

    pub(super) fn known(&self) -> Known {
        Known {
            id: self.id,
            life: self.life,
            acked: self.acked.clone(),
        }
    }

    /// Somebody tries to end or to move it.
    pub(super) fn begin_move(&mut self) {
        self.moves += 1;
        if self.life == Life::Live {
            self.life = Life::Doubtful;
        }
    }

    /// A client was told that it has a new id. Whoever ends it at the same time wins.
    pub(super) fn moved_to(&mut self, key: SessionKey) {
        self.key = key;
        if self.life == Life::Doubtful && self.moves == 1 {
            self.life = Life::Live;
        }
    }

    /// A client was told that the session's owner has made its write; the record may show a later
    /// one that nobody has acknowledged yet.
    pub(super) fn acknowledge_ordered(&mut self, name: &'static str, record: &Arc<Record>) {
        let ordered = |stamp: &Stamp| record.updates().contains(stamp);
        if record.stamp(name).as_ref().is_some_and(ordered) {
            self.acknowledge(name, record);
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
