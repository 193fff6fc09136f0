//! Commits: changes of sessions that this node holds, and what the other holders merge of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::StoreErrorKind;
use crate::session::{Changes, Outcome, Record, Root, Timestamp, Version, WriterId};

use crate::cluster::replica::delta::Delta;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::KeyedEntry;
use crate::cluster::replica::table::{Committed, EntryTable};

impl EntryTable {
    /// Applies changes to the session as it is here. Rotations are applied by the owner.
    pub(crate) fn commit(
        &self,
        now: Timestamp,
        key: &Root,
        base: Option<&Record>,
        changes: &Changes,
        writer: WriterId,
    ) -> Result<Committed, StoreErrorKind> {
        let mut slot = self.lock(key.slot());
        let current = match slot.entries.get(key) {
            Some(entry @ (Entry::Live(_) | Entry::Expired(_) | Entry::Tombstone { .. })) => {
                Some(entry)
            }
            // A request must not build upon changes without their session.
            Some(Entry::Delta(_)) | None => None,
        };
        let record = current.and_then(|entry| entry.live(now));
        if changes.is_create() && self.is_full(changes.payload_bytes()) {
            return Err(StoreErrorKind::Full);
        }
        let outcome = match current {
            Some(Entry::Expired(_) | Entry::Tombstone { .. }) => Outcome::Gone,
            _ => changes.apply_marked(record, base, now, writer),
        };
        let Outcome::Committed(after) = &outcome else {
            return Ok((outcome, None));
        };
        if record.is_some_and(|before| Arc::ptr_eq(before, after)) {
            return Ok((outcome, None));
        }
        let before_bytes = record.map_or(0, |record| record.payload_bytes());
        if self.is_over_session_limit(before_bytes, after) {
            return Err(StoreErrorKind::TooLarge);
        }
        if let Some(before) = current
            && self.is_partitioned.load(Ordering::Relaxed)
        {
            self.track_conflict(*key, before, None);
        }
        let live = Entry::Live(after.clone());
        let entry = if changes.is_create() {
            live.clone()
        } else {
            Entry::Delta(Arc::new(written(now, changes, after)))
        };
        let before = current.map_or(usize::MAX, Entry::weight);
        let grown = live.weight().saturating_sub(before);
        // A full store accepts what makes a session smaller: the entries of ended sessions could
        // not be removed from the list of a user otherwise.
        if grown > 0 && self.bytes() + grown > self.max_bytes {
            return Err(StoreErrorKind::Full);
        }
        self.note_revoked(*key, record.map(|record| &**record), after);
        self.insert(&mut slot, *key, live);
        let entries = [KeyedEntry { key: *key, entry }].into();
        Ok((outcome, Some(entries)))
    }

    /// Replaces a live session by a tombstone. Returns the tombstone, also that of an earlier
    /// deletion, and `true` if the session was live.
    pub(crate) fn delete(&self, now: Timestamp, key: &Root) -> Option<(KeyedEntry, bool)> {
        let mut slot = self.lock(key.slot());
        let found = slot.entries.get(key)?;
        let keyed = |entry: &Entry| KeyedEntry {
            key: *key,
            entry: entry.clone(),
        };
        if matches!(found, Entry::Tombstone { .. }) {
            return Some((keyed(found), false));
        }
        let entry = Entry::tombstone(now, found.live(now)?);
        let tombstone = keyed(&entry);
        self.insert(&mut slot, *key, entry);
        Some((tombstone, true))
    }
}

/// Returns the delta with the writes of a request, for the other holders.
fn written(now: Timestamp, changes: &Changes, after: &Record) -> Delta {
    let mut entries: Vec<_> = changes
        .writes()
        .iter()
        .filter(|(name, _)| !changes.is_in(name, after))
        .filter_map(|(name, _)| after.entry(name).cloned())
        .collect();
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Delta {
        entries,
        idle_timeout: changes.idle_timeout().map(|_| after.lifetime.idle_timeout),
        accessed_at: now.max(after.last_accessed_at()),
        access: if changes.is_access() {
            after.lifetime.access
        } else {
            0
        },
        // A rotation arrives here only if the simulator has disabled their ordering.
        credential: changes.rotation().map(|_| after.credential.clone()),
        updates: Vec::<Version>::new(),
    }
}
