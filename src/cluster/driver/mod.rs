//! The driver of a replica: with [`runtime`](super::runtime), the only code that waits.
//!
//! A [`Driver`] is shared by all tasks of a node: requests that read and write sessions,
//! connections that deliver messages, and the task that keeps time. All of them do the same: pass
//! an input to the replica, then [`flush_outputs`](Driver::flush_outputs): take the outputs, pass
//! messages to the links, and replies to the callers.

mod handshake;
mod outputs;

use std::sync::Mutex;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use tokio::sync::watch;

use crate::clock::{self, WallClock};
use crate::events::{EventBus, SessionEvents};
use crate::session::{EndReason, Root, SLOTS, Scope, SessionId, Timestamp};

use crate::cluster::admission::Admission;
use crate::cluster::outlook::Addresses;
use crate::cluster::pending_calls::PendingCalls;
use crate::cluster::replica::event::{Input, Reply};
use crate::cluster::replica::events::Happening;
use crate::cluster::replica::message::OpId;
use crate::cluster::replica::node::Node;
use crate::cluster::replica::{PAUSE_MAX, Replica};
use crate::cluster::report::Reporter;
use crate::cluster::sightings::Sightings;
use crate::cluster::transport::{Arrival, DialResult, Links};
use crate::sync::lock;

use self::outputs::Outputs;

/// A running node.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) replica: Replica,
    pub(super) links: Links,
    pub(super) calls: PendingCalls,
    /// The lock also keeps outputs in the order in which the replica produced them.
    outputs: Mutex<Outputs>,
    ops: AtomicU64,
    /// When the task that keeps time last ran.
    last_tick: AtomicU64,
    wall: WallClock,
    /// Held while a jump of the wall clock is handled.
    leaping: Mutex<()>,
    /// The current incarnation of this node.
    identity: watch::Sender<Node>,
    /// Whether [`ready`](Self::ready) returns: the node serves, or has stopped.
    ready: watch::Sender<bool>,
    pub(super) draining: AtomicBool,
    sightings: Sightings,
    /// The state of the addresses at which other nodes may be.
    pub(super) addresses: Addresses,
    /// Until when addresses are dialed more often, because this node has just started to look for
    /// peers.
    looking_until: AtomicU64,
    pub(super) degraded_acks: AtomicU64,
    pub(super) created: AtomicU64,
    pub(super) deleted: AtomicU64,
    events: EventBus,
    /// The widest scope of events that the replica was informed of.
    scope: Mutex<Option<Scope>>,
    pub(super) started_at: Timestamp,
    pub(super) admission: Admission,
    log: Reporter,
    random: Mutex<StdRng>,
}

impl Driver {
    pub(super) fn new(
        replica: Replica,
        links: Links,
        me: Node,
        admission: Admission,
        addresses: Addresses,
        random: StdRng,
    ) -> Self {
        let now = clock::now();
        Self {
            replica,
            links,
            calls: PendingCalls::default(),
            outputs: Mutex::default(),
            ops: AtomicU64::new(0),
            last_tick: AtomicU64::new(now.as_millis()),
            wall: WallClock::new(),
            leaping: Mutex::default(),
            identity: watch::Sender::new(me),
            ready: watch::Sender::new(false),
            draining: AtomicBool::new(false),
            sightings: Sightings::default(),
            addresses,
            looking_until: AtomicU64::new(now.plus(LOOKING).as_millis()),
            degraded_acks: AtomicU64::new(0),
            created: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            events: EventBus::default(),
            scope: Mutex::default(),
            started_at: now,
            admission,
            log: Reporter::default(),
            random: Mutex::new(random),
        }
    }

    /// Returns the time for the next input.
    ///
    /// A process that was paused for so long that other members may have continued without it has
    /// to handle that before anything else, whichever of its tasks runs first.
    pub(super) fn now_checked(&self) -> Timestamp {
        let now = clock::now();
        if self.is_stalled(now) {
            self.replica.handle(now, Input::Timeout);
            // Only now: until then no other task may assume that the node is current.
            self.last_tick.store(now.as_millis(), Release);
            self.flush_outputs();
        }
        if self.wall.leap().is_some() {
            self.leap(now);
        }
        now
    }

    /// Handles a change of the wall clock. If it was set forward the machine may have been paused,
    /// and no task continues before that is handled.
    fn leap(&self, now: Timestamp) {
        let _one_by_one = lock(&self.leaping);
        if let Some(leap) = self.wall.leap() {
            if leap.is_ahead {
                self.replica.handle(now, Input::Paused);
            }
            self.wall.accept(leap);
            self.flush_outputs();
            tracing::warn!(
                ahead = leap.is_ahead,
                elapsed_ms = leap.by.as_millis() as u64,
                "the wall clock was set: times of sessions are not affected; a node whose clock was \
                 set forward joins its cluster again, because its machine may have been paused"
            );
        }
    }

    /// Returns `true` if this node started to look for peers a short time ago and does not serve
    /// yet.
    pub(super) fn is_looking(&self) -> bool {
        let until = Timestamp::from_millis(self.looking_until.load(Relaxed));
        clock::now() < until && !self.replica.is_ready()
    }

    /// Records the result of dialing an address.
    pub(super) fn dialed(&self, address: std::net::SocketAddr, result: DialResult) {
        self.addresses.dialed(clock::now(), address, result);
    }

