//! A simulated node: its replica, its clock and its state.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::cluster::replica::Replica;
use crate::cluster::replica::node::Node;

use crate::cluster::outlook::Addresses;
use crate::cluster::sightings::Sightings;
use crate::cluster::sim::assembly::SimAssembly;
use crate::cluster::sim::pending::PendingInput;
use crate::cluster::sim::plan::Plan;

/// One node. It keeps its index through all restarts.
#[derive(Debug)]
pub(super) struct SimNode {
    /// The running process, if there is one.
    pub(super) replica: Option<Replica>,
    pub(super) me: Node,
    /// The previous process, in its state when it ended.
    pub(super) remains: Option<Remains>,
    /// The first incarnation number of the running process.
    pub(super) first_incarnation: u64,
    /// How far its clock is ahead of virtual time, in milliseconds.
    pub(super) skew: u64,
    /// Until when its process is stopped or its machine is suspended.
    pub(super) paused_until: u64,
    /// How long it takes to handle one input, in microseconds.
    pub(super) input_takes: u64,
    /// Until when it handles the last one.
    pub(super) busy_until: u64,
    /// When it continues with the waiting inputs.
    pub(super) resume_at: u64,
    pub(super) pending: VecDeque<PendingInput>,
    pub(super) assembly: SimAssembly,
    /// When its process last handled an input.
    pub(super) ran_at: u64,
    /// When its next timer is due.
    pub(super) wake_at: u64,
    pub(super) leaving: bool,
    /// Whether it does not start any more.
    pub(super) retired: bool,
    /// Whether other nodes have declared it down although it runs, and it has not been informed
    /// yet.
    pub(super) falsely_removed: bool,
    /// Names of running nodes that it has declared down and that have not come back yet.
    pub(super) falsely_suspects: BTreeSet<Arc<str>>,
    /// Until when it takes requests although it leaves.
    pub(super) open_until: u64,
    /// Distinguishes its process from other ones.
    pub(super) process: u64,
    /// The nodes that it has met.
    pub(super) sightings: Sightings,
    /// The state of the addresses at which other nodes may be, and those that it has dialed.
    pub(super) addresses: Addresses,
    pub(super) dialed: BTreeSet<SocketAddr>,
}

/// The memory of a process when it ended.
#[derive(Debug)]
pub(super) struct Remains {
    replica: Replica,
    address: SocketAddr,
    incarnations: RangeInclusive<u64>,
    ended_at: u64,
}

impl SimNode {
    /// A node that has not started yet.
    pub(super) fn new(index: usize, name: usize, skew: u64, plan: &Plan) -> Self {
        Self {
            replica: None,
            me: Node {
                address: ([127, 0, 0, 1], 4000 + index as u16).into(),
                incarnation: 0,
                name: format!("node{name}").into(),
            },
            remains: None,
            first_incarnation: 0,
            skew,
            paused_until: 0,
            input_takes: 0,
            busy_until: 0,
            resume_at: u64::MAX,
            pending: VecDeque::new(),
            assembly: SimAssembly::new(plan.assembly_budget, plan.link_rules),
            ran_at: 0,
            wake_at: u64::MAX,
            leaving: false,
            retired: false,
            falsely_removed: false,
            falsely_suspects: BTreeSet::new(),
            open_until: 0,
            process: 0,
            sightings: Sightings::default(),
            addresses: Addresses::new(&[]),
            dialed: BTreeSet::new(),
        }
    }

    /// Ends the process.
    pub(super) fn stop(&mut self, now: u64) {
        self.pending.clear();
        self.remains = self.replica.take().map(|replica| Remains {
            replica,
            address: self.me.address,
            incarnations: self.first_incarnation..=self.me.incarnation,
            ended_at: now,
        });
    }

    /// Returns the memory of the process that runs as this node, or did until a moment ago.
    pub(super) fn memory_of(&self, node: &Node) -> Option<&Replica> {
        let incarnations = self.first_incarnation..=self.me.incarnation;
        let is_it = self.me.address == node.address && incarnations.contains(&node.incarnation);
        let living = self.replica.as_ref().filter(|_| is_it);
        living.or_else(|| {
            let remains = self.remains.as_ref()?;
            let was =
                remains.address == node.address && remains.incarnations.contains(&node.incarnation);
            was.then_some(&remains.replica)
        })
    }

    /// Returns the memory of its process, and of one that has ended after `since`.
    pub(super) fn memory_since(&self, since: u64) -> Vec<&Replica> {
        let ended = self
            .remains
            .as_ref()
            .filter(|remains| remains.ended_at > since)
            .map(|remains| &remains.replica);
        self.replica.iter().chain(ended).collect()
    }
}
