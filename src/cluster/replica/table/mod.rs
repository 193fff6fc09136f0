//! The sessions at a node: 16,384 slots, each with its own lock.
//!
//! A slot is the unit of locking, of digests, of hand-over and of expiry. Slots are combined into
//! groups that record whether they have entries and when the earliest one may be forgotten, so that
//! visiting an almost empty table costs almost nothing. The keys of expired sessions are remembered
//! (space permitting) while another holder could still consider them live.
//!
//! The counters match the contents, and every change of an entry changes the slot's digest. The
//! table does not decide which node holds what, and does not read a clock.

mod commit;
mod compare;
mod conflicts;
mod expiry;
mod limits;
mod list;
mod merge;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::session::{Outcome, Record, Root, SLOTS, Timestamp, WriterId};
use crate::sync::lock;
use crate::watch::Watched;

use crate::cluster::replica::Settings;
use crate::cluster::replica::digest::access_digest;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::{FIXED, KeyedEntry, SMALL_MAX};
use crate::cluster::replica::protocol_rules::ProtocolRules;

use conflicts::ConflictTracker;

/// All sessions of a node.
#[derive(Debug)]
pub(crate) struct EntryTable {
    slots: Box<[Mutex<TableSlot>]>,
    groups: Box<[SlotGroup]>,
    /// The next group to sweep, modulo the number of groups.
    next_group: AtomicUsize,
    live: AtomicUsize,
    /// Indexes of users.
    indexes: AtomicUsize,
    deltas: AtomicUsize,
    tombstones: AtomicUsize,
    bytes: AtomicUsize,
    /// Keys of expired sessions, and the bytes that they may take.
    expired_keys: AtomicUsize,
    expired_key_bytes: usize,
    max_sessions: usize,
    max_bytes: usize,
    max_session_bytes: usize,
    /// Merges that have made a session larger than its limit.
    oversized: AtomicU64,
    pub(super) rules: ProtocolRules,
    /// The writes on this side while members are missing.
    conflicts: Mutex<Option<ConflictTracker>>,
    is_partitioned: AtomicBool,
    discarded: AtomicU64,
    /// Sessions that this node owned when they expired.
    expired: AtomicU64,
    /// Indexes of users with entries of sessions to delete.
    revoked: Mutex<BTreeMap<Root, bool>>,
    /// Tasks that wait for changes of sessions.
    pub(super) watched: Arc<Watched>,
}

#[derive(Debug, Default)]
struct TableSlot {
    entries: BTreeMap<Root, Entry>,
    /// Expired sessions that were forgotten, and until when they may be live elsewhere: a later
    /// access may have been lost.
    expired_keys: BTreeMap<Root, Timestamp>,
    /// The sum of the entries' digests.
    digest: u64,
}

/// The state of [`GROUP`] adjacent slots, readable without their locks.
#[derive(Debug)]
struct SlotGroup {
    entries: AtomicUsize,
    /// No entry may be forgotten before this time.
    retain_until: AtomicU64,
}

/// The outcome of a commit, and the entries that the other holders are to merge.
pub(crate) type Committed = (Outcome, Option<Arc<[KeyedEntry]>>);

impl EntryTable {
    pub(crate) fn new(settings: &Settings) -> Self {
        let (max_sessions, max_bytes) = (settings.max_sessions, settings.max_bytes);
        let group = || SlotGroup {
            entries: AtomicUsize::new(0),
            retain_until: AtomicU64::new(u64::MAX),
        };
        Self {
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
            groups: (0..SLOTS / GROUP).map(|_| group()).collect(),
            next_group: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            indexes: AtomicUsize::new(0),
            deltas: AtomicUsize::new(0),
            tombstones: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            expired_keys: AtomicUsize::new(0),
            expired_key_bytes: max_bytes / EXPIRED_KEYS_PART,
            max_sessions,
            max_bytes,
            max_session_bytes: settings.max_session_bytes,
            oversized: AtomicU64::new(0),
            rules: settings.rules,
            conflicts: Mutex::default(),
            is_partitioned: AtomicBool::new(false),
            discarded: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            revoked: Mutex::default(),
            watched: Arc::default(),
        }
    }

