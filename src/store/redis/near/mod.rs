//! Copies of sessions in this process, which the server keeps true.
//!
//! The server remembers what each connection has read and says when it changes; what it says comes
//! in the order in which it happened, between the answers. So a copy is good as long as the
//! connection that it came over is, and nothing was said about its key. It promises: what is handed
//! out was the state of the session when the server last could have told otherwise, at most
//! [`SILENCE_MAX`] ago, and never older than what this process has written or been told.
//!
//! Our own writes are reported to us like everybody's, after their answers: a session that was
//! written is read once more. The server could leave them out (`NOLOOP`), but then it also leaves
//! out what it forgets or evicts while it serves us, as of Redis 7.0: copies would stay stale.
//!
//! An answer may be on its way to whoever asked when the key changes. Everybody who asks therefore
//! takes a [`Ticket`] first: whatever is said about the key meanwhile makes the ticket worthless.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::session::{Loaded, Record, Root, SecretHash, Timestamp};

use super::address::Address;
use super::error::RedisError;
use super::keys::Prefix;
use super::settings::{HEARTBEAT, NearCacheLimits, PONG_WITHIN};

/// The copies, and who is about to make one.
#[derive(Debug)]
pub(super) struct Near {
    shards: Box<[Mutex<Shard>]>,
    pub(super) prefix: Prefix,
    limits: NearCacheLimits,
    /// Grows when slots or masters move: what was read before says nothing then.
    moves: AtomicU64,
    started: Instant,
    hits: AtomicU64,
    misses: AtomicU64,
    invalidations: AtomicU64,
    bytes: AtomicUsize,
    /// Whether the log says that a server sends no invalidations.
    warned: AtomicBool,
}

/// What a [`RedisStore`](crate::RedisStore)'s near-cache holds and has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NearCacheStatus {
    /// Sessions.
    pub sessions: usize,
    /// What they are counted with against the limit.
    pub bytes: usize,
    /// Loads that caused no command.
    pub hits: u64,
    /// Loads that asked the server.
    pub misses: u64,
    /// How often the server has said that a session has changed.
    pub invalidations: u64,
}

#[derive(Debug, Default)]
struct Shard {
    ready: HashMap<Root, Entry>,
    pending: HashMap<Root, Pending>,
    /// Keys by age, some of them gone since.
    queue: VecDeque<Root>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    /// The version of its attributes.
    version: u64,
    bytes: usize,
    until: Instant,
    source: Source,
    /// Whether anybody has wanted it since it came to the end of the queue.
    used: bool,
}

/// Where a record has come from, and what must still hold for it to be good.
#[derive(Clone, Debug)]
pub(super) struct Source {
    health: Arc<Health>,
    flushes: u64,
    moves: u64,
}

/// What is known about a connection that the server tells about changes.
#[derive(Debug)]
pub(super) struct Health {
    tracked: AtomicBool,
    /// Grows when the server says that everything may have changed.
    flushes: AtomicU64,
    /// When it was last heard, in milliseconds since the cache was started.
    heard: AtomicU64,
    /// Whether the probe of the self-test was reported.
    pub(super) probed: AtomicBool,
}

#[derive(Debug)]
struct Pending {
    waiting: usize,
    /// Grows with everything that is said about the key.
    generation: u64,
}

/// The intention to read a session, and make a copy; or to write one.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    near: &'a Near,
    key: Root,
    generation: u64,
    /// Whether a write is under way: from its beginning to its end no copy is made of what was read
    /// before.
    write: bool,
}

impl Near {
    pub(super) fn new(prefix: Prefix, limits: NearCacheLimits) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            prefix,
            limits,
            moves: AtomicU64::new(0),
            started: Instant::now(),
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

