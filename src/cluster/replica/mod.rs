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
//!  │ one lock each│                  │  writes · reads · updates · compare   │
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
//!   ([`reads`], [`anti_entropy`]).
//! - *A copy is dropped only when every holder has it* ([`anti_entropy`]).
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

mod anti_entropy;
mod budget;
mod calls;
mod cluster_view;
pub(crate) mod delta;
mod digest;
mod engine;
pub(crate) mod entry;
pub(crate) mod event;
pub(crate) mod events;
pub(crate) mod expired;
#[cfg(all(feature = "snapshot", unix))]
mod export;
mod floors;
mod flow;
pub(crate) mod listing;
mod member_selection;
mod membership;
mod merged_writes;
pub(crate) mod message;
pub(crate) mod node;
mod op_id;
mod outlook;
mod peer_table;
mod placement;
pub(crate) mod protocol_rules;
mod published;
mod question;
mod readiness;
mod reads;
mod rebase;
mod revocation;
mod status;
mod table;
mod updates;
#[cfg(all(feature = "snapshot", unix))]
pub(crate) mod withheld;
mod writes;

#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use crate::cluster::ack::Ack;
use crate::cluster::copies::Copies;
use crate::session::{Root, Timestamp};
use crate::sync::{lock, read, write};
use crate::watch::Watched;

use self::budget::Budget;
use self::engine::Engine;
use self::event::{Input, Output};
use self::node::Node;
use self::placement::MemberRef;
use self::protocol_rules::ProtocolRules;
use self::published::Published;
use self::status::UnderReplicated;
use self::table::EntryTable;

pub(crate) use self::engine::PAUSE_MAX;
pub(crate) use self::outlook::Outlook;
pub(crate) use self::peer_table::PEERS_MAX;
pub(crate) use self::readiness::Requirements;
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
    pub(crate) rules: ProtocolRules,
}

/// The protocol state of one node.
#[derive(Debug)]
pub(crate) struct Replica {
    table: EntryTable,
    engine: Mutex<Engine>,
    /// The part of `engine` that request tasks need, so that a local read does not wait for its
    /// lock.
    published: RwLock<Published>,
    /// The changes that other members have not acknowledged.
    budget: Arc<Budget>,
    /// Whether events are subscribed to, here or at a member.
    listened: Arc<AtomicBool>,
    ack: Ack,
    min_copies: usize,
}

impl Replica {
    pub(crate) fn new(now: Timestamp, settings: Settings) -> Self {
        let table = EntryTable::new(&settings);
        let (ack, min_copies) = (settings.ack, settings.min_copies.into());
        let engine = Engine::new(now, settings);
        Self {
            table,
            published: RwLock::new(Published::of(&engine)),
            budget: engine.cluster.budget.clone(),
            listened: engine.cluster.listeners.any(),
            engine: Mutex::new(engine),
            ack,
            min_copies,
        }
    }

    /// Handles an event.
    pub(crate) fn handle(&self, now: Timestamp, input: Input) {
        let mut engine = self.engine();
        engine.handle(now, input, &self.table);
        self.publish(&engine);
        // After publishing: requests that use the former view, in which this node is complete,
        // would find sessions that members may have deleted.
        #[cfg(all(feature = "snapshot", unix))]
        engine.withheld.take_up(now, &self.table);
    }

    /// Moves the pending outputs to `outputs`, in order.
    pub(crate) fn drain(&self, outputs: &mut Vec<Output>) {
        self.engine().drain(outputs);
    }

    /// Returns when [`Input::Timeout`] is due; `None` after leaving.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.engine().poll_timeout()
    }

    /// Returns `true` if the view is still that of `published`.
    fn is_current(&self, published: &Published) -> bool {
        self.published().view == published.view
    }

    /// Returns a slot that this node owns, if it holds any.
    pub(crate) fn own_slot(&self, mut draw: impl FnMut() -> usize) -> usize {
        let placement = self.published().placement;
        let mut slot = draw();
        for _ in 0..OWN_TRIES {
            if !placement.is_candidate() || placement.owner(slot) == MemberRef::Me {
                break;
            }
            slot = draw();
        }
        slot
    }

    /// Returns `true` if this node owns the slot.
    #[cfg(test)]
    pub(crate) fn owns(&self, slot: usize) -> bool {
        self.published().placement.owner(slot) == MemberRef::Me
    }

    /// Returns the name of the session's owner.
    pub(crate) fn owner(&self, key: &Root) -> Option<String> {
        let published = self.published();
        published
            .placement
            .owner_name(key.slot())
            .map(str::to_owned)
    }

    /// Returns `true` while members are missing.
    pub(crate) fn is_divided(&self) -> bool {
        self.table.is_partitioned()
    }

    /// Returns the registry of tasks that wait for changes of sessions. They are woken where this
    /// node holds the session.
    pub(crate) fn watched(&self) -> &Arc<Watched> {
        &self.table.watched
    }

    /// Returns `true` if writes have fewer copies than configured, because too few nodes are alive.
    pub(crate) fn is_degraded(&self) -> bool {
        let placement = self.published().placement;
        let acked = match self.ack {
            Ack::Copies(n) => n.get().into(),
            Ack::All | Ack::Local => 1,
        };
        placement.candidates() < placement.wanted().unwrap_or(1).max(acked)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.published().ready
    }

    /// Returns `true` if this node holds the session.
    #[cfg(test)]
    pub(crate) fn holds(&self, key: &Root) -> bool {
        self.published().placement.is_local(key.slot())
    }

    /// Returns the bytes that wait for all peers together, and those of updates that wait here.
    #[cfg(test)]
    pub(crate) fn waiting_bytes(&self) -> [usize; 2] {
        self.engine().waiting_bytes()
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
        let lacking = UnderReplicated::of(&self.engine().cluster);
        lacking.sessions(&self.table)
    }

    /// Returns the state for operators.
    pub(crate) fn status(&self) -> ReplicaStatus {
        ReplicaStatus::of(&self.engine(), &self.table)
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        // A panic under this lock is a bug; going on is better than failing every request.
        lock(&self.engine)
    }

    fn published(&self) -> Published {
        read(&self.published).clone()
    }

    fn publish(&self, engine: &Engine) {
        let is_current = |published: &Published| published.is_of(engine);
        let current = is_current(&read(&self.published));
        if !current {
            let mut published = write(&self.published);
            *published = Published::of(engine);
        }
    }
}

/// Draws of a slot before one is accepted that this node does not own: with fifty nodes, one time
/// in a billion.
const OWN_TRIES: usize = 1_024;
