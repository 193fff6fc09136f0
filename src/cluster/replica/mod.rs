//! The replication protocol, without I/O.
//!
//! A [`Replica`] is the protocol state of one node: its cluster and the sessions that it holds. It
//! is driven from outside: inputs go in with the current time, outputs come out, and nothing in
//! here blocks, opens sockets, reads clocks or draws random numbers. The same seed and the same
//! inputs give the same outputs, so `cluster::sim` can run whole clusters through years of faults.
//!
//! ```text
//!   load commit delete touch     Message LinkUp Refused Timeout Leave
//!          │                                  │
//!  ┌───────▼──────┐                  ┌────────▼──────────────────────────────┐
//!  │ table        │◄─────────────────┤ engine                                │
//!  │ 16,384 slots │                  │  membership (foca) → cluster view     │
//!  │ one lock each│                  │  writes · reads · updates · repair    │
//!  └──────────────┘                  └────────┬──────────────────────────────┘
//!                                             ▼
//!                                 Send · Reply · Notification · Event
//! ```
//!
//! Guarantees, and the rules that provide them:
//!
//! - *An acknowledged write is on every holder of the session*, and no node serves reads based on
//!   an outdated placement. An acknowledgement counts only if the holder was in the writer's view
//!   when it merged the write, and only once all members have announced that view ([`writes`],
//!   [`placement`]).
//! - *A read returns every acknowledged write.* A node answers from its own memory only if it holds
//!   the session and has compared itself with every other member since the view began; until then
//!   it asks the members that are left. A node that does not hold the session asks the owner
//!   ([`reads`], [`repair`]).
//! - *A copy is dropped only when every holder has it* ([`repair`]).
//! - *Deletions are final.* A tombstone absorbs everything, and is kept longer than any copy of the
//!   session can be alive; changes of a session that is not here never create it ([`entry`]).
//! - *A slow peer only causes delays.* Data is sent within a window per peer and waits here
//!   ([`flow`]); what peers may owe is limited in bytes before anything is written ([`budget`]);
//!   nothing is repeated on a timer ([`writes`]).
//! - *An atomic update is applied once* ([`updates`]).
//! - *A removed attribute takes no room permanently, and does not come back* ([`floors`]).
//! - *A node that was declared down does not serve.* It continues in a new incarnation, after it
//!   has joined and is complete again ([`engine`]).
//!
//! The two sides of a partition do not agree while it lasts: both serve, and merge when it heals.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod admission;
mod budget;
mod cluster_view;
mod engine;
pub(crate) mod entry;
pub(crate) mod event;
pub(crate) mod events;
pub(crate) mod expired;
#[cfg(all(feature = "snapshot", unix))]
mod export;
mod floors;
mod flow;
#[cfg(all(feature = "snapshot", unix))]
pub(crate) mod held;
pub(crate) mod listing;
mod membership;
pub(crate) mod message;
pub(crate) mod node;
mod peer_table;
mod placement;
mod readiness;
mod reads;
mod repair;
mod revocation;
pub(crate) mod rules;
mod split;
mod status;
mod table;
mod updates;
mod writes;

#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::cluster::{Ack, Copies};
use crate::error::StoreErrorKind;
use crate::session::{
    Changes, Loaded, Outcome, Record, Root, SecretHash, Timestamp, WriterId, access_version,
};
use crate::watch::Watched;

use self::budget::Budget;
use self::engine::Engine;
use self::event::{Input, Output, Step};
use self::message::{FIXED, KeyedEntry, OpId, Operation};
use self::node::Node;
use self::peer_table::PeerSet;
use self::placement::{Member, Placement};
use self::reads::Wanted;
use self::rules::Rules;
use self::status::UnderReplicated;
use self::table::{Committed, Table};
use self::updates::Call;

pub(crate) use self::engine::PAUSE_MAX;
pub(crate) use self::peer_table::PEERS_MAX;
pub(crate) use self::readiness::{Outlook, Requirements};
pub(crate) use self::status::{MemberStatus, ReplicaStatus};

/// The configuration of a replica.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) me: Node,
    pub(crate) copies: Copies,
    pub(crate) ack: Ack,
    /// Writes are refused while fewer nodes than this can hold them.
    pub(crate) min_copies: u8,
    pub(crate) max_sessions: usize,
    pub(crate) max_bytes: usize,
    /// Maximum bytes of names and values in one session.
    pub(crate) max_session_bytes: usize,
    /// Timeout of a call.
    pub(crate) ack_timeout: Duration,
    /// The conditions under which a node serves.
    pub(crate) requirements: Requirements,
    /// The seed of all random choices in the replica.
    pub(crate) seed: u64,
    pub(crate) rules: Rules,
}

