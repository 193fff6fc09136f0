//! The configuration of a memory store: its limits.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use crate::events::EventBus;
use crate::session::{SLOTS, Timestamp};
use crate::store::memory::{Locked, MemoryCounters, MemoryShared, MemorySlot, MemoryStore};

/// Builder for the limits of a [`MemoryStore`].
#[derive(Clone, Debug)]
#[must_use]
pub struct MemoryStoreBuilder {
    pub(super) max_sessions: usize,
    pub(super) max_bytes: usize,
}

impl MemoryStoreBuilder {
    /// A builder with the default limits.
    pub(super) const fn new() -> Self {
        Self {
            max_sessions: MAX_SESSIONS,
            max_bytes: MAX_BYTES,
        }
    }

    /// Sets the maximum number of sessions. At the limit, creating a session fails with
    /// [`StoreErrorKind::Full`](crate::StoreErrorKind::Full); nothing else does.
    ///
    /// Defaults to 1,000,000. Lower it if existing sessions matter more than new visitors; against
    /// crawlers that never return, a first-visit timeout helps more.
    pub const fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Sets the maximum size of all sessions, in bytes: names, values and the overhead of storing
    /// them. At the limit, creating a session and growing one fail with
    /// [`StoreErrorKind::Full`](crate::StoreErrorKind::Full); reading, removing and ending do not.
    ///
    /// Defaults to 1 GiB. Set it to the memory that is available, less a fifth for the allocator.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Creates the store, empty.
    #[must_use]
    pub fn build(self) -> MemoryStore {
        MemoryStore {
            shared: Arc::new(MemoryShared {
                slots: (0..SLOTS)
                    .map(|_| Locked(Mutex::new(MemorySlot::new())))
                    .collect(),
                sessions: AtomicUsize::new(0),
                bytes: AtomicUsize::new(0),
                limits: self,
                next_expiry: AtomicU64::new(Timestamp::NEVER.as_millis()),
                has_task: AtomicBool::new(false),
                totals: MemoryCounters::default(),
                events: EventBus::default(),
                watched: Arc::default(),
            }),
        }
    }
}

impl Default for MemoryStoreBuilder {
    fn default() -> Self {
        Self::new()
    }
}

const MAX_SESSIONS: usize = 1_000_000;
const MAX_BYTES: usize = 1 << 30;
