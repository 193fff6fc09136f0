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
//! - *An acknowledged write is on every holder of the session*, and nobody answers from an older
//!   idea of who holds it. An acknowledgement counts only if the holder was in the writer's view
//!   when it merged the write, and once all members have said that they are in it ([`writes`],
//!   [`placement`]).
//! - *A read sees every acknowledged write.* A node answers from its own memory only if it holds the
//!   session and, since it came into its view, has compared itself with every other member; until
//!   then it asks those that it has not finished with. Who does not hold it asks the owner
//!   ([`reads`], [`repair`]).
//! - *A copy is forgotten only when every holder has it* ([`repair`]).
//! - *Ended is ended.* A tombstone absorbs everything, and is kept longer than any copy of the
//!   session can be alive; changes of a session that is not here never create it ([`entry`]).
//! - *Slowness only slows.* Data leaves within a window per peer and waits here ([`flow`]); what
//!   peers may owe is limited in bytes before anything is written ([`budget`]); nothing is repeated
//!   on a timer ([`writes`]).
//! - *An atomic update counts once.* ([`updates`])
//! - *A removed attribute takes no room for ever, and does not come back.* ([`floors`])
//! - *A node that was declared down does not serve.* It goes on in a new life, after it has joined
//!   and caught up again ([`control`]).
//!
//! What it does not promise: that both sides of a partition agree while it lasts. They both serve,
//! and merge when it heals.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod admission;
mod budget;
mod control;
pub(crate) mod entry;
pub(crate) mod event;
pub(crate) mod expired;
#[cfg(all(feature = "snapshot", unix))]
mod export;
mod floors;
mod flow;
#[cfg(all(feature = "snapshot", unix))]
pub(crate) mod held;
mod membership;
pub(crate) mod message;
pub(crate) mod node;
mod placement;
mod readiness;
mod reads;
mod repair;
mod revocation;
mod roster;
pub(crate) mod rules;
mod split;
mod standing;
mod status;
mod table;
mod updates;
mod writes;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::cluster::{Ack, Copies};
use crate::error::StoreErrorKind;
use crate::session::{
    Changes, Loaded, Outcome, Record, Root, SecretHash, Timestamp, Writer, access_version,
};

use self::budget::Budget;
use self::control::Control;
use self::event::{Input, Output, Step};
use self::message::{Copy, FIXED, OpId, Order};
use self::node::Node;
use self::placement::{Member, Placement};
use self::reads::Wanted;
use self::roster::PeerSet;
use self::rules::Rules;
use self::status::Lacking;
use self::table::{Committed, Table};
use self::updates::Call;

pub(crate) use self::control::PAUSE_MAX;
pub(crate) use self::readiness::{Outlook, Requirements};
pub(crate) use self::roster::PEERS_MAX;
pub(crate) use self::status::{MemberStatus, ReplicaStatus};

/// How a replica is set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) me: Node,
    pub(crate) copies: Copies,
    pub(crate) ack: Ack,
    /// Writes are refused while fewer nodes than this can hold them.
    pub(crate) min_copies: u8,
    pub(crate) max_sessions: usize,
    pub(crate) max_bytes: usize,
    /// Names and values of one session.
    pub(crate) max_session_bytes: usize,
    /// How long a call may take.
    pub(crate) ack_timeout: Duration,
    /// What a node waits for before it serves.
    pub(crate) requirements: Requirements,
    /// Everything that is drawn at random inside follows from it.
    pub(crate) seed: u64,
    pub(crate) rules: Rules,
}

/// One node of a cluster.
#[derive(Debug)]
pub(crate) struct Replica {
    table: Table,
    control: Mutex<Control>,
    /// What request tasks need to know of `control`, so that a local read does not wait for it.
    snapshot: RwLock<Snapshot>,
    /// What the other members have not acknowledged.
    budget: Arc<Budget>,
    ack: Ack,
    min_copies: usize,
}

