//! Comparison of tables: digests of slots, versions of entries, and the differences.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::session::{Root, Timestamp};

use crate::cluster::replica::delta::Delta;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::{KeyedEntry, KnownEntry};
use crate::cluster::replica::table::EntryTable;

impl EntryTable {
    /// Returns the digests of all non-empty slots for which `wanted` returns `true`.
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

    /// Returns the digests of whole sessions and tombstones only.
    #[cfg(test)]
    pub(crate) fn whole_digests(&self) -> Vec<(u16, u64)> {
        let digest = |slot: usize| {
            let guard = self.lock(slot);
            let whole = guard.entries.iter();
            let is_left = |entry: &Entry| matches!(entry, Entry::Delta(_) | Entry::Expired(_));
            let whole = whole.filter(|(_, entry)| !is_left(entry));
            let versions: Vec<_> = whole.map(|(key, entry)| entry.version(key)).collect();
            let sum = versions.iter().fold(0_u64, |sum, v| sum.wrapping_add(*v));
            (!versions.is_empty()).then_some((slot as u16, sum))
        };
        self.occupied().filter_map(digest).collect()
    }

    /// Returns the wanted slots whose contents differ from those with `digests`.
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

    /// Drops all slots for which `wanted` returns `false`: their holders have everything in them.
    pub(crate) fn retain(&self, wanted: impl Fn(usize) -> bool) {
        for slot in self.occupied() {
            let mut guard = self.lock(slot);
            if wanted(slot) {
                continue;
            }
            let names = std::mem::take(&mut guard.expired_keys).len();
            self.expired_keys.fetch_sub(names, Ordering::Relaxed);
            for (key, entry) in std::mem::take(&mut guard.entries) {
                self.uncount(&mut guard, &key, &entry);
            }
        }
    }

    /// Removes and returns imported sessions that are live. Lists of users stay: they restore no
    /// session, and may have new entries.
    #[cfg(all(feature = "snapshot", unix))]
    pub(crate) fn withdraw(&self, keys: &[Root]) -> Vec<KeyedEntry> {
        let is_session = |entry: &Entry| matches!(entry, Entry::Live(record) if !record.is_index());
        let mut withdrawn = Vec::new();
        for key in keys {
            let mut slot = self.lock(key.slot());
            if slot.entries.get(key).is_some_and(is_session)
                && let Some(entry) = slot.entries.remove(key)
            {
                self.uncount(&mut slot, key, &entry);
                self.watched.changed(key);
                withdrawn.push(KeyedEntry { key: *key, entry });
            }
        }
        withdrawn
    }

    /// Returns the number of live sessions in the slots for which `asked` returns `true`.
    pub(crate) fn sessions_in(&self, asked: impl Fn(usize) -> bool) -> usize {
        let live = |entry: &&Entry| matches!(entry, Entry::Live(_));
        let count = |slot| self.lock(slot).entries.values().filter(live).count();
        self.occupied().filter(|slot| asked(*slot)).map(count).sum()
    }

    /// Returns the versions of the entries of a slot after a key.
    pub(crate) fn versions(&self, slot: u16, after: Option<Root>) -> Vec<KnownEntry> {
        let guard = self.lock(usize::from(slot));
        let entries = guard.entries.range(from(after));
        entries
            .map(|(key, entry)| (*key, entry.version(key), entry.access()))
            .collect()
    }

    /// Returns the entries of a slot after a key that are not among `known`, or only their accesses
    /// where only those are later: as many as fit into `max_bytes`, and at least one. Returns
    /// `true` if there are more.
    pub(crate) fn unknown(
        &self,
        now: Timestamp,
        slot: u16,
        after: Option<Root>,
        known: &[KnownEntry],
        max_bytes: usize,
    ) -> (Vec<KeyedEntry>, bool) {
        let known: BTreeMap<_, _> = known
            .iter()
            .map(|(key, version, access)| (*key, (*version, *access)))
            .collect();
        let guard = self.lock(usize::from(slot));
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (key, entry) in guard.entries.range(from(after)) {
            let (version, access) = known.get(key).copied().unzip();
            let is_known = version == Some(entry.version(key));
            // The receiver would forget an entry that has no effect any more at once.
            if entry.retain_until() <= now || is_known && access >= Some(entry.access()) {
                continue;
            }
            // Checked before the entry is added: a session that alone exceeds the limit must be
            // sent as well, or the request would never end.
            if bytes >= max_bytes {
                return (entries, true);
            }
            let entry = match entry {
                // Every request is an access: with the whole session, each comparison would
                // transfer all sessions in use.
                Entry::Live(record) if is_known => {
                    let access = record.lifetime.access;
                    let delta = Delta::of_access(record.last_accessed_at(), access);
                    Entry::Delta(Arc::new(delta))
                }
                entry => entry.clone(),
            };
            bytes += entry.weight();
            entries.push(KeyedEntry { key: *key, entry });
        }
        (entries, false)
    }
}

fn from(after: Option<Root>) -> (Bound<Root>, Bound<Root>) {
    (
        after.map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded,
    )
}
