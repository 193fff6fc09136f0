//! A session store in Redis or Valkey, shared by all nodes of the application.
//!
//! A [`RedisStore`] keeps each session as one hash, and each operation on it is one script inside
//! the server: a commit reads, decides and writes in one step and one round trip, attribute by
//! attribute, and sets the session's lifetime, and a new secret, in the same step. It guarantees:
//!
//! - No acknowledged write is overwritten by a concurrent one of another attribute.
//! - Ended sessions and rotated secrets do not become valid again, even if messages arrive late.
//! - A commit that is retried takes effect once.
//! - Every key has an expiry, and every operation ends within its timeout.
//! - A failing server is an error and never an empty session.
//! - A server that is no longer a primary is left within about a second, and nothing is read from a
//!   replica.
//!
//! It does not make Redis safer than it is: a server that loses its memory, or a failover to a
//! replica that has not received the last writes, loses these, including logouts, unless
//! [`wait_for_replicas`](RedisStoreBuilder::wait_for_replicas) is set.
//!
//! ```text
//!   store       load · commit · touch · delete
//!     │  near_cache  cached sessions, invalidated by the server
//!   retry       repeats a request until its timeout: follows slots, primaries and reconnects
//!     │  topology    one server · sentinel · cluster: the owner of a slot
//!   server      keeps a server connected
//!     │  connection  one connection · connect · tls · role · activity
//!     │  presence · outage  results for health checks and the log
//!   events      messages of the scripts ⇄ subscribers
//!   request     encodes one pipelined request    record  hash ⇄ Record
//!     │  cipher      encrypts values
//!   lua/        steps inside the server          keys    prefix:root
//! ```

mod activity;
mod attempts;
mod backoff;
mod builder;
mod cipher;
mod commit;
mod config;
mod connect;
mod connection;
mod connection_info;
mod error;
mod events;
mod info;
mod invalidations;
mod keys;
mod list;
mod near_cache;
mod operations;
mod outage;
mod presence;
mod record;
mod request;
mod retry;
mod role;
mod script;
mod server;
mod server_options;
mod tls;
mod topology;
mod tracking;
mod url;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use rand::TryRng;
use rand::rngs::SysRng;

use crate::error::StoreError;
use crate::events::SessionEvents;
use crate::session::{
    Changes, EndReason, Loaded, Outcome, Record, Root, Scope, SecretHash, SessionCursor,
    SessionPage,
};
use crate::store::SessionStore;
use config::{RedisConfig, TOMBSTONE};
use events::{Events, reason_number};
use near_cache::NearCache;
use operations::unreadable;
use request::ScriptReply;
use retry::Router;
use script::Script;
use url::Url;

pub use builder::RedisStoreBuilder;
pub use cipher::PlainValues;
pub use error::{RedisError, RedisErrorKind};
pub use near_cache::NearCacheStatus;

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
    shared: Arc<RedisShared>,
}

struct RedisShared {
    config: Arc<RedisConfig>,
    router: Router,
    near_cache: Option<Arc<NearCache>>,
    events: Events,
    /// Marks attempts, so that the server recognizes repeated ones. Starts at a random number, so
    /// that nodes do not share marks.
    attempts: AtomicU32,
}

impl RedisStore {
    /// Creates a store at `url` and connects: `redis://[user:password@]host[:port][/database]`,
    /// with `rediss` for TLS, `redis-sentinel://host,host/name` for servers behind sentinels, or
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

    /// Returns a builder for a store at one server, with the connection settings that the
    /// application has for its own client: anything that the `redis` crate, version 1, accepts,
    /// such as its [`ConnectionInfo`](redis::ConnectionInfo). From a client take
    /// `client.get_connection_info().clone()`.
    ///
    /// The host, the port, TLS, the database and the credentials are used. The store opens its own
    /// connections, because it depends on details that a shared one would not give it: it has one
    /// driver per server, tests what the server can do, and follows demotions. So settings of the
    /// protocol and of sockets are not used.
    ///
    /// ```no_run
    /// use distributable::RedisStore;
    ///
    /// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = RedisStore::builder_with(("cache.example", 6379))?
    ///     .prefix("shop")
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails if the settings are not valid, or contain what this store does not do: a Unix socket,
    /// TLS that does not verify the server, or certificates inside of the settings. Certificates
    /// are given to the builder.
    pub fn builder_with(
        server: impl redis::IntoConnectionInfo,
    ) -> Result<RedisStoreBuilder, RedisError> {
        Ok(RedisStoreBuilder::with_url(Url::of_server(server)?))
    }

