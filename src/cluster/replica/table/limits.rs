//! Limits of the table: the number of sessions, their bytes, and the size of each.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::session::{Record, Root, Timestamp};

use crate::cluster::replica::delta::Delta;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::table::EntryTable;

impl EntryTable {
    /// Returns `true` if this node exceeds its limits, copies for other nodes included.
    pub(crate) fn is_over_limit(&self) -> bool {
        self.sessions() > self.max_sessions || self.bytes() > self.max_bytes
    }

    /// Returns the number of merges that have made a session larger than its limit: two sides of a
    /// partition, or two nodes at the same time, had each added an allowed amount.
    pub(crate) fn oversized(&self) -> u64 {
        self.oversized.load(Ordering::Relaxed)
    }

    /// Returns `true` if a session that grows from `before` bytes exceeds its limit. One that
    /// already exceeds it may shrink.
    pub(super) fn is_over_session_limit(&self, before: usize, after: &Record) -> bool {
        let bytes = after.payload_bytes();
        bytes > before && bytes > self.max_session_bytes
    }

    /// Returns `true` if a change brings a session so near its limit that only its owner, which
    /// orders such changes, can decide. Concurrent smaller changes exceed the limit only if more
    /// than four nodes make them at the same time.
    pub(crate) fn is_near_session_limit(&self, key: &Root, change: usize) -> bool {
        let near = self.max_session_bytes / 4;
        change > near || change > SMALL_CHANGE && change + self.session_bytes(key) > near
    }

    fn session_bytes(&self, key: &Root) -> usize {
        match self.lock(key.slot()).entries.get(key) {
            Some(Entry::Live(record)) => record.payload_bytes(),
            Some(Entry::Delta(_) | Entry::Expired(_) | Entry::Tombstone { .. }) | None => 0,
        }
    }

    pub(crate) fn is_too_large_to_create(&self, record: &Record) -> bool {
        self.is_over_session_limit(0, record)
    }

    /// Returns `true` if a change makes a session larger than its limit.
    pub(crate) fn is_too_large(&self, before: &Arc<Record>, change: &Delta) -> bool {
        let bytes = before.payload_bytes();
        if bytes + change.payload_bytes() <= self.max_session_bytes {
            return false;
        }
        let mut after = Record::clone(before);
        let fits = change.apply(&mut after).is_ok();
        fits && self.is_over_session_limit(bytes, &after)
    }

    /// Returns `true` if there is no room for one more session, or for `more` bytes. Two requests
    /// that check at the same moment may both pass: the limit is exceeded by no more than the
    /// requests in progress.
    pub(crate) fn is_full(&self, more: usize) -> bool {
        self.sessions() >= self.max_sessions || self.bytes() + more > self.max_bytes
    }

    /// Returns `true` if there is no room for the growth of a session by this change.
    pub(crate) fn is_full_for(&self, now: Timestamp, before: &Arc<Record>, change: &Delta) -> bool {
        if self.bytes() + change.payload_bytes() <= self.max_bytes {
            return false;
        }
        let before = Entry::Live(before.clone());
        let mut after = before.clone();
        after.merge(now, &Entry::Delta(Arc::new(change.clone())));
        let grown = after.weight().saturating_sub(before.weight());
        grown > 0 && self.bytes() + grown > self.max_bytes
    }
}

/// Changes up to this many bytes are not checked: they cannot add much.
const SMALL_CHANGE: usize = 64 << 10;
