//! Builder of a [`RedisStore`], with one method per setting.

use std::time::Duration;

use crate::store::redis::RedisStore;
use crate::store::redis::cipher::{EncryptionKey, KEYS_MAX, PlainValues, ValueCipher};
use crate::store::redis::config::{NearCacheLimits, RedisConfig, Replicas};
use crate::store::redis::error::{RedisError, RedisErrorKind};
use crate::store::redis::events::NODE_NAME_MAX;
use crate::store::redis::keys::Prefix;
use crate::store::redis::tls::{Certificates, RedisTls};
use crate::store::redis::url::{Credentials, Deployment, Url};

/// Builder of a [`RedisStore`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RedisStoreBuilder {
    place: UrlSource,
    credentials: Option<Credentials>,
    sentinel_credentials: Credentials,
    prefix: String,
    application: Option<String>,
    node: Option<String>,
    encryption_keys: Vec<EncryptionKey>,
    plain_values: Option<PlainValues>,
    certificates: Certificates,
    tls: Option<RedisTls>,
    operation_timeout: Duration,
    max_in_flight: usize,
    max_session_bytes: usize,
    replicas: Option<Replicas>,
    near_cache_bytes: Option<usize>,
    near_cache_max_age: Duration,
}

/// The servers.
#[derive(Clone)]
enum UrlSource {
    /// It is parsed when the store is built.
    Text(String),
    Url(Url),
}

impl std::fmt::Debug for UrlSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // It may have a password.
            Self::Text(_) => f.write_str("Secret"),
            Self::Url(url) => url.fmt(f),
        }
    }
}

impl RedisStoreBuilder {
    pub(super) fn new(url: String) -> Self {
        Self::at(UrlSource::Text(url))
    }

    pub(super) fn with_url(url: Url) -> Self {
        Self::at(UrlSource::Url(url))
    }

    fn at(place: UrlSource) -> Self {
        Self {
            place,
            credentials: None,
            sentinel_credentials: Credentials::default(),
            prefix: PREFIX.to_owned(),
            application: None,
            node: None,
            encryption_keys: Vec::new(),
            plain_values: None,
            certificates: Certificates::default(),
            tls: None,
            operation_timeout: OPERATION_TIMEOUT,
            max_in_flight: IN_FLIGHT,
            max_session_bytes: SESSION_BYTES,
            replicas: None,
            near_cache_bytes: None,
            near_cache_max_age: NEAR_CACHE_MAX_AGE,
        }
    }

    /// Sets the credentials for the servers: a user of the access list, or `None` for the default
    /// user. They replace those of the URL; use them to keep passwords out of URLs.
    pub fn credentials(mut self, user: Option<&str>, password: impl Into<String>) -> Self {
        self.credentials = Some(credentials(user, password.into()));
        self
    }

    /// Sets the credentials for the sentinels, if they require any.
    pub fn sentinel_credentials(mut self, user: Option<&str>, password: impl Into<String>) -> Self {
        self.sentinel_credentials = credentials(user, password.into());
        self
    }

    /// Sets the prefix of every key that the store uses: 1 to 64 printable ASCII characters without
    /// spaces, quotes, backslashes, `^` and `{}*?[]`.
    ///
    /// Applications that share a database need different prefixes: with the same one, a session of
    /// one is a session of the other, with all its attributes, and browsers send the cookie of one
    /// to the other if both are on one host. Access lists can restrict a user to a prefix, so that
    /// an application cannot read another one's sessions. See also
    /// [`application`](Self::application).
    ///
    /// Defaults to `sess`: keys are `sess:0a1b2c3d…`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the name of this application, 1 to 64 bytes without control characters. New sessions
    /// carry it, and a session that carries another name is treated as absent: it is neither read
    /// nor changed nor deleted. A store without a name accepts only sessions without one.
    ///
    /// Sessions without a name are accepted as well, so that the name can be introduced in a
    /// running application. The lists of users' sessions have none. This protects against two
    /// applications that share a [`prefix`](Self::prefix) by mistake; it is no access control.
    ///
    /// Defaults to none.
    pub fn application(mut self, name: impl Into<String>) -> Self {
        self.application = Some(name.into());
        self
    }

    /// Sets the name of this node in [events](crate::SessionEvent::node), 1 to 64 bytes without
    /// control characters: mostly the [route](crate::Route) of its cookies.
    ///
    /// Defaults to none.
    pub fn node_name(mut self, name: impl Into<String>) -> Self {
        self.node = Some(name.into());
        self
    }

    /// Adds a key of 32 random bytes, with which the values of attributes are encrypted before they
    /// are sent to the server. Of several keys, up to 8, the first one encrypts and all decrypt.
    ///
    /// To replace a key, add the new one as the second on every node; then make it the first; and
    /// leave out the old one when all sessions from before have expired. For a store that has
    /// sessions without encryption, see [`plain_values`](Self::plain_values).
    ///
    /// A session with a value that this store cannot decrypt is an error and no lost session:
    /// requests receive 503, with [`RedisErrorKind::Encryption`]. The
    /// [guide](crate::guide::redis#encryption) lists what is not encrypted, such as names of
    /// attributes.
    ///
    /// Defaults to no encryption. Use a key if dumps, replicas or backups of the database are
    /// accessible to people who must not see sessions.
    pub fn encryption_key(mut self, key: [u8; 32]) -> Self {
        self.encryption_keys.push(EncryptionKey(key));
        self
    }

