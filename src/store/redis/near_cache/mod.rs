//! The near-cache: copies of sessions in this process, which the server invalidates.
//!
//! The server tracks which keys each connection has read and sends an invalidation when one
//! changes; invalidations arrive in the order of the changes, between the answers. A copy is valid
//! as long as the connection that it came over is, and its key has not been invalidated. A returned
//! copy was the session's state at most [`SILENCE_MAX`] ago, when the server last could have
//! invalidated it, and is never older than any write or invalidation that this process has seen.
//!
//! The server also invalidates keys that this process has written, after the answer: such a session
//! is read once more. The server could leave these invalidations out (`NOLOOP`), but as of Redis
//! 7.0 it then also leaves out keys that expire or are evicted while it serves this connection:
//! copies would stay stale.
//!
//! A key may change while the answer to a read is on its way. Every reader therefore takes a
//! [`Lease`] first, and an invalidation of the key in the meantime cancels the lease.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::clock;
use crate::session::{Loaded, Record, Root, SecretHash, Timestamp};
use crate::store::redis::config::{HEARTBEAT, NearCacheLimits, PONG_WITHIN};
use crate::store::redis::error::RedisError;
use crate::store::redis::keys::Prefix;
use crate::store::redis::url::Address;
use crate::sync::lock;

/// The copies, and the leases that are held.
#[derive(Debug)]
pub(super) struct NearCache {
    shards: Box<[Mutex<Shard>]>,
    pub(super) prefix: Prefix,
    limits: NearCacheLimits,
    /// Increased when slots or primaries move: answers from before are then not used.
    moves: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    invalidations: AtomicU64,
    bytes: AtomicUsize,
    /// Set once the missing invalidations of a server have been logged.
    warned: AtomicBool,
}

/// Counters of a [`RedisStore`](crate::RedisStore)'s near-cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NearCacheStatus {
    /// Number of sessions in the cache.
    pub sessions: usize,
    /// Their size in bytes, as counted against the limit.
    pub bytes: usize,
    /// Loads that were served without a command to the server.
    pub hits: u64,
    /// Loads that asked the server.
    pub misses: u64,
    /// Invalidations received from the server.
    pub invalidations: u64,
}

#[derive(Debug, Default)]
struct Shard {
    ready: HashMap<Root, CachedSession>,
    pending: HashMap<Root, PendingLeases>,
    /// Keys by age, including some whose entries were removed.
    queue: VecDeque<Root>,
    bytes: usize,
}

#[derive(Debug)]
struct CachedSession {
    record: Arc<Record>,
    /// The version of its attributes.
    version: u64,
    bytes: usize,
    until: Timestamp,
    source: CacheSource,
    /// The entry was used since it was last at the end of the queue.
    used: bool,
}

/// The origin of a record, and the state in which it is valid.
#[derive(Clone, Debug)]
pub(super) struct CacheSource {
    health: Arc<TrackingHealth>,
    flushes: u64,
    moves: u64,
}

/// The state of a connection on which the server sends invalidations.
#[derive(Debug)]
pub(super) struct TrackingHealth {
    /// [`UNTESTED`], [`TRACKED`] or [`ENDED`].
    state: AtomicU8,
    /// Increased when the server invalidates all keys.
    flushes: AtomicU64,
    /// When the last request was sent whose answer has arrived, in milliseconds of the crate's
    /// clock, which advances while the machine is suspended. The server's state is known up to that
    /// moment, however long the answer took.
    answered: AtomicU64,
    /// Set when the probe of the self-test was invalidated.
    pub(super) probed: AtomicBool,
}

#[derive(Debug)]
struct PendingLeases {
    waiting: usize,
    /// Increased with every invalidation of the key.
    generation: u64,
}

/// The registration of a read that is to become a copy, or of a write.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    near_cache: &'a NearCache,
    key: Root,
    generation: u64,
    /// A write is in progress: until it ends, answers from before it do not become copies.
    write: bool,
}

