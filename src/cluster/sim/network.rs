//! The network between the nodes: blocked paths, delays and bandwidths.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::cluster::sim::plan::NetworkConditions;

/// The network between the nodes.
#[derive(Debug)]
pub(super) struct Network {
    conditions: NetworkConditions,
    nodes: usize,
    /// Bytes per second of each link, by sender and receiver.
    rates: Vec<Option<u64>>,
    /// Pairs of sender and receiver between which all messages are lost.
    blocked: BTreeSet<(usize, usize)>,
    /// Additional delay of everything that is sent to a node, in microseconds.
    slow: BTreeMap<usize, u64>,
    rng: StdRng,
}

/// The fate of one piece under way.
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

    /// Blocks all messages from one node to another.
    pub(super) fn block(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
    }

    /// Opens both directions between two nodes.
    pub(super) fn unblock(&mut self, one: usize, other: usize) {
        self.blocked.remove(&(one, other));
        self.blocked.remove(&(other, one));
    }

    /// Delays everything that is sent to a node. One node at a time: two slow nodes suspect each
    /// other, and a node that was falsely removed may serve outdated values for a moment.
    pub(super) fn slow_down(&mut self, to: usize, by: u64) {
        self.slow.clear();
        self.slow.insert(to, by);
    }

    /// Opens all paths and ends all delays. Bandwidths stay as they are.
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

    /// Returns the bytes per second from one node to another while `busy` links of the sender are
    /// in use.
    pub(super) fn rate(&self, from: usize, to: usize, busy: u64) -> Option<u64> {
        let link = self.rates[from * self.nodes + to];
        let share = self.conditions.uplink.map(|all| all / busy.max(1));
        link.into_iter().chain(share).min()
    }

    /// Draws the fate of a piece that is sent to a node.
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

    /// Draws the time that a small message to a node is under way, in microseconds.
    pub(super) fn delay(&mut self, to: usize) -> u64 {
        let (least, most) = self.conditions.latency;
        let slow = self.slow.get(&to).copied().unwrap_or(0);
        self.rng.random_range(least..=most) + slow
    }

    fn chance(&mut self, numerator: u32, denominator: u32) -> bool {
        numerator > 0 && self.rng.random_ratio(numerator, denominator)
    }
}