    /// Sets what happens with values that are not encrypted, while encryption is introduced or
    /// ended. Needs an [`encryption_key`](Self::encryption_key).
    ///
    /// Defaults to [`PlainValues::Refused`].
    pub const fn plain_values(mut self, plain: PlainValues) -> Self {
        self.plain_values = Some(plain);
        self
    }

    /// Sets the trusted certificate authorities for the servers of a `rediss` URL, in PEM. Use it
    /// if the servers' certificates come from a private authority.
    ///
    /// A certificate must be valid for the host by which the store reaches the server: the one in
    /// the URL, or the one that the sentinels or the nodes of the cluster announce. These announce
    /// IP addresses unless they are configured to announce host names.
    ///
    /// Defaults to the authorities that the operating system trusts.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates.roots = pem.into();
        self
    }

    /// Sets the client certificate and its key, both in PEM, for servers that require one.
    pub fn client_certificate(
        mut self,
        chain: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.certificates.client = Some((chain.into(), key.into()));
        self
    }

    /// Uses these settings of rustls for the servers of a `rediss` URL, instead of certificates in
    /// PEM: for a crypto provider, a verifier or a client certificate of your own.
    ///
    /// The type is that of rustls 0.23. Defaults to settings of the store's own.
    #[cfg(feature = "rustls")]
    pub fn tls(mut self, config: std::sync::Arc<tokio_rustls::rustls::ClientConfig>) -> Self {
        self.tls = Some(RedisTls::from(config));
        self
    }

    /// Sets the time limit of an operation, including all its retries, at least 10 milliseconds.
    /// When it has passed, the operation fails, and the browser receives 503. A last attempt is
    /// started only if an eighth of the time is left.
    ///
    /// The time includes that of the session's data: 8 MiB take 3.4 seconds at 20 Mbit/s, and other
    /// operations wait behind them. A connection on which no data moves for a third of the time, or
    /// on which nothing has arrived for a third of the time when an operation times out, is closed.
    ///
    /// Defaults to 2 seconds: longer than the restart of a server or the migration of a slot takes,
    /// and shorter than users wait. A failover takes longer than that and is not hidden.
    pub const fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// Sets how many operations may run at once, 1 to 1,048,576. Further ones wait, for at most
    /// their [`operation_timeout`](Self::operation_timeout).
    ///
    /// Defaults to 1,024, which one server answers within some 20 milliseconds.
    pub const fn max_in_flight(mut self, operations: usize) -> Self {
        self.max_in_flight = operations;
        self
    }

    /// Sets the maximum size of a session: names and values, in bytes. A commit that adds to a
    /// larger one fails with [`StoreErrorKind::TooLarge`](crate::StoreErrorKind::TooLarge).
    ///
    /// Defaults to 16 MiB, as the layer's own [`Limits`](crate::Limits) do. Lower both: every
    /// request reads its session as a whole.
    pub const fn max_session_bytes(mut self, bytes: usize) -> Self {
        self.max_session_bytes = bytes;
        self
    }

    /// Makes deletions and rotations wait until `count` replicas have confirmed them, so that a
    /// failover to one of these cannot undo them. They wait for at most `within`, which may be at
    /// most half of the [`operation_timeout`](Self::operation_timeout). If fewer replicas confirm
    /// in time, the change is stored and the call fails with
    /// [`Indeterminate`](crate::StoreErrorKind::Indeterminate).
    ///
    /// Defaults to not waiting. This is no consensus: a replica that did not confirm may still
    /// become the primary.
    pub const fn wait_for_replicas(mut self, count: u8, within: Duration) -> Self {
        self.replicas = Some(Replicas { count, within });
        self
    }

    /// Enables the near-cache: keeps copies of sessions in this process, in at most `bytes` bytes.
    /// Reading a recently used session then takes no round trip. The server sends an invalidation
    /// when a session changes (Redis 6 and later, and Valkey). Each connection is tested for that;
    /// if the test fails, a warning is logged and nothing is cached.
    ///
    /// A copy may be older than the session by the delay of an invalidation, or by two seconds if a
    /// connection has failed unnoticed; it is never older than the writes of this process. A logout
    /// on another node may therefore take effect that much later. Only the first load of a request
    /// can return a copy: [`reload`](crate::Session::reload), [`update`](crate::Session::update)
    /// and [`changed`](crate::Session::changed) ask the server.
    ///
    /// Defaults to no copies.
    pub const fn near_cache(mut self, bytes: usize) -> Self {
        self.near_cache_bytes = Some(bytes);
        self
    }

    /// Sets the maximum age of a copy, which applies even without an invalidation.
    ///
    /// Defaults to a minute. Has no effect without [`near_cache`](Self::near_cache).
    pub const fn near_cache_max_age(mut self, age: Duration) -> Self {
        self.near_cache_max_age = age;
        self
    }

    /// Creates the store; it connects when it is first used. Operations fail until the server can
    /// be reached.
    ///
    /// # Errors
    ///
    /// Fails if a setting is not valid.
    pub fn build(self) -> Result<RedisStore, RedisError> {
        Ok(RedisStore::new(self.config()?))
    }

    /// Creates the store and connects to every server that it needs.
    ///
    /// # Errors
    ///
    /// Fails if a setting is not valid, or if the servers cannot be used now.
    pub async fn connect(self) -> Result<RedisStore, RedisError> {
        let store = self.build()?;
        store.shared.router.connected().await?;
        Ok(store)
    }

    fn config(self) -> Result<RedisConfig, RedisError> {
        let wrong = |message: &str| Err(RedisError::new(RedisErrorKind::Config, message));
        let mut url = match self.place {
            UrlSource::Text(text) => Url::parse(&text)?,
            UrlSource::Url(url) => url,
        };
        if let Some(credentials) = self.credentials {
            url.credentials = credentials;
        }
        if self.max_in_flight == 0 || self.max_in_flight > IN_FLIGHT_MAX {
            return wrong("operations in flight: at least 1, at most 1,048,576");
        }
        if self.operation_timeout < OPERATION_TIMEOUT_MIN {
            return wrong("`operation_timeout` must be at least 10 ms");
        }
        if let Some(replicas) = self.replicas
            && replicas.within * 2 > self.operation_timeout
        {
            return wrong("the wait for replicas must be at most half of `operation_timeout`");
        }
        let has_pem = !self.certificates.roots.is_empty() || self.certificates.client.is_some();
        if has_pem && self.tls.is_some() {
            return wrong("PEM certificates and a rustls configuration cannot both be set");
        }
        if (has_pem || self.tls.is_some()) && !url.tls {
            return wrong("certificates without TLS: the URL must begin with `rediss`");
        }
        let is_name = |name: &String| {
            (1..=APPLICATION_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
        };
        if !self.application.as_ref().is_none_or(is_name) {
            return wrong("an application's name: 1 to 64 bytes without control characters");
        }
        let is_node_name = |name: &String| {
            (1..=NODE_NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
        };
        if !self.node.as_ref().is_none_or(is_node_name) {
            return wrong("a node's name: 1 to 64 bytes without control characters");
        }
        if self.encryption_keys.len() > KEYS_MAX {
            return wrong("encryption keys: at most 8");
        }
        if self.plain_values.is_some() && self.encryption_keys.is_empty() {
            return wrong("`plain_values` requires an encryption key");
        }
        let sentinels = matches!(url.topology, Deployment::Sentinel { .. });
        if self.sentinel_credentials != Credentials::default() && !sentinels {
            return wrong("credentials for sentinels: the URL must begin with `redis-sentinel`");
        }
        Ok(RedisConfig {
            tls: match self.tls {
                None if url.tls => Some(RedisTls::new(&self.certificates)?),
                tls => tls,
            },
            url,
            sentinel_credentials: self.sentinel_credentials,
            prefix: Prefix::new(&self.prefix)?,
            application: self.application,
            node: self.node,
            cipher: ValueCipher::new(&self.encryption_keys, self.plain_values.unwrap_or_default()),
            operation_timeout: self.operation_timeout,
            max_in_flight: self.max_in_flight,
            max_session_bytes: self.max_session_bytes,
            replicas: self.replicas,
            near_cache: self.near_cache_bytes.map(|bytes| NearCacheLimits {
                bytes,
                max_age: self.near_cache_max_age,
            }),
        })
    }
}

fn credentials(user: Option<&str>, password: String) -> Credentials {
    Credentials {
        user: user.map(str::to_owned),
        password: Some(password),
    }
}

/// Longer lifetimes would hide a server that omits invalidations; shorter ones would cost round
/// trips.
const NEAR_CACHE_MAX_AGE: Duration = Duration::from_secs(60);
const PREFIX: &str = "sess";
/// Every session repeats the name; its length is stored in one byte.
const APPLICATION_MAX: usize = 64;
const OPERATION_TIMEOUT: Duration = Duration::from_secs(2);
/// Enough for three attempts on the fastest network.
const OPERATION_TIMEOUT_MIN: Duration = Duration::from_millis(10);
const IN_FLIGHT: usize = 1_024;
const IN_FLIGHT_MAX: usize = 1 << 20;
const SESSION_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_copies_may_be_set_before_the_cache_and_after_it() {
        let age = Duration::from_secs(5);
        let builder = || RedisStoreBuilder::new("redis://localhost".to_owned());
        for builder in [
            builder().near_cache(1 << 20).near_cache_max_age(age),
            builder().near_cache_max_age(age).near_cache(1 << 20),
        ] {
            let limits = builder.config().expect("it is valid").near_cache;
            assert_eq!(limits.expect("it has a cache").max_age, age);
        }
        let none = builder().near_cache_max_age(age).config();
        assert!(none.expect("it is valid").near_cache.is_none());
    }
}
