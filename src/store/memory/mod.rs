//! Sessions in the memory of one node.
//!
//! A [`MemoryStore`] keeps its sessions in 16,384 slots, each with a lock of its own, so requests
//! hardly ever meet. It promises: every operation takes one lock, once, and is done at its first
//! poll; a commit that was answered is in; memory has a limit, and at the limit new sessions are
//! refused rather than live ones evicted; what has expired is never handed out, and its memory
//! comes back without any request.
//!
//! It does not survive a restart and shares nothing with other nodes.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SessionStore;
use crate::clock;
use crate::error::StoreError;
use crate::session::{
    Changes, Loaded, Outcome, Record, Root, SLOTS, SecretHash, Timestamp, Writer,
};

#[cfg(all(feature = "snapshot", unix))]
mod export;
mod sweep;

/// A [`SessionStore`] in the memory of one node. Cheap to clone; clones share the sessions.
///
/// ```
/// # use distributable::MemoryStore;
/// let store = MemoryStore::builder().max_sessions(50_000).build();
/// assert_eq!(store.status().sessions, 0);
/// ```
///
/// Expired sessions are swept about twice a second by a small task. It is spawned on the runtime
/// that creates the first session, which needs its timer enabled, and ends with the store.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

/// Sets the limits of a [`MemoryStore`].
#[derive(Clone, Debug)]
#[must_use]
pub struct MemoryStoreBuilder {
    max_sessions: usize,
    max_bytes: usize,
}

/// What a [`MemoryStore`] holds at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStatus {
    /// Live sessions, and those that have expired within the last second or so.
    pub sessions: usize,
    /// What they are counted with against [`max_bytes`](MemoryStoreBuilder::max_bytes).
    pub bytes: usize,
    /// Sessions that were created since the store was made.
    pub created: u64,
    /// Sessions that were ended since then.
    pub deleted: u64,
    /// Sessions that have expired since then.
    pub expired: u64,
}

impl MemoryStore {
    /// A store with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A store with limits of your own.
    pub const fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder {
            max_sessions: MAX_SESSIONS,
            max_bytes: MAX_BYTES,
        }
    }

    /// How much the store holds.
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

impl MemoryStoreBuilder {
    /// How many sessions the store takes. At the limit creating one is refused with
    /// [`StoreErrorKind::Full`](crate::StoreErrorKind::Full), and nothing else is.
    ///
    /// Defaults to 1,000,000. Lower it where a session is worth more than a newcomer's visit;
    /// against crowds that never come back, a first-visit timeout helps more.
    pub const fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// How many bytes of sessions the store takes: names and values, and what it costs to keep
    /// them. At the limit creating a session and making one larger are refused with
    /// [`StoreErrorKind::Full`](crate::StoreErrorKind::Full); reading, removing and ending are not.
    ///
    /// Defaults to 1 GiB. Set it to what the machine can spare, with a fifth to spare for the
    /// allocator.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The store, empty.
    #[must_use]
    pub fn build(self) -> MemoryStore {
        MemoryStore {
            shared: Arc::new(Shared {
                slots: (0..SLOTS)
                    .map(|_| Locked(Mutex::new(Slot::new())))
                    .collect(),
                sessions: AtomicUsize::new(0),
                bytes: AtomicUsize::new(0),
                limits: self,
                next_expiry: AtomicU64::new(Timestamp::NEVER.as_millis()),
                swept: AtomicBool::new(false),
                totals: Totals::default(),
            }),
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
            sweep::ensure_running(&self.shared);
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

    async fn end(&self, key: &Root) -> Result<bool, StoreError> {
        let now = clock::now();
        let removed = self.shared.slot(key).sessions.remove(key);
        Ok(removed.is_some_and(|record| {
            self.shared.release(counted(&record), record.footprint());
            let totals = &self.shared.totals;
            let ended = record.is_live(now);
            let total = if ended {
                &totals.deleted
            } else {
                &totals.expired
            };
            total.fetch_add(1, Relaxed);
            ended
        }))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for MemoryStoreBuilder {
    fn default() -> Self {
        MemoryStore::builder()
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

/// What all clones of a store share.
struct Shared {
    slots: Box<[Locked]>,
    /// Reserved before a session goes in and released after it came out: never too low.
    sessions: AtomicUsize,
    bytes: AtomicUsize,
    limits: MemoryStoreBuilder,
    /// No session expires before this; lets most sweeps end before they begin.
    next_expiry: AtomicU64,
    /// Whether a task sweeps this store.
    swept: AtomicBool,
    totals: Totals,
}

/// What has happened since the store was made.
#[derive(Default)]
struct Totals {
    created: AtomicU64,
    deleted: AtomicU64,
    expired: AtomicU64,
}

type Sessions = HashMap<Root, Arc<Record>, BuildHasherDefault<KeyHasher>>;

/// A slot with a cache line of its own: neighbours do not wait for each other, and nobody for two.
#[repr(align(64))]
struct Locked(Mutex<Slot>);

struct Slot {
    sessions: Sessions,
    /// No session in here expires before this. Accesses move deadlines away and leave it be.
    next_expiry: Timestamp,
}

impl Slot {
    fn new() -> Self {
        Self {
            sessions: HashMap::default(),
            next_expiry: Timestamp::NEVER,
        }
    }
}

impl Shared {
    fn slot(&self, key: &Root) -> MutexGuard<'_, Slot> {
        self.lock(key.slot())
    }

    fn lock(&self, slot: usize) -> MutexGuard<'_, Slot> {
        // A panic cannot leave a slot half changed: it changes by single map operations, made
        // after everything else has succeeded.
        self.slots[slot]
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: &Changes,
    ) -> Result<Outcome, StoreError> {
        let now = clock::now();
        let mut slot = self.slot(key);
        let current = slot.sessions.get(key);
        let outcome = changes.apply(current, base.map(Arc::as_ref), now, WRITER);
        let Outcome::Committed(record) = &outcome else {
            return Ok(outcome);
        };
        self.account(current.map(Arc::as_ref), record)?;
        self.expect_expiry(&mut slot, record.expires_at());
        let created = u64::from(changes.is_create() && !record.is_index());
        self.totals.created.fetch_add(created, Relaxed);
        slot.sessions.insert(*key, record.clone());
        Ok(outcome)
    }

    /// Counts `new` in place of `old`, or refuses where that needs more room than there is.
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
        // Most commits change neither; a shared counter is not written without need.
        if sessions > 0 {
            self.sessions.fetch_sub(sessions, Relaxed);
        }
        if bytes > 0 {
            self.bytes.fetch_sub(bytes, Relaxed);
        }
    }
}

/// What a record counts as: the list of a user's sessions is none.
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

/// Takes the hash of a root as it is: roots are random, and those in the map were drawn by this
/// process, so no client can pile them up in one bucket.
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

/// One node writes here: there is nobody to tell apart.
const WRITER: Writer = 0;

const MAX_SESSIONS: usize = 1_000_000;
const MAX_BYTES: usize = 1 << 30;

#[cfg(test)]
mod tests;
