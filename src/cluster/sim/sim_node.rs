//! A simulated node: its replica, its clock and its state as the simulation knows it.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::cluster::replica::Replica;
use crate::cluster::replica::node::Node;

use super::super::outlook::Addresses;
use super::super::sightings::Sightings;
use super::assembly::Assembly;
use super::inbox::Pending;
use super::plan::Plan;

/// One node. It keeps its index through all restarts.
#[derive(Debug)]
pub(super) struct SimNode {
    /// The running process, if there is one.
    pub(super) replica: Option<Replica>,
    pub(super) me: Node,
    /// How far its clock is ahead of virtual time, in milliseconds.
    pub(super) skew: u64,
    /// Until when its process is stopped or its machine is suspended.
    pub(super) paused_until: u64,
    /// How long it takes to handle one input, in microseconds.
    pub(super) input_takes: u64,
    /// Until when it handles the last one.
    pub(super) busy_until: u64,
    /// When it goes on with what has waited.
    pub(super) resume_at: u64,
    pub(super) pending: VecDeque<Pending>,
    pub(super) assembly: Assembly,
    /// When its process last handled an input.
    pub(super) ran_at: u64,
    /// When its next timer is due.
    pub(super) wake_at: u64,
    pub(super) leaving: bool,
    /// Whether it starts no more.
    pub(super) retired: bool,
    /// Whether other nodes have declared it down although it runs, and it does not know yet.
    pub(super) falsely_removed: bool,
    /// Names of running nodes that it has declared down and that have not come back yet.
    pub(super) falsely_suspects: BTreeSet<Arc<str>>,
    /// Until when it takes requests although it leaves.
    pub(super) open_until: u64,
    /// Tells its process from others.
    pub(super) process: u64,
    /// The nodes that it has met.
    pub(super) sightings: Sightings,
    /// What it knows of the addresses at which others may be, and those that it has dialed.
    pub(super) addresses: Addresses,
    pub(super) dialed: BTreeSet<SocketAddr>,
}

impl SimNode {
    /// A node that has not started yet.
    pub(super) fn new(index: usize, name: usize, skew: u64, plan: &Plan) -> Self {
        Self {
            replica: None,
            me: Node {
                address: ([127, 0, 0, 1], 4000 + index as u16).into(),
                generation: 0,
                name: format!("node{name}").into(),
            },
            skew,
            paused_until: 0,
            input_takes: 0,
            busy_until: 0,
            resume_at: u64::MAX,
            pending: VecDeque::new(),
            assembly: Assembly::new(plan.assembly_budget, plan.link_rules),
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
}
