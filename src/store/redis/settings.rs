//! What the builder has decided.

use std::time::Duration;

use super::address::{Credentials, Url};
use super::keys::Prefix;
use super::tls::Tls;

/// Everything that operations and connections need to know.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) url: Url,
    /// Of the sentinels themselves.
    pub(super) sentinel_credentials: Credentials,
    pub(super) prefix: Prefix,
    /// The name that new sessions carry, and that those of other applications do not.
    pub(super) application: Option<String>,
    pub(super) tls: Option<Tls>,
    /// What an operation may take, retries included.
    pub(super) deadline: Duration,
    pub(super) max_in_flight: usize,
    pub(super) max_session_bytes: usize,
    pub(super) replicas: Option<Replicas>,
    pub(super) near_cache: Option<NearCacheLimits>,
}

/// How many replicas must confirm that a session has ended or got a new secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replicas {
    pub(super) count: u8,
    pub(super) within: Duration,
}

/// What the near-cache may hold, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct NearCacheLimits {
    pub(super) bytes: usize,
    pub(super) max_age: Duration,
}

impl Settings {
    /// How long one attempt may be without any answer: room for two more after it.
    pub(super) fn attempt(&self) -> Duration {
        self.deadline / 3
    }

    /// How much time must be left for another attempt: a quarter of a second of two, which even a
    /// busy server does not need.
    pub(super) fn last_attempt(&self) -> Duration {
        self.deadline / 8
    }
}

/// How often a connection is asked whether it still works.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long a server may be silent on a connection that asks it.
pub(super) const PONG_WITHIN: Duration = Duration::from_secs(1);

/// How long a new connection may take until it can be used.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How long requests wait for a server that has just gone: one that restarts is not an error.
/// Behind that they fail at once.
pub(super) const GONE_GRACE: Duration = Duration::from_millis(500);

/// How long no server may be connected before the store is not ready: longer than a restart, and
/// shorter than a failover.
pub(super) const READY_GRACE: Duration = Duration::from_secs(3);

/// How long a connection that failed is left alone: at first and at most.
pub(super) const RECONNECT_MIN: Duration = Duration::from_millis(20);
pub(super) const RECONNECT_MAX: Duration = Duration::from_millis(500);

/// How long a tombstone stays. Updates never create, so it only has to outlast what may still be on
/// its way to create a session: an attempt that the network, or a server that stood still, held up.
pub(super) const TOMBSTONE: Duration = Duration::from_secs(600);
