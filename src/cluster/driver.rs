//! The driver of a replica: the only code that waits.
//!
//! A [`Driver`] is shared by all tasks of a node: requests that read and write sessions,
//! connections that deliver messages, and the task that keeps time. All of them do the same: pass
//! an input to the replica, then [`settle`](Driver::settle): take the outputs, pass messages to the
//! links, and replies to the callers.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::clock::{self, WallClock};
use crate::events::{EventBus, SessionEvents};
use crate::session::{EndReason, EventScope, Root, SLOTS, SessionId, Timestamp};

use super::discover::{Discovery, discover};
use super::door::{Door, find_rival, objection_to};
use super::link::{Arrival, Encoder, Handshaking, Links, SendQueue, dial, receive};
use super::outlook::{Addresses, Answer};
use super::pending_calls::PendingCalls;
use super::replica::event::{Input, Notification, Output, Reply, Report};
use super::replica::events::Happening;
use super::replica::message::OpId;
use super::replica::node::{Node, SEEN_MAX};
use super::replica::{PAUSE_MAX, Replica};
use super::report::Reporter;
use super::sightings::Sightings;
use super::wire::{Hello, HelloReply, Refusal, RefusalDetails};

/// A running node.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) replica: Replica,
    pub(super) links: Links,
    calls: PendingCalls,
    /// The lock also keeps outputs in the order in which the replica produced them.
    outputs: Mutex<Outputs>,
    ops: AtomicU64,
    /// When the task that keeps time last ran.
    pulse: AtomicU64,
    wall: WallClock,
    /// Held while a jump of the wall clock is handled.
    leaping: Mutex<()>,
    /// The current incarnation of this node.
    identity: watch::Sender<Node>,
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
    scope: Mutex<Option<EventScope>>,
    pub(super) started_at: Timestamp,
    pub(super) door: Door,
    log: Reporter,
    random: Mutex<StdRng>,
}

/// The outputs of the replica, and the encoder for their messages.
#[derive(Debug, Default)]
struct Outputs {
    list: Vec<Output>,
    encoder: Encoder,
}

