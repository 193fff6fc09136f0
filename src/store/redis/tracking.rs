//! Connections on which the server sends invalidations, and the test that it does.
//!
//! Servers differ: some do not track keys, some confirm tracking and send nothing. Each connection
//! on which copies depend is therefore tested first, with a key that another connection writes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock;
use crate::session::Timestamp;
use crate::store::redis::config::RedisConfig;
use crate::store::redis::connect::{self, OpenError};
use crate::store::redis::connection::RedisConnection;
use crate::store::redis::error::{CommandFailure, RedisError, RedisErrorKind};
use crate::store::redis::near_cache::{NearCache, TrackingHealth};
use crate::store::redis::url::Address;

/// The results of earlier attempts to connect to a server, for its protocol.
#[derive(Debug, Default)]
pub(super) struct GreetingHistory {
    /// Consecutive RESP3 greetings that the server has not answered.
    broken: u32,
}

impl GreetingHistory {
    /// Records a greeting that timed out.
    pub(super) fn timed_out(&mut self) {
        self.broken += 1;
    }
}

/// Opens a connection; with `near_cache`, one on which the server sends invalidations, if it can.
/// Servers and proxies that do not know `HELLO` refuse it with various messages, or close the
/// connection: they are used without copies.
pub(super) async fn open(
    address: &Address,
    config: &RedisConfig,
    near_cache: Option<&Arc<NearCache>>,
    greetings: &mut GreetingHistory,
) -> Result<(RedisConnection, JoinHandle<()>), RedisError> {
    let plain = || RedisConnection::open(address, config, None);
    let Some(near_cache) = near_cache else {
        return plain().await.map_err(OpenError::into_error);
    };
    let health = near_cache.new_health();
    let tracked =
        || RedisConnection::open(address, config, Some((near_cache.clone(), health.clone())));
    let opened = if greetings.broken < BROKEN_MAX {
        tracked().await
    } else {
        // The server may be the cause: only one that answers RESP2 has failed at RESP3.
        let working = plain().await.map_err(OpenError::into_error)?;
        match timeout(GREETING_WITHIN, tracked()).await {
            Ok(Ok(opened)) => Ok(opened),
            _ => {
                let message = "no answer to HELLO";
                let error = RedisError::new(RedisErrorKind::Unexpected, message);
                near_cache.warn_once(address, "the server must speak RESP3", &error);
                return Ok(working);
            }
        }
    };
    let (connection, driver) = match opened {
        Ok(opened) => opened,
        // Also with a refused password: some ask for one before they look at the command.
        Err(OpenError::Refused(error)) => {
            let opened = plain().await.map_err(OpenError::into_error)?;
            near_cache.warn_once(address, "the server must speak RESP3", &error);
            return Ok(opened);
        }
        Err(OpenError::Broken(error)) => {
            greetings.broken += 1;
            return Err(error);
        }
        Err(error) => return Err(error.into_error()),
    };
    *greetings = GreetingHistory::default();
    match receives_invalidations(&connection, &health, address, config, near_cache).await {
        Ok(Some(asked_at)) => {
            health.answered(asked_at);
            health.set_tracked(true);
        }
        Ok(None) => {
            let message = "no invalidation arrived (CLIENT TRACKING)";
            let error = RedisError::new(RedisErrorKind::Unexpected, message);
            near_cache.warn_once(address, "the user must be allowed CLIENT TRACKING", &error);
        }
        // The connection is about to end as well.
        Err(error) => {
            let cause = error.flattened();
            tracing::debug!(%address, %cause, "cannot test whether the server tracks keys");
        }
    }
    Ok((connection, driver))
}

/// Returns when the server was last asked, if it sends this connection an invalidation of a key
/// that it has read.
async fn receives_invalidations(
    connection: &RedisConnection,
    health: &TrackingHealth,
    address: &Address,
    config: &RedisConfig,
    near_cache: &NearCache,
) -> Result<Option<Timestamp>, RedisError> {
    let mut tracking = redis::pipe();
    tracking.cmd("CLIENT").arg("TRACKING").arg("ON");
    if connection.send(&tracking).await.is_err() {
        return Ok(None);
    }
    // In a cluster, a key that this server owns has to be found.
    for number in 0..PROBES_MAX {
        let key = near_cache.prefix.probe(number);
        let mut read = redis::pipe();
        read.cmd("HGETALL").arg(&key);
        match connection.send(&read).await {
            Ok(_) => {}
            Err(CommandFailure::Moved(_) | CommandFailure::Ask(_)) => continue,
            Err(_) => return Ok(None),
        }
        // An invalidation from before the write shows nothing: the key may be that of an earlier
        // test, and may have expired just now.
        health.probed.store(false, Relaxed);
        let info = connect::greeting(&config.url.credentials, config.url.database, false);
        let connected = connect::connect(address, config, &info, None).await;
        let mut other = connected.map_err(OpenError::into_error)?;
        let write = writing(&key);
        let written = other
            .connection
            .send_packed_commands(&write, 0, write.len())
            .await;
        other.driver.abort();
        let refused = |reply: &Value| matches!(reply, Value::ServerError(_));
        if written.is_ok_and(|replies| !replies.iter().any(refused)) {
            // The answer arrives after everything that the server sent before it.
            let mut ping: Pipeline = redis::pipe();
            ping.cmd("PING");
            let asked_at = clock::now();
            let works = connection.send(&ping).await.is_ok() && health.probed.load(Relaxed);
            return Ok(works.then_some(asked_at));
        }
        return Ok(None);
    }
    Ok(None)
}

/// Creates a key that expires by itself.
fn writing(key: &[u8]) -> Pipeline {
    const SCRIPT: &str =
        "redis.call('HSET', KEYS[1], '', 'x') redis.call('PEXPIRE', KEYS[1], 1000)";
    let mut pipeline = redis::pipe();
    pipeline.cmd("EVAL").arg(SCRIPT).arg(1).arg(key);
    pipeline
}

/// Each server of a cluster of a hundred owns one of this many keys, almost certainly.
const PROBES_MAX: usize = 1_000;

/// Consecutive greetings that may fail by accident.
const BROKEN_MAX: u32 = 2;

/// How long a server that answers RESP2 may take to answer the greeting of RESP3.
const GREETING_WITHIN: Duration = Duration::from_secs(1);
