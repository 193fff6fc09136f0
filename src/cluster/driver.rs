//! What moves a replica: the only code that waits.
//!
//! A [`Driver`] is shared by everything that a node runs: requests that read and write sessions,
//! connections that bring messages, and the task that keeps time. All of them do the same: put
//! something into the replica, then [`settle`](Driver::settle): take out what follows from it, hand
//! messages to the links and replies to those who wait.

use std::collections::HashMap;
use std::net::SocketAddr;
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

use crate::clock;
use crate::session::{SessionId, Timestamp};

use super::calls::Calls;
use super::discover::{Discovery, discover};
use super::door::Door;
use super::link::{Arrival, Encoder, Links, Outbox, Strangers, dial, receive};
use super::replica::event::{Input, News, Output, Reply};
use super::replica::message::OpId;
use super::replica::node::Node;
use super::replica::{PAUSE_MAX, Replica};
use super::wire::{Hello, HelloReply};

/// A running node.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) replica: Replica,
    pub(super) links: Links,
    calls: Calls,
    /// Also the order in which outputs are handled: as they came out of the replica.
    outputs: Mutex<Outputs>,
    ops: AtomicU64,
    /// When the task that keeps time last ran.
    pulse: AtomicU64,
    /// Who this node is in this life.
    identity: watch::Sender<Node>,
    ready: watch::Sender<bool>,
    pub(super) draining: AtomicBool,
    /// What was seen of other nodes, by address.
    seen: Mutex<HashMap<SocketAddr, Seen>>,
    pub(super) degraded_acks: AtomicU64,
    pub(super) started_at: Timestamp,
    pub(super) door: Door,
    random: Mutex<StdRng>,
}

/// What the replica wants done, and what messages are encoded with.
#[derive(Debug, Default)]
struct Outputs {
    list: Vec<Output>,
    encoder: Encoder,
}

/// The last life of a node that this one has had as a member.
#[derive(Clone, Copy, Debug)]
struct Seen {
    generation: u64,
    since: Timestamp,
}

impl Driver {
    pub(super) fn new(
        replica: Replica,
        links: Links,
        me: Node,
        door: Door,
        random: StdRng,
    ) -> Self {
        let now = clock::now();
        Self {
            replica,
            links,
            calls: Calls::default(),
            outputs: Mutex::default(),
            ops: AtomicU64::new(0),
            pulse: AtomicU64::new(now.as_millis()),
            identity: watch::Sender::new(me),
            ready: watch::Sender::new(false),
            draining: AtomicBool::new(false),
            seen: Mutex::default(),
            degraded_acks: AtomicU64::new(0),
            started_at: now,
            door,
            random: Mutex::new(random),
        }
    }

    /// The time, for whatever goes into the replica next.
    ///
    /// A process that was stopped for so long that the others may have gone on without it must find
    /// that out before it does anything else, whichever of its tasks happens to run first.
    pub(super) fn enter(&self) -> Timestamp {
        let now = clock::now();
        if !self.has_pulse(now) {
            self.replica.handle(now, Input::Timeout);
            // Only now: until then nobody else may believe that all is well.
            self.pulse.store(now.as_millis(), Release);
            self.settle();
        }
        now
    }

    /// Whether the task that keeps time has run lately.
    pub(super) fn has_pulse(&self, now: Timestamp) -> bool {
        let last = Timestamp::from_millis(self.pulse.load(Acquire));
        now.since(last) < PAUSE_MAX
    }

    /// Something has happened.
    pub(super) fn input(&self, input: Input) {
        self.replica.handle(self.enter(), input);
        self.settle();
    }

    /// Messages have come from a node, one after the other, for this node in generation `to`.
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

    /// Does what the replica wants done, in the order in which it wants it. Must follow whatever
    /// has been put in.
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

