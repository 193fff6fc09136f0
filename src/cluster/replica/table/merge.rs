//! Merging of entries from other nodes, and counting of the writes that this discards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use crate::session::{Record, Root, Timestamp, WriterId};

use crate::cluster::replica::entry::{Entry, MergeEffect};
use crate::cluster::replica::message::KeyedEntry;
use crate::cluster::replica::table::EntryTable;
use crate::cluster::replica::table::conflicts::ConflictTracker;
use crate::sync::lock;

impl EntryTable {
    /// Returns the number of sessions that this node owned when they expired.
    pub(crate) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// Returns the number of concurrent writes across a partition of which one was discarded.
    pub(crate) fn discarded(&self) -> u64 {
        self.discarded.load(Ordering::Relaxed)
    }

    /// Called when members are missing: `writers` are the writers on this side.
    pub(crate) fn begin_partition(&self, writers: impl Iterator<Item = WriterId>) {
        let mut conflicts = self.conflicts();
        let tracker = conflicts.get_or_insert_default();
        writers.for_each(|writer| tracker.add_writer(writer));
        self.is_partitioned.store(true, Ordering::Relaxed);
    }

    /// Called when both sides have compared their sessions.
    pub(crate) fn end_partition(&self) {
        self.is_partitioned.store(false, Ordering::Relaxed);
        *self.conflicts() = None;
    }

    /// Returns `true` while members are missing.
    pub(crate) fn is_partitioned(&self) -> bool {
        self.is_partitioned.load(Ordering::Relaxed)
    }

    fn conflicts(&self) -> MutexGuard<'_, Option<ConflictTracker>> {
        // A panic under this lock (in an allocation, say) leaves a count too low.
        lock(&self.conflicts)
    }

    /// During a partition, records a change of a session and counts the writes that it discards.
    pub(super) fn track_conflict(&self, key: Root, before: &Entry, theirs: Option<&Entry>) {
        let Entry::Live(before) = before else {
            return;
        };
        if let Some(conflicts) = &mut *self.conflicts() {
            if let Some(Entry::Live(theirs)) = theirs {
                let discarded = conflicts.concurrent(&key, before, theirs);
                self.discarded.fetch_add(discarded, Ordering::Relaxed);
            }
            conflicts.before_change(key, before);
        }
    }

    /// Merges an entry from another node. Its times must have been rebased.
    pub(crate) fn merge(&self, now: Timestamp, keyed: &KeyedEntry) {
        self.merge_by(now, keyed, Entry::merge);
    }

    /// Merges what another node has replied to a read. Its times must have been rebased.
    pub(crate) fn merge_found(&self, now: Timestamp, keyed: &KeyedEntry) {
        self.merge_by(now, keyed, Entry::merge_found);
    }

    fn merge_by(
        &self,
        now: Timestamp,
        keyed: &KeyedEntry,
        merge: impl Fn(&mut Entry, Timestamp, &Entry) -> MergeEffect,
    ) {
        let KeyedEntry {
            key,
            entry: incoming,
        } = keyed;
        // An expired session is let through: it may have a rotation, or a write, that a copy which
        // is live here lacks.
        if incoming.retain_until() <= now && !matches!(incoming, Entry::Live(_)) {
            return;
        }
        let mut slot = self.lock(key.slot());
        let merged = match slot.entries.get(key) {
            None if incoming.retain_until() <= now => return,
            None => incoming.clone(),
            Some(Entry::Tombstone { until }) => match incoming {
                // The longer one outlives a copy whose deadline a login on the other side of a
                // partition has moved.
                Entry::Tombstone { until: theirs } if theirs > until => incoming.clone(),
                _ => return,
            },
            Some(_) if matches!(incoming, Entry::Tombstone { .. }) => incoming.clone(),
            Some(entry) => {
                if self.is_partitioned.load(Ordering::Relaxed) {
                    self.track_conflict(*key, entry, Some(incoming));
                }
                let mut merged = entry.clone();
                match merge(&mut merged, now, incoming) {
                    MergeEffect::Unchanged => return,
                    MergeEffect::Changed => self.count_if_oversized(entry, &merged),
                    MergeEffect::Forked => {
                        self.discarded.fetch_add(1, Ordering::Relaxed);
                    }
                }
                merged
            }
        };
        if let Entry::Live(record) = &merged
            && self.rules.late_ends()
        {
            let before = match slot.entries.get(key) {
                Some(Entry::Live(before)) => Some(&**before),
                _ => None,
            };
            self.note_revoked(*key, before, record);
        }
        self.insert(&mut slot, *key, merged);
    }

    /// Records the index of a user if it has entries of sessions to delete, and whether there are
    /// more of them than before.
    pub(super) fn note_revoked(&self, key: Root, before: Option<&Record>, after: &Record) {
        if !after.is_index() {
            return;
        }
        let late = after.ended_too_late();
        if late.is_empty() {
            return;
        }
        let known: BTreeSet<Root> = before
            .map(Record::ended_too_late)
            .into_iter()
            .flatten()
            .collect();
        let has_new = late.iter().any(|key| !known.contains(key));
        *self.revoked().entry(key).or_default() |= has_new;
    }

    /// Returns the indexes of users with entries of sessions to delete that were written since the
    /// last call, and whether each has new ones.
    pub(crate) fn take_revoked(&self) -> BTreeMap<Root, bool> {
        std::mem::take(&mut *self.revoked())
    }

    fn revoked(&self) -> MutexGuard<'_, BTreeMap<Root, bool>> {
        lock(&self.revoked)
    }

    /// Counts a session that a merge makes too large. It is kept: an acknowledged write must not be
    /// lost.
    fn count_if_oversized(&self, before: &Entry, after: &Entry) {
        let Entry::Live(after) = after else {
            return;
        };
        let before = match before {
            Entry::Live(before) => before.payload_bytes(),
            Entry::Delta(_) | Entry::Expired(_) | Entry::Tombstone { .. } => 0,
        };
        if self.is_over_session_limit(before, after) {
            self.oversized.fetch_add(1, Ordering::Relaxed);
        }
    }
}
