//! Export and import of a memory store's sessions for snapshots.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::error::StoreError;
use crate::session::{Record, Root, Timestamp};
use crate::store::export::{EntryState, Restored, SnapshotSource, StoredEntry};
use crate::store::memory::{MemoryShared, MemoryStore, counted, expiry, reserve};

impl SnapshotSource for MemoryStore {
    fn export(&self, now: Timestamp, slot: usize) -> Vec<StoredEntry> {
        let slot = self.shared.lock(slot);
        let live = slot
            .sessions
            .iter()
            .filter(|(_, record)| record.is_live(now));
        live.map(|(key, record)| StoredEntry {
            key: *key,
            state: EntryState::Live(record.clone()),
        })
        .collect()
    }

    fn sessions(&self) -> usize {
        self.shared.sessions.load(Relaxed)
    }
}

impl MemoryStore {
    /// Restores exported entries, of this store or another.
    pub(crate) fn restore(&self, entries: Vec<StoredEntry>) -> Restored {
        let is_tombstone =
            |entry: &StoredEntry| matches!(entry.state, EntryState::Tombstone { .. });
        let tombstones: HashSet<_> = entries
            .iter()
            .filter(|k| is_tombstone(k))
            .map(|k| k.key)
            .collect();
        expiry::ensure_running(&self.shared);
        let mut restored = Restored::default();
        for StoredEntry { key, state } in entries {
            if let EntryState::Live(record) = state
                && !tombstones.contains(&key)
            {
                let counted = counted(&record);
                match self.shared.restore(key, record) {
                    Ok(true) => restored.sessions += counted,
                    Ok(false) => {}
                    Err(_) => restored.refused += counted,
                }
            }
        }
        restored
    }
}

impl MemoryShared {
    /// Restores a session. Returns `false` if it was deleted instead: the session here and the
    /// restored one were rotated independently.
    fn restore(&self, key: Root, record: Arc<Record>) -> Result<bool, StoreError> {
        let mut slot = self.slot(&key);
        let (merged, before) = match slot.sessions.get(&key) {
            None => (record, None),
            Some(here) => {
                let before = here.footprint();
                let mut merged = Record::clone(here);
                if merged.merge(&record).is_err() {
                    slot.sessions.remove(&key);
                    self.release(counted(&record), before);
                    return Ok(false);
                }
                (Arc::new(merged), Some(before))
            }
        };
        let added = if before.is_none() {
            counted(&merged)
        } else {
            0
        };
        reserve(&self.sessions, added, self.limits.max_sessions)?;
        reserve(&self.bytes, merged.footprint(), self.limits.max_bytes)
            .inspect_err(|_| self.release(added, 0))?;
        self.release(0, before.unwrap_or_default());
        self.expect_expiry(&mut slot.next_expiry, merged.expires_at());
        slot.sessions.insert(key, merged);
        Ok(true)
    }
}