    /// The copy of a live session, if it is good and `secret` is current in it. Only the server tells
    /// that one is not: a copy may be from before a rotation.
    pub(super) fn get(
        &self,
        key: &Root,
        secret: Option<&SecretHash>,
        now: Timestamp,
    ) -> Option<Arc<Record>> {
        let mut shard = self.shard(key);
        if let Some(entry) = shard.ready.get_mut(key) {
            let instant = Instant::now();
            if !(instant < entry.until && self.is_good(&entry.source, instant)) {
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

    /// Announces that a copy is to be made from an answer that is yet to come.
    pub(super) fn ticket(&self, key: &Root, write: bool) -> Ticket<'_> {
        let mut shard = self.shard(key);
        let pending = shard.pending.entry(*key).or_insert(Pending {
            waiting: 0,
            generation: 0,
        });
        pending.waiting += 1;
        Ticket {
            near: self,
            key: *key,
            generation: pending.generation,
            write,
        }
    }

    /// The server, or we, have changed a session.
    pub(super) fn forget(&self, key: &Root) {
        let mut shard = self.shard(key);
        self.remove(&mut shard, key);
        if let Some(pending) = shard.pending.get_mut(key) {
            pending.generation += 1;
        }
    }

    /// Slots or masters have moved.
    pub(super) fn moved(&self) {
        self.moves.fetch_add(1, Relaxed);
    }

    /// What a copy depends on that comes over this connection from now on.
    pub(super) fn source(&self, health: &Arc<Health>) -> Source {
        Source {
            flushes: health.flushes.load(Relaxed),
            moves: self.moves.load(Relaxed),
            health: health.clone(),
        }
    }

    pub(super) fn new_health(&self) -> Arc<Health> {
        let health = Health {
            tracked: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            probed: AtomicBool::new(false),
        };
        self.heard(&health);
        Arc::new(health)
    }

    /// Something has come over the connection: so has everything that was said before.
    pub(super) fn heard(&self, health: &Health) {
        health.heard.store(millis(self.started.elapsed()), Relaxed);
    }

    /// The server has told that this key has changed; `None`: any may have.
    pub(super) fn invalidate(&self, health: &Health, key: Option<&[u8]>) {
        self.invalidations.fetch_add(1, Relaxed);
        match key.map(|key| self.prefix.parse(key)) {
            None => drop(health.flushes.fetch_add(1, Relaxed)),
            Some(Some(key)) => self.forget(&key),
            Some(None) => health.probed.store(true, Relaxed),
        }
    }

    fn is_good(&self, source: &Source, now: Instant) -> bool {
        let health = &source.health;
        let silent = millis(now - self.started).saturating_sub(health.heard.load(Relaxed));
        health.tracked.load(Relaxed)
            && health.flushes.load(Relaxed) == source.flushes
            && self.moves.load(Relaxed) == source.moves
            && silent < millis(SILENCE_MAX)
    }

    fn insert(&self, shard: &mut Shard, key: Root, record: Arc<Record>, source: Source) {
        // Of two answers on their way at once, the later one counts.
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
        if bytes > room {
            return;
        }
        while shard.bytes + bytes > room {
            let Some(oldest) = shard.queue.pop_front() else {
                break;
            };
            match shard.ready.get_mut(&oldest) {
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
        let entry = Entry {
            version,
            bytes,
            until: Instant::now() + self.limits.max_age,
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
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    /// From now on the server tells what changes, or does not any more.
    pub(super) fn set_tracked(&self, tracked: bool) {
        self.tracked.store(tracked, Relaxed);
    }
}

impl Ticket<'_> {
    /// The answer to a read is here: it becomes the copy unless something was said about the key
    /// meanwhile.
    pub(super) fn redeem(self, record: Arc<Record>, source: Option<Source>) {
        let mut shard = self.near.shard(&self.key);
        if let Some(source) = source
            && let Some(pending) = shard.pending.get(&self.key)
            && pending.generation == self.generation
            && self.near.is_good(&source, Instant::now())
        {
            self.near.insert(&mut shard, self.key, record, source);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut shard = self.near.shard(&self.key);
        if self.write {
            // Whatever has become of it: what was read before says nothing.
            self.near.remove(&mut shard, &self.key);
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const SHARDS: usize = 64;
/// What an entry takes beside its record.
const ENTRY_BYTES: usize = 200;
/// Keys that may be gone from a shard and still in its queue.
const QUEUE_SLACK: usize = 64;

/// A connection that was silent for longer may be dead without anybody knowing: what came over it is
/// not handed out.
const SILENCE_MAX: Duration = HEARTBEAT.saturating_add(PONG_WITHIN);

#[cfg(test)]
mod tests;