/// The protocol state of one node.
#[derive(Debug)]
pub(crate) struct Replica {
    table: Table,
    control: Mutex<Engine>,
    /// The part of `control` that request tasks need, so that a local read does not wait for its
    /// lock.
    snapshot: RwLock<Snapshot>,
    /// The changes that other members have not acknowledged.
    budget: Arc<Budget>,
    /// Whether events are subscribed to, here or at a member.
    listened: Arc<AtomicBool>,
    ack: Ack,
    min_copies: usize,
}

#[derive(Clone, Debug)]
struct Snapshot {
    ready: bool,
    /// Whether this node may answer alone for the slots that it holds.
    complete: bool,
    writer: WriterId,
    placement: Arc<Placement>,
    /// Until when an unknown session may be a lost one.
    uncertain_until: Timestamp,
    view: message::ViewId,
}

impl Replica {
    pub(crate) fn new(now: Timestamp, settings: Settings) -> Self {
        let table = Table::new(&settings);
        let (ack, min_copies) = (settings.ack, settings.min_copies.into());
        let control = Engine::new(now, settings);
        Self {
            table,
            snapshot: RwLock::new(Snapshot::of(&control)),
            budget: control.cluster.budget.clone(),
            listened: control.cluster.listeners.any(),
            control: Mutex::new(control),
            ack,
            min_copies,
        }
    }

    /// Handles an event.
    pub(crate) fn handle(&self, now: Timestamp, input: Input) {
        let mut control = self.control();
        control.handle(now, input, &self.table);
        self.publish(&control);
        #[cfg(all(feature = "snapshot", unix))]
        control.held.take_up(now, &self.table);
    }

    /// Moves the pending outputs to `outputs`, in order.
    pub(crate) fn drain(&self, outputs: &mut Vec<Output>) {
        self.control().drain(outputs);
    }

