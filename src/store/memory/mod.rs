//! A session store in the memory of one node.
//!
//! A [`MemoryStore`] keeps its sessions in 16,384 slots, each with a lock of its own, so requests
//! rarely contend. Every operation takes one lock, once, and completes at its first poll. A commit
//! that was answered is stored. Memory is limited, and at the limit new sessions are refused rather
//! than live ones evicted. Expired sessions are never returned, and their memory is released
//! without any request.
//!
//! The sessions do not survive a restart and are not shared with other nodes.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

pub use self::builder::MemoryStoreBuilder;
use crate::clock;
use crate::error::StoreError;
use crate::events::{EventBus, SessionEvents};
use crate::session::{
    Changes, EndReason, Loaded, Outcome, Record, Root, Scope, SecretHash, SessionCursor,
    SessionEvent, SessionEventKind, SessionPage, Timestamp,
};
use crate::store::SessionStore;
use crate::sync::lock;
use crate::watch::{SessionWatch, Watched};

mod builder;
mod expiry;
#[cfg(all(feature = "snapshot", unix))]
mod export;
mod list;

/// A [`SessionStore`] in the memory of one node. Cheap to clone; clones share the sessions.
///
/// ```
/// # use distributable::MemoryStore;
/// let store = MemoryStore::builder().max_sessions(50_000).build();
/// assert_eq!(store.status().sessions, 0);
/// ```
///
/// A background task sweeps expired sessions about twice a second. It is spawned on the runtime
/// that creates the first session, whose timer must be enabled, and ends with the store.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<MemoryShared>,
}

/// A snapshot of the counters of a [`MemoryStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStatus {
    /// Number of live sessions, including those that expired within the last second or so.
    pub sessions: usize,
    /// Their size in bytes, as counted against [`max_bytes`](MemoryStoreBuilder::max_bytes).
    pub bytes: usize,
    /// Number of sessions created since the store was made.
    pub created: u64,
    /// Number of sessions deleted since the store was made.
    pub deleted: u64,
    /// Number of sessions expired since the store was made.
    pub expired: u64,
}

impl MemoryStore {
    /// Creates a store with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder for a store with other limits.
    pub const fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder::new()
    }

    /// Returns the current counters.
    #[must_use]
    pub fn status(&self) -> MemoryStatus {
        MemoryStatus {
            sessions: self.shared.sessions.load(Relaxed),
            bytes: self.shared.bytes.load(Relaxed),
            created: self.shared.totals.created.load(Relaxed),
            deleted: self.shared.totals.deleted.load(Relaxed),
            expired: self.shared.totals.expired.load(Relaxed),
        }
    }
}

impl SessionStore for MemoryStore {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        let now = clock::now();
        let slot = self.shared.slot(key);
        let record = slot.sessions.get(key);
        Ok(record.map_or(Loaded::Absent, |record| record.loaded(secret, now)))
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        if changes.is_create() {
            expiry::ensure_running(&self.shared);
        }
        self.shared.commit(key, base, &changes)
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        let now = clock::now();
        let mut slot = self.shared.slot(key);
        if let Some(record) = slot.sessions.get_mut(key)
            && record.is_live(now)
        {
            Arc::make_mut(record).touch(now);
        }
        Ok(())
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        self.delete_because(key, EndReason::Admin).await
    }

    async fn delete_because(&self, key: &Root, reason: EndReason) -> Result<bool, StoreError> {
        if key.is_index() {
            return Ok(false);
        }
        let now = clock::now();
        let mut slot = self.shared.slot(key);
        let Some(record) = slot.sessions.remove(key) else {
            return Ok(false);
        };
        self.shared.release(counted(&record), record.footprint());
        let totals = &self.shared.totals;
        let ended = record.is_live(now);
        let (total, kind) = if ended {
            (&totals.deleted, SessionEventKind::Deleted(reason))
        } else {
            (&totals.expired, SessionEventKind::expiry_of(&record))
        };
        total.fetch_add(1, Relaxed);
        self.shared.watched.changed(key);
        self.shared.report(kind, key, &record, now);
        Ok(ended)
    }

    async fn list(
        &self,
        _: Scope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Result<SessionPage, StoreError> {
        match after.map(SessionCursor::root) {
            Some(None) => Err(StoreError::invalid_cursor()),
            Some(after) => Ok(self.shared.list(after, limit)),
            None => Ok(self.shared.list(None, limit)),
        }
    }

    fn events(&self, scope: Scope) -> Result<SessionEvents, StoreError> {
        // What expires is found by the task.
        expiry::ensure_running(&self.shared);
        Ok(self.shared.events.subscribe(scope))
    }

    fn watch(&self, key: &Root) -> Option<SessionWatch> {
        self.shared.watched.watch(key)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("status", &self.status())
            .field("limits", &self.shared.limits)
            .finish()
    }
}

