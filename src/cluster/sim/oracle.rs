//! A model of each session: the results that clients received, and their consequences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::replica::message::OpId;
use crate::session::{Record, Root, SecretHash, Value, Version};

use crate::cluster::sim::pool::Pool;

/// The state of one session according to its clients.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// Distinguishes it from an earlier session in its place.
    pub(super) id: u64,
    pub(super) key: Root,
    /// The secret that clients have.
    pub(super) secret: SecretHash,
    pub(super) life: Life,
    /// The largest acknowledged version of each attribute.
    pub(super) acked: BTreeMap<&'static str, Version>,
    /// When the request began that wrote that version, in microseconds: its last access.
    written_at: BTreeMap<&'static str, u64>,
    /// Attributes that are set and removed.
    pub(super) pool: Pool,
    /// Results of acknowledged atomic updates.
    pub(super) counts: BTreeSet<u64>,
    /// Atomic updates whose clients were informed that nothing changed.
    pub(super) rejected_updates: BTreeSet<OpId>,
    /// Atomic updates whose outcome is unknown.
    pub(super) indeterminate_updates: u64,
    /// Calls in progress that rotate or delete it.
    pub(super) moves: u32,
    /// Whether a client has tried to delete it, or to rotate it with unknown outcome: an operation
    /// that a failed node has begun may still take effect.
    pub(super) may_end: bool,
    /// Its idle timeout.
    pub(super) idle: Duration,
    /// Its absolute timeout, and when it was created.
    pub(super) absolute_timeout: Duration,
    created_at: u64,
    /// The longest time that a message may be under way, in microseconds.
    transit_max: u64,
    /// Whether its clients write large values.
    pub(super) is_large: bool,
    /// When it was last accessed by an acknowledged operation, in microseconds of virtual time.
    pub(super) used_at: u64,
    /// When a client last made any request to it.
    pub(super) touched_at: u64,
    /// Until when clients make no requests to it.
    pub(super) rests_until: u64,
}

/// Whether a session is alive, according to the results that clients received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Created, and no client has tried to delete it.
    Live,
    /// A client has tried to delete or to rotate it, with unknown outcome.
    Unknown,
    /// Deleted, and that was acknowledged.
    Ended,
}

/// The results that clients had received when a call began: its own result must not be older.
#[derive(Clone, Debug)]
pub(super) struct KnownResults {
    pub(super) id: u64,
    pub(super) life: Life,
    pub(super) acked: BTreeMap<&'static str, Version>,
    pub(super) pool: Pool,
    /// Until when it must exist, as far as was certain then, in microseconds.
    fresh_until: u64,
}

impl KnownResults {
    /// Returns `true` if it must exist, unless a client has deleted it.
    pub(super) const fn is_fresh(&self, now: u64) -> bool {
        now < self.fresh_until
    }
}

impl Model {
    /// Returns the model of a session that is being created.
    pub(super) fn new(
        id: u64,
        key: Root,
        secret: SecretHash,
        lifetime: ModelLifetime,
        now: u64,
    ) -> Self {
        Self {
            id,
            key,
            secret,
            life: Life::Unknown,
            acked: BTreeMap::new(),
            written_at: BTreeMap::new(),
            pool: Pool::default(),
            counts: BTreeSet::new(),
            rejected_updates: BTreeSet::new(),
            indeterminate_updates: 0,
            moves: 0,
            may_end: false,
            idle: lifetime.idle,
            absolute_timeout: lifetime.absolute_timeout,
            created_at: now,
            transit_max: lifetime.transit_max,
            is_large: lifetime.is_large,
            used_at: now,
            touched_at: now,
            rests_until: 0,
        }
    }

    /// Returns `true` if it must have expired: accesses are recorded with a tolerance of a tenth of
    /// the idle timeout, and messages take a while.
    pub(super) fn has_expired(&self, now: u64) -> bool {
        let longest = self.idle.as_micros() as u64 * 11 / 10;
        let idle = self.touched_at + longest;
        now > idle.min(self.absolute_deadline()) + self.transit_max
    }

    const fn absolute_deadline(&self) -> u64 {
        self.created_at + self.absolute_timeout.as_micros() as u64
    }

    pub(super) fn known(&self) -> KnownResults {
        let idle = self.used_at + self.idle.as_micros() as u64;
        KnownResults {
            id: self.id,
            life: self.life,
            acked: self.acked.clone(),
            pool: self.pool.clone(),
            fresh_until: idle.min(self.absolute_deadline() - ROUNDING),
        }
    }

    /// Called when a client tries to delete or to rotate it.
    pub(super) fn begin_move(&mut self) {
        self.moves += 1;
        if self.life == Life::Live {
            self.life = Life::Unknown;
        }
    }

    /// Called when a client has received its new id. A concurrent deletion wins.
    pub(super) fn rotated_to(&mut self, secret: SecretHash) {
        self.secret = secret;
        if self.life == Life::Unknown && self.moves == 1 && !self.may_end {
            self.life = Life::Live;
        }
    }

    /// Called when the session's owner has confirmed the write of `value`; the record may include a
    /// later one that no client has received yet.
    pub(super) fn acknowledge_ordered(
        &mut self,
        name: &'static str,
        value: Option<&Value>,
        record: &Arc<Record>,
        begun_at: u64,
    ) {
        if record.get(name) == value {
            self.acknowledge(name, record, begun_at);
        }
    }

    /// Called when a client's write of an attribute is acknowledged; it is in this record.
    pub(super) fn acknowledge(&mut self, name: &'static str, record: &Arc<Record>, begun_at: u64) {
        let known = self.acked.entry(name).or_default();
        if let Some(version) = record.version(name).filter(|version| version > known) {
            *known = version;
            self.written_at.insert(name, begun_at);
        }
    }

    /// Like [`known`](Self::known), after a partition. Each side counts the accesses that it has
    /// seen, so a session may expire on the side that has the last write, and continue on the other
    /// one without it.
    pub(super) fn known_to_both_sides(&self, now: u64) -> KnownResults {
        let mut known = self.known();
        let idle = self.idle.as_micros() as u64;
        let written_at = |name| self.written_at.get(name).copied().unwrap_or_default();
        known.acked.retain(|name, _| now < written_at(*name) + idle);
        known
    }
}

/// The parameters of a session's lifetime.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModelLifetime {
    pub(super) idle: Duration,
    pub(super) absolute_timeout: Duration,
    pub(super) transit_max: u64,
    pub(super) is_large: bool,
}

/// Clocks count milliseconds: a deadline may be early by a few, in microseconds.
const ROUNDING: u64 = 10_000;
