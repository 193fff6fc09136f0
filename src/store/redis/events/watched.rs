//! The sessions whose expiry is to be reported, by the time at which they have to be checked.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::session::{Root, Timestamp, UserKey};
use crate::sync::lock;

/// Sessions that this node knows, and keys of which the server has reported the end.
#[derive(Debug, Default)]
pub(super) struct ExpiryWatch(Mutex<WatchState>);

#[derive(Debug, Default)]
struct WatchState {
    sessions: HashMap<Root, WatchedEntry>,
    /// When to check which session; an entry's `queued` is the one that counts.
    queue: BinaryHeap<Reverse<(Timestamp, Root)>>,
    /// Keys that the server has removed, or that were deleted.
    gone: VecDeque<(Root, KnownSession)>,
}

#[derive(Debug)]
struct WatchedEntry {
    known: KnownSession,
    queued: Timestamp,
}

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownSession {
    /// When it expires unless it is used.
    pub(super) until: Timestamp,
    /// When it expires in any case.
    pub(super) absolute_deadline: Timestamp,
    pub(super) user: Option<UserKey>,
    /// It was deleted: only a marker is left.
    pub(super) is_deleted: bool,
}

impl KnownSession {
    /// A session of which only the key is known.
    const NOTHING: Self = Self {
        until: Timestamp::from_millis(0),
        absolute_deadline: Timestamp::NEVER,
        user: None,
        is_deleted: false,
    };

    /// Returns `true` if the absolute deadline is what ends it.
    pub(super) fn ends_absolutely(&self) -> bool {
        self.until >= self.absolute_deadline
    }
}

impl ExpiryWatch {
    /// Records the state of a live session. Beyond [`WATCHED_MAX`], new ones are ignored.
    pub(super) fn note(&self, key: Root, known: KnownSession) {
        let state = &mut *self.lock();
        let is_full = state.sessions.len() >= WATCHED_MAX;
        match state.sessions.get_mut(&key) {
            Some(entry) => {
                entry.known = known;
                // A later time is found when the earlier one has come.
                if known.until < entry.queued {
                    entry.queued = known.until;
                    state.queue.push(Reverse((known.until, key)));
                }
            }
            None if is_full => {}
            None => {
                let queued = known.until;
                state.sessions.insert(key, WatchedEntry { known, queued });
                state.queue.push(Reverse((queued, key)));
            }
        }
        state.trim();
    }

    /// Removes a session whose end was reported.
    pub(super) fn forget(&self, key: &Root) {
        self.lock().sessions.remove(key);
    }

    /// Records that a session was deleted: the end of its marker is no expiry.
    pub(super) fn deleted(&self, key: Root) {
        let mut state = self.lock();
        state.sessions.remove(&key);
        let known = KnownSession {
            is_deleted: true,
            ..KnownSession::NOTHING
        };
        state.gone(key, known);
    }

    /// Records that the server has removed a key at its end.
    pub(super) fn removed(&self, key: Root) {
        let mut state = self.lock();
        let known = state.sessions.get(&key).map(|entry| entry.known);
        state.gone(key, known.unwrap_or(KnownSession::NOTHING));
    }

    /// Returns sessions that may have expired by `now`, at most `max`. They are returned again
    /// after [`CHECK_AGAIN_AFTER`] unless something is recorded about them.
    pub(super) fn due(&self, now: Timestamp, max: usize) -> Vec<(Root, KnownSession)> {
        let state = &mut *self.lock();
        let count = state.gone.len().min(max);
        let mut due: Vec<_> = state.gone.drain(..count).collect();
        while due.len() < max
            && let Some(Reverse((at, key))) = state.queue.peek().copied()
            && at < now
        {
            state.queue.pop();
            let Some(entry) = state.sessions.get_mut(&key) else {
                continue;
            };
            if entry.queued != at {
                continue;
            }
            if entry.known.until < now {
                due.push((key, entry.known));
                entry.queued = now.plus(CHECK_AGAIN_AFTER);
            } else {
                entry.queued = entry.known.until;
            }
            state.queue.push(Reverse((entry.queued, key)));
        }
        due
    }

    /// Forgets everything: there are no subscribers.
    pub(super) fn clear(&self) {
        *self.lock() = WatchState::default();
    }

    fn lock(&self) -> MutexGuard<'_, WatchState> {
        lock(&self.0)
    }
}

impl WatchState {
    fn gone(&mut self, key: Root, known: KnownSession) {
        if self.gone.len() < GONE_MAX {
            self.gone.push_back((key, known));
        }
    }

    /// Keeps the queue from growing with entries that no longer count.
    fn trim(&mut self) {
        if self.queue.len() > 2 * self.sessions.len() + QUEUE_SLACK {
            let sessions = self.sessions.iter();
            let current = sessions.map(|(key, entry)| Reverse((entry.queued, *key)));
            self.queue = current.collect();
        }
    }
}

/// Sessions whose expiry this node watches: some ten megabytes.
const WATCHED_MAX: usize = 100_000;
/// Removed keys that wait to be checked. Further ones are not reported.
const GONE_MAX: usize = 8_192;
/// Entries of the queue that may be left of earlier times.
const QUEUE_SLACK: usize = 64;
/// When a session is checked again after a check that has failed.
const CHECK_AGAIN_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn known(until: u64) -> KnownSession {
        KnownSession {
            until: Timestamp::from_millis(until),
            absolute_deadline: Timestamp::from_millis(9_000),
            ..KnownSession::NOTHING
        }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_session_is_due_when_its_last_known_time_has_passed() {
        let watched = ExpiryWatch::default();
        let [one, two] = [Root::from_bytes([1; 12]), Root::from_bytes([2; 12])];
        watched.note(one, known(1_000));
        watched.note(two, known(5_000));
        assert_eq!(watched.due(at(1_000), 9), []);
        // It was used, and the other one has less time.
        watched.note(one, known(3_000));
        watched.note(two, known(2_000));
        assert_eq!(watched.due(at(2_500), 9), [(two, known(2_000))]);
        assert_eq!(watched.due(at(2_600), 9), []);
        assert_eq!(watched.due(at(3_001), 9), [(one, known(3_000))]);
        // No answer has come.
        let again = watched.due(at(8_500), 9);
        assert_eq!(again, [(two, known(2_000)), (one, known(3_000))]);
        watched.forget(&one);
        watched.removed(two);
        watched.removed(one);
        watched.deleted(two);
        let gone = watched.due(at(9_000), 2);
        assert_eq!(gone, [(two, known(2_000)), (one, KnownSession::NOTHING)]);
        assert!(watched.due(at(9_000), 9)[0].1.is_deleted);
        assert_eq!(watched.due(at(99_000), 9), []);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let watched = ExpiryWatch::default();
        let one = Root::from_bytes([1; 12]);
        for turn in 0..10_000 {
            watched.note(one, known(99_999 - turn));
            watched.removed(one);
        }
        let state = watched.lock();
        assert!(state.queue.len() <= QUEUE_SLACK + 3);
        assert_eq!(state.gone.len(), GONE_MAX);
    }
}