    /// Does what the replica wants done. Returns the delivery of messages that had to be given up:
    /// they take no room in a window any more.
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
                Output::News(news) => self.tell(news),
            }
        }
        encoder.forget();
        given_up
    }

    /// A number for a call.
    pub(super) fn next_op(&self) -> OpId {
        self.ops.fetch_add(1, Relaxed)
    }

    /// Waits for what has become of a call; `None` when the node has stopped.
    pub(super) async fn reply(&self, op: OpId) -> Option<Reply> {
        self.calls.reply(op).await
    }

    /// Whether this node serves sessions, and whoever asks should come.
    pub(super) fn is_ready(&self) -> bool {
        self.replica.is_ready() && !self.draining.load(Relaxed) && self.has_pulse(clock::now())
    }

    /// Waits until the node is ready.
    pub(super) async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // The sender lives in `self`.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// An id for a new session, one that this node owns if possible: then an atomic update of it
    /// need not ask another node.
    pub(super) fn new_id(&self) -> SessionId {
        let mut random = lock(&self.random);
        let tag = self.replica.own_tag(|| random.next_u32());
        drop(random);
        SessionId::with_tag(tag)
    }

    /// A number from 0 to 1.
    pub(super) fn random(&self) -> f64 {
        lock(&self.random).random()
    }

    /// Who this node is now.
    pub(super) fn me(&self) -> Node {
        self.identity.borrow().clone()
    }

    /// Who this node is, and when that changes.
    pub(super) fn identity(&self) -> watch::Receiver<Node> {
        self.identity.subscribe()
    }

    /// How this node introduces itself.
    pub(super) fn hello(&self) -> Hello {
        self.door.hello(self.me())
    }

    /// Answers an introduction.
    pub(super) fn judge(&self, hello: &Hello) -> HelloReply {
        let me = self.me();
        let members = self.replica.status().members;
        let members = members.iter().map(|member| &member.node);
        match self.door.objection(hello, &me, members) {
            Some(refusal) => HelloReply::Refused(refusal),
            None => HelloReply::Welcome {
                proto: hello.common_protocol().unwrap_or_default(),
                node: me,
                seen: self
                    .seen_of(hello.node.address)
                    .map_or(0, |seen| seen.generation),
            },
        }
    }

    /// Since when a member has been one.
    pub(super) fn member_since(&self, node: &Node) -> Option<Timestamp> {
        let seen = self.seen_of(node.address)?;
        (seen.generation == node.generation).then_some(seen.since)
    }

    fn seen_of(&self, address: SocketAddr) -> Option<Seen> {
        lock(&self.seen).get(&address).copied()
    }

    /// A write was acknowledged: by fewer nodes than asked for, where there are no more.
    pub(super) fn count_if_degraded(&self) {
        if self.replica.is_degraded() {
            self.degraded_acks.fetch_add(1, Relaxed);
        }
    }

    fn tell(&self, news: News) {
        match news {
            News::Joined(node) => {
                tracing::info!(
                    "replication member added: {} at {}",
                    node.name,
                    node.address
                );
                let mut seen = lock(&self.seen);
                if seen.len() < SEEN_MAX || seen.contains_key(&node.address) {
                    let life = Seen {
                        generation: node.generation,
                        since: clock::now(),
                    };
                    seen.insert(node.address, life);
                }
            }
            News::Left(node) => {
                tracing::info!("replication member gone: {} at {}", node.name, node.address);
                self.links.cut(&node);
            }
            News::Deaf(node) => {
                tracing::warn!(
                    "nothing is heard from {} at {}, though other nodes hear it: it is taken out; \
                     check the network and the firewalls between the two",
                    node.name,
                    node.address
                );
            }
            News::Stalled(node) => {
                tracing::warn!(
                    node = %node.name,
                    address = %node.address,
                    "declared a member down that answers but receives no data; check the network \
                     for a path that drops large packets"
                );
            }
            News::OverLimit {
                is_over: true,
                sessions,
                bytes,
            } => {
                tracing::warn!(
                    sessions,
                    bytes,
                    "this node holds more than its limits, because it keeps copies for other nodes: \
                     it creates no sessions; give all nodes the same `max_sessions` and `max_bytes`"
                );
            }
            News::OverLimit {
                sessions, bytes, ..
            } => {
                tracing::info!(sessions, bytes, "this node is within its limits again");
            }
            News::Away(time) => {
                tracing::error!(
                    "the others take this node out again and again although it runs: some node cannot \
                     reach it, or does not hear it. No sessions are served here; it tries again in \
                     {} s. Check the network and the firewalls between all nodes",
                    time.as_secs()
                );
            }
            News::Ready => {
                tracing::info!("sessions are served from now on");
                self.ready.send_replace(true);
            }
            News::Reborn(node) => {
                tracing::warn!(
                    "this node was declared down by the others, or was stopped for so long that \
                     it may have been: no sessions are served until it has joined again"
                );
                self.ready.send_replace(false);
                // In this order: a link that is made meanwhile looks at the identity last.
                self.identity.send_replace(node);
                self.links.close_all();
            }
        }
    }

    /// Lets the time pass, and says how long nothing is due.
    fn tick(&self) -> Duration {
        let now = self.enter();
        self.pulse.store(now.as_millis(), Release);
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

/// What a node listens on, and whom it looks for.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) listener: TcpListener,
    pub(super) discovery: Discovery,
    pub(super) undialled: mpsc::UnboundedReceiver<Arc<Outbox>>,
}

/// Runs a node until it is told to stop, or dropped. All its tasks and connections end with it.
pub(super) async fn run(
    driver: Arc<Driver>,
    surroundings: Surroundings,
    mut stop: watch::Receiver<bool>,
) {
    let Surroundings {
        listener,
        discovery,
        mut undialled,
    } = surroundings;
    let _end = End(&driver);
    let mut tasks = JoinSet::new();
    let mut strangers = Strangers::default();
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
                // Mostly too many open files: that does not get better by asking at once.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(outbox) = undialled.recv() => {
                tasks.spawn(dial(driver.clone(), outbox));
            }
            Some(ended) = tasks.join_next() => if let Err(error) = ended {
                tracing::error!("a replication task has failed: {error}");
            },
            _ = stop.changed() => return,
        }
    }
}

/// The end of a node, however it comes.
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

/// A node looks at the clock at least this often.
const TICK_MAX: Duration = Duration::from_millis(50);
/// How many addresses are remembered for the lives that were led there.
const SEEN_MAX: usize = 1024;
/// How long nothing is accepted after accepting has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
