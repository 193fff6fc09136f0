//! Taking over what another node knows, and counting what that pushes aside.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use crate::session::{Root, Timestamp, Writer};

use super::super::entry::{Entry, Move, Tombstone};
use super::super::message::Copy;
use super::super::split::Split;
use super::{MOVES_MAX, Slot, Table};

impl Table {
    /// Sessions that this node owned when they expired.
    pub(crate) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// Concurrent writes of the two sides of a split of which one was discarded.
    pub(crate) fn discarded(&self) -> u64 {
        self.discarded.load(Ordering::Relaxed)
    }

    /// Members are out of reach: what is written from now on, `writers` write on this side.
    pub(crate) fn part(&self, writers: impl Iterator<Item = Writer>) {
        let mut split = self.split();
        let split = split.get_or_insert_default();
        writers.for_each(|writer| split.joined(writer));
        self.is_split.store(true, Ordering::Relaxed);
    }

    /// Both sides have compared what they have.
    pub(crate) fn reunite(&self) {
        self.is_split.store(false, Ordering::Relaxed);
        *self.split() = None;
    }

    fn split(&self) -> MutexGuard<'_, Option<Split>> {
        // A panic under this lock (an allocation, say) leaves a count too low.
        self.split.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While there is a split: takes note of a change of a session, and of what it pushes aside.
    pub(super) fn note_change(&self, key: Root, before: &Entry, theirs: Option<&Entry>) {
        let Entry::Live(before) = before else {
            return;
        };
        if let Some(split) = &mut *self.split() {
            if let Some(Entry::Live(theirs)) = theirs {
                let discarded = split.concurrent(&key, before, theirs);
                self.discarded.fetch_add(discarded, Ordering::Relaxed);
            }
            split.changes(key, before);
        }
    }

    /// Takes over what another node knows. Its points in time must have been rebased.
    pub(crate) fn merge(&self, now: Timestamp, copy: &Copy) {
        let mut slot = self.lock(copy.key.slot());
        match &copy.entry {
            Entry::Dead(tombstone) => self.bury(&mut slot, now, copy.key, tombstone),
            Entry::Live(_) | Entry::Fragment(_) => {
                self.take_in(&mut slot, now, copy.key, &copy.entry);
            }
        }
    }

    /// Takes in a session or a part of one, under the id that it has been moved to meanwhile.
    fn take_in(&self, slot: &mut Slot, now: Timestamp, mut key: Root, news: &Entry) {
        for _ in 0..MOVES_MAX {
            let merged = match slot.entries.get(&key) {
                None if news.forget_at() <= now => return,
                None => news.clone(),
                Some(Entry::Dead(tombstone)) => match tombstone.moved {
                    Some(moved) if moved.to.slot() == key.slot() => {
                        key = moved.to;
                        continue;
                    }
                    _ => return,
                },
                Some(entry) => {
                    if self.is_split.load(Ordering::Relaxed) {
                        self.note_change(key, entry, Some(news));
                    }
                    let mut merged = entry.clone();
                    if !merged.merge(news) {
                        return;
                    }
                    self.count_if_oversized(entry, &merged);
                    merged
                }
            };
            return self.put(slot, key, merged);
        }
    }

    /// A session that a merge makes too large is kept: what was acknowledged must not be lost.
    fn count_if_oversized(&self, before: &Entry, after: &Entry) {
        let Entry::Live(after) = after else {
            return;
        };
        let before = match before {
            Entry::Live(before) => before.payload_bytes(),
            Entry::Fragment(_) | Entry::Dead(_) => 0,
        };
        if self.is_over_session_limit(before, after) {
            self.oversized.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes note that an id is dead. What is here under it goes where the session has gone. An
    /// ended session is ended under every id that somebody has moved it to without knowing; of two
    /// moves at once, one wins, the same one everywhere.
    fn bury(&self, slot: &mut Slot, now: Timestamp, key: Root, news: &Tombstone) {
        let mut burials = vec![(key, news.clone())];
        for _ in 0..MOVES_MAX {
            let Some((key, news)) = burials.pop() else {
                return;
            };
            if news.until <= now {
                continue;
            }
            match slot.entries.get(&key).cloned() {
                Some(Entry::Dead(known)) => {
                    let moved = match (known.moved, news.moved) {
                        (Some(ours), Some(theirs)) => Some(ours.max(theirs)),
                        _ => None,
                    };
                    let until = known.until.max(news.until);
                    let dead = Tombstone { until, moved };
                    for Move { to, .. } in [known.moved, news.moved].into_iter().flatten() {
                        let lost = moved.is_none_or(|moved| moved.to != to);
                        if lost && to != key && to.slot() == key.slot() {
                            burials.push((to, dead.clone()));
                        }
                    }
                    if *known != dead {
                        self.put(slot, key, Entry::Dead(Box::new(dead)));
                    }
                }
                before => {
                    self.put(slot, key, Entry::Dead(Box::new(news)));
                    if let Some(before) = before {
                        self.take_in(slot, now, key, &before);
                    }
                }
            }
        }
    }
}