impl NearCache {
    pub(super) fn new(prefix: Prefix, limits: NearCacheLimits) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            prefix,
            limits,
            moves: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            invalidations: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            warned: AtomicBool::new(false),
        }
    }

    /// Logs, once, that a server is used without copies.
    pub(super) fn warn_once(&self, address: &Address, hint: &str, error: &RedisError) {
        let cause = error.to_string();
        if self.warned.swap(true, Relaxed) {
            tracing::debug!(%address, hint, cause, "no near-cache");
        } else {
            tracing::warn!(%address, hint, cause, "no near-cache: sessions are read from Redis");
        }
    }

    pub(super) fn status(&self) -> NearCacheStatus {
        let sessions = (0..SHARDS).map(|shard| self.lock(shard).ready.len()).sum();
        NearCacheStatus {
            sessions,
            bytes: self.bytes.load(Relaxed),
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            invalidations: self.invalidations.load(Relaxed),
        }
    }

    /// Returns the copy of a live session, if it is valid and `secret` is current in it. Only the
    /// server can decide that a secret is not current: a copy may be from before a rotation.
    pub(super) fn get(
        &self,
        key: &Root,
        secret: Option<&SecretHash>,
        now: Timestamp,
    ) -> Option<Arc<Record>> {
        let mut shard = self.shard(key);
        if let Some(entry) = shard.ready.get_mut(key) {
            if !(now < entry.until && self.is_good(&entry.source, now)) {
                self.remove(&mut shard, key);
            } else if let Loaded::Live(record) = entry.record.loaded(secret, now) {
                entry.used = true;
                drop(shard);
                self.hits.fetch_add(1, Relaxed);
                return Some(record);
            }
        }
        drop(shard);
        self.misses.fetch_add(1, Relaxed);
        None
    }

    /// Registers a read whose answer is to become a copy, or a write.
    pub(super) fn lease(&self, key: &Root, write: bool) -> Lease<'_> {
        let mut shard = self.shard(key);
        let pending = shard.pending.entry(*key).or_insert(PendingLeases {
            waiting: 0,
            generation: 0,
        });
        pending.waiting += 1;
        Lease {
            near_cache: self,
            key: *key,
            generation: pending.generation,
            write,
        }
    }

    /// Removes the copy of a session that was changed by the server or by this process.
    pub(super) fn forget(&self, key: &Root) {
        let mut shard = self.shard(key);
        self.remove(&mut shard, key);
        if let Some(pending) = shard.pending.get_mut(key) {
            pending.generation += 1;
        }
    }

    /// Invalidates all copies, because slots or primaries have moved.
    pub(super) fn moved(&self) {
        self.moves.fetch_add(1, Relaxed);
    }

    /// Returns the origin of copies that come over this connection from now on.
    pub(super) fn source(&self, health: &Arc<TrackingHealth>) -> CacheSource {
        CacheSource {
            flushes: health.flushes.load(Relaxed),
            moves: self.moves.load(Relaxed),
            health: health.clone(),
        }
    }

    pub(super) fn new_health(&self) -> Arc<TrackingHealth> {
        let health = TrackingHealth {
            state: AtomicU8::new(UNTESTED),
            flushes: AtomicU64::new(0),
            answered: AtomicU64::new(clock::now().as_millis()),
            probed: AtomicBool::new(false),
        };
        Arc::new(health)
    }

    /// Handles an invalidation of this key; `None`: of all keys.
    pub(super) fn invalidate(&self, health: &TrackingHealth, key: Option<&[u8]>) {
        self.invalidations.fetch_add(1, Relaxed);
        match key.map(|key| self.prefix.parse(key)) {
            None => drop(health.flushes.fetch_add(1, Relaxed)),
            Some(Some(key)) => self.forget(&key),
            Some(None) => health.probed.store(true, Relaxed),
        }
    }

    fn is_good(&self, source: &CacheSource, now: Timestamp) -> bool {
        let health = &source.health;
        let answered = Timestamp::from_millis(health.answered.load(Relaxed));
        health.state.load(Relaxed) == TRACKED
            && health.flushes.load(Relaxed) == source.flushes
            && self.moves.load(Relaxed) == source.moves
            && now.since(answered) < SILENCE_MAX
    }

    fn insert(&self, shard: &mut Shard, key: Root, record: Arc<Record>, source: CacheSource) {
        // Of two concurrent answers, the later one counts.
        let version = record.clock();
        if shard
            .ready
            .get(&key)
            .is_some_and(|known| known.version > version)
        {
            return;
        }
        self.remove(shard, &key);
        let bytes = record.footprint() + ENTRY_BYTES;
        let room = self.limits.bytes / SHARDS;
        // The loop below would remove all other entries of the shard for one that does not fit.
        if bytes > room {
            return;
        }
        while shard.bytes + bytes > room {
            let Some(oldest) = shard.queue.pop_front() else {
                break;
            };
            match shard.ready.get_mut(&oldest) {
                // It has been read since it was at the front: it gets another turn.
                Some(entry) if entry.used => {
                    entry.used = false;
                    shard.queue.push_back(oldest);
                }
                _ => self.remove(shard, &oldest),
            }
        }
        if shard.queue.len() > 2 * shard.ready.len() + QUEUE_SLACK {
            let ready = &shard.ready;
            let mut seen = std::collections::HashSet::new();
            shard
                .queue
                .retain(|key| ready.contains_key(key) && seen.insert(*key));
        }
        shard.bytes += bytes;
        self.bytes.fetch_add(bytes, Relaxed);
        shard.queue.push_back(key);
        let entry = CachedSession {
            version,
            bytes,
            until: clock::now().plus(self.limits.max_age),
            source,
            used: false,
            record,
        };
        shard.ready.insert(key, entry);
    }

    fn remove(&self, shard: &mut Shard, key: &Root) {
        if let Some(entry) = shard.ready.remove(key) {
            shard.bytes -= entry.bytes;
            self.bytes.fetch_sub(entry.bytes, Relaxed);
        }
    }

    fn shard(&self, key: &Root) -> MutexGuard<'_, Shard> {
        self.lock(key.slot() % SHARDS)
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        lock(&self.shards[shard])
    }
}