    /// Returns the number of whole sessions, including expired ones until they are swept.
    pub(crate) fn sessions(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn tombstones(&self) -> usize {
        self.tombstones.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the session if it is here, whole and live.
    pub(crate) fn peek(&self, now: Timestamp, key: &Root) -> Option<Arc<Record>> {
        self.lock(key.slot()).entries.get(key)?.live(now).cloned()
    }

    /// Returns the whole session, even if it has expired.
    pub(crate) fn record(&self, key: &Root) -> Option<Arc<Record>> {
        match self.lock(key.slot()).entries.get(key)? {
            Entry::Live(record) => Some(record.clone()),
            Entry::Delta(_) | Entry::Expired(_) | Entry::Tombstone { .. } => None,
        }
    }

    /// Returns `true` if other members may have a later state of the session.
    pub(crate) fn may_be_stale(&self, now: Timestamp, key: &Root) -> bool {
        let slot = self.lock(key.slot());
        match slot.entries.get(key) {
            Some(entry) => entry.may_be_stale(now),
            None => slot.expired_keys.get(key).is_some_and(|until| *until > now),
        }
    }

    /// Called when all other holders were asked and none has the session, which has expired here.
    pub(crate) fn forget_expired(&self, key: &Root) {
        if self.lock(key.slot()).expired_keys.remove(key).is_some() {
            self.expired_keys.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Returns `true` if the entry is sent in one piece.
    pub(crate) fn is_small(&self, key: &Root) -> bool {
        let slot = self.lock(key.slot());
        slot.entries
            .get(key)
            .is_none_or(|entry| entry.weight() + FIXED <= SMALL_MAX)
    }

    /// Returns `true` if there is no entry, or only the mark of an expired session.
    pub(crate) fn is_absent(&self, key: &Root) -> bool {
        matches!(
            self.lock(key.slot()).entries.get(key),
            Some(Entry::Expired(_)) | None
        )
    }

    /// Returns `true` if only changes of the session are here.
    pub(crate) fn is_delta_only(&self, key: &Root) -> bool {
        matches!(
            self.lock(key.slot()).entries.get(key),
            Some(Entry::Delta(_))
        )
    }

    /// Returns `true` if neither the session nor a tombstone is here.
    pub(crate) fn is_delta_only_or_absent(&self, key: &Root) -> bool {
        matches!(
            self.lock(key.slot()).entries.get(key),
            Some(Entry::Delta(_) | Entry::Expired(_)) | None
        )
    }

    /// Returns `true` if the session was deleted, or has left a mark when it expired.
    pub(crate) fn has_ended(&self, key: &Root) -> bool {
        matches!(
            self.lock(key.slot()).entries.get(key),
            Some(Entry::Tombstone { .. } | Entry::Expired(_))
        )
    }

    /// Returns the entry to send to another node.
    pub(crate) fn keyed_entry(&self, now: Timestamp, key: &Root) -> Option<KeyedEntry> {
        let entry = self.lock(key.slot()).entries.get(key)?.clone();
        (entry.retain_until() > now).then_some(KeyedEntry { key: *key, entry })
    }

    /// Records an access. Returns its version if the session is live here.
    pub(crate) fn touch(&self, now: Timestamp, key: &Root, writer: WriterId) -> Option<u64> {
        self.access(key, |record| {
            let is_live = record.is_live(now);
            if is_live {
                Arc::make_mut(record).touch_as(now, writer);
            }
            is_live
        })
    }

    /// Merges an access that another node has recorded, even if the session has expired here since.
    /// Returns `true` if the session is here.
    pub(crate) fn handle_touch(&self, key: &Root, accessed_at: Timestamp, access: u64) -> bool {
        // Without a check of the time here: the access was in time where it was recorded, and the
        // session continues there.
        let merged = self.access(key, |record| {
            let lifetime = &mut Arc::make_mut(record).lifetime;
            lifetime.merge_access(accessed_at, access);
            lifetime.returned = true;
            true
        });
        merged.is_some()
    }

    /// Changes the access of a session. Returns the new version if the session is here and `change`
    /// returns `true`.
    fn access(&self, key: &Root, change: impl Fn(&mut Arc<Record>) -> bool) -> Option<u64> {
        let mut slot = self.lock(key.slot());
        let TableSlot {
            entries, digest, ..
        } = &mut *slot;
        let Some(Entry::Live(record)) = entries.get_mut(key) else {
            return None;
        };
        let before = record.lifetime.access;
        let changed = change(record);
        let after = record.lifetime.access;
        *digest = digest
            .wrapping_sub(access_digest(key, before))
            .wrapping_add(access_digest(key, after));
        changed.then_some(after)
    }

    fn occupied(&self) -> impl Iterator<Item = usize> {
        let occupied = |group: &usize| self.groups[*group].entries.load(Ordering::Relaxed) > 0;
        let groups = (0..self.groups.len()).filter(occupied);
        groups.flat_map(|group| group * GROUP..(group + 1) * GROUP)
    }

    fn insert(&self, slot: &mut TableSlot, key: Root, entry: Entry) {
        self.counter(&entry).fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(entry.weight(), Ordering::Relaxed);
        self.groups[key.slot() / GROUP]
            .entries
            .fetch_add(1, Ordering::Relaxed);
        self.schedule_expiry(key.slot(), entry.retain_until());
        slot.digest = slot.digest.wrapping_add(entry.digest(&key));
        self.watched.changed(&key);
        if let Some(before) = slot.entries.insert(key, entry) {
            self.uncount(slot, &key, &before);
        }
        if !self.rules.tombstones()
            && let Some(entry @ Entry::Tombstone { .. }) = slot.entries.get(&key).cloned()
        {
            slot.entries.remove(&key);
            self.uncount(slot, &key, &entry);
        }
    }

    fn uncount(&self, slot: &mut TableSlot, key: &Root, entry: &Entry) {
        self.counter(entry).fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(entry.weight(), Ordering::Relaxed);
        self.groups[key.slot() / GROUP]
            .entries
            .fetch_sub(1, Ordering::Relaxed);
        slot.digest = slot.digest.wrapping_sub(entry.digest(key));
    }

    fn counter(&self, entry: &Entry) -> &AtomicUsize {
        match entry {
            Entry::Live(record) if record.is_index() => &self.indexes,
            Entry::Live(_) => &self.live,
            Entry::Delta(_) => &self.deltas,
            Entry::Expired(_) | Entry::Tombstone { .. } => &self.tombstones,
        }
    }

    fn schedule_expiry(&self, slot: usize, at: Timestamp) {
        self.groups[slot / GROUP]
            .retain_until
            .fetch_min(at.as_millis(), Ordering::Relaxed);
    }

    fn lock(&self, slot: usize) -> MutexGuard<'_, TableSlot> {
        // A panic under this lock (in an allocation, say) leaves whole entries behind.
        lock(&self.slots[slot])
    }
}

/// The keys of expired sessions may take this fraction of the bytes for sessions, in addition to
/// them: a key takes a twentieth of a small session.
const EXPIRED_KEYS_PART: usize = 20;

/// Slots in a group.
const GROUP: usize = 64;