    /// Returns when [`Input::Timeout`] is due; `None` after leaving.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.control().poll_timeout()
    }

    /// Starts to read a session.
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
            // The owner has every rotation. Another holder asks it if the secret is not the one
            // that it has: the rotation may not have arrived here.
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

    /// Returns the live session in this node's table.
    pub(crate) fn look(&self, now: Timestamp, key: &Root) -> Option<Arc<Record>> {
        self.table.look(now, key)
    }

    /// Returns the live session in this node's table, if this node is a holder.
    pub(crate) fn kept(&self, now: Timestamp, key: &Root) -> Option<Arc<Record>> {
        let mine = self.snapshot().placement.is_mine(key.slot());
        mine.then(|| self.look(now, key)).flatten()
    }

    /// Returns `true` if a session that is not here does not exist. Otherwise it may have been
    /// handed over since `snapshot` was taken, lost with failed nodes, or accessed elsewhere after
    /// it expired here.
    fn is_certain(&self, now: Timestamp, key: &Root, snapshot: &Snapshot) -> bool {
        let same_view = self.is_current(snapshot);
        let lost = snapshot.uncertain_until > now && !self.table.is_dead(key);
        snapshot.complete && same_view && !lost && !self.table.is_doubtful(now, key)
    }

    /// Returns `true` if the view is still that of `snapshot`.
    fn is_current(&self, snapshot: &Snapshot) -> bool {
        self.snapshot().view == snapshot.view
    }

    /// Starts to commit changes. Changes with an expectation, rotations, and all changes of a
    /// session that this node does not hold, go to the session's owner.
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
        // Only one of two concurrent rotations may win: the owner decides.
        let ordered = changes.expected().is_some()
            || changes.rotation().is_some() && self.table.rules.ordered_rotations
            || self
                .table
                .is_near_session_limit(key, changes.payload_bytes());
        if !snapshot.placement.is_mine(key.slot()) || ordered && !changes.is_create() {
            return self.update(now, op, key, base, changes, &snapshot);
        }
        // The state here may be older than that at other holders, so no write is omitted as
        // redundant.
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

    /// Returns `true` if the budgets of the members that receive the change have room for it.
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

    /// Starts to delete a session. The value is `true` if a live session existed.
    ///
    /// A session that another call has deleted may still be alive at the other holders: this call
    /// waits for them too, so that its result holds on every node.
    pub(crate) fn delete(&self, now: Timestamp, op: OpId, key: &Root) -> Step<bool> {
        let snapshot = self.snapshot();
        if !snapshot.ready {
            return Step::Refused(StoreErrorKind::NotReady);
        }
        if snapshot.placement.is_mine(key.slot()) {
            match self.table.delete(now, key) {
                // A deletion waits for all holders, whatever `ack` is.
                Some((copy, existed)) => {
                    return self.replicate(now, op, existed, (Ack::All, 0), &[copy].into());
                }
                None if self.is_certain(now, key, &snapshot) => return Step::Done(false),
                None => {}
            }
        }
        let call = Call {
            op,
            key: *key,
            seen: 0,
            changes: &Changes::default(),
            order: Operation::Delete,
        };
        self.control().update(now, call, &self.table);
        Step::Wait(true)
    }

    /// Records an access.
    pub(crate) fn touch(&self, now: Timestamp, key: &Root) {
        let snapshot = self.snapshot();
        let mine = snapshot.placement.is_mine(key.slot());
        // A node that is not complete may lack a session that other holders have.
        let recorded = mine.then(|| self.table.touch(now, key, snapshot.writer));
        let recorded = recorded.flatten();
        if snapshot.ready && (recorded.is_some() || !mine || !snapshot.complete) {
            let access = recorded.unwrap_or_else(|| access_version(now, snapshot.writer));
            self.control().touch(now, *key, access);
        }
    }

    /// Returns a slot that this node owns, if it holds any.
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

    /// Returns `true` if this node owns the slot.
    #[cfg(test)]
    pub(crate) fn owns(&self, slot: usize) -> bool {
        self.snapshot().placement.owner(slot) == Member::Me
    }

    /// Returns the name of the session's owner.
    pub(crate) fn owner(&self, key: &Root) -> Option<String> {
        let snapshot = self.snapshot();
        snapshot.placement.owner_name(key.slot()).map(str::to_owned)
    }

    /// Returns `true` while members are missing.
    pub(crate) fn is_divided(&self) -> bool {
        self.table.is_split()
    }

    /// Returns the registry of tasks that wait for changes of sessions. They are woken where this
    /// node holds the session.
    pub(crate) fn watched(&self) -> &Arc<Watched> {
        &self.table.watched
    }

    /// Returns `true` if writes have fewer copies than configured, because too few nodes are alive.
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

    /// Returns `true` if this node holds the session.
    #[cfg(test)]
    pub(crate) fn holds(&self, key: &Root) -> bool {
        self.snapshot().placement.is_mine(key.slot())
    }

    /// Returns the digests of all non-empty slots, on which two nodes that agree match. Marks of
    /// expired sessions are left out.
    #[cfg(test)]
    pub(crate) fn digests(&self) -> Vec<(u16, u64)> {
        self.table.whole_digests()
    }

    /// Returns the number of live sessions with fewer copies than configured.
    pub(crate) fn under_replicated(&self) -> usize {
        // Counting may take a while, so the lock is not held meanwhile.
        let lacking = UnderReplicated::of(&self.control().cluster);
        lacking.sessions(&self.table)
    }

    /// Returns the state for operators.
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
                Outcome::Committed(record) => Operation::Create(record),
                outcome => return Step::Done(outcome),
            },
            false => Operation::Update,
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
        // The owner's answer replaces this value.
        Step::Wait(Outcome::Gone)
    }

    fn replicate<T>(
        &self,
        now: Timestamp,
        op: OpId,
        value: T,
        wanted: (Ack, usize),
        copies: &Arc<[KeyedEntry]>,
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

    fn control(&self) -> MutexGuard<'_, Engine> {
        // A panic under this lock is a bug; going on is better than failing every request.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> Snapshot {
        self.snapshot
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn publish(&self, control: &Engine) {
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
    fn of(control: &Engine) -> Self {
        let cluster = &control.cluster;
        Self {
            ready: cluster.ready,
            complete: cluster.is_complete() || !cluster.rules.union_reads,
            writer: cluster.me.writer(),
            placement: cluster.placement.clone(),
            uncertain_until: cluster.uncertain_until(),
            view: cluster.view,
        }
    }

    fn is_of(&self, control: &Engine) -> bool {
        let cluster = &control.cluster;
        self.view == cluster.view
            && self.ready == cluster.ready
            && self.complete == (cluster.is_complete() || !cluster.rules.union_reads)
            && self.uncertain_until == cluster.uncertain_until()
    }
}

/// Draws of a slot before one is accepted that this node does not own: with fifty nodes, one time
/// in a billion.
const OWN_TRIES: usize = 1_024;
