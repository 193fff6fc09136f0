//! Memory in which a node assembles large messages.

use std::collections::{BTreeMap, VecDeque};

use crate::cluster::sim::link::{CHUNK, LinkRules};

/// The memory in which one node assembles large messages, by the index of their senders.
#[derive(Debug)]
pub(super) struct SimAssembly {
    budget: usize,
    rules: LinkRules,
    reserved: BTreeMap<usize, usize>,
    waiting: VecDeque<(usize, usize)>,
}

impl SimAssembly {
    pub(super) const fn new(budget: usize, rules: LinkRules) -> Self {
        Self {
            budget,
            rules,
            reserved: BTreeMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Handles a chunk of a message of `total` bytes. Returns `true` if more of it may be sent.
    pub(super) fn chunk(&mut self, from: usize, total: usize, first: bool) -> bool {
        let bytes = if self.rules.length_reservation {
            if !first {
                return false;
            }
            total
        } else {
            CHUNK
        };
        let admitted = self.waiting.is_empty() && self.fits(from, bytes);
        if admitted {
            *self.reserved.entry(from).or_default() += bytes;
        } else {
            self.waiting.push_back((from, bytes));
        }
        admitted
    }

    /// Returns `true` if a message from this node waits for room.
    pub(super) fn is_waiting(&self, from: usize) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == from)
    }

    /// Returns `true` if there is room, or if there is no other message.
    fn fits(&self, from: usize, bytes: usize) -> bool {
        let is_alone = self.reserved.keys().all(|other| *other == from);
        is_alone || self.reserved.values().sum::<usize>() + bytes <= self.budget
    }

    /// Called when the message from this node is complete, or its link is broken. Returns the
    /// senders that may continue.
    pub(super) fn release(&mut self, from: usize) -> Vec<usize> {
        self.reserved.remove(&from);
        self.waiting.retain(|(waiting, _)| *waiting != from);
        let mut admitted = Vec::new();
        while let Some((next, bytes)) = self.waiting.front().copied()
            && self.fits(next, bytes)
        {
            self.waiting.pop_front();
            *self.reserved.entry(next).or_default() += bytes;
            admitted.push(next);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_messages_are_admitted_whole_or_alone() {
        let mut assembly = SimAssembly::new(100_000, LinkRules::ALL);
        assert!(assembly.chunk(1, 500_000, true));
        assert!(!assembly.chunk(2, 60_000, true));
        assert!(!assembly.chunk(3, 60_000, true));
        assert_eq!(assembly.release(1), [2]);
        assert_eq!(assembly.release(2), [3]);
    }

    #[test]
    fn without_reservation_parts_of_two_messages_fill_the_budget() {
        let rules = LinkRules {
            length_reservation: false,
            ..LinkRules::ALL
        };
        let mut assembly = SimAssembly::new(4 * CHUNK, rules);
        for from in [1, 2, 1, 2] {
            assert!(assembly.chunk(from, 10 * CHUNK, false));
        }
        assert!(!assembly.chunk(1, 10 * CHUNK, false));
        assert!(!assembly.chunk(2, 10 * CHUNK, false));
    }
}
