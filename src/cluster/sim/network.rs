//! The network between the nodes: blocked ways, delays and bandwidths.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::rngs::StdRng;

use super::plan::NetworkConditions;

/// The network between the nodes.
#[derive(Debug)]
pub(super) struct Network {
    conditions: NetworkConditions,
    nodes: usize,
    /// Bytes per second of each link, by sender and receiver.
    rates: Vec<Option<u64>>,
    /// From which node to which nothing goes.
    blocked: BTreeSet<(usize, usize)>,
    /// How much longer everything takes that goes to a node, in microseconds.
    slow: BTreeMap<usize, u64>,
    rng: StdRng,
}

/// What happens to one piece on its way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// It arrives after this many microseconds, once or twice.
    Arrives { delay: u64, twice: bool },
    /// Its link breaks.
    Reset,
}

impl Network {
    pub(super) fn new(conditions: NetworkConditions, nodes: usize, mut rng: StdRng) -> Self {
        let mut rate = |_| {
            let (slowest, fastest) = conditions.rates?;
            let doublings = (fastest / slowest).ilog2();
            let rate = slowest << rng.random_range(0..=doublings + 1);
            (rate <= fastest).then_some(rate)
        };
        Self {
            rates: (0..nodes * nodes).map(&mut rate).collect(),
            conditions,
            nodes,
            blocked: BTreeSet::new(),
            slow: BTreeMap::new(),
            rng,
        }
    }

    pub(super) fn is_open(&self, from: usize, to: usize) -> bool {
        !self.blocked.contains(&(from, to))
    }

    /// From now on nothing goes from one node to the other.
    pub(super) fn block(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
    }

    /// Opens the ways between two nodes.
    pub(super) fn unblock(&mut self, one: usize, other: usize) {
        self.blocked.remove(&(one, other));
        self.blocked.remove(&(other, one));
    }

    /// Everything that goes to a node takes longer. One node at a time: two slow nodes suspect each
    /// other, and a node that was falsely removed may answer with what it has for a moment.
    pub(super) fn slow_down(&mut self, to: usize, by: u64) {
        self.slow.clear();
        self.slow.insert(to, by);
    }

    /// All ways are open and fast again. Bandwidths stay as they are.
    pub(super) fn heal(&mut self) {
        self.blocked.clear();
        self.slow.clear();
    }

    /// Ends all random faults.
    pub(super) const fn calm_down(&mut self) {
        self.conditions.resets = 0;
        self.conditions.repeated = 0;
        self.conditions.late = 0;
    }

    /// Bytes per second from one node to another while `busy` links of the sender are in use.
    pub(super) fn rate(&self, from: usize, to: usize, busy: u64) -> Option<u64> {
        let link = self.rates[from * self.nodes + to];
        let share = self.conditions.uplink.map(|all| all / busy.max(1));
        link.into_iter().chain(share).min()
    }

    /// What happens to a piece on its way to a node.
    pub(super) fn fate(&mut self, to: usize, is_control: bool) -> Fate {
        if self.chance(self.conditions.resets, 100_000) {
            return Fate::Reset;
        }
        let twice = self.chance(self.conditions.repeated, 1_000);
        let mut delay = self.delay(to);
        if self.chance(self.conditions.late, 1_000) && (!is_control || self.rng.random()) {
            delay += self.rng.random_range(0..=self.conditions.lateness);
        }
        Fate::Arrives { delay, twice }
    }

    /// How long something small is on its way to a node, in microseconds.
    pub(super) fn delay(&mut self, to: usize) -> u64 {
        let (least, most) = self.conditions.latency;
        let slow = self.slow.get(&to).copied().unwrap_or(0);
        self.rng.random_range(least..=most) + slow
    }

    fn chance(&mut self, numerator: u32, denominator: u32) -> bool {
        numerator > 0 && self.rng.random_ratio(numerator, denominator)
    }
}
