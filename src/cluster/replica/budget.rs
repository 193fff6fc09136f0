//! Bytes of changes that peers have not acknowledged, and how many more there may be.
//!
//! A change that would exceed the limit of one of its holders is refused before anything is
//! written. So a peer that is slow or stuck takes a bounded amount of memory from this node, and
//! only sessions that it holds are refused. Small changes have a limit of their own, so that large
//! sessions on a slow link do not keep them out.
//!
//! The counters are atomic because request tasks look at them without the lock of the engine. Two
//! requests that look at the same moment may both be let in: a limit is exceeded by no more than
//! the requests under way.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::message::SMALL_MAX;
use super::roster::{PEERS_MAX, PeerIndex, PeerSet};

/// What each peer has not acknowledged.
#[derive(Debug)]
pub(crate) struct Budget {
    peers: Box<[Debt]>,
}

#[derive(Debug, Default)]
struct Debt {
    small: AtomicUsize,
    large: AtomicUsize,
}

impl Debt {
    const fn of(&self, size: usize) -> &AtomicUsize {
        if size > SMALL_MAX {
            &self.large
        } else {
            &self.small
        }
    }

    fn admits(&self, size: usize) -> bool {
        let owed = self.of(size).load(Relaxed);
        let most = if size > SMALL_MAX {
            LARGE_MAX
        } else {
            SMALL_BYTES_MAX
        };
        owed == 0 || owed + size <= most
    }
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self {
            peers: (0..PEERS_MAX).map(|_| Debt::default()).collect(),
        }
    }

    /// Returns `true` if each of these peers may owe `size` bytes more.
    pub(crate) fn admits(&self, peers: PeerSet, size: usize) -> bool {
        peers.iter().all(|peer| self.peers[peer].admits(size))
    }

    /// A change was sent to a peer.
    pub(crate) fn charge(&self, peer: PeerIndex, size: usize) {
        self.peers[peer].of(size).fetch_add(size, Relaxed);
    }

    /// A peer has acknowledged a change.
    pub(crate) fn release(&self, peer: PeerIndex, size: usize) {
        self.peers[peer].of(size).fetch_sub(size, Relaxed);
    }

    /// The members have changed: everything is charged anew.
    pub(crate) fn clear(&self) {
        for debt in &self.peers {
            debt.small.store(0, Relaxed);
            debt.large.store(0, Relaxed);
        }
    }
}

/// What one peer may owe in changes up to [`SMALL_MAX`]: some 25,000 of a few attributes.
const SMALL_BYTES_MAX: usize = 8 << 20;

/// What one peer may owe in larger changes.
const LARGE_MAX: usize = 48 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_changes_do_not_keep_small_ones_out() {
        let (budget, peer) = (Budget::new(), PeerSet::of(3));
        budget.charge(3, LARGE_MAX);
        assert!(!budget.admits(peer, SMALL_MAX + 1));
        assert!(budget.admits(peer, SMALL_MAX));
        assert!(budget.admits(PeerSet::of(4), SMALL_MAX + 1));
        budget.release(3, LARGE_MAX);
        assert!(budget.admits(peer, 2 * LARGE_MAX), "alone");
    }

    #[test]
    fn a_peer_that_owes_too_many_small_changes_gets_no_more() {
        let (budget, peer) = (Budget::new(), PeerSet::of(0));
        for _ in 0..SMALL_BYTES_MAX / SMALL_MAX {
            assert!(budget.admits(peer, SMALL_MAX));
            budget.charge(0, SMALL_MAX);
        }
        assert!(!budget.admits(peer, 1));
        budget.clear();
        assert!(budget.admits(peer, 1));
    }
}
