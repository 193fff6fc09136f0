//! Removal of expired entries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::session::{Record, Root, Timestamp};

use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::expired::Mark;
use crate::cluster::replica::table::{EntryTable, GROUP};

/// A session that was forgotten because its time has run out.
pub(crate) type Expired = (Root, Arc<Record>);

impl EntryTable {
    /// Removes expired entries: in a small table all of them, in a large one as many as can be
    /// visited in a short time, continuing there the next time.
    #[cfg(test)]
    pub(crate) fn sweep(&self, now: Timestamp) {
        let _ = self.sweep_and_count(now, &|_| true);
    }

    /// Like `sweep`, and returns the expired sessions. Counts those in the slots selected by
    /// `is_owned`.
    pub(crate) fn sweep_and_count(
        &self,
        now: Timestamp,
        is_owned: &dyn Fn(usize) -> bool,
    ) -> Vec<Expired> {
        let (mut visited, mut expired) = (0, Vec::new());
        for _ in 0..self.groups.len() {
            let group = self.next_group.fetch_add(1, Ordering::Relaxed) % self.groups.len();
            if self.groups[group].retain_until.load(Ordering::Relaxed) <= now.as_millis() {
                visited += self.sweep_group(now, group, is_owned, &mut expired);
            }
            if visited >= SWEEP_MAX {
                break;
            }
        }
        expired
    }

    /// Removes the expired entries of a group. Returns the number of entries visited.
    fn sweep_group(
        &self,
        now: Timestamp,
        group: usize,
        is_owned: &dyn Fn(usize) -> bool,
        expired: &mut Vec<Expired>,
    ) -> usize {
        let mut visited = 0;
        // Entries added from now on lower the time again.
        self.groups[group]
            .retain_until
            .store(u64::MAX, Ordering::Relaxed);
        for slot in group * GROUP..(group + 1) * GROUP {
            let mut guard = self.lock(slot);
            visited += guard.entries.len() + guard.expired_keys.len();
            let before = guard.expired_keys.len();
            guard.expired_keys.retain(|_, until| *until > now);
            let forgotten = before - guard.expired_keys.len();
            self.expired_keys.fetch_sub(forgotten, Ordering::Relaxed);
            let due = |(key, entry): (&Root, &Entry)| (entry.retain_until() <= now).then_some(*key);
            let due_keys: Vec<_> = guard.entries.iter().filter_map(due).collect();
            for key in due_keys {
                if let Some(entry) = guard.entries.remove(&key) {
                    self.watched.changed(&key);
                    self.uncount(&mut guard, &key, &entry);
                    if let Entry::Live(record) = &entry
                        && !record.is_index()
                    {
                        let owned = u64::from(is_owned(slot));
                        self.expired.fetch_add(owned, Ordering::Relaxed);
                        expired.push((key, record.clone()));
                    }
                    let mark = match &entry {
                        Entry::Live(record) => Mark::of(record),
                        // It may have replaced a mark. Without a new one, a copy with the former
                        // credential could open the session again.
                        Entry::Delta(delta) => Mark::of_delta(delta),
                        Entry::Expired(_) | Entry::Tombstone { .. } => None,
                    };
                    let is_due = |mark: &Mark| self.rules.expiry_marks() && mark.until > now;
                    if let Some(mark) = mark.filter(is_due) {
                        self.insert(&mut guard, key, mark.into());
                    } else if let Entry::Live(record) = entry
                        && now < record.absolute_deadline()
                        && guard.expired_keys.len() < EXPIRED_KEYS_MAX
                        && self.expired_keys.load(Ordering::Relaxed) * EXPIRED_KEY
                            < self.expired_key_bytes
                    {
                        // Another holder may have a later access that did not arrive here. As long
                        // as the key is remembered, a read asks it and does not log the client out.
                        let until = record.expires_if_used(now);
                        let known = guard.expired_keys.insert(key, until).is_some();
                        self.expired_keys
                            .fetch_add(usize::from(!known), Ordering::Relaxed);
                    }
                }
            }
            let entries = guard.entries.values().map(Entry::retain_until);
            if let Some(next) = entries.chain(guard.expired_keys.values().copied()).min() {
                self.schedule_expiry(slot, next);
            }
        }
        visited
    }
}

/// Entries that one sweep visits before it stops: well below a millisecond. With twenty sweeps a
/// second, a million sessions are visited every twelve seconds.
const SWEEP_MAX: usize = 4_096;

/// Keys of expired sessions remembered per slot, so that a group has as many as one sweep visits: a
/// million in all. For further ones, a lost access is not recovered.
const EXPIRED_KEYS_MAX: usize = SWEEP_MAX / GROUP;

/// Bytes that such a key takes, as measured.
const EXPIRED_KEY: usize = 50;
