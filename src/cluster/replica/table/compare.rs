//! What two nodes compare: digests of slots, versions of entries, and what one of them lacks.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::session::{Root, Timestamp};

use super::super::entry::Entry;
use super::super::entry::Fragment;
use super::super::message::{Copy, Known};
use super::Table;

impl Table {
    /// The digests of all slots that are wanted and not empty.
    pub(crate) fn digests(&self, wanted: impl Fn(usize) -> bool) -> Vec<(u16, u64)> {
        let mut digests = Vec::new();
        for slot in self.occupied() {
            let guard = self.lock(slot);
            if !guard.entries.is_empty() && wanted(slot) {
                digests.push((slot as u16, guard.digest));
            }
        }
        digests
    }

    /// The digests of whole sessions and tombstones alone.
    #[cfg(test)]
    pub(crate) fn whole_digests(&self) -> Vec<(u16, u64)> {
        let digest = |slot: usize| {
            let guard = self.lock(slot);
            let whole = guard.entries.iter();
            let is_left = |entry: &Entry| matches!(entry, Entry::Fragment(_) | Entry::Expired(_));
            let whole = whole.filter(|(_, entry)| !is_left(entry));
            let versions: Vec<_> = whole.map(|(key, entry)| entry.version(key)).collect();
            let sum = versions.iter().fold(0_u64, |sum, v| sum.wrapping_add(*v));
            (!versions.is_empty()).then_some((slot as u16, sum))
        };
        self.occupied().filter_map(digest).collect()
    }

    /// The wanted slots in which this table has something that one with those digests has not.
    pub(crate) fn differing(
        &self,
        digests: &[(u16, u64)],
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<u16> {
        let theirs: BTreeMap<_, _> = digests.iter().copied().collect();
        let differs = |(slot, digest): &(u16, u64)| theirs.get(slot) != Some(digest);
        let ours = self.digests(wanted).into_iter();
        ours.filter(differs).map(|(slot, _)| slot).collect()
    }

    /// Forgets the slots that are not wanted: others have all of them.
    pub(crate) fn retain(&self, wanted: impl Fn(usize) -> bool) {
        for slot in self.occupied() {
            let mut guard = self.lock(slot);
            if wanted(slot) {
                continue;
            }
            let names = std::mem::take(&mut guard.run_out).len();
            self.run_out.fetch_sub(names, Ordering::Relaxed);
            for (key, entry) in std::mem::take(&mut guard.entries) {
                self.uncount(&mut guard, &key, &entry);
            }
        }
    }

    /// How many live sessions are in the slots of which `asked` says yes.
    pub(crate) fn sessions_in(&self, asked: impl Fn(usize) -> bool) -> usize {
        let live = |entry: &&Entry| matches!(entry, Entry::Live(_));
        let count = |slot| self.lock(slot).entries.values().filter(live).count();
        self.occupied().filter(|slot| asked(*slot)).map(count).sum()
    }

    /// The versions of a slot's entries after a key.
    pub(crate) fn versions(&self, slot: u16, after: Option<Root>) -> Vec<Known> {
        let guard = self.lock(usize::from(slot));
        let entries = guard.entries.range(from(after));
        entries
            .map(|(key, entry)| (*key, entry.version(key), entry.access()))
            .collect()
    }

    /// Entries of a slot after a key that are not among `known`, or their accesses where only those
    /// are later, as many as `max_bytes` takes and at least one. Returns `true` if there are more.
    pub(crate) fn unknown(
        &self,
        now: Timestamp,
        slot: u16,
        after: Option<Root>,
        known: &[Known],
        max_bytes: usize,
    ) -> (Vec<Copy>, bool) {
        let known = known
            .iter()
            .map(|(key, version, access)| (*key, (*version, *access)));
        let known: BTreeMap<_, _> = known.collect();
        let guard = self.lock(usize::from(slot));
        let mut copies = Vec::new();
        let mut bytes = 0;
        for (key, entry) in guard.entries.range(from(after)) {
            let (version, access) = known.get(key).copied().unzip();
            let is_known = version == Some(entry.version(key));
            if entry.forget_at() <= now || is_known && access >= Some(entry.access()) {
                continue;
            }
            if bytes >= max_bytes {
                return (copies, true);
            }
            let entry = match entry {
                Entry::Live(record) if is_known => {
                    let access = record.lifetime.access;
                    let fragment = Fragment::of_access(record.last_accessed_at(), access);
                    Entry::Fragment(Arc::new(fragment))
                }
                entry => entry.clone(),
            };
            bytes += entry.weight();
            copies.push(Copy { key: *key, entry });
        }
        (copies, false)
    }
}

fn from(after: Option<Root>) -> (Bound<Root>, Bound<Root>) {
    (
        after.map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded,
    )
}
