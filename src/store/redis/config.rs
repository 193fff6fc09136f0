//! The validated settings of a store.

use std::time::Duration;

use crate::store::redis::cipher::ValueCipher;
use crate::store::redis::keys::Prefix;
use crate::store::redis::tls::RedisTls;
use crate::store::redis::url::{Credentials, Url};

/// The settings that operations and connections use.
#[derive(Debug)]
pub(super) struct RedisConfig {
    pub(super) url: Url,
    /// For the sentinels themselves.
    pub(super) sentinel_credentials: Credentials,
    pub(super) prefix: Prefix,
    /// The name that new sessions carry. Sessions with another name are not used.
    pub(super) application: Option<String>,
    /// The name of this node in events.
    pub(super) node: Option<String>,
    /// Encrypts the values of attributes.
    pub(super) cipher: Option<ValueCipher>,
    pub(super) tls: Option<RedisTls>,
    /// The time limit of an operation, including retries.
    pub(super) operation_timeout: Duration,
    pub(super) max_in_flight: usize,
    pub(super) max_session_bytes: usize,
    pub(super) replicas: Option<Replicas>,
    pub(super) near_cache: Option<NearCacheLimits>,
}

/// How many replicas must confirm an ended session or a rotation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replicas {
    pub(super) count: u8,
    pub(super) within: Duration,
}

/// The size and age limits of the near-cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct NearCacheLimits {
    pub(super) bytes: usize,
    pub(super) max_age: Duration,
}

impl RedisConfig {
    /// How long one attempt may go without data moving: leaves time for two more.
    pub(super) fn attempt(&self) -> Duration {
        self.operation_timeout / 3
    }

    /// How much time must be left for another attempt: with two seconds a quarter of a second,
    /// which even a busy server does not need.
    pub(super) fn last_attempt(&self) -> Duration {
        self.operation_timeout / 8
    }
}

/// The interval between checks of a connection.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long a server may be silent on a connection with a pending request.
pub(super) const PONG_WITHIN: Duration = Duration::from_secs(1);

/// How long a new connection may take until it can be used.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How long requests wait for a server that has just become unavailable: a restart causes no error.
/// After that they fail at once.
pub(super) const GONE_GRACE: Duration = Duration::from_millis(500);

/// How long no server may be connected before the store is not ready: longer than a restart, and
/// shorter than a failover.
pub(super) const READY_GRACE: Duration = Duration::from_secs(3);

/// The pause before reconnecting: initially and at most.
pub(super) const RECONNECT_MIN: Duration = Duration::from_millis(20);
pub(super) const RECONNECT_MAX: Duration = Duration::from_millis(500);

/// How long a tombstone is kept. Updates never create a session, so it only has to outlast requests
/// that may still create one: attempts delayed by the network, or by a server that was suspended.
pub(super) const TOMBSTONE: Duration = Duration::from_secs(600);