    /// Returns `true` if the task that keeps time has not run recently.
    pub(super) fn is_stalled(&self, now: Timestamp) -> bool {
        let last = Timestamp::from_millis(self.last_tick.load(Acquire));
        now.since(last) >= PAUSE_MAX
    }

    /// Handles an input.
    pub(super) fn input(&self, input: Input) {
        self.replica.handle(self.now_checked(), input);
        self.flush_outputs();
    }

    /// Handles messages from a node, in order, sent to this node in incarnation `to`.
    pub(super) fn handle_messages(&self, from: &Node, to: u64, arrived: &mut Vec<Arrival>) {
        if arrived.is_empty() {
            return;
        }
        let now = self.now_checked();
        for Arrival { age, message } in arrived.drain(..) {
            let from = from.clone();
            let input = Input::Message {
                from,
                to,
                age,
                message,
            };
            self.replica.handle(now, input);
        }
        self.flush_outputs();
    }

    /// Subscribes to what happens to sessions.
    pub(super) fn events(&self, scope: Scope) -> SessionEvents {
        let events = self.events.subscribe_among_nodes(scope);
        self.review_subscribers();
        events
    }

    /// Informs the replica when there are other subscribers than before.
    fn review_subscribers(&self) {
        // Held across the comparison and the input, so that the replica receives the scopes in the
        // order in which they were read.
        let mut known = lock(&self.scope);
        let scope = self.events.wanted();
        if *known != scope {
            *known = scope;
            self.input(Input::Listen(scope));
        }
    }

    /// Returns `true` if events of sessions are subscribed to, here or at a member.
    pub(super) fn reports(&self) -> bool {
        self.replica.reports()
    }

    /// Reports what a call has done to a session.
    pub(super) fn report(&self, happening: Happening) {
        if self.reports() {
            self.replica.report(self.now_checked(), happening);
            self.flush_outputs();
        }
    }

    /// Announces why this node is about to delete a session, if events are subscribed to.
    pub(super) fn announce_reason(&self, key: &Root, reason: EndReason) {
        if self.reports() {
            self.replica
                .announce_reason(self.now_checked(), *key, reason);
            self.flush_outputs();
        }
    }

    /// Returns a number for a call.
    pub(super) fn next_op(&self) -> OpId {
        self.ops.fetch_add(1, Relaxed)
    }

    /// Waits for the reply to a call; `None` if the node has stopped.
    pub(super) async fn reply(&self, op: OpId) -> Option<Reply> {
        self.calls.reply(op).await
    }

    /// Returns `true` if this node serves sessions and should receive requests.
    pub(super) fn is_ready(&self) -> bool {
        self.replica.is_ready() && !self.draining.load(Relaxed) && !self.is_stalled(clock::now())
    }

    /// Called when the node has stopped: wakes all callers.
    pub(super) fn stopped(&self) {
        self.calls.close();
        self.ready.send_replace(true);
    }

    /// Waits until the node is ready, or has stopped.
    pub(super) async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // The sender lives in `self`.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Returns an id for a new session, with a slot that this node owns if possible: then an atomic
    /// update needs no other node to order it.
    pub(super) fn new_id(&self) -> SessionId {
        let mut random = lock(&self.random);
        let slot = self.replica.own_slot(|| random.next_u32() as usize % SLOTS);
        drop(random);
        SessionId::with_root(Root::generate().with_slot(slot))
    }

    /// Returns a random number from 0 to 1.
    pub(super) fn random(&self) -> f64 {
        lock(&self.random).random()
    }

    /// Returns the current incarnation of this node.
    pub(super) fn me(&self) -> Node {
        self.identity.borrow().clone()
    }

    /// Returns the current incarnation of this node, and notifies of changes.
    pub(super) fn identity(&self) -> watch::Receiver<Node> {
        self.identity.subscribe()
    }

    /// Returns when the node became a member.
    pub(super) fn member_since(&self, node: &Node) -> Option<Timestamp> {
        self.sightings.since(node)
    }

    /// Counts an acknowledged write if it has fewer copies than configured, for lack of nodes.
    pub(super) fn count_if_degraded(&self) {
        if self.replica.is_degraded() {
            self.degraded_acks.fetch_add(1, Relaxed);
        }
    }

    /// Advances the time, and returns how long nothing is due.
    pub(super) fn tick(&self) -> Duration {
        let now = self.now_checked();
        self.last_tick.store(now.as_millis(), Release);
        self.review_subscribers();
        let outlook = self
            .addresses
            .changed(|address| self.links.is_mine(address));
        if let Some(outlook) = outlook {
            self.replica.handle(now, Input::Outlook(outlook));
            self.flush_outputs();
        }
        match self.replica.poll_timeout() {
            Some(due) if due > now => due.since(now).min(TICK_MAX),
            Some(_) => {
                self.replica.handle(now, Input::Timeout);
                self.flush_outputs();
                Duration::ZERO
            }
            None => TICK_MAX,
        }
    }
}

/// Longest time between two checks of the clock.
const TICK_MAX: Duration = Duration::from_millis(50);
/// How long a node that looks for peers dials more often: slightly longer than it takes to conclude
/// that there are none.
const LOOKING: Duration = Duration::from_secs(3);
