//! The task that releases the memory of expired sessions.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::{task, time};

use crate::clock;
use crate::session::{Record, Root, SLOTS, SessionEventKind, Timestamp};
use crate::store::memory::{MemoryShared, MemorySlot, counted};

/// Spawns the sweeping task unless there is one. Without a runtime there is none; the creation of
/// the next session tries again.
pub(super) fn ensure_running(store: &Arc<MemoryShared>) {
    if store.has_task.load(Relaxed) {
        return;
    }
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    if !store.has_task.swap(true, Relaxed) {
        let running = Running(Arc::downgrade(store));
        runtime.spawn(async move { running.sweep().await });
    }
}

/// The task's reference to the store. If its runtime ends, another runtime takes over.
struct Running(Weak<MemoryShared>);

impl Running {
    async fn sweep(&self) {
        loop {
            time::sleep(SWEEP_INTERVAL).await;
            let mut next = Some(0);
            while let Some(slot) = next {
                let Some(store) = self.0.upgrade() else {
                    return;
                };
                next = store.sweep_slice(slot, clock::now());
                drop(store);
                task::yield_now().await;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A task that panicked would do so again: tokio has logged the cause (a runtime without
        // timer).
        if let Some(store) = self.0.upgrade()
            && !thread::panicking()
        {
            store.has_task.store(false, Relaxed);
        }
    }
}

impl MemoryShared {
    /// Records a deadline for the sweeper, also in `next`, the earliest one of the slot, whose lock
    /// must be held.
    pub(super) fn expect_expiry(&self, next: &mut Timestamp, at: Timestamp) {
        *next = (*next).min(at);
        if at.as_millis() < self.next_expiry.load(Relaxed) {
            self.next_expiry.fetch_min(at.as_millis(), Relaxed);
        }
    }

    /// Sweeps from slot `from` on until a slice of work is done. Returns the slot at which to
    /// continue, or `None` at the end.
    pub(super) fn sweep_slice(&self, from: usize, now: Timestamp) -> Option<usize> {
        if from == 0 {
            if now.as_millis() < self.next_expiry.load(Relaxed) {
                return None;
            }
            // Sessions added from here on lower it again, under the lock of their slot: either one
            // is in the slot when the sweep looks there, or it is added after this line.
            self.next_expiry.store(u64::MAX, Relaxed);
        }
        let mut work = 0;
        for at in from..SLOTS {
            let mut slot = self.lock(at);
            work += 1;
            if slot.next_expiry <= now {
                work += slot.sessions.len();
                let (sessions, bytes) = slot.sweep(now, |key, record| {
                    self.watched.changed(key);
                    self.report(SessionEventKind::expiry_of(record), key, record, now);
                });
                self.release(sessions, bytes);
                self.totals.expired.fetch_add(sessions as u64, Relaxed);
            }
            let next = slot.next_expiry;
            self.expect_expiry(&mut slot.next_expiry, next);
            if work >= SLICE {
                return Some(at + 1);
            }
        }
        None
    }
}

impl MemorySlot {
    /// Removes expired sessions and passes them to `expired`. Returns their number and their size
    /// in bytes.
    fn sweep(&mut self, now: Timestamp, mut expired: impl FnMut(&Root, &Record)) -> (usize, usize) {
        let (mut sessions, mut bytes) = (0, 0);
        self.next_expiry = Timestamp::NEVER;
        self.sessions.retain(|key, record| {
            if record.is_live(now) {
                self.next_expiry = self.next_expiry.min(record.expires_at());
                return true;
            }
            expired(key, record);
            sessions += counted(record);
            bytes += record.footprint();
            false
        });
        if self.sessions.len() < self.sessions.capacity() / 4 {
            self.sessions.shrink_to(2 * self.sessions.len());
        }
        (sessions, bytes)
    }
}

/// How long expired sessions may stay in memory. They are never returned.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// How many slots and sessions are visited before the task yields: a millisecond or two when all of
/// them have expired.
const SLICE: usize = 4_096;
