//! Connections on which the server sends invalidations, and the test that it does.
//!
//! Servers differ: some do not track keys, some confirm tracking and send nothing. Each connection
//! on which copies depend is therefore tested first, with a key that another connection writes. If
//! the server refuses that write, the test is repeated later.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock;
use crate::session::Timestamp;
use crate::store::redis::connect::{self, OpenError};
use crate::store::redis::connection::RedisConnection;
use crate::store::redis::error::{CommandFailure, RedisError, RedisErrorKind};
use crate::store::redis::near_cache::{NearCache, TrackingHealth};
use crate::store::redis::server_options::ServerOptions;
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

/// Opens a connection; with a near-cache, one on which the server sends invalidations, if it can.
/// Servers and proxies that do not know `HELLO` refuse it with various messages, or close the
/// connection: they are used without copies.
pub(super) async fn open(
    address: &Address,
    options: &ServerOptions,
    greetings: &mut GreetingHistory,
) -> Result<(RedisConnection, JoinHandle<()>), RedisError> {
    let config = &options.config;
    let plain = || RedisConnection::open(address, config, None);
    let Some(near_cache) = &options.near_cache else {
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
    test(&connection, address, options).await;
    Ok((connection, driver))
}

/// Tests whether the server sends invalidations on this connection, unless that is known.
pub(super) async fn test(connection: &RedisConnection, address: &Address, options: &ServerOptions) {
    let tracking = connection.tracking();
    let Some((near_cache, health)) = tracking.filter(|(_, health)| health.is_untested()) else {
        return;
    };
    let tested = receives_invalidations(connection, (near_cache, health), address, options);
    let late = |_| {
        let message = "no answer to the self-test";
        let error = RedisError::new(RedisErrorKind::TimedOut, message);
        Err(TestFailure::Undecided(error))
    };
    match timeout(TEST_WITHIN, tested).await.unwrap_or_else(late) {
        Ok(asked_at) => health.start(asked_at),
        Err(TestFailure::Untracked(error)) => {
            health.end();
            near_cache.warn_once(address, "the user must be allowed CLIENT TRACKING", &error);
        }
        Err(TestFailure::Refused(error)) => {
            near_cache.warn_once(address, "the server must accept a write", &error);
        }
        Err(TestFailure::Undecided(error)) => {
            let cause = error.flattened();
            tracing::debug!(%address, %cause, "cannot test whether the server tracks keys");
        }
    }
}

/// The reason why copies must not depend on a connection.
#[derive(Debug)]
enum TestFailure {
    /// The server sends no invalidations on it.
    Untracked(RedisError),
    /// The server refuses a command of the test. That may be for a moment: it has too few replicas,
    /// no memory left, too many clients.
    Refused(RedisError),
    /// The connection is about to end as well, or slots are moving.
    Undecided(RedisError),
}

/// Returns when the server was last asked, if it sends this connection an invalidation of a key
/// that it has read.
async fn receives_invalidations(
    connection: &RedisConnection,
    (near_cache, health): (&NearCache, &TrackingHealth),
    address: &Address,
    options: &ServerOptions,
) -> Result<Timestamp, TestFailure> {
    let config = &options.config;
    // Not tried one by one: a shard of a large cluster would redirect hundreds of them.
    let probes = (0..PROBES_MAX).map(|number| near_cache.prefix.probe(number));
    let Some(key) = options.topology.find_key_of(address, probes) else {
        let message = format!("{address} owns no slot");
        let error = RedisError::new(RedisErrorKind::ClusterDown, message);
        return Err(TestFailure::Undecided(error));
    };
    let mut tracking = redis::pipe();
    tracking.cmd("CLIENT").arg("TRACKING").arg("ON");
    connection
        .send(&tracking)
        .await
        .map_err(|failure| match failure {
            CommandFailure::Broken(error) => TestFailure::Undecided(error),
            failure => TestFailure::Untracked(failure.into_error()),
        })?;
    let mut read = redis::pipe();
    read.cmd("HGETALL").arg(&key);
    connection.send(&read).await.map_err(refused)?;
    health.probed.store(false, Relaxed);
    let info = connect::greeting(&config.url.credentials, config.url.database, false);
    let connected = connect::connect(address, config, &info, None).await;
    let mut other = connected.map_err(|failure| match failure {
        OpenError::Refused(error) => TestFailure::Refused(error),
        failure => TestFailure::Undecided(failure.into_error()),
    })?;
    let write = writing(&key);
    let written = other
        .connection
        .send_packed_commands(&write, 0, write.len())
        .await;
    other.driver.abort();
    let written = written.map_err(|error| refused(CommandFailure::of(&error)))?;
    for reply in &written {
        if let Value::ServerError(error) = reply {
            return Err(refused(CommandFailure::of_reply(error, "EVAL")));
        }
    }
    // The answer arrives after everything that the server sent before it.
    let mut ping: Pipeline = redis::pipe();
    ping.cmd("PING");
    let asked_at = clock::now();
    connection.send(&ping).await.map_err(refused)?;
    if health.probed.load(Relaxed) {
        return Ok(asked_at);
    }
    let message = "no invalidation arrived (CLIENT TRACKING)";
    let error = RedisError::new(RedisErrorKind::Unexpected, message);
    Err(TestFailure::Untracked(error))
}

fn refused(failure: CommandFailure) -> TestFailure {
    match failure {
        CommandFailure::Broken(_) | CommandFailure::Moved(_) | CommandFailure::Ask(_) => {
            TestFailure::Undecided(failure.into_error())
        }
        failure => TestFailure::Refused(failure.into_error()),
    }
}

/// Creates a key that expires by itself.
fn writing(key: &[u8]) -> Pipeline {
    const SCRIPT: &str =
        "redis.call('HSET', KEYS[1], '', 'x') redis.call('PEXPIRE', KEYS[1], 1000)";
    let mut pipeline = redis::pipe();
    pipeline.cmd("EVAL").arg(SCRIPT).arg(1).arg(key);
    pipeline
}

/// Whatever slots a server owns, one of this many keys is almost certainly in them.
const PROBES_MAX: usize = 100_000;

/// How long the self-test may take: a connection is of use without copies as well.
const TEST_WITHIN: Duration = Duration::from_secs(1);

/// Consecutive greetings that may fail by accident.
const BROKEN_MAX: u32 = 2;

/// How long a server that answers RESP2 may take to answer the greeting of RESP3.
const GREETING_WITHIN: Duration = Duration::from_secs(1);