impl Driver {
    pub(super) fn new(
        replica: Replica,
        links: Links,
        me: Node,
        door: Door,
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
            pulse: AtomicU64::new(now.as_millis()),
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
            door,
            log: Reporter::default(),
            random: Mutex::new(random),
        }
    }

    /// Returns the time for the next input.
    ///
    /// A process that was paused for so long that other members may have continued without it has
    /// to handle that before anything else, whichever of its tasks runs first.
    pub(super) fn enter(&self) -> Timestamp {
        let now = clock::now();
        if !self.has_pulse(now) {
            self.replica.handle(now, Input::Timeout);
            // Only now: until then no other task may assume that the node is current.
            self.pulse.store(now.as_millis(), Release);
            self.settle();
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
            self.settle();
            tracing::warn!(
                ahead = leap.is_ahead,
                seconds = leap.by.as_secs(),
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
    pub(super) fn dialled(&self, address: std::net::SocketAddr, answer: Answer) {
        self.addresses.dialled(clock::now(), address, answer);
    }

    /// Handles the incarnation number that a node has seen under this node's name or address, in a
    /// handshake made as `me`. Returns `true` if this node therefore continues in another
    /// incarnation.
    pub(super) fn reminded(&self, me: &Node, seen: u64) -> bool {
        if seen < me.generation || seen > SEEN_MAX || self.me() != *me {
            return false;
        }
        self.input(Input::Seen { generation: seen });
        self.me() != *me
    }

    /// Returns the reason why there is no place for a node of this cluster.
    pub(super) fn objection_to(&self, node: &Node) -> Option<Refusal> {
        let members = self.replica.status().members;
        let members = members.iter().map(|member| &member.node);
        objection_to(node, &self.me(), members)
    }

    /// Returns `true` if the task that keeps time has run recently.
    pub(super) fn has_pulse(&self, now: Timestamp) -> bool {
        let last = Timestamp::from_millis(self.pulse.load(Acquire));
        now.since(last) < PAUSE_MAX
    }

    /// Handles an input.
    pub(super) fn input(&self, input: Input) {
        self.replica.handle(self.enter(), input);
        self.settle();
    }

    /// Handles messages from a node, in order, sent to this node in incarnation `to`.
    pub(super) fn hear(&self, from: &Node, to: u64, arrived: &mut Vec<Arrival>) {
        if arrived.is_empty() {
            return;
        }
        let now = self.enter();
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
        self.settle();
    }

    /// Performs the outputs of the replica, in order. Must be called after every input.
    pub(super) fn settle(&self) {
        loop {
            let given_up = self.flush_outputs();
            if given_up.is_empty() {
                return;
            }
            for given_up in given_up {
                self.replica.handle(clock::now(), given_up);
            }
        }
    }

    /// Performs the outputs of the replica. Returns a delivery report for each message that had to
    /// be dropped, so that it takes no room in a window any more.
    fn flush_outputs(&self) -> Vec<Input> {
        let mut outputs = lock(&self.outputs);
        let Outputs { list, encoder } = &mut *outputs;
        let mut given_up = Vec::new();
        self.replica.drain(list);
        for output in list.drain(..) {
            match output {
                Output::Send { to, message } => {
                    if self.links.send(&to, &message, encoder).is_err() {
                        if self.door.may_complain() {
                            tracing::error!(
                                peer = %to.name,
                                bytes = message.size(),
                                "a session is too large to be replicated"
                            );
                        }
                        given_up.push(Input::Delivered {
                            node: to,
                            bytes: message.size(),
                            large: message.is_large(),
                        });
                    }
                }
                Output::Reply { op, reply } => self.calls.answer(op, reply),
                Output::Notification(news) => self.notify(news),
                Output::Event(Report::Mine(event)) => self.events.report(event),
                Output::Event(Report::MineAgain(event)) => self.events.report_again(event),
                Output::Event(Report::Theirs(event)) => self.events.relay(event),
                Output::Event(Report::Lost(events)) => self.events.lost(events),
                Output::Event(Report::Confirmed(by_all)) => self.events.confirmed(by_all),
            }
        }
        encoder.forget();
        given_up
    }

    /// Subscribes to what happens to sessions.
    pub(super) fn events(&self, scope: EventScope) -> SessionEvents {
        let events = self.events.subscribe_among_nodes(scope);
        self.review_subscribers();
        events
    }

    /// Informs the replica when there are other subscribers than before.
    fn review_subscribers(&self) {
        // In one step, so that the last to look is the last to say.
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
            self.replica.report(self.enter(), happening);
            self.settle();
        }
    }

    /// Announces why this node is about to delete a session, if events are subscribed to.
    pub(super) fn announce_reason(&self, key: &Root, reason: EndReason) {
        if self.reports() {
            self.replica.announce_reason(self.enter(), *key, reason);
            self.settle();
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
        self.replica.is_ready() && !self.draining.load(Relaxed) && self.has_pulse(clock::now())
    }

    /// Waits until the node is ready.
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

    /// Returns this node's handshake.
    pub(super) fn hello(&self) -> Hello {
        self.door.hello(self.me())
    }

    /// Answers a handshake.
    pub(super) fn judge(&self, hello: &Hello) -> HelloReply {
        let me = self.me();
        let members = self.replica.status().members;
        let nodes = members.iter().map(|member| &member.node);
        let seen = self
            .sightings
            .latest(hello, nodes.clone().chain(std::iter::once(&me)));
        if let Some(refusal) = self.door.objection(hello, &me, nodes) {
            let (name, serves) = (&hello.node.name, self.replica.is_ready());
            let rival = find_rival(name, &me, serves, &members);
            let rival = rival.filter(|_| refusal == Refusal::Name);
            let details = match refusal {
                // An unauthenticated node gets no information.
                Refusal::Cluster | Refusal::Myself => RefusalDetails::default(),
                _ => RefusalDetails { seen, rival },
            };
            return HelloReply::Refused { refusal, details };
        }
        if hello.node.generation > 0 {
            self.sightings.introduced(hello);
        }
        HelloReply::Welcome {
            proto: hello.common_protocol().unwrap_or_default(),
            node: me,
            seen,
        }
    }

    /// Refuses a node without a secret, when this node has one.
    pub(super) fn refuse_plain(&self, hello: &Hello) -> Refusal {
        let refusal = match hello.cluster == self.hello().cluster {
            true => Refusal::Secret,
            false => Refusal::Cluster,
        };
        self.door.refuse(&hello.node, &self.me(), refusal);
        refusal
    }

    /// Returns since when a member has been one.
    pub(super) fn member_since(&self, node: &Node) -> Option<Timestamp> {
        self.sightings.since(node)
    }

    /// Counts an acknowledged write if it has fewer copies than configured, for lack of nodes.
    pub(super) fn count_if_degraded(&self) {
        if self.replica.is_degraded() {
            self.degraded_acks.fetch_add(1, Relaxed);
        }
    }

    /// Logs an event, and does what follows from it outside of the replica.
    fn notify(&self, news: Notification) {
        self.log.report(&news, || self.replica.under_replicated());
        match news {
            Notification::MemberUp(node) => self.sightings.joined(clock::now(), &node),
            Notification::MemberDown { node, .. } => self.links.cut(&node),
            Notification::Ready { .. } => {
                self.addresses.joined();
                self.ready.send_replace(true);
            }
            Notification::Excluded(_) => {
                self.look_again();
                self.links.close_all();
            }
            Notification::Renewed(node) => {
                let members = self.replica.status().members;
                self.addresses
                    .rejoin(members.iter().map(|member| member.node.address));
                self.look_again();
                // In this order: a link established meanwhile checks the identity last.
                self.identity.send_replace(node);
                self.links.close_all();
            }
            Notification::Unreachable(_)
            | Notification::Stalled(_)
            | Notification::CopyingBegins
            | Notification::CopyingEnds { .. }
            | Notification::OverLimit { .. }
            | Notification::Quarantined(_) => {}
        }
    }

    /// Called when this node stops serving: starts to look for other nodes again.
    fn look_again(&self) {
        self.ready.send_replace(false);
        let until = clock::now().plus(LOOKING);
        self.looking_until.store(until.as_millis(), Relaxed);
    }

    /// Advances the time, and returns how long nothing is due.
    fn tick(&self) -> Duration {
        let now = self.enter();
        self.pulse.store(now.as_millis(), Release);
        self.review_subscribers();
        let outlook = self
            .addresses
            .changed(|address| self.links.is_mine(address));
        if let Some(outlook) = outlook {
            self.replica.handle(now, Input::Outlook(outlook));
            self.settle();
        }
        match self.replica.poll_timeout() {
            Some(due) if due > now => due.since(now).min(TICK_MAX),
            Some(_) => {
                self.replica.handle(now, Input::Timeout);
                self.settle();
                Duration::ZERO
            }
            None => TICK_MAX,
        }
    }
}

/// The listener and the sources of addresses of a node.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub(super) listener: TcpListener,
    pub(super) discovery: Discovery,
    pub(super) undialled: mpsc::UnboundedReceiver<Arc<SendQueue>>,
}

/// Runs a node until `stop` changes or the future is dropped. All its tasks and connections end
/// with it.
pub(super) async fn run(
    driver: Arc<Driver>,
    surroundings: Endpoints,
    mut stop: watch::Receiver<bool>,
) {
    let Endpoints {
        listener,
        discovery,
        mut undialled,
    } = surroundings;
    let _end = End(&driver);
    let mut tasks = JoinSet::new();
    let mut strangers = Handshaking::default();
    tasks.spawn(discover(driver.clone(), discovery));
    loop {
        let pause = driver.tick();
        tokio::select! {
            () = sleep(pause) => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    let patience = strangers.admit(remote.ip());
                    tasks.spawn(receive(driver.clone(), stream, remote, patience));
                }
                // Usually too many open files, which an immediate retry does not solve.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(outbox) = undialled.recv() => {
                tasks.spawn(dial(driver.clone(), outbox));
            }
            Some(ended) = tasks.join_next() => if let Err(error) = ended {
                tracing::error!(cause = %error, "a replication task has failed");
            },
            _ = stop.changed() => return,
        }
    }
}

/// Ends a node, however `run` ends.
struct End<'a>(&'a Driver);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.calls.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under one of these locks is a bug; going on is better than failing every request.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Longest time between two checks of the clock.
const TICK_MAX: Duration = Duration::from_millis(50);
/// How long a node that looks for peers dials more often: slightly longer than it takes to conclude
/// that there are none.
const LOOKING: Duration = Duration::from_secs(3);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
