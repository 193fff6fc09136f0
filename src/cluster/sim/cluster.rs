//! A cluster, its clients and its misfortunes, in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cluster::Ack;
use crate::cluster::replica::event::{Input, News, Output};
use crate::cluster::replica::message::{Message, OpId};
use crate::cluster::replica::node::Node;
use crate::cluster::replica::{PAUSE_MAX, Replica, Requirements, Settings};
use crate::session::{SLOTS, SessionKey, Timestamp, Value};

use super::client::{Request, Stage};
use super::network::Network;
use super::oracle::Model;
use super::plan::{Faults, Plan};

/// The world of one run.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) plan: Plan,
    pub(super) rng: StdRng,
    /// Virtual time in microseconds.
    pub(super) now: u64,
    pub(super) events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    pub(super) sequence: u64,
    pub(super) network: Network,
    /// By place; a place keeps its address through all lives of its node.
    pub(super) places: Vec<Place>,
    pub(super) models: Vec<Model>,
    pub(super) requests: BTreeMap<OpId, Request>,
    pub(super) last_op: OpId,
    pub(super) clients: usize,
    /// Messages under way: events only carry their number.
    pub(super) mail: BTreeMap<u64, (Node, u64, Message)>,
    /// Whether everything that happens goes into the trace.
    traced: bool,
    pub(super) trace: u64,
    /// Whether there has been a partition: reads and updates of its sides need not agree.
    pub(super) torn: bool,
    /// Whether a node was stopped for so long that the others went on without it: an update that it
    /// had ordered may surface after theirs.
    pub(super) doubted: bool,
    pub(super) ended: bool,
    pub(super) done: Progress,
}

/// What was tried and what succeeded: a run in which nothing succeeds proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) begun: u64,
    pub(super) succeeded: u64,
}

#[derive(Debug)]
pub(super) struct Place {
    pub(super) replica: Option<Replica>,
    pub(super) me: Node,
    /// How far its clock is ahead, in milliseconds.
    pub(super) skew: u64,
    /// Until when it is stopped.
    pub(super) paused_until: u64,
    /// When it last ran.
    pub(super) ran_at: u64,
    pub(super) wake_at: u64,
    pub(super) leaving: bool,
    /// Whether others have declared it dead although it runs, and it does not know yet.
    pub(super) wronged: bool,
    /// Whom it takes for dead although they run, and who have not come back yet.
    pub(super) accuses: BTreeSet<Arc<str>>,
    /// Until when somebody who leaves still takes requests.
    pub(super) open_until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Arrive {
        from: usize,
        to: usize,
        mail: u64,
    },
    Wake {
        place: usize,
    },
    Dial {
        place: usize,
    },
    /// A node that was dialled dials back.
    Knock {
        place: usize,
        from: usize,
    },
    Notice {
        place: usize,
        gone: usize,
        generation: u64,
    },
    Act {
        client: usize,
    },
    Misfortune,
    Heal,
    Start {
        place: usize,
    },
    Depart {
        place: usize,
    },
    Calm,
}

impl Cluster {
    pub(super) fn new(plan: Plan) -> Self {
        let mut rng = StdRng::seed_from_u64(plan.seed ^ 0x5eed);
        let network = Network::new(plan.network, StdRng::seed_from_u64(plan.seed ^ 0x0e7));
        let skew = plan.skew.as_millis() as u64;
        let place = |index: usize| Place {
            replica: None,
            me: Node {
                address: ([127, 0, 0, 1], 4000 + index as u16).into(),
                generation: 0,
                name: format!("node{index}").into(),
            },
            skew: EPOCH + rng.random_range(0..=skew),
            paused_until: 0,
            ran_at: 0,
            wake_at: u64::MAX,
            leaving: false,
            wronged: false,
            accuses: BTreeSet::new(),
            open_until: 0,
        };
        let mut cluster = Self {
            places: (0..plan.nodes).map(place).collect(),
            plan,
            rng,
            now: 0,
            events: BinaryHeap::new(),
            sequence: 0,
            network,
            models: Vec::new(),
            requests: BTreeMap::new(),
            last_op: 0,
            clients: CLIENTS,
            mail: BTreeMap::new(),
            traced: false,
            trace: 0,
            torn: false,
            doubted: false,
            ended: false,
            done: Progress::default(),
        };
        for place in 0..cluster.places.len() {
            let at = cluster.rng.random_range(0..3_000_000);
            cluster.at(at, Event::Start { place });
        }
        for client in 0..CLIENTS {
            cluster.at(1_000_000 + client as u64, Event::Act { client });
        }
        if cluster.plan.faults != Faults::None {
            cluster.at(6_000_000, Event::Misfortune);
        }
        cluster.at(cluster.plan.duration, Event::Calm);
        cluster
    }

