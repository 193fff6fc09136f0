//! A cluster, its clients and its faults, in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::OnceLock;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cluster::replica::event::{Input, Notification, Output};
use crate::cluster::replica::message::OpId;
use crate::cluster::replica::node::Node;
use crate::cluster::replica::{PAUSE_MAX, Replica};
use crate::session::{Root, SLOTS, SecretHash, Timestamp};

use crate::cluster::sim::client::{ClientRequest, RequestStage};
use crate::cluster::sim::event::SimEvent;
use crate::cluster::sim::invariants::slow_members_stay;
use crate::cluster::sim::kinds::FaultKind;
use crate::cluster::sim::links::SimLinks;
use crate::cluster::sim::network::Network;
use crate::cluster::sim::oracle::Model;
use crate::cluster::sim::plan::{CLIENTS, Plan};
use crate::cluster::sim::sim_node::SimNode;
use crate::cluster::sim::users::SimUsers;

/// The world of one run.
#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: StdRng,
    /// Virtual time in microseconds.
    pub(super) now: u64,
    events: BinaryHeap<Reverse<(u64, u64, SimEvent)>>,
    sequence: u64,
    pub(super) network: Network,
    pub(super) links: SimLinks,
    pub(super) last_link: u64,
    pub(super) last_process: u64,
    pub(super) nodes: Vec<SimNode>,
    pub(super) models: Vec<Model>,
    pub(super) requests: BTreeMap<OpId, ClientRequest>,
    pub(super) last_op: OpId,
    pub(super) users: SimUsers,
    /// Bytes of large values that clients may still write, and how many they have written.
    pub(super) large_bytes_left: usize,
    pub(super) large_values: usize,
    /// Whether all events are added to the trace.
    traced: bool,
    trace: u64,
    /// Whether there has been a partition: reads and updates on its sides need not agree.
    pub(super) partitioned: bool,
    /// Whether a node was declared down while it ran, or may have been while it was stopped: an
    /// update that it had ordered may take effect after those of the other nodes.
    pub(super) removed_while_running: bool,
    /// Whether there are no more faults and no more requests.
    pub(super) ended: bool,
    /// Until when a fault lasts.
    pub(super) disturbed_until: u64,
    /// When a part of a large message last arrived somewhere.
    pub(super) large_moved_at: u64,
    /// Since when no fault lasts and all running nodes are members of one cluster and complete.
    pub(super) steady_since: Option<u64>,
    /// Since when some pairs of nodes cannot reach each other, if so.
    pub(super) bridged_since: Option<u64>,
    /// Whether enough nodes reach each other meanwhile to continue.
    pub(super) bridge_has_core: bool,
    /// When the next check of the final state is due.
    next_check: u64,
    /// How long after the last fault the cluster was still not whole, in microseconds.
    pub(super) whole_after: u64,
    pub(super) totals: RunTotals,
}

/// Numbers of attempts and successes: a run in which nothing succeeds proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RunTotals {
    pub(super) begun: u64,
    pub(super) succeeded: u64,
    /// Small writes that began while the cluster was steady, and those of them that were refused.
    pub(super) steady_writes: u64,
    pub(super) steady_refused: u64,
    /// Writes that began long after some pairs of nodes had lost each other, and successes.
    pub(super) bridged_writes: u64,
    pub(super) bridged_succeeded: u64,
    /// How long clients could begin such writes, in microseconds.
    pub(super) bridged_time: u64,
}

