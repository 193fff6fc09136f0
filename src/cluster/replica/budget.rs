//! Limits on the bytes of changes that peers have not acknowledged.
//!
//! A change that would exceed the limit of one of its holders is refused before anything is
//! written: by the node of its request, and by the owner that orders it. Deletions and floors count
//! and are never refused; there are at most as many as sessions. So a slow or stuck peer takes a
//! bounded amount of memory from this node, and only changes of sessions that it holds are refused.
//! Small changes have their own limit, so that large sessions on a slow link do not block them.
//!
//! The counters are atomic because request tasks read them without the engine's lock. Two requests
//! that check at the same moment may both pass: a limit is exceeded by no more than the requests in
//! progress.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::cluster::replica::message::SMALL_MAX;
use crate::cluster::replica::peer_table::{PEERS_MAX, PeerIndex, PeerSet};

/// Unacknowledged bytes, by peer.
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
        // A change above the limit is admitted alone, or it could never be made.
        owed == 0 || owed + size <= most
    }
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self {
            peers: (0..PEERS_MAX).map(|_| Debt::default()).collect(),
        }
    }

    /// Returns `true` if each of these peers may owe `size` more bytes.
    pub(crate) fn admits(&self, peers: PeerSet, size: usize) -> bool {
        peers.iter().all(|peer| self.peers[peer].admits(size))
    }

    /// Called when a change is sent to a peer.
    pub(crate) fn charge(&self, peer: PeerIndex, size: usize) {
        self.peers[peer].of(size).fetch_add(size, Relaxed);
    }

    /// Called when a peer has acknowledged a change.
    pub(crate) fn release(&self, peer: PeerIndex, size: usize) {
        self.peers[peer].of(size).fetch_sub(size, Relaxed);
    }

    /// Called when a new view is installed: all open changes are charged again.
    pub(crate) fn clear(&self) {
        for debt in &self.peers {
            debt.small.store(0, Relaxed);
            debt.large.store(0, Relaxed);
        }
    }
}

/// Limit per peer for changes up to [`SMALL_MAX`]: about 25,000 changes of a few attributes.
const SMALL_BYTES_MAX: usize = 8 << 20;

/// Limit per peer for larger changes.
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
