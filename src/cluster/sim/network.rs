//! What lies between nodes.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::rngs::StdRng;

use super::plan::NetworkConditions;

/// The network: which ways are blocked, and what happens to a message on the others.
#[derive(Debug)]
pub(super) struct Network {
    conditions: NetworkConditions,
    /// From whom to whom nothing goes.
    blocked: BTreeSet<(usize, usize)>,
    /// Links that are up, from whom to whom.
    links: BTreeSet<(usize, usize)>,
    /// How much longer everything takes that goes to a node, in microseconds.
    slow: BTreeMap<usize, u64>,
    rng: StdRng,
}

impl Network {
    pub(super) const fn new(conditions: NetworkConditions, rng: StdRng) -> Self {
        Self {
            conditions,
            blocked: BTreeSet::new(),
            links: BTreeSet::new(),
            slow: BTreeMap::new(),
            rng,
        }
    }

    pub(super) fn is_open(&self, from: usize, to: usize) -> bool {
        !self.blocked.contains(&(from, to))
    }

    pub(super) fn is_linked(&self, from: usize, to: usize) -> bool {
        self.links.contains(&(from, to))
    }

    pub(super) fn link(&mut self, from: usize, to: usize) {
        self.links.insert((from, to));
    }

    /// Breaks the links between two nodes; what is under way is lost.
    pub(super) fn unlink(&mut self, one: usize, other: usize) {
        self.links.remove(&(one, other));
        self.links.remove(&(other, one));
    }

    /// Breaks all links of a node.
    pub(super) fn unlink_all(&mut self, node: usize) {
        self.links.retain(|(from, to)| *from != node && *to != node);
    }

    /// Nothing goes from one to the other any more.
    pub(super) fn block(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
        self.unlink(from, to);
    }

    /// Nothing goes from one to the other any more; what comes back still does.
    pub(super) fn block_one_way(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
        self.links.remove(&(from, to));
    }

    /// Everything that goes to a node takes longer. One node at a time: two that are slow take each
    /// other for dead, and who is wrongly declared down may answer from what it has for a moment.
    pub(super) fn slow_down(&mut self, to: usize, by: u64) {
        self.slow.clear();
        self.slow.insert(to, by);
    }

    /// All ways are open and fast again.
    pub(super) fn heal(&mut self) {
        self.blocked.clear();
        self.slow.clear();
    }

    /// The conditions is fine from now on.
    pub(super) const fn quiet_period(&mut self) {
        self.conditions.lost = 0;
        self.conditions.repeated = 0;
        self.conditions.late = 0;
    }

    /// After how many microseconds a message arrives: not at all, once or twice.
    pub(super) fn delays(&mut self, from: usize, to: usize) -> Vec<u64> {
        let NetworkConditions {
            latency,
            lost,
            repeated,
            late,
            lateness,
        } = self.conditions;
        let mut chance = |of_a_thousand: u32| self.rng.random_ratio(of_a_thousand, 1000);
        if !self.links.contains(&(from, to)) || chance(lost) {
            return Vec::new();
        }
        let times = if chance(repeated) { 2 } else { 1 };
        let mut delay = |_| {
            let usual = self.rng.random_range(latency.0..=latency.1);
            let more = if self.rng.random_ratio(late, 1000) {
                lateness
            } else {
                0
            };
            let slow = self.slow.get(&to).copied().unwrap_or(0);
            usual + slow + self.rng.random_range(0..=more)
        };
        (0..times).map(&mut delay).collect()
    }
}
