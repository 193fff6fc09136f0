//! A session store in Redis or Valkey, shared by all nodes of the application.
//!
//! A [`RedisStore`] keeps each session as one hash, and each operation on it is one script inside
//! the server: a commit reads, decides and writes in one step and one round trip, attribute by
//! attribute, and sets the session's lifetime, and a new secret, in the same step. It guarantees:
//!
//! - No acknowledged write is overwritten by a concurrent one of another attribute.
//! - Ended sessions and rotated secrets do not become valid again, even if messages arrive late.
//! - A commit that is retried takes effect once.
//! - Every key has an expiry, and every operation ends by its deadline.
//! - A failing server is an error and never an empty session.
//! - A server that is no longer a master is left within about a second, and nothing is read from a
//!   replica.
//!
//! It does not make Redis safer than it is: a server that loses its memory, or a failover to a
//! replica that has not received the last writes, loses these, including logouts, unless
//! [`wait_for_replicas`](RedisStoreBuilder::wait_for_replicas) is set.
//!
//! ```text
//!   store      load · commit · touch · end
//!     │  near     copies of sessions, kept true by the server's invalidations
//!   router     asks until the deadline: follows slots, masters and reconnects
//!     │  locator  one server · sentinel · cluster: who owns a slot
//!     │           opinions  what the sentinels name
//!   node       keeps a server connected         link   one connection · tls · role
//!     │           presence · outage  what health checks and the log say about that
//!   request    words of a question              record hash ⇄ Record
//!   lua/       what happens inside the server   keys   prefix:root
//! ```

mod address;
mod builder;
mod cluster;
mod commit;
mod error;
mod keys;
mod link;
mod list;
mod locator;
mod near;
mod node;
mod opinions;
mod outage;
mod presence;
mod record;
mod request;
mod role;
mod router;
mod script;
mod sentinel;
mod settings;
mod tls;
mod tracking;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rand::TryRng;
use rand::rngs::SysRng;
use redis::Value as Reply;

use crate::clock;
use crate::error::StoreError;
use crate::session::{
    Changes, ListScope, Loaded, Outcome, Record, Root, SecretHash, SessionCursor, SessionPage,
};

use super::SessionStore;
use error::Failure;
use near::{Near, Source};
use record::Clock;
use request::{Answer, Request, What};
use router::{Router, Unanswered};
use script::Script;
use settings::{Settings, TOMBSTONE};

pub use builder::RedisStoreBuilder;
pub use error::{RedisError, RedisErrorKind};
pub use near::NearCacheStatus;

/// Sessions in Redis or Valkey. Cheap to clone; clones share their connections.
///
/// ```no_run
/// use distributable::{RedisStore, SessionLayer};
///
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::connect("redis://127.0.0.1:6379").await?;
/// let layer = SessionLayer::new(store);
/// # Ok(())
/// # }
/// ```
///
/// A load is one round trip; so is every commit. A request that changes nothing needs only the
/// load, and a touch when one is due.
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Arc<Settings>,
    router: Router,
    near: Option<Arc<Near>>,
    /// Marks attempts, so that the server recognizes repeated ones. Starts at a random number, so
    /// that nodes do not share marks.
    attempts: AtomicU32,
}

impl RedisStore {
    /// Creates a store at `url` and connects: `redis://[user:password@]host[:port][/database]`,
    /// with `rediss` for TLS, `redis-sentinel://host,host/master` for servers behind sentinels, or
    /// `redis-cluster://host,host` for a cluster. `valkey` in place of `redis` is equivalent. Ports
    /// default to 6379, those of sentinels to 26379.
    ///
    /// All applications that use this on one database share their sessions: all keys begin with
    /// `sess:`. With several applications, set a [`prefix`](RedisStoreBuilder::prefix) for each, by
    /// [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// Fails if the URL is not valid, or if the server cannot be used now.
    pub async fn connect(url: &str) -> Result<Self, RedisError> {
        Self::builder(url).connect().await
    }

    /// Returns a builder for a store at `url`, which [`connect`](Self::connect) describes.
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder::new(url.into())
    }

    /// Returns `true` unless Redis has been unavailable for more than three seconds: no server
    /// could be reached that is a master, has loaded its data and accepts the user. A cluster is
    /// unavailable if none of its masters can be used. This is for health checks; operations do not
    /// depend on it.
    ///
    /// A store that has not been used yet starts to connect when this is called in a tokio runtime.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && self.shared.router.begin_to_seek()
        {
            let shared = self.shared.clone();
            runtime.spawn(async move { shared.router.seek().await });
        }
        self.shared.router.is_ready()
    }

    /// Returns the counters of the near-cache; `None` without one.
    #[must_use]
    pub fn near_cache(&self) -> Option<NearCacheStatus> {
        Some(self.shared.near.as_ref()?.status())
    }

    fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let near = settings.near_cache.map(|limits| {
            let prefix = settings.prefix.clone();
            Arc::new(Near::new(prefix, limits))
        });
        Self {
            shared: Arc::new(Shared {
                router: Router::new(settings.clone(), near.clone()),
                near,
                settings,
                attempts: AtomicU32::new(SysRng.try_next_u32().unwrap_or_default()),
            }),
        }
    }
}

