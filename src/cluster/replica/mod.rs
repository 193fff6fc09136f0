//! The protocol of replicated sessions, without any IO.
//!
//! A [`Replica`] is one node's view of the cluster and of the sessions that it holds. It is driven:
//! inputs go in with the time, outputs come out, and nothing in here waits, opens sockets, reads
//! clocks or draws random numbers. The same seed and the same inputs give the same outputs, which
//! is what lets `cluster::sim` run whole clusters through years of faults.
//!
//! ```text
//!   load commit end touch        Message LinkUp Refused Timeout Leave
//!          │                                  │
//!  ┌───────▼──────┐                  ┌────────▼──────────────────────────────┐
//!  │ table        │◄─────────────────┤ control                               │
//!  │ 16,384 slots │                  │  membership (foca) → standing (view)  │
//!  │ one lock each│                  │  writes · reads · updates · repair    │
//!  └──────────────┘                  └────────┬──────────────────────────────┘
//!                                             ▼
//!                                     Send · Reply · News
//! ```
//!
//! What it promises, and by which rule:
//!
//! - *An acknowledged write is on every member of the view.* An acknowledgement counts only if the
//!   holder was in the writer's view when it merged the write ([`writes`]).
//! - *A read sees every acknowledged write.* A node answers from its own memory only if, since it
//!   came into its view, it has compared itself with every other member; until then it asks those
//!   that it has not finished with ([`reads`], [`repair`]).
//! - *Ended is ended.* A tombstone absorbs everything, and is kept longer than any copy of the
//!   session can be alive; changes of a session that is not here never create it ([`entry`]).
//! - *An atomic update counts once.* ([`updates`])
//! - *A node that was declared down does not serve.* It goes on in a new life, after it has joined
//!   and caught up again ([`control`]).
//!
//! What it does not promise: that both sides of a partition agree while it lasts. They both serve,
//! and merge when it heals.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod control;
pub(crate) mod entry;
pub(crate) mod event;
#[cfg(all(feature = "snapshot", unix))]
mod export;
mod membership;
pub(crate) mod message;
pub(crate) mod node;
mod placement;
mod reads;
mod repair;
mod standing;
mod status;
mod table;
mod updates;
mod writes;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::cluster::Ack;
use crate::error::StoreErrorKind;
use crate::session::{Changes, Outcome, Record, SessionKey, Timestamp, Writer};

use self::control::Control;
use self::event::{Input, Output, Step};
use self::message::{Copy, OpId};
use self::node::Node;
use self::placement::weight;
use self::table::Table;

pub(crate) use self::control::PAUSE_MAX;
pub(crate) use self::status::{MemberStatus, ReplicaStatus};

/// How a replica is set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) me: Node,
    pub(crate) ack: Ack,
    /// Writes are refused while fewer nodes than this can hold them.
    pub(crate) min_copies: u8,
    pub(crate) max_sessions: usize,
    pub(crate) max_bytes: usize,
    /// How long a call may take.
    pub(crate) ack_timeout: Duration,
    /// How long a node that finds nobody waits before it serves alone.
    pub(crate) alone_after: Duration,
    /// Everything that is drawn at random inside follows from it.
    pub(crate) seed: u64,
}

/// One node of a cluster.
#[derive(Debug)]
pub(crate) struct Replica {
    table: Table,
    control: Mutex<Control>,
    /// What request tasks need to know of `control`, so that a local read does not wait for it.
    snapshot: RwLock<Snapshot>,
    min_copies: usize,
}

#[derive(Clone, Debug)]
struct Snapshot {
    ready: bool,
    /// Whether a local answer is the cluster's answer.
    complete: bool,
    writer: Writer,
    me: u64,
    peers: Arc<[u64]>,
    /// Whether too much is unacknowledged already.
    congested: bool,
    view: message::ViewId,
}

impl Replica {
    pub(crate) fn new(now: Timestamp, settings: Settings) -> Self {
        let table = Table::new(settings.max_sessions, settings.max_bytes);
        let min_copies = settings.min_copies.into();
        let control = Control::new(now, settings);
        Self {
            table,
            snapshot: RwLock::new(Snapshot::of(&control)),
            control: Mutex::new(control),
            min_copies,
        }
    }

    /// Something has happened.
    pub(crate) fn handle(&self, now: Timestamp, input: Input) {
        let mut control = self.control();
        control.handle(now, input, &self.table);
        self.publish(&control);
    }

    /// Moves what is to be done to `outputs`, in order.
    pub(crate) fn drain(&self, outputs: &mut Vec<Output>) {
        self.control().drain(outputs);
    }

