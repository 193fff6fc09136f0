//! A cluster, its clients and its misfortunes, in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cluster::Ack;
use crate::cluster::replica::event::{Input, News, OpId, Output, Reply, Step};
use crate::cluster::replica::message::{Message, Verdict};
use crate::cluster::replica::node::Node;
use crate::cluster::replica::{PAUSE_MAX, Replica, Settings};
use crate::session::{Changes, Outcome, Record, SLOTS, SessionKey, Timestamp, Value};

use super::client::{Action, COUNTER, NAMES, Request, Stage};
use super::invariants::{
    acknowledged_survives, ended_stays_dead, replicas_agree, update_is_new, updates_count_once,
};
use super::network::Network;
use super::oracle::{Life, Model};
use super::plan::{Faults, Plan};

/// The world of one run.
#[derive(Debug)]
pub(super) struct Cluster {
    plan: Plan,
    rng: StdRng,
    /// Virtual time in microseconds.
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    network: Network,
    /// By place; a place keeps its address through all lives of its node.
    places: Vec<Place>,
    models: Vec<Model>,
    requests: BTreeMap<OpId, Request>,
    last_op: OpId,
    clients: usize,
    /// Messages under way: events only carry their number.
    mail: BTreeMap<u64, (Node, Message)>,
    trace: u64,
    /// Whether there has been a partition: reads and updates of its sides need not agree.
    torn: bool,
    /// Whether a node was stopped for so long that the others went on without it: an update that it
    /// had ordered may surface after theirs.
    doubted: bool,
    ended: bool,
    done: Progress,
}

/// What was tried and what succeeded: a run in which nothing succeeds proves nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    begun: u64,
    succeeded: u64,
}