#[derive(Clone, Debug)]
struct Snapshot {
    ready: bool,
    /// Whether a local answer is the cluster's answer, of what this node holds.
    complete: bool,
    writer: Writer,
    placement: Arc<Placement>,
    /// Until when an unknown session may be a lost one.
    uncertain_until: Timestamp,
    view: message::ViewId,
}

impl Replica {
    pub(crate) fn new(now: Timestamp, settings: Settings) -> Self {
        let table = Table::new(&settings);
        let (ack, min_copies) = (settings.ack, settings.min_copies.into());
        let control = Control::new(now, settings);
        Self {
            table,
            snapshot: RwLock::new(Snapshot::of(&control)),
            budget: control.standing.budget.clone(),
            control: Mutex::new(control),
            ack,
            min_copies,
        }
    }

    /// Something has happened.
    pub(crate) fn handle(&self, now: Timestamp, input: Input) {
        let mut control = self.control();
        control.handle(now, input, &self.table);
        self.publish(&control);
        #[cfg(all(feature = "snapshot", unix))]
        control.held.take_up(now, &self.table);
    }

    /// Moves what is to be done to `outputs`, in order.
    pub(crate) fn drain(&self, outputs: &mut Vec<Output>) {
        self.control().drain(outputs);
    }

    /// When [`Input::Timeout`] is due; `None` after leaving.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.control().poll_timeout()
    }

    /// Begins to read a session.
    pub(crate) fn load(
        &self,
        now: Timestamp,
        op: OpId,
        key: &Root,
        secret: Option<&SecretHash>,
    ) -> Step<Loaded> {
        let snapshot = self.snapshot();
        if !snapshot.ready {
            return Step::Refused(StoreErrorKind::NotReady);
        }
        let secret = secret.filter(|_| self.table.rules.secrets);
        if snapshot.complete && snapshot.placement.is_mine(key.slot()) {
            // The owner of the session has every rotation; another holder asks it when the secret
            // is not the one that it knows.
            let is_owner = snapshot.placement.owner(key.slot()) == Member::Me;
            match self.look(now, key).map(|record| record.loaded(secret, now)) {
                Some(loaded @ Loaded::Live(_)) => return Step::Done(loaded),
                Some(loaded) if is_owner && self.is_current(&snapshot) => {
                    return Step::Done(loaded);
                }
                Some(_) => {}
                None if self.is_certain(now, key, &snapshot) => {
                    return Step::Done(Loaded::Absent);
                }
                None => {}
            }
        }
        let wanted = Wanted {
            key: *key,
            secret: secret.copied(),
        };
        self.control().read(now, op, wanted, &self.table);
        Step::Wait(Loaded::Absent)
    }

    /// The session as it is here.
    pub(crate) fn look(&self, now: Timestamp, key: &Root) -> Option<Arc<Record>> {
        self.table.look(now, key)
    }

    /// The session as it is here, if this node keeps it.
    pub(crate) fn kept(&self, now: Timestamp, key: &Root) -> Option<Arc<Record>> {
        let mine = self.snapshot().placement.is_mine(key.slot());
        mine.then(|| self.look(now, key)).flatten()
    }

    /// Returns `true` if a session that is not here is nowhere. It may have been handed over since
    /// `snapshot` was taken, or lost with the nodes that had it, or used elsewhere since this node
    /// heard of it.
    fn is_certain(&self, now: Timestamp, key: &Root, snapshot: &Snapshot) -> bool {
        let same_view = self.is_current(snapshot);
        let lost = snapshot.uncertain_until > now && !self.table.is_dead(key);
        snapshot.complete && same_view && !lost && !self.table.is_doubtful(now, key)
    }

    /// Returns `true` if the view is still the one of `snapshot`.
    fn is_current(&self, snapshot: &Snapshot) -> bool {
        self.snapshot().view == snapshot.view
    }

    /// Begins to commit what a request did. Changes with an expectation, rotations, and all those
    /// of a session that this node does not hold, go to the session's owner.
    pub(crate) fn commit(
        &self,
        now: Timestamp,
        op: OpId,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: &Changes,
    ) -> Step<Outcome> {
        let snapshot = self.snapshot();
        if let Some(kind) = self.refusal(&snapshot) {
            return Step::Refused(kind);
        }
        if !self.has_room(key, changes, &snapshot) {
            return Step::Refused(StoreErrorKind::Unavailable);
        }
        // Of two rotations one counts: the owner decides which.
        let ordered = changes.expected().is_some()
            || changes.rotation().is_some() && self.table.rules.ordered_rotations
            || self
                .table
                .is_near_session_limit(key, changes.payload_bytes());
        if !snapshot.placement.is_mine(key.slot()) || ordered && !changes.is_create() {
            return self.update(now, op, key, base, changes, &snapshot);
        }
        // What is here may be older than what another holder has: nothing is left unwritten for it.
        let insisted = (!snapshot.complete).then(|| changes.insist());
        let changes = insisted.as_ref().unwrap_or(changes);
        match self.commit_here(now, key, base, changes, &snapshot) {
            Err(kind) => Step::Refused(kind),
            Ok((Outcome::Gone, None)) if !self.is_certain(now, key, &snapshot) => {
                self.update(now, op, key, base, changes, &snapshot)
            }
            Ok((outcome, None)) => Step::Done(outcome),
            Ok((outcome, Some(copies))) => {
                self.replicate(now, op, outcome, (self.ack, self.min_copies), &copies)
            }
        }
    }

    /// Returns `true` if the members that a change goes to may owe as much more.
    fn has_room(&self, key: &Root, changes: &Changes, snapshot: &Snapshot) -> bool {
        let holders = snapshot.placement.holders(key.slot());
        let to = match holders.owner {
            Member::Peer(owner) if !holders.me => PeerSet::of(owner),
            Member::Peer(_) | Member::Me => holders.peers,
        };
        self.budget.admits(to, FIXED + changes.payload_bytes())
    }

    fn commit_here(
        &self,
        now: Timestamp,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: &Changes,
        snapshot: &Snapshot,
    ) -> Result<Committed, StoreErrorKind> {
        let base = base.map(|base| &**base);
        self.table.commit(now, key, base, changes, snapshot.writer)
    }

    /// Begins to end a session for ever. The value says whether there was one.
    pub(crate) fn end(&self, now: Timestamp, op: OpId, key: &Root) -> Step<bool> {
        let snapshot = self.snapshot();
        if !snapshot.ready {
            return Step::Refused(StoreErrorKind::NotReady);
        }
        if snapshot.placement.is_mine(key.slot()) {
            match self.table.end(now, key) {
                // A deletion waits for all holders, whatever is enough for writes.
                Some(copy) => return self.replicate(now, op, true, (Ack::All, 0), &[copy].into()),
                None if self.is_certain(now, key, &snapshot) => return Step::Done(false),
                None => {}
            }
        }
        let call = Call {
            op,
            key: *key,
            seen: 0,
            changes: &Changes::default(),
            order: Order::End,
        };
        self.control().update(now, call, &self.table);
        Step::Wait(true)
    }

    /// Records an access.
    pub(crate) fn touch(&self, now: Timestamp, key: &Root) {
        let snapshot = self.snapshot();
        let mine = snapshot.placement.is_mine(key.slot());
        // Who has not caught up may not have the session yet that others do.
        let recorded = mine.then(|| self.table.touch(now, key, snapshot.writer));
        let recorded = recorded.flatten();
        if snapshot.ready && (recorded.is_some() || !mine || !snapshot.complete) {
            let access = recorded.unwrap_or_else(|| access_version(now, snapshot.writer));
            self.control().touch(now, *key, access);
        }
    }

    /// A slot of which this node orders the updates, if it holds anything.
    pub(crate) fn own_slot(&self, mut draw: impl FnMut() -> usize) -> usize {
        let placement = self.snapshot().placement;
        let mut slot = draw();
        for _ in 0..OWN_TRIES {
            if !placement.takes_part() || placement.owner(slot) == Member::Me {
                break;
            }
            slot = draw();
        }
        slot
    }

    /// Returns `true` if this node orders the updates of sessions in this slot.
    #[cfg(test)]
    pub(crate) fn owns(&self, slot: usize) -> bool {
        self.snapshot().placement.owner(slot) == Member::Me
    }

    /// The name of the node that does.
    pub(crate) fn owner(&self, key: &Root) -> Option<String> {
        let snapshot = self.snapshot();
        snapshot.placement.owner_name(key.slot()).map(str::to_owned)
    }

    /// Returns `true` if what is written now gets fewer copies than asked for, because fewer nodes
    /// are alive.
    pub(crate) fn is_degraded(&self) -> bool {
        let placement = self.snapshot().placement;
        let acked = match self.ack {
            Ack::Copies(n) => n.get().into(),
            Ack::All | Ack::Local => 1,
        };
        placement.candidates() < placement.wanted().unwrap_or(1).max(acked)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.snapshot().ready
    }

    /// Returns `true` if this node keeps the session.
    #[cfg(test)]
    pub(crate) fn holds(&self, key: &Root) -> bool {
        self.snapshot().placement.is_mine(key.slot())
    }

    /// The digests of all slots that are not empty: what two nodes that agree have in common. What is
    /// left of a session that has expired meanwhile is no part of them.
    #[cfg(test)]
    pub(crate) fn digests(&self) -> Vec<(u16, u64)> {
        self.table.whole_digests()
    }

    /// Live sessions with fewer copies than asked for.
    pub(crate) fn under_replicated(&self) -> usize {
        // Counting may take a while: nobody should wait for it.
        let lacking = Lacking::of(&self.control().standing);
        lacking.sessions(&self.table)
    }

    /// What operators see.
    pub(crate) fn status(&self) -> ReplicaStatus {
        ReplicaStatus::of(&self.control(), &self.table)
    }

    fn update(
        &self,
        now: Timestamp,
        op: OpId,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: &Changes,
        snapshot: &Snapshot,
    ) -> Step<Outcome> {
        let record = self.kept(now, key).or_else(|| base.cloned());
        let order = match changes.is_create() {
            true => match changes.apply(None, None, now, snapshot.writer) {
                Outcome::Committed(record) if self.table.is_too_large_to_create(&record) => {
                    return Step::Refused(StoreErrorKind::TooLarge);
                }
                Outcome::Committed(record) => Order::Create(record),
                outcome => return Step::Done(outcome),
            },
            false => Order::Change,
        };
        let call = Call {
            op,
            key: *key,
            seen: [record.as_ref(), base]
                .into_iter()
                .flatten()
                .map(|record| record.clock())
                .max()
                .unwrap_or(0),
            changes,
            order,
        };
        self.control().update(now, call, &self.table);
        // The owner says what has become of it.
        Step::Wait(Outcome::Gone)
    }

    fn replicate<T>(
        &self,
        now: Timestamp,
        op: OpId,
        value: T,
        wanted: (Ack, usize),
        copies: &Arc<[Copy]>,
    ) -> Step<T> {
        let mut control = self.control();
        let wait = control.write(now, op, wanted, copies, &self.table);
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
        } else if snapshot.placement.candidates() < self.min_copies {
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
            complete: standing.is_complete() || !standing.rules.union_reads,
            writer: standing.me.writer(),
            placement: standing.placement.clone(),
            uncertain_until: standing.uncertain_until(),
            view: standing.view,
        }
    }

    fn is_of(&self, control: &Control) -> bool {
        let standing = &control.standing;
        self.view == standing.view
            && self.ready == standing.ready
            && self.complete == (standing.is_complete() || !standing.rules.union_reads)
            && self.uncertain_until == standing.uncertain_until()
    }
}

/// How often a slot is drawn until this node owns it: with fifty nodes, one time in a billion another
/// one's has to do.
const OWN_TRIES: usize = 1_024;