    /// Like [`builder_with`](Self::builder_with), for some nodes of a cluster. They must have the
    /// same credentials and TLS, which are used for all nodes.
    ///
    /// # Errors
    ///
    /// As [`builder_with`](Self::builder_with), and if the nodes differ.
    pub fn cluster_builder_with<I: redis::IntoConnectionInfo>(
        nodes: impl IntoIterator<Item = I>,
    ) -> Result<RedisStoreBuilder, RedisError> {
        Ok(RedisStoreBuilder::with_url(Url::of_cluster(nodes)?))
    }

    /// Returns `true` unless Redis has been unavailable for more than three seconds: no server
    /// could be reached that is a primary, has loaded its data and accepts the user. A cluster is
    /// unavailable if none of its primaries can be used. This is for health checks; operations do
    /// not depend on it.
    ///
    /// A store from [`build`](RedisStoreBuilder::build) that has never connected is ready for the
    /// first three seconds; one from [`connect`](RedisStoreBuilder::connect) has connected.
    ///
    /// A store that has not been used yet starts to connect when this is called in a tokio runtime.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && let Some(connecting) = self.shared.router.start_connecting()
        {
            let shared = self.shared.clone();
            runtime.spawn(async move { shared.router.connect_all(connecting).await });
        }
        self.shared.router.is_ready()
    }

    /// Returns the counters of the near-cache; `None` without one.
    #[must_use]
    pub fn near_cache(&self) -> Option<NearCacheStatus> {
        Some(self.shared.near_cache.as_ref()?.status())
    }

    fn new(config: RedisConfig) -> Self {
        let config = Arc::new(config);
        let near_cache = config.near_cache.map(|limits| {
            let prefix = config.prefix.clone();
            Arc::new(NearCache::new(prefix, limits))
        });
        Self {
            shared: Arc::new(RedisShared {
                router: Router::new(config.clone(), near_cache.clone()),
                near_cache,
                events: Events::new(&config),
                config,
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
        let _lease = self
            .shared
            .near_cache
            .as_ref()
            .map(|near_cache| near_cache.lease(key, true));
        let asked = self.shared.run(key, Script::Touch, Vec::new(), false);
        match asked.await? {
            ScriptReply::Done(_) | ScriptReply::Gone => Ok(()),
            answer => Err(unreadable(&answer)),
        }
    }

    async fn list(
        &self,
        _: Scope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Result<SessionPage, StoreError> {
        self.shared.list(after, limit).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        self.delete_because(key, EndReason::Admin).await
    }

    async fn delete_because(&self, key: &Root, reason: EndReason) -> Result<bool, StoreError> {
        if key.is_index() {
            return Ok(false);
        }
        // Dropped when the deletion is over, with any result: no copy stays.
        let _lease = self
            .shared
            .near_cache
            .as_ref()
            .map(|near_cache| near_cache.lease(key, true));
        let number = |number: u128| number.to_string().into_bytes();
        let redis_key = self.shared.config.prefix.key(key);
        let origin = self.shared.events.origin(&redis_key);
        let args = vec![
            self.shared.mark(),
            number(TOMBSTONE.as_millis()),
            origin,
            number(reason_number(reason).into()),
        ];
        match self.shared.run(key, Script::End, args, true).await? {
            ScriptReply::Done(_) => Ok(true),
            ScriptReply::Gone => Ok(false),
            answer => Err(unreadable(&answer)),
        }
    }

    /// Fails with [`Unavailable`](crate::StoreErrorKind::Unavailable) outside of a tokio runtime.
    fn events(&self, scope: Scope) -> Result<SessionEvents, StoreError> {
        let subscribed = self.shared.subscribe(scope);
        subscribed.map_err(StoreError::unavailable)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("url", &self.shared.config.url)
            .finish_non_exhaustive()
    }
}