/// The result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunResult {
    /// A hash of all events.
    pub(super) trace: u64,
    /// How long after the last fault the cluster was whole, and how long after it its copies were
    /// equal, in microseconds.
    pub(super) whole_after: u64,
    pub(super) equal_after: u64,
    pub(super) totals: RunTotals,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let mut rng = StdRng::seed_from_u64(plan.seed ^ 0x5eed);
        let all = plan.all_nodes();
        let network_rng = StdRng::seed_from_u64(plan.seed ^ 0x0e7);
        let skew = plan.skew.as_millis() as u64;
        let node = |index: usize| {
            let skew = EPOCH + rng.random_range(0..=skew);
            // The surplus node has a name that is taken.
            SimNode::new(index, index % plan.nodes, skew, &plan)
        };
        let nodes = (0..all).map(node).collect();
        let mut world = Self {
            network: Network::new(plan.network, all, network_rng),
            links: SimLinks::new(all),
            last_link: 0,
            last_process: 0,
            nodes,
            large_bytes_left: if plan.has(FaultKind::LargeRecords) {
                LARGE_BYTES
            } else {
                0
            },
            large_values: 0,
            users: SimUsers::new(plan.seed),
            plan,
            rng,
            now: 0,
            events: BinaryHeap::new(),
            sequence: 0,
            models: Vec::new(),
            requests: BTreeMap::new(),
            last_op: 0,
            traced: false,
            trace: 0,
            partitioned: false,
            removed_while_running: false,
            ended: false,
            disturbed_until: 0,
            large_moved_at: 0,
            steady_since: None,
            bridged_since: None,
            bridge_has_core: false,
            next_check: 0,
            whole_after: 0,
            totals: RunTotals::default(),
        };
        for node in 0..world.plan.nodes {
            let at = world.rng.random_range(0..3_000_000);
            world.at(at, SimEvent::Start { node });
        }
        for client in 0..CLIENTS {
            world.at(1_000_000 + client as u64, SimEvent::Act { client });
        }
        world.add_users();
        world.at(6_000_000, SimEvent::Fault);
        world.at(OBSERVE_INTERVAL, SimEvent::Observe);
        world.at(world.plan.duration, SimEvent::EndOfFaults);
        world
    }

    /// Adds all events to the trace, which takes a while.
    pub(super) const fn traced(mut self) -> Self {
        self.traced = true;
        self
    }

    /// Runs to the end, and checks the final state.
    pub(super) fn run(mut self) -> RunResult {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = at;
            self.note(format_args!("{event:?}"));
            self.happen(event);
            if self.ended && self.now >= self.next_check {
                self.next_check = self.now + LOOK_INTERVAL;
                let is_idle = self.requests.is_empty() && self.users.are_idle();
                if is_idle && self.has_converged() && self.users_have_ended() {
                    break;
                }
                self.check_convergence();
            }
        }
        self.check_final_state();
        RunResult {
            trace: self.trace,
            whole_after: self.whole_after,
            equal_after: self.now.saturating_sub(self.disturbed_until),
            totals: self.totals,
        }
    }

    /// Passes an input to a node. A process that does not run receives none.
    pub(super) fn input(&mut self, index: usize, input: Input) {
        if !self.is_running(index) {
            return;
        }
        let now = self.clock(index);
        let node = &mut self.nodes[index];
        if let Some(replica) = &node.replica {
            replica.handle(now, input);
        }
        node.ran_at = self.now;
        node.busy_until = self.now + node.input_takes;
        self.flush_outputs(index);
    }

    pub(super) fn wake(&mut self, index: usize) {
        if self.now < self.nodes[index].wake_at || self.nodes[index].replica.is_none() {
            return;
        }
        if self.is_running(index) && self.nodes[index].busy_until <= self.now {
            self.nodes[index].wake_at = u64::MAX;
            self.input(index, Input::Timeout);
        } else {
            self.resume_later(index);
        }
    }

    /// Performs the outputs of a replica.
    pub(super) fn flush_outputs(&mut self, index: usize) {
        let mut outputs = Vec::new();
        if let Some(replica) = &self.nodes[index].replica {
            replica.drain(&mut outputs);
        }
        for output in outputs {
            self.note(format_args!("{index} {output:?}"));
            match output {
                Output::Send { to, message } => self.send(index, &to, message),
                Output::Reply { op, reply } => self.reply(op, reply),
                Output::Notification(Notification::Rejoining(me)) => {
                    self.nodes[index].me = me;
                    self.nodes[index].falsely_removed = false;
                    let status = self.replica(index).status();
                    let members = status.members.iter().map(|member| member.node.address);
                    self.nodes[index].addresses.rejoin(members);
                    self.unlink_all(index);
                }
                Output::Notification(Notification::Ready { .. }) => {
                    self.nodes[index].addresses.joined()
                }
                Output::Notification(Notification::Excluded(_)) => self.hang_up(index),
                Output::Notification(Notification::MemberDown { node, .. }) => {
                    self.cut(index, &node)
                }
                Output::Notification(Notification::MemberUp(node)) => {
                    self.nodes[index].falsely_suspects.remove(&node.name);
                    let now = self.clock(index);
                    self.nodes[index].sightings.joined(now, &node);
                }
                Output::Notification(_) | Output::Event(_) => {}
            }
        }
        let due = self.nodes[index]
            .replica
            .as_ref()
            .and_then(Replica::poll_timeout);
        let Some(due) = due else { return };
        let node = &mut self.nodes[index];
        let at = (due.as_millis().saturating_sub(node.skew) * 1000).max(self.now);
        if at < node.wake_at {
            node.wake_at = at;
            self.at(at, SimEvent::Wake { node: index });
        }
    }

    /// Closes the links of a node to one that it has declared down.
    fn cut(&mut self, index: usize, gone: &Node) {
        let Some(other) = self.index_at(gone) else {
            return;
        };
        if self.nodes[other].me == *gone && self.is_running(other) {
            if self.plan.is_only_slow() {
                slow_members_stay(index, other, self.now);
            }
            // Until it is informed, its answers and the updates that it orders may be outdated: a
            // limit that the design accepts. A node that was stopped must notice before it
            // continues.
            self.nodes[other].falsely_removed = true;
            let suspect = gone.name.clone();
            self.nodes[index].falsely_suspects.insert(suspect);
            self.removed_while_running = true;
            let me = &self.nodes[index].me.name;
            let is_mutual = self.nodes[other].falsely_suspects.contains(me);
            self.partitioned |= is_mutual && self.plan.has_slow_nodes();
        }
        if self.rng.random() {
            self.unlink(index, other);
        }
    }

    /// Returns the index of the node at this address.
    pub(super) fn index_at(&self, node: &Node) -> Option<usize> {
        let address = node.address;
        self.nodes
            .iter()
            .position(|node| node.me.address == address)
    }

    pub(super) fn is_running(&self, index: usize) -> bool {
        self.nodes[index].replica.is_some() && self.nodes[index].paused_until <= self.now
    }

    /// Returns `true` if the node accepts requests: not if its driver has not run for long, as in
    /// the store.
    pub(super) fn is_serving(&self, index: usize) -> bool {
        let open = !self.nodes[index].leaving || self.now < self.nodes[index].open_until;
        open && self.is_awake(index)
    }

    /// Returns `true` if the node has run a moment ago. One that was stopped has the state of
    /// before, until its driver runs and finds that the others may have gone on without it.
    pub(super) fn is_awake(&self, index: usize) -> bool {
        let ran = Duration::from_micros(self.now.saturating_sub(self.nodes[index].ran_at));
        self.is_running(index) && (ran < PAUSE_MAX || !self.plan.rules.fence)
    }

    pub(super) fn clock(&self, index: usize) -> Timestamp {
        Timestamp::from_millis(self.nodes[index].skew + self.now / 1000)
    }

    pub(super) fn replica(&self, index: usize) -> &Replica {
        self.nodes[index]
            .replica
            .as_ref()
            .expect("clients only use nodes that run")
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

    pub(super) fn set_stage(&mut self, op: OpId, stage: RequestStage) {
        if let Some(request) = self.requests.get_mut(&op) {
            request.stage = stage;
        }
    }

    /// Draws a key in one of a few slots, so that comparisons have something to compare.
    pub(super) fn draw_key(&mut self) -> Root {
        let root = Root::from_bytes(self.rng.random());
        root.with_slot(self.rng.random_range(0..8) * 997 % SLOTS)
    }

    pub(super) fn draw_secret(&mut self) -> SecretHash {
        SecretHash::from_bytes(self.rng.random())
    }

    pub(super) fn at(&mut self, at: u64, event: SimEvent) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    pub(super) fn after(&mut self, after: u64, event: SimEvent) {
        self.at(self.now + after, event);
    }

    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        if self.traced || is_verbose() {
            let line = format!("{:>10} {what}", self.now);
            if is_verbose() {
                println!("{line}");
            }
            self.trace = xxh3_64_with_seed(line.as_bytes(), self.trace);
        }
    }
}

/// Returns `true` if every event is printed.
fn is_verbose() -> bool {
    static VERBOSE: OnceLock<bool> = OnceLock::new();
    *VERBOSE.get_or_init(|| std::env::var_os("SIM_TRACE").is_some())
}

/// Start of all clocks: some time in 2023, in milliseconds.
const EPOCH: u64 = 1_700_000_000_000;

/// Bytes of large values that clients write in a run: more than a slow link carries in that time.
const LARGE_BYTES: usize = 48_000_000;

/// The pause between two observations of the whole cluster, in microseconds.
pub(super) const OBSERVE_INTERVAL: u64 = 250_000;

/// The pause between two checks whether the cluster has converged, in microseconds.
const LOOK_INTERVAL: u64 = 20_000;

/// The shortest pause, in microseconds, after which a node may be declared down.
pub(super) const DETECTION_MIN: u64 = 1_900_000;
