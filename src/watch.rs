//! Wake-ups of tasks that wait for a change of a session.
//!
//! A store keeps the watched keys and wakes their tasks when it writes, rotates, ends or forgets
//! the session. A change of a session costs one atomic load while nothing is watched. A task is
//! woken without a reason; it reads the session to find out.
//!
//! A watch must begin before the session is read. The store changes and reads a session under one
//! lock, so a change that the read does not return comes after the watch began, and wakes it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use crate::session::Root;
use crate::sync::lock;

/// Wakes a task when a session has changed: what [`watch`](crate::SessionStore::watch) returns.
///
/// Dropping it ends the watch.
#[derive(Debug)]
pub struct SessionWatch {
    watched: Arc<Watched>,
    at: (Root, u64),
}

impl SessionWatch {
    /// Waits for a change of the session: written, rotated, ended or expired since the watch began
    /// or the last call returned. It may also return without one, so read the session afterward.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no change.
    pub async fn changed(&mut self) {
        poll_fn(|context| {
            let mut watches = self.watched.watches();
            let Some(watch) = watches.by_key.get_mut(&self.at) else {
                return Poll::Ready(());
            };
            if std::mem::take(&mut watch.is_due) {
                return Poll::Ready(());
            }
            watch.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for SessionWatch {
    fn drop(&mut self) {
        let mut watches = self.watched.watches();
        if watches.by_key.remove(&self.at).is_some() {
            self.watched.count.fetch_sub(1, Relaxed);
        }
    }
}

/// The watched sessions of a store.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// The number of watches, for changes of sessions that are not watched.
    count: AtomicUsize,
    watches: Mutex<Watches>,
}

#[derive(Debug, Default)]
struct Watches {
    /// By key, and by the number of the watch.
    by_key: BTreeMap<(Root, u64), Watch>,
    last: u64,
}

#[derive(Debug, Default)]
struct Watch {
    /// Whether the session has changed since the task was woken last.
    is_due: bool,
    waker: Option<Waker>,
}

impl Watched {
    /// Begins to watch a session; `None` if too many are watched.
    pub(crate) fn watch(self: &Arc<Self>, key: &Root) -> Option<SessionWatch> {
        let mut watches = self.watches();
        if watches.by_key.len() >= WATCHES_MAX {
            return None;
        }
        watches.last += 1;
        let at = (*key, watches.last);
        watches.by_key.insert(at, Watch::default());
        self.count.fetch_add(1, Relaxed);
        drop(watches);
        Some(SessionWatch {
            watched: self.clone(),
            at,
        })
    }

    /// Wakes the tasks that watch a session. Called under the lock of the session, or after it.
    pub(crate) fn changed(&self, key: &Root) {
        // The lock of the session orders this after every watch that began before the last read.
        if self.count.load(Relaxed) > 0 {
            self.wake(key);
        }
    }

    #[cold]
    fn wake(&self, key: &Root) {
        let mut watches = self.watches();
        let of_key = watches.by_key.range_mut((*key, 0)..=(*key, u64::MAX));
        let due = of_key.filter_map(|(_, watch)| {
            watch.is_due = true;
            watch.waker.take()
        });
        let wakers: Vec<_> = due.collect();
        drop(watches);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn watches(&self) -> MutexGuard<'_, Watches> {
        // A panic under this lock (in an allocation, say) leaves whole watches behind.
        lock(&self.watches)
    }
}

/// Watches of one store at a time; further tasks ask the store repeatedly instead. A watch takes
/// about 100 bytes.
const WATCHES_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    fn key(number: u8) -> Root {
        Root::from_bytes([number; 12])
    }

    fn is_ready(watch: &mut SessionWatch) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(watch.changed()).poll(&mut context).is_ready()
    }

    #[test]
    fn a_watch_wakes_once_for_the_changes_of_its_session() {
        let watched = Arc::new(Watched::default());
        let mut watch = watched.watch(&key(1)).unwrap();
        assert!(!is_ready(&mut watch));
        watched.changed(&key(2));
        assert!(!is_ready(&mut watch));
        watched.changed(&key(1));
        watched.changed(&key(1));
        assert!(is_ready(&mut watch));
        assert!(!is_ready(&mut watch));
        drop(watch);
        assert_eq!(watched.count.load(Relaxed), 0);
        assert!(watched.watches().by_key.is_empty());
    }

    #[test]
    fn all_watches_of_a_session_wake_and_their_number_has_a_limit() {
        let watched = Arc::new(Watched::default());
        let all: Vec<_> = (0..WATCHES_MAX)
            .map(|_| watched.watch(&key(1)).unwrap())
            .collect();
        assert!(watched.watch(&key(2)).is_none());
        watched.changed(&key(1));
        assert!(all.into_iter().all(|mut watch| is_ready(&mut watch)));
        assert!(watched.watch(&key(2)).is_some());
    }
}