#[derive(Debug)]
struct Place {
    replica: Option<Replica>,
    me: Node,
    /// How far its clock is ahead, in milliseconds.
    skew: u64,
    /// Until when it is stopped.
    paused_until: u64,
    /// When it last ran.
    ran_at: u64,
    wake_at: u64,
    leaving: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
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

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { from, to, mail } => self.arrive(from, to, mail),
            Event::Wake { place } => self.wake(place),
            Event::Dial { place } => self.dial(place),
            Event::Notice {
                place,
                gone,
                generation,
            } => self.notice(place, gone, generation),
            Event::Act { client } => self.act(client),
            Event::Misfortune => self.misfortune(),
            Event::Heal => self.network.unblock_all(),
            Event::Start { place } => self.start(place),
            Event::Depart { place } => self.depart(place),
            Event::Calm => {
                self.ended = true;
                self.network.unblock_all();
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

    fn start(&mut self, index: usize) {
        let now = self.clock(index);
        let place = &mut self.places[index];
        if place.replica.is_some() {
            return;
        }
        place.me.generation = now.as_millis().max(place.me.generation + 1);
        place.leaving = false;
        place.paused_until = 0;
        place.ran_at = self.now;
        let settings = Settings {
            me: place.me.clone(),
            ack: Ack::All,
            min_copies: NonZeroU8::MIN.get(),
            max_sessions: 10_000,
            max_bytes: 1 << 26,
            ack_timeout: Duration::from_secs(5),
            alone_after: Duration::from_secs(2),
            seed: self.rng.random(),
        };
        place.replica = Some(Replica::new(now, settings));
        self.after(1_000, Event::Dial { place: index });
        self.follow(index);
    }

    /// Dials whoever can be reached, for ever.
    fn dial(&mut self, index: usize) {
        if self.places[index].replica.is_none() {
            return;
        }
        if self.is_running(index) {
            for other in 0..self.places.len() {
                let reachable = other != index
                    && self.network.is_open(index, other)
                    && self.network.is_open(other, index)
                    && self.is_running(other);
                if reachable && !self.network.is_linked(index, other) {
                    self.network.link(index, other);
                    let node = self.places[other].me.clone();
                    self.input(index, Input::LinkUp { node });
                }
            }
        }
        let again = self.rng.random_range(50_000..500_000);
        self.after(again, Event::Dial { place: index });
    }

    fn crash(&mut self, index: usize) {
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

    fn notice(&mut self, index: usize, gone: usize, generation: u64) {
        let current = self.places[gone].me.clone();
        if current.generation == generation && self.places[gone].replica.is_none() {
            self.input(index, Input::Refused { node: current });
        }
    }

    /// Leaves once the others have everything, as the store's drain does.
    fn depart(&mut self, index: usize) {
        let place = &mut self.places[index];
        let Some(replica) = &place.replica else {
            return;
        };
        place.leaving = true;
        let status = replica.status();
        let served = status
            .members
            .iter()
            .any(|member| member.complete && member.ready);
        let idle = !self.requests.values().any(|request| request.node == index);
        if idle && served && status.unacknowledged == 0 {
            self.input(index, Input::Leave);
            self.places[index].replica = None;
            self.network.unlink_all(index);
            let after = self.rng.random_range(100_000..3_000_000);
            self.after(after, Event::Start { place: index });
        } else {
            self.after(100_000, Event::Depart { place: index });
        }
    }

    fn wake(&mut self, index: usize) {
        if self.now >= self.places[index].wake_at {
            self.places[index].wake_at = u64::MAX;
            self.input(index, Input::Timeout);
        }
    }

    fn arrive(&mut self, from: usize, to: usize, mail: u64) {
        let Some((sender, message)) = self.mail.get(&mail).cloned() else {
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
                message,
            },
        );
    }

    fn input(&mut self, index: usize, input: Input) {
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
    fn follow(&mut self, index: usize) {
        let mut outputs = Vec::new();
        if let Some(replica) = &self.places[index].replica {
            replica.drain(&mut outputs);
        }
        for output in outputs {
            self.note(format_args!("{index} {output:?}"));
            match output {
                Output::Send { to, message } => self.send(index, &to, message),
                Output::Reply { op, reply } => self.reply(op, reply),
                Output::News(News::Reborn(me)) => {
                    self.places[index].me = me;
                    self.network.unlink_all(index);
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

    fn send(&mut self, from: usize, to: &Node, message: Message) {
        let Some(to) = self
            .places
            .iter()
            .position(|place| place.me.address == to.address)
        else {
            return;
        };
        for delay in self.network.delays(from, to) {
            let mail = self.sequence;
            self.mail
                .insert(mail, (self.places[from].me.clone(), message.clone()));
            self.after(delay, Event::Arrive { from, to, mail });
        }
        // Whatever has arrived long ago need not be kept.
        if self.mail.len() > MAIL_MAX {
            let oldest = self.sequence - MAIL_MAX as u64 / 2;
            self.mail = self.mail.split_off(&oldest);
        }
    }

    // Misfortunes.

    fn misfortune(&mut self) {
        if self.ended {
            return;
        }
        let index = self.rng.random_range(0..self.places.len());
        match self.plan.faults {
            Faults::None => {}
            Faults::Crashes => self.come_or_go(index),
            Faults::Links if self.rng.random_bool(0.5) => {
                let other = self.rng.random_range(0..self.places.len());
                self.network.unlink(index, other);
            }
            Faults::Links => self.come_or_go(index),
            Faults::Pauses
                if self.rng.random_bool(0.6) && self.is_running(index) && self.can_lose(index) =>
            {
                let pause = self.rng.random_range(10_000..8_000_000);
                self.note(format_args!("pause {index} {pause}"));
                self.doubted |= pause >= DETECTION_MIN;
                self.places[index].paused_until = self.now + pause;
            }
            Faults::Pauses => self.come_or_go(index),
            Faults::Partitions if self.rng.random_bool(0.5) => self.tear(),
            Faults::Partitions => self.come_or_go(index),
        }
        let after = self.rng.random_range(self.plan.calm.0..self.plan.calm.1);
        self.after(after, Event::Misfortune);
    }

    fn come_or_go(&mut self, index: usize) {
        if self.places[index].replica.is_none() {
            self.start(index);
        } else if self.can_lose(index) {
            if self.rng.random_bool(0.3) && !self.places[index].leaving {
                self.depart(index);
            } else {
                self.crash(index);
                if self.rng.random_bool(0.5) {
                    let after = self.rng.random_range(1_000..2_000_000);
                    self.after(after, Event::Start { place: index });
                }
            }
        }
    }

    fn tear(&mut self) {
        self.torn = true;
        let side: Vec<bool> = self.places.iter().map(|_| self.rng.random()).collect();
        self.note(format_args!("tear {side:?}"));
        for from in 0..self.places.len() {
            for to in 0..self.places.len() {
                if side[from] != side[to] {
                    self.network.block(from, to);
                }
            }
        }
        let after = self.rng.random_range(100_000..12_000_000);
        self.after(after, Event::Heal);
    }

    /// Whether what is here is also elsewhere, on a node that serves and has caught up; and, where
    /// the network was torn, on every node, so that no side's writes are lost with it.
    fn can_lose(&self, index: usize) -> bool {
        let mut others = self
            .places
            .iter()
            .enumerate()
            .filter(|(at, place)| *at != index && place.replica.is_some() && !place.leaving);
        let caught_up = |(at, place): (usize, &Place)| {
            place.replica.as_ref().is_some_and(|replica| {
                let status = replica.status();
                self.is_serving(at) && status.ready && status.complete
            })
        };
        if self.torn {
            self.is_well()
        } else {
            others.any(caught_up)
        }
    }

    // Clients.

    fn act(&mut self, client: usize) {
        if self.ended || client >= self.clients {
            return;
        }
        let node = self.rng.random_range(0..self.places.len());
        let model = self.rng.random_range(0..SESSIONS);
        let begun = self.is_serving(node) && self.begin(client, node, model);
        if !begun {
            self.think(client);
        }
    }

    fn think(&mut self, client: usize) {
        let after = self.rng.random_range(1_000..60_000);
        self.after(after, Event::Act { client });
    }

    fn begin(&mut self, client: usize, node: usize, index: usize) -> bool {
        let id = self.last_op;
        let Some(model) = self.models.get(index) else {
            let key = self.draw_key(None);
            self.models.push(Model::new(id, key));
            let index = self.models.len() - 1;
            return self.create(client, node, index, key);
        };
        if model.life != Life::Live && model.moves == 0 && self.rng.random_bool(0.3) {
            let key = self.draw_key(None);
            let before = std::mem::replace(&mut self.models[index], Model::new(id, key));
            self.models.push(before);
            return self.create(client, node, index, key);
        }
        if model.life == Life::Doubtful && model.moves == 0 {
            // It is being created, or nobody knows what became of it.
            return false;
        }
        let key = model.key;
        let action = match self.rng.random_range(0..100) {
            0..40 => Action::Read,
            40..70 => Action::Write(NAMES[self.rng.random_range(0..NAMES.len())]),
            70..95 => Action::Update,
            95..98 => Action::Rotate(self.draw_key(Some(key))),
            _ => Action::End,
        };
        self.done.begun += 1;
        self.last_op += 1;
        let op = self.last_op;
        let request = Request {
            client,
            node,
            model: index,
            key,
            action,
            known: self.models[index].known(),
            stage: Stage::Loading,
            moves: false,
        };
        self.requests.insert(op, request);
        let now = self.clock(node);
        let step = self.replica(node).load(now, op, &key);
        match step {
            Step::Done(record) => self.loaded(op, record),
            Step::Wait(_) => {}
            Step::Refused(_) => self.finish(op),
        }
        self.follow(node);
        true
    }

    fn create(&mut self, client: usize, node: usize, index: usize, key: SessionKey) -> bool {
        self.last_op += 1;
        let request = Request {
            client,
            node,
            model: index,
            key,
            action: Action::Create,
            known: self.models[index].known(),
            stage: Stage::Loading,
            moves: false,
        };
        self.requests.insert(self.last_op, request);
        let mut changes = Changes::create(Some(HOUR), 24 * HOUR);
        changes.insert(NAMES[0].into(), self.draw_value());
        self.commit(self.last_op, None, changes, 0);
        self.follow(node);
        true
    }

    fn loaded(&mut self, op: OpId, record: Option<Arc<Record>>) {
        let Some(request) = self.requests.get(&op).cloned() else {
            return;
        };
        let node = request.node;
        self.check(&request, record.as_deref());
        let Some(base) = record else {
            self.done.succeeded += 1;
            return self.finish(op);
        };
        let mut changes = Changes::default();
        let mut result = 0;
        match request.action {
            Action::Read | Action::Create => {
                let now = self.clock(node);
                if base.is_touch_due(now) {
                    self.replica(node).touch(now, &request.key);
                }
                self.done.succeeded += 1;
                return self.finish(op);
            }
            Action::Write(name) => changes.insert(name.into(), self.draw_value()),
            Action::Update => {
                result = count(&base) + 1;
                let value = Value::from_bytes(result.to_string().as_bytes());
                changes.insert(COUNTER.into(), value);
                changes.expect(COUNTER.into(), base.stamp(COUNTER));
            }
            Action::Rotate(to) => {
                self.begin_move(op);
                changes.rotate_to(to);
            }
            Action::End => {
                self.begin_move(op);
                self.set_stage(op, Stage::Ending);
                let now = self.clock(node);
                match self.replica(node).end(now, op, &request.key) {
                    Step::Done(true) => self.ended(op),
                    Step::Done(false) => self.finish(op),
                    Step::Wait(_) => {}
                    Step::Refused(_) => self.finish(op),
                }
                return;
            }
        }
        self.commit(op, Some(base), changes, result);
    }

    fn commit(&mut self, op: OpId, base: Option<Arc<Record>>, changes: Changes, result: u64) {
        let Some(request) = self.requests.get(&op).cloned() else {
            return;
        };
        let now = self.clock(request.node);
        let replica = self.replica(request.node);
        let step = replica.commit(now, op, &request.key, base.as_ref(), &changes);
        match step {
            Step::Done(outcome) => self.committed(op, outcome, result),
            Step::Wait(outcome) => {
                let stage = Stage::Committing {
                    base,
                    changes,
                    outcome,
                    result,
                };
                self.set_stage(op, stage);
            }
            Step::Refused(_) => self.finish(op),
        }
    }

    fn reply(&mut self, op: OpId, reply: Reply) {
        let Some(request) = self.requests.get(&op).cloned() else {
            return;
        };
        let now = self.clock(request.node);
        match (request.stage, reply) {
            (Stage::Loading, Reply::Merged) => {
                let record = self.replica(request.node).look(now, &request.key);
                self.loaded(op, record);
            }
            (Stage::Ending, Reply::Written) => self.ended(op),
            (
                Stage::Committing {
                    outcome, result, ..
                },
                Reply::Written,
            ) => {
                self.committed(op, outcome, result);
            }
            (Stage::Committing { outcome, .. }, Reply::Updated(Verdict::Applied))
                if matches!(request.action, Action::Rotate(_)) =>
            {
                self.committed(op, outcome, 0);
            }
            (Stage::Committing { result, .. }, Reply::Updated(Verdict::Applied)) => {
                let model = &mut self.models[request.model];
                if model.id == request.known.id && !self.torn && !self.doubted {
                    update_is_new(model, result);
                }
                self.done.succeeded += 1;
                self.finish(op);
            }
            (Stage::Committing { .. }, Reply::Updated(Verdict::Conflict | Verdict::Gone)) => {
                self.finish(op);
            }
            (Stage::Committing { .. }, Reply::Updated(_) | Reply::Indeterminate) => {
                self.doubt(op);
            }
            (_, _) => self.finish(op),
        }
    }

    fn committed(&mut self, op: OpId, outcome: Outcome, _result: u64) {
        let Some(request) = self.requests.get(&op).cloned() else {
            return;
        };
        let model = &mut self.models[request.model];
        if let Outcome::Committed(record) = outcome
            && model.id == request.known.id
        {
            self.done.succeeded += 1;
            match request.action {
                Action::Create => {
                    model.life = Life::Live;
                    model.acknowledge(NAMES[0], &record);
                }
                Action::Write(name) => {
                    model.acknowledge(name, &record);
                }
                Action::Rotate(to) => {
                    let mut dead = model.clone();
                    dead.id = u64::MAX;
                    dead.key = request.key;
                    dead.life = Life::Ended;
                    let second = model.key != request.key;
                    assert!(
                        self.torn || self.doubted || !second,
                        "two successors of {}",
                        request.key
                    );
                    if second {
                        // Either side of a partition may move a session; one of them has won.
                        model.life = Life::Doubtful;
                    } else {
                        model.moved_to(to);
                    }
                    self.models.push(dead);
                }
                _ => {}
            }
        }
        self.finish(op);
    }

    fn ended(&mut self, op: OpId) {
        if let Some(request) = self.requests.get(&op) {
            let model = &mut self.models[request.model];
            if model.id == request.known.id {
                model.life = Life::Ended;
            }
            self.done.succeeded += 1;
        }
        self.finish(op);
    }

    /// Nobody knows what became of a request.
    fn doubt(&mut self, op: OpId) {
        if let Some(request) = self.requests.get(&op)
            && request.action == Action::Update
            && self.models[request.model].id == request.known.id
        {
            self.models[request.model].doubtful_updates += 1;
        }
        self.finish(op);
    }

    fn finish(&mut self, op: OpId) {
        if let Some(request) = self.requests.remove(&op) {
            let model = &mut self.models[request.model];
            if request.moves && model.id == request.known.id {
                model.moves -= 1;
            }
            self.think(request.client);
        }
    }

    fn forget_requests(&mut self, node: usize) {
        let of_node = |(op, request): (&OpId, &Request)| (request.node == node).then_some(*op);
        for op in self.requests.iter().filter_map(of_node).collect::<Vec<_>>() {
            self.doubt(op);
        }
    }

    // Judgement.

    fn check(&self, request: &Request, read: Option<&Record>) {
        if self.torn {
            return;
        }
        let place = format!(
            "at node{} after {} us ({})",
            request.node, self.now, request.key
        );
        let model = &self.models[request.model];
        ended_stays_dead(&request.known, read, &place);
        // Somebody may have tried to end or to move it while this was under way.
        if model.life == Life::Live && model.key == request.key && model.id == request.known.id {
            acknowledged_survives(&request.known, read, &place);
        }
    }

    fn judge(&mut self) {
        assert!(self.is_well(), "{}", self.complaint());
        for index in 0..self.places.len() {
            let now = self.clock(index);
            for model in &self.models {
                let read = self.replica(index).look(now, &model.key);
                let place = format!("at node{index} in the end ({})", model.key);
                ended_stays_dead(&model.known(), read.as_deref(), &place);
                if self.torn {
                    continue;
                }
                acknowledged_survives(&model.known(), read.as_deref(), &place);
                if let (Life::Live, Some(record), false) = (model.life, read, self.doubted) {
                    updates_count_once(model, count(&record));
                }
            }
        }
        let Progress { begun, succeeded } = self.done;
        assert!(
            succeeded * 4 > begun,
            "only {succeeded} of {begun} requests succeeded"
        );
    }

    /// Whether every node runs, serves, has caught up and holds the same as the others.
    fn is_well(&self) -> bool {
        let all = self.places.len() - 1;
        let fine = |(index, place): (usize, &Place)| {
            place.replica.as_ref().is_some_and(|replica| {
                let status = replica.status();
                self.is_running(index)
                    && status.ready
                    && status.complete
                    && status.unacknowledged == 0
                    && status.members.len() == all
                    && status.members.iter().all(|member| member.agrees)
            })
        };
        self.places.iter().enumerate().all(fine)
            && replicas_agree(
                self.places
                    .iter()
                    .filter_map(|place| place.replica.as_ref()),
            )
    }

    fn complaint(&self) -> String {
        let status = |place: &Place| place.replica.as_ref().map(Replica::status);
        let all: Vec<_> = self.places.iter().map(status).collect();
        format!(
            "seed {}: not well after {} us: {all:#?}\nrequests {:?}",
            self.plan.seed, self.now, self.requests
        )
    }

    // Small things.

    fn is_running(&self, index: usize) -> bool {
        self.places[index].replica.is_some() && self.places[index].paused_until <= self.now
    }

    /// A request task refuses to serve when the driver has not run for long, as the store does.
    fn is_serving(&self, index: usize) -> bool {
        let ran = Duration::from_micros(self.now - self.places[index].ran_at);
        self.is_running(index) && !self.places[index].leaving && ran < PAUSE_MAX
    }

    fn clock(&self, index: usize) -> Timestamp {
        Timestamp::from_millis(self.places[index].skew + self.now / 1000)
    }

    fn replica(&self, index: usize) -> &Replica {
        self.places[index]
            .replica
            .as_ref()
            .expect("clients only talk to nodes that run")
    }

    fn begin_move(&mut self, op: OpId) {
        if let Some(request) = self.requests.get_mut(&op) {
            let model = &mut self.models[request.model];
            request.moves = model.id == request.known.id;
            if request.moves {
                model.begin_move();
            }
        }
    }

    fn set_stage(&mut self, op: OpId, stage: Stage) {
        if let Some(request) = self.requests.get_mut(&op) {
            request.stage = stage;
        }
    }

    /// Keys fall into a few slots only: comparisons shall have something to compare.
    fn draw_key(&mut self, before: Option<SessionKey>) -> SessionKey {
        let mut bytes: [u8; 20] = self.rng.random();
        let slot = (self.rng.random_range(0..8_u32) * 997) & (SLOTS as u32 - 1);
        let tag = before.map_or(slot, |key| key.tag());
        bytes[..4].copy_from_slice(&tag.to_be_bytes());
        SessionKey::from_bytes(bytes)
    }

    fn draw_value(&mut self) -> Value {
        let text = self.rng.random::<u32>().to_string();
        Value::from_bytes(text.as_bytes())
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn after(&mut self, after: u64, event: Event) {
        self.at(self.now + after, event);
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        if cfg!(debug_assertions) || verbose() {
            let line = format!("{:>10} {what}", self.now);
            if verbose() {
                println!("{line}");
            }
            self.trace = xxh3_64_with_seed(line.as_bytes(), self.trace);
        }
    }
}

fn count(record: &Record) -> u64 {
    let value = record.get(COUNTER);
    let text = value.and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn verbose() -> bool {
    use std::sync::OnceLock;
    static VERBOSE: OnceLock<bool> = OnceLock::new();
    *VERBOSE.get_or_init(|| std::env::var_os("SIM_TRACE").is_some())
}

const CLIENTS: usize = 6;
const SESSIONS: usize = 8;
const HOUR: Duration = Duration::from_secs(3600);

/// Where all clocks start: some time in 2023, in milliseconds.
const EPOCH: u64 = 1_700_000_000_000;

/// How long after the last fault everything must be well, in microseconds.
const PEACE_MAX: u64 = 60_000_000;

/// From this pause on, in microseconds, a node may be declared down.
const DETECTION_MIN: u64 = 1_900_000;

/// Messages kept for those that are under way.
const MAIL_MAX: usize = 100_000;