    /// When [`Input::Timeout`] is due; `None` after leaving.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.control().poll_timeout()
    }

    /// Begins to read a session. `Wait`: after `Reply::Merged`, [`look`](Self::look).
    pub(crate) fn load(
        &self,
        now: Timestamp,
        op: OpId,
        key: &SessionKey,
    ) -> Step<Option<Arc<Record>>> {
        let snapshot = self.snapshot();
        if !snapshot.ready {
            return Step::Refused(StoreErrorKind::NotReady);
        }
        if snapshot.complete {
            return Step::Done(self.look(now, key));
        }
        self.control().read(now, op, *key, &self.table);
        Step::Wait(None)
    }

    /// The session as it is here.
    pub(crate) fn look(&self, now: Timestamp, key: &SessionKey) -> Option<Arc<Record>> {
        self.table.look(now, key)
    }

    /// Begins to commit what a request did. Changes with an expectation or a new id go to the
    /// session's owner: the reply is `Updated`, and the session is then to be looked up.
    pub(crate) fn commit(
        &self,
        now: Timestamp,
        op: OpId,
        key: &SessionKey,
        base: Option<&Arc<Record>>,
        changes: &Changes,
    ) -> Step<Outcome> {
        let snapshot = self.snapshot();
        if let Some(kind) = self.refusal(&snapshot) {
            return Step::Refused(kind);
        }
        // A session may have one successor only, so its owner decides about new ids as well.
        let ordered = changes.expected().is_some() || changes.rotated_to().is_some();
        if ordered && !changes.is_create() {
            return self.update(now, op, key, base, changes);
        }
        let base = base.map(|base| &**base);
        match self.table.commit(now, key, base, changes, snapshot.writer) {
            Err(kind) => Step::Refused(kind),
            Ok((outcome, None)) => Step::Done(outcome),
            Ok((outcome, Some(copies))) => self.replicate(now, op, outcome, copies),
        }
    }

    /// Begins to end a session for ever. The value says whether there was one.
    pub(crate) fn end(&self, now: Timestamp, op: OpId, key: &SessionKey) -> Step<bool> {
        if !self.snapshot().ready {
            return Step::Refused(StoreErrorKind::NotReady);
        }
        match self.table.end(now, key) {
            None => Step::Done(false),
            Some(copy) => self.replicate(now, op, true, [copy].into()),
        }
    }

    /// Records an access.
    pub(crate) fn touch(&self, now: Timestamp, key: &SessionKey) {
        if self.snapshot().ready && self.table.touch(now, key, now) {
            self.control().touch(now, *key);
        }
    }

    /// Whether this node orders the updates of sessions with this tag.
    pub(crate) fn owns(&self, tag: u32) -> bool {
        let snapshot = self.snapshot();
        let slot = tag as usize & (crate::session::SLOTS - 1);
        let mine = weight(slot, snapshot.me);
        snapshot.peers.iter().all(|peer| weight(slot, *peer) < mine)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.snapshot().ready
    }

    /// The digests of all slots that are not empty: what two nodes that agree have in common.
    #[cfg(test)]
    pub(crate) fn digests(&self) -> Vec<(u16, u64)> {
        self.table.digests()
    }

    /// What operators see.
    pub(crate) fn status(&self) -> ReplicaStatus {
        ReplicaStatus::of(&self.control(), &self.table)
    }

    fn update(
        &self,
        now: Timestamp,
        op: OpId,
        key: &SessionKey,
        base: Option<&Arc<Record>>,
        changes: &Changes,
    ) -> Step<Outcome> {
        let here = self.look(now, key);
        let Some(record) = here.or_else(|| base.cloned()) else {
            return Step::Done(Outcome::Gone);
        };
        if changes.rotated_to().is_some_and(|to| to.tag() != key.tag()) {
            return Step::Refused(StoreErrorKind::Corrupt);
        }
        if changes.rotated_to().is_some() && self.table.is_full(changes.payload_bytes()) {
            return Step::Refused(StoreErrorKind::Full);
        }
        let seen = record.clock().max(base.map_or(0, |base| base.clock()));
        let mut control = self.control();
        control.update(now, op, *key, seen, changes, &self.table);
        Step::Wait(Outcome::Committed(record))
    }

    fn replicate<T>(&self, now: Timestamp, op: OpId, value: T, copies: Arc<[Copy]>) -> Step<T> {
        let mut control = self.control();
        let wait = control.write(now, op, copies);
        self.publish(&control);
        if wait {
            Step::Wait(value)
        } else {
            Step::Done(value)
        }
    }

    fn refusal(&self, snapshot: &Snapshot) -> Option<StoreErrorKind> {
        if !snapshot.ready {
            Some(StoreErrorKind::NotReady)
        } else if 1 + snapshot.peers.len() < self.min_copies || snapshot.congested {
            Some(StoreErrorKind::Unavailable)
        } else {
            None
        }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        // A panic under this lock is a bug; going on is better than failing every request.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> Snapshot {
        self.snapshot
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn publish(&self, control: &Control) {
        let is_current = |snapshot: &Snapshot| snapshot.is_of(control);
        let current = is_current(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner));
        if !current {
            let mut snapshot = self
                .snapshot
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            *snapshot = Snapshot::of(control);
        }
    }
}

impl Snapshot {
    fn of(control: &Control) -> Self {
        let standing = &control.standing;
        Self {
            ready: standing.ready,
            complete: standing.is_complete(),
            writer: standing.me.writer(),
            me: standing.me.fingerprint(),
            peers: standing
                .roster
                .iter()
                .map(|(_, peer)| peer.fingerprint)
                .collect(),
            congested: control.writes.is_full(),
            view: standing.view,
        }
    }

    fn is_of(&self, control: &Control) -> bool {
        let standing = &control.standing;
        self.view == standing.view
            && self.ready == standing.ready
            && self.complete == standing.is_complete()
            && self.congested == control.writes.is_full()
    }
}