    /// Notes everything that happens, which takes a while.
    pub(super) const fn traced(mut self) -> Self {
        self.traced = true;
        self
    }

    /// Runs to the end, and checks that all is well then.
    pub(super) fn run(mut self) -> u64 {
        let end = self.plan.duration + PEACE_MAX;
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            assert!(at <= end, "{}", self.complaint());
            self.now = at;
            self.note(format_args!("{event:?}"));
            self.happen(event);
            if self.ended && self.requests.is_empty() && self.is_well() {
                break;
            }
        }
        self.judge();
        self.trace
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { from, to, mail } => self.arrive(from, to, mail),
            Event::Wake { place } => self.wake(place),
            Event::Dial { place } => self.dial(place),
            Event::Knock { place, from } => self.connect(place, from),
            Event::Notice {
                place,
                gone,
                generation,
            } => self.notice(place, gone, generation),
            Event::Act { client } => self.act(client),
            Event::Misfortune => self.misfortune(),
            Event::Heal => self.network.heal(),
            Event::Start { place } => self.start(place),
            Event::Depart { place } => self.depart(place),
            Event::Calm => {
                self.ended = true;
                self.network.heal();
                self.network.calm();
                for place in 0..self.places.len() {
                    if self.places[place].replica.is_none() {
                        self.start(place);
                    }
                }
            }
        }
    }

    // Nodes.

    pub(super) fn start(&mut self, index: usize) {
        let now = self.clock(index);
        let place = &mut self.places[index];
        if place.replica.is_some() {
            return;
        }
        place.me.generation = now.as_millis().max(place.me.generation + 1);
        place.leaving = false;
        place.wronged = false;
        place.accuses.clear();
        place.paused_until = 0;
        place.ran_at = self.now;
        let settings = Settings {
            me: place.me.clone(),
            copies: self.plan.copies,
            ack: Ack::All,
            min_copies: NonZeroU8::MIN.get(),
            max_sessions: 10_000,
            max_bytes: 1 << 26,
            max_session_bytes: 1 << 24,
            ack_timeout: Duration::from_secs(5),
            requirements: Requirements::default(),
            seed: self.rng.random(),
            rules: self.plan.rules,
        };
        place.replica = Some(Replica::new(now, settings));
        self.after(1_000, Event::Dial { place: index });
        self.follow(index);
    }

    /// Dials whoever can be reached, for ever.
    pub(super) fn dial(&mut self, index: usize) {
        if self.places[index].replica.is_none() {
            return;
        }
        if self.is_running(index) {
            for other in 0..self.places.len() {
                self.connect(index, other);
            }
        }
        let again = self.rng.random_range(50_000..500_000);
        self.after(again, Event::Dial { place: index });
    }

    fn connect(&mut self, index: usize, other: usize) {
        let reachable = other != index
            && self.network.is_open(index, other)
            && self.network.is_open(other, index)
            && self.is_running(index)
            && self.is_running(other);
        if reachable && !self.network.is_linked(index, other) {
            self.network.link(index, other);
            let node = self.places[other].me.clone();
            self.input(index, Input::LinkUp { node });
            let after = self.rng.random_range(500..20_000);
            let knock = Event::Knock {
                place: other,
                from: index,
            };
            self.after(after, knock);
        }
    }

    pub(super) fn crash(&mut self, index: usize) {
        self.note(format_args!("crash {index}"));
        self.places[index].replica = None;
        self.network.unlink_all(index);
        let generation = self.places[index].me.generation;
        if self.plan.crash_is_noticed {
            for place in 0..self.places.len() {
                if place != index && self.network.is_open(place, index) {
                    let after = self.rng.random_range(500..30_000);
                    self.after(
                        after,
                        Event::Notice {
                            place,
                            gone: index,
                            generation,
                        },
                    );
                }
            }
        }
        self.forget_requests(index);
    }

    pub(super) fn notice(&mut self, index: usize, gone: usize, generation: u64) {
        let current = self.places[gone].me.clone();
        if current.generation == generation && self.places[gone].replica.is_none() {
            self.input(index, Input::Refused { node: current });
        }
    }

    /// Leaves once the others have everything, as the store's drain does.
    pub(super) fn depart(&mut self, index: usize) {
        if self.places[index].replica.is_none() {
            return;
        }
        if !self.places[index].leaving {
            self.places[index].leaving = true;
            self.places[index].open_until = self.now + STILL_OPEN;
            self.input(index, Input::Drain(true));
        }
        let status = self.replica(index).status();
        let idle = !self.requests.values().any(|request| request.node == index);
        let handed_over = status.settled && status.succeeded && status.unacknowledged == 0;
        if idle && handed_over && !self.is_serving(index) && self.is_running(index) {
            self.input(index, Input::Leave);
            self.places[index].replica = None;
            self.network.unlink_all(index);
            let after = self.rng.random_range(100_000..3_000_000);
            self.after(after, Event::Start { place: index });
        } else if self.ended && self.is_running(index) {
            self.places[index].leaving = false;
            self.input(index, Input::Drain(false));
        } else {
            self.after(100_000, Event::Depart { place: index });
        }
    }

    pub(super) fn wake(&mut self, index: usize) {
        if self.now >= self.places[index].wake_at {
            self.places[index].wake_at = u64::MAX;
            self.input(index, Input::Timeout);
        }
    }

    pub(super) fn arrive(&mut self, from: usize, to: usize, mail: u64) {
        let Some((sender, receiver, message)) = self.mail.get(&mail).cloned() else {
            return;
        };
        if !self.network.is_linked(from, to) {
            return;
        }
        if !self.is_running(to) {
            // The kernel keeps it for a stopped process.
            if self.places[to].replica.is_some() {
                let until = self.places[to].paused_until;
                self.at(until, Event::Arrive { from, to, mail });
            }
            return;
        }
        self.input(
            to,
            Input::Message {
                from: sender,
                to: receiver,
                age: Duration::ZERO,
                message,
            },
        );
    }

    pub(super) fn input(&mut self, index: usize, input: Input) {
        let now = self.clock(index);
        if !self.is_running(index) {
            if self.places[index].replica.is_some() && input == Input::Timeout {
                let until = self.places[index].paused_until;
                self.at(until, Event::Wake { place: index });
                self.places[index].wake_at = until;
            }
            return;
        }
        if let Some(replica) = &self.places[index].replica {
            replica.handle(now, input);
        }
        self.places[index].ran_at = self.now;
        self.follow(index);
    }

    /// Does what a replica wants done.
    pub(super) fn follow(&mut self, index: usize) {
        let mut outputs = Vec::new();
        if let Some(replica) = &self.places[index].replica {
            replica.drain(&mut outputs);
        }
        for output in outputs {
            self.note(format_args!("{index} {output:?}"));
            match output {
                Output::Send { to, message } => self.send(index, &to, &message),
                Output::Reply { op, reply } => self.reply(op, reply),
                Output::News(News::Reborn(me)) => {
                    self.places[index].me = me;
                    self.places[index].wronged = false;
                    self.network.unlink_all(index);
                }
                Output::News(News::Left(node)) => self.cut(index, &node),
                Output::News(News::Joined(node)) => {
                    self.places[index].accuses.remove(&node.name);
                }
                Output::News(_) => {}
            }
        }
        let due = self.places[index]
            .replica
            .as_ref()
            .and_then(Replica::poll_timeout);
        let Some(due) = due else { return };
        let place = &mut self.places[index];
        let at = (due.as_millis().saturating_sub(place.skew) * 1000).max(self.now);
        if at < place.wake_at {
            place.wake_at = at;
            self.at(at, Event::Wake { place: index });
        }
    }

    /// A node closes its links to one that it believes down; what is under way may still arrive.
    fn cut(&mut self, index: usize, gone: &Node) {
        let other = self
            .places
            .iter()
            .position(|place| place.me.address == gone.address);
        let Some(other) = other else { return };
        if self.places[other].me == *gone && self.is_running(other) {
            // What it is asked before it hears of it, and what it orders, may be outdated: the limit
            // that the design accepts. One that was stopped has no such excuse when it wakes up.
            self.places[other].wronged = true;
            self.places[index].accuses.insert(gone.name.clone());
            self.doubted = true;
        }
        if self.rng.random() {
            self.network.unlink(index, other);
        }
    }

    pub(super) fn send(&mut self, from: usize, to: &Node, message: &Message) {
        let generation = to.generation;
        let Some(to) = self
            .places
            .iter()
            .position(|place| place.me.address == to.address)
        else {
            return;
        };
        for delay in self.network.delays(from, to) {
            let mail = self.sequence;
            let sender = self.places[from].me.clone();
            self.mail
                .insert(mail, (sender, generation, message.clone()));
            self.after(delay, Event::Arrive { from, to, mail });
        }
        // Whatever has arrived long ago need not be kept.
        if self.mail.len() > MAIL_MAX {
            let oldest = self.sequence - MAIL_MAX as u64 / 2;
            self.mail = self.mail.split_off(&oldest);
        }
    }

    // Small things.

    pub(super) fn is_running(&self, index: usize) -> bool {
        self.places[index].replica.is_some() && self.places[index].paused_until <= self.now
    }

    /// A request task refuses to serve when the driver has not run for long, as the store does.
    pub(super) fn is_serving(&self, index: usize) -> bool {
        let ran = Duration::from_micros(self.now - self.places[index].ran_at);
        let open = !self.places[index].leaving || self.now < self.places[index].open_until;
        let awake = ran < PAUSE_MAX || !self.plan.rules.fence;
        self.is_running(index) && open && awake
    }

    pub(super) fn clock(&self, index: usize) -> Timestamp {
        Timestamp::from_millis(self.places[index].skew + self.now / 1000)
    }

    pub(super) fn replica(&self, index: usize) -> &Replica {
        self.places[index]
            .replica
            .as_ref()
            .expect("clients only talk to nodes that run")
    }

    pub(super) fn begin_move(&mut self, op: OpId) {
        if let Some(request) = self.requests.get_mut(&op) {
            let model = &mut self.models[request.model];
            request.moves = model.id == request.known.id;
            if request.moves {
                model.begin_move();
            }
        }
    }

    pub(super) fn set_stage(&mut self, op: OpId, stage: Stage) {
        if let Some(request) = self.requests.get_mut(&op) {
            request.stage = stage;
        }
    }

    /// Keys fall into a few slots only: comparisons shall have something to compare.
    pub(super) fn draw_key(&mut self, before: Option<SessionKey>) -> SessionKey {
        let mut bytes: [u8; 20] = self.rng.random();
        let slot = (self.rng.random_range(0..8_u32) * 997) & (SLOTS as u32 - 1);
        let tag = before.map_or(slot, |key| key.tag());
        bytes[..4].copy_from_slice(&tag.to_be_bytes());
        SessionKey::from_bytes(bytes)
    }

    pub(super) fn draw_value(&mut self) -> Value {
        let text = self.rng.random::<u32>().to_string();
        Value::from_bytes(text.as_bytes())
    }

    pub(super) fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    pub(super) fn after(&mut self, after: u64, event: Event) {
        self.at(self.now + after, event);
    }

    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        if self.traced || verbose() {
            let line = format!("{:>10} {what}", self.now);
            if verbose() {
                println!("{line}");
            }
            self.trace = xxh3_64_with_seed(line.as_bytes(), self.trace);
        }
    }
}

fn verbose() -> bool {
    use std::sync::OnceLock;
    static VERBOSE: OnceLock<bool> = OnceLock::new();
    *VERBOSE.get_or_init(|| std::env::var_os("SIM_TRACE").is_some())
}

const CLIENTS: usize = 6;
pub(super) const SESSIONS: usize = 8;
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// Where all clocks start: some time in 2023, in milliseconds.
const EPOCH: u64 = 1_700_000_000_000;

/// How long after the last fault everything must be well, in microseconds: what an abandoned update
/// has left on one node is found by the perpetual comparison, with each of seven others in turn.
const PEACE_MAX: u64 = 300_000_000;

/// From this pause on, in microseconds, a node may be declared down.
pub(super) const DETECTION_MIN: u64 = 1_900_000;

/// How long a node that leaves still takes requests, in microseconds.
const STILL_OPEN: u64 = 500_000;

/// Messages kept for those that are under way.
const MAIL_MAX: usize = 100_000;