impl TrackingHealth {
    /// Records that the server sends invalidations, as of a question sent at `asked_at`. Answers to
    /// earlier requests do not become copies: their keys may not be tracked.
    pub(super) fn start(&self, asked_at: Timestamp) {
        self.flushes.fetch_add(1, Relaxed);
        self.answered(asked_at);
        // A connection that has ended meanwhile stays so.
        let _ = self
            .state
            .compare_exchange(UNTESTED, TRACKED, Relaxed, Relaxed);
    }

    /// Records that no invalidations arrive from now on.
    pub(super) fn end(&self) {
        self.state.store(ENDED, Relaxed);
    }

    pub(super) fn is_untested(&self) -> bool {
        self.state.load(Relaxed) == UNTESTED
    }

    /// Records that an answer to a request sent at `sent_at` has arrived, and with it all earlier
    /// invalidations.
    pub(super) fn answered(&self, sent_at: Timestamp) {
        self.answered.store(sent_at.as_millis(), Relaxed);
    }
}

impl Lease<'_> {
    /// Stores the answer to a read as a copy, unless the key was invalidated meanwhile.
    pub(super) fn fill(self, record: Arc<Record>, source: Option<CacheSource>) {
        let mut shard = self.near_cache.shard(&self.key);
        if let Some(source) = source
            && let Some(pending) = shard.pending.get(&self.key)
            && pending.generation == self.generation
            // While the answer was on its way, the connection may have broken, or the slot may have
            // moved: no invalidation would end this copy.
            && self.near_cache.is_good(&source, clock::now())
        {
            self.near_cache.insert(&mut shard, self.key, record, source);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut shard = self.near_cache.shard(&self.key);
        if self.write {
            // The write may have had any result: earlier answers are not used.
            self.near_cache.remove(&mut shard, &self.key);
        }
        if let Some(pending) = shard.pending.get_mut(&self.key) {
            pending.generation += u64::from(self.write);
            pending.waiting -= 1;
            if pending.waiting == 0 {
                shard.pending.remove(&self.key);
            }
        }
    }
}

/// It is not known whether the server sends invalidations on the connection.
const UNTESTED: u8 = 0;
/// The server sends invalidations.
const TRACKED: u8 = 1;
/// The server sends no invalidations, or no longer sends them.
const ENDED: u8 = 2;

const SHARDS: usize = 64;
/// The size of an entry in addition to its record.
const ENTRY_BYTES: usize = 200;
/// Keys that may be in a shard's queue without an entry.
const QUEUE_SLACK: usize = 64;

/// A connection that was silent for longer may have failed unnoticed: copies that came over it are
/// not returned.
const SILENCE_MAX: Duration = HEARTBEAT.saturating_add(PONG_WITHIN);

#[cfg(test)]
mod tests;