impl SessionStore for RedisStore {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        self.shared.load(key, secret).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        let base = base.map(Arc::as_ref);
        self.shared.commit(key, base, &changes).await
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        let _ticket = self.shared.near.as_ref().map(|near| near.ticket(key, true));
        let asked = self.shared.run(key, Script::Touch, Vec::new(), false);
        let answer = asked.await?;
        match answer.letter {
            b'O' | b'G' => Ok(()),
            letter => Err(unreadable(letter)),
        }
    }

    async fn list(
        &self,
        _: ListScope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Result<SessionPage, StoreError> {
        self.shared.list(after, limit).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        if key.is_index() {
            return Ok(false);
        }
        // Dropped when the deletion is over, with any result: no copy stays.
        let _ticket = self.shared.near.as_ref().map(|near| near.ticket(key, true));
        let life = TOMBSTONE.as_millis().to_string().into_bytes();
        let args = vec![self.shared.mark(), life];
        let answer = self.shared.run(key, Script::End, args, true).await?;
        match answer.letter {
            b'O' => Ok(true),
            b'G' => Ok(false),
            _ => Err(unreadable(answer.letter)),
        }
    }
}

impl Shared {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        if let Some(near) = &self.near
            && let Some(record) = near.get(key, secret, clock::now())
        {
            return Ok(Loaded::Live(record));
        }
        // Boxed: a hit must not reserve the memory of a request.
        Box::pin(self.fetch(key, secret)).await
    }

    /// Asks the server, and keeps a copy if configured, for any presented secret.
    async fn fetch(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        let ticket = self.near.as_ref().map(|near| near.ticket(key, false));
        let Some((record, source)) = self.read(key).await? else {
            return Ok(Loaded::Absent);
        };
        let loaded = record.loaded(secret, clock::now());
        if let Some(ticket) = ticket {
            ticket.redeem(record, source);
        }
        Ok(loaded)
    }

    /// The session as the server has it, and the connection it came over.
    async fn read(&self, key: &Root) -> Result<Option<(Arc<Record>, Option<Source>)>, StoreError> {
        let request = Request {
            key: self.settings.prefix.key(key),
            what: What::Load,
        };
        let answered = self.router.ask(&request).await.map_err(store_error)?;
        let here = clock::now();
        let mut replies = answered.replies;
        let fields = replies.pop().unwrap_or_default();
        let there = server_time(replies.first()).map_err(|e| e.into_store_error(false))?;
        let record = self.decode(fields, Clock { there, here });
        let record = record.map_err(|error| error.into_store_error(false))?;
        let live = record.filter(|record| record.is_live(here));
        Ok(live.map(|record| (Arc::new(record), answered.source)))
    }

    /// Runs a script that ends with its answer, or with the number of replicas that have confirmed.
    /// `kills`: it ends a session or a secret, which a failover must not undo.
    async fn run(
        &self,
        key: &Root,
        script: Script,
        args: Vec<Vec<u8>>,
        kills: bool,
    ) -> Result<Answer, StoreError> {
        let replicas = self.settings.replicas.filter(|_| kills);
        let request = Request {
            key: self.settings.prefix.key(key),
            what: What::Run {
                script,
                args,
                replicas,
            },
        };
        let answered = self.router.ask(&request).await.map_err(store_error)?;
        let mut replies = answered.replies;
        if let Some(replicas) = replicas {
            let confirmed = match replies.pop() {
                Some(Reply::Int(confirmed)) => confirmed,
                Some(Reply::ServerError(error)) => {
                    let error = Failure::of_reply(&error, "WAIT").into_error();
                    return Err(error.into_store_error(true));
                }
                _ => 0,
            };
            if confirmed < i64::from(replicas.count) {
                let detail = format!("{confirmed} of {}", replicas.count);
                let error = RedisError::new(RedisErrorKind::Unreplicated, detail);
                return Err(error.into_store_error(true));
            }
        }
        let answer = Answer::of(replies.pop().unwrap_or_default());
        answer.map_err(|error| error.into_store_error(true))
    }

    fn decode(&self, fields: Reply, clock: Clock) -> Result<Option<Record>, RedisError> {
        record::decode(fields, clock, self.settings.application.as_deref())
    }

    fn mark(&self) -> Vec<u8> {
        self.attempts.fetch_add(1, Relaxed).to_be_bytes().to_vec()
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("url", &self.shared.settings.url)
            .finish_non_exhaustive()
    }
}

fn store_error(unanswered: Unanswered) -> StoreError {
    unanswered.why.into_store_error(unanswered.uncertain)
}

/// The error of a script that has found data it cannot read.
fn unreadable(letter: u8) -> StoreError {
    match letter {
        b'B' => RedisError::new(RedisErrorKind::Foreign, "").into_store_error(false),
        b'U' => {
            let detail = "it is not known whether an earlier attempt took effect";
            RedisError::new(RedisErrorKind::TimedOut, detail).into_store_error(true)
        }
        _ => {
            RedisError::new(RedisErrorKind::Unexpected, "a script's answer").into_store_error(true)
        }
    }
}

/// Converts seconds and microseconds to milliseconds.
fn server_time(reply: Option<&Reply>) -> Result<u64, RedisError> {
    let odd = || RedisError::new(RedisErrorKind::Unexpected, "no time");
    let Some(Reply::Array(parts)) = reply else {
        return Err(odd());
    };
    let number = |part: Option<&Reply>| match part {
        Some(Reply::BulkString(text)) => str::from_utf8(text).ok()?.parse::<u64>().ok(),
        Some(Reply::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    match (number(parts.first()), number(parts.get(1))) {
        (Some(seconds), Some(micros)) => Ok(seconds * 1_000 + micros / 1_000),
        _ => Err(odd()),
    }
}
