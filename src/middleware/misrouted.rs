//! The number of misrouted requests: requests that were sent to another node than the one that
//! their cookie names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts requests whose cookie named a node other than the one that served them.
///
/// A clone starts at zero: a configuration is cloned to be changed, possibly for another node. The
/// services of one configuration share it without cloning.
#[derive(Debug, Default)]
pub(super) struct MisroutedRequests(AtomicU64);

impl MisroutedRequests {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Clone for MisroutedRequests {
    fn clone(&self) -> Self {
        Self::default()
    }
}