/// State shared by all clones of a store.
struct MemoryShared {
    slots: Box<[Locked]>,
    /// Reserved before a session is inserted and released after it was removed: never too low.
    sessions: AtomicUsize,
    bytes: AtomicUsize,
    limits: MemoryStoreBuilder,
    /// No session expires before this; most sweeps end after looking at it.
    next_expiry: AtomicU64,
    /// Set while a task sweeps this store.
    has_task: AtomicBool,
    totals: MemoryCounters,
    /// Events are reported under the lock of the session's slot: in order.
    events: EventBus,
    /// Tasks that wait for changes of sessions are woken under the lock of the slot.
    watched: Arc<Watched>,
}

/// Event counts since the store was made.
#[derive(Default)]
struct MemoryCounters {
    created: AtomicU64,
    deleted: AtomicU64,
    expired: AtomicU64,
}

type MemorySessions = HashMap<Root, Arc<Record>, BuildHasherDefault<KeyHasher>>;

/// A slot with a cache line of its own: threads that use adjacent slots do not slow each other
/// down.
#[repr(align(64))]
struct Locked(Mutex<MemorySlot>);

struct MemorySlot {
    sessions: MemorySessions,
    /// No session in this slot expires before this. Accesses extend deadlines without changing it.
    next_expiry: Timestamp,
}

impl MemorySlot {
    fn new() -> Self {
        Self {
            sessions: HashMap::default(),
            next_expiry: Timestamp::NEVER,
        }
    }
}

impl MemoryShared {
    fn slot(&self, key: &Root) -> MutexGuard<'_, MemorySlot> {
        self.lock(key.slot())
    }

    fn lock(&self, slot: usize) -> MutexGuard<'_, MemorySlot> {
        // A panic cannot leave a slot half changed: it changes by single map operations, made after
        // everything else has succeeded.
        lock(&self.slots[slot].0)
    }

    fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: &Changes,
    ) -> Result<Outcome, StoreError> {
        let now = clock::now();
        let mut guard = self.slot(key);
        let slot = &mut *guard;
        let current = slot.sessions.get_mut(key);
        let outcome = changes.apply(current.as_deref(), base.map(Arc::as_ref), now);
        let Outcome::Committed(record) = &outcome else {
            return Ok(outcome);
        };
        self.account(current.as_deref().map(Arc::as_ref), record)?;
        self.expect_expiry(&mut slot.next_expiry, record.expires_at());
        match current {
            Some(current) => current.clone_from(record),
            None => _ = slot.sessions.insert(*key, record.clone()),
        }
        self.watched.changed(key);
        if changes.is_create() {
            let created = u64::from(!record.is_index());
            self.totals.created.fetch_add(created, Relaxed);
            self.report(SessionEventKind::Created, key, record, now);
        } else if changes.rotation().is_some() {
            self.report(SessionEventKind::Rotated, key, record, now);
        }
        Ok(outcome)
    }

    /// Reports what has happened to a session. The lists of users are none.
    fn report(&self, kind: SessionEventKind, key: &Root, record: &Record, now: Timestamp) {
        if self.events.is_wanted() && !record.is_index() {
            self.events.report(SessionEvent {
                kind,
                key: *key,
                user: record.user(),
                node: None,
                at: now,
                possible_repeat: false,
            });
        }
    }

    /// Counts `new` in place of `old`. Fails if that exceeds a limit.
    fn account(&self, old: Option<&Record>, new: &Record) -> Result<(), StoreError> {
        let (before, after) = (old.map_or(0, Record::footprint), new.footprint());
        let more = if old.is_none() { counted(new) } else { 0 };
        if more > 0 {
            reserve(&self.sessions, more, self.limits.max_sessions)?;
        }
        if after <= before {
            self.release(0, before - after);
            return Ok(());
        }
        reserve(&self.bytes, after - before, self.limits.max_bytes)
            .inspect_err(|_| self.release(more, 0))
    }

    fn release(&self, sessions: usize, bytes: usize) {
        // Most commits change neither, and a shared counter is written only if needed.
        if sessions > 0 {
            self.sessions.fetch_sub(sessions, Relaxed);
        }
        if bytes > 0 {
            self.bytes.fetch_sub(bytes, Relaxed);
        }
    }
}

/// The number of sessions that a record counts as: none for an index of a user's sessions.
fn counted(record: &Record) -> usize {
    usize::from(!record.is_index())
}

fn reserve(counter: &AtomicUsize, amount: usize, limit: usize) -> Result<(), StoreError> {
    let add = |used: usize| used.checked_add(amount).filter(|sum| *sum <= limit);
    match counter.fetch_update(Relaxed, Relaxed, add) {
        Ok(_) => Ok(()),
        Err(_) => Err(StoreError::full()),
    }
}

/// Uses the hash of a root unchanged: roots are random, and those in the map were drawn by this
/// process, so no client can concentrate them in one bucket.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a root hashes to one u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
