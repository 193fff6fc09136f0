//! What clients were told, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::session::{Record, SessionKey, Stamp, Value};

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
    pub(super) indeterminate_updates: u64,
    /// Calls under way that move or end it.
    pub(super) moves: u32,
    /// Whether somebody has tried to end it: what a node that died has begun may still take effect.
    pub(super) may_end: bool,
    /// How long it may be left alone.
    pub(super) idle: Duration,
    /// When it was used last in a way that was acknowledged, in microseconds of virtual time.
    pub(super) used_at: u64,
    /// When somebody last did anything with it.
    pub(super) touched_at: u64,
    /// Until when clients leave it alone.
    pub(super) rests_until: u64,
}

/// Whether a session is alive, as far as clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Created, and nobody has tried to end it.
    Live,
    /// Somebody has tried to end or to move it, and does not know whether it worked.
    Unknown,
    /// Ended, and that was acknowledged.
    Ended,
}

/// What clients knew when a call began: whatever they are told must not be older.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) id: u64,
    pub(super) life: Life,
    pub(super) acked: BTreeMap<&'static str, Stamp>,
    /// Until when it must be there, as far as was known then, in microseconds.
    fresh_until: u64,
}

impl Known {
    /// Whether it must be there, unless somebody has ended it.
    pub(super) const fn is_fresh(&self, now: u64) -> bool {
        now < self.fresh_until
    }
}

impl Model {
    /// A session that is being created.
    pub(super) const fn new(id: u64, key: SessionKey, idle: Duration, now: u64) -> Self {
        Self {
            id,
            key,
            life: Life::Unknown,
            acked: BTreeMap::new(),
            counts: BTreeSet::new(),
            indeterminate_updates: 0,
            moves: 0,
            may_end: false,
            idle,
            used_at: now,
            touched_at: now,
            rests_until: 0,
        }
    }

    /// Whether it must be gone: accesses are written down with a tenth of the idle time to spare,
    /// and messages take a while.
    pub(super) fn has_expired(&self, now: u64) -> bool {
        let longest = self.idle.as_micros() as u64 * 11 / 10;
        now > self.touched_at + longest + DELAY_MAX
    }

    pub(super) fn known(&self) -> Known {
        Known {
            id: self.id,
            life: self.life,
            acked: self.acked.clone(),
            fresh_until: self.used_at + self.idle.as_micros() as u64,
        }
    }

    /// Somebody tries to end or to move it.
    pub(super) fn begin_move(&mut self) {
        self.moves += 1;
        if self.life == Life::Live {
            self.life = Life::Unknown;
        }
    }

    /// A client was told that it has a new id. Whoever ends it at the same time wins.
    pub(super) fn moved_to(&mut self, key: SessionKey) {
        self.key = key;
        if self.life == Life::Unknown && self.moves == 1 && !self.may_end {
            self.life = Life::Live;
        }
    }

    /// A client was told that the session's owner has written its `value`; the record may show a
    /// later one that nobody has acknowledged yet.
    pub(super) fn acknowledge_ordered(
        &mut self,
        name: &'static str,
        value: Option<&Value>,
        record: &Arc<Record>,
    ) {
        if record.get(name) == value {
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

/// Longer than any message is under way while nothing is broken, in microseconds.
const DELAY_MAX: u64 = 3_000_000;
