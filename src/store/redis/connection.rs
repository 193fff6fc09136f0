//! A connection to a server, shared by all operations.
//!
//! Only `MultiplexedConnection` of the `redis` crate is used, which matches answers to requests by
//! their order and never reconnects. Its connection manager and its cluster client are not used: as
//! of 1.8.1 the former keeps half-open connections and replicas forever, the latter answers `ASK`
//! during slow migrations of slots and may then stop permanently (redis-rs issues 1438 and 2418,
//! and valkey-glide 2643, are of that kind).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::sync::Notify;
use tokio::task::{self, AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout_at};

use crate::clock;
use crate::session::Timestamp;
use crate::store::redis::activity::Activity;
use crate::store::redis::config::RedisConfig;
use crate::store::redis::connect::{GreetedConnection, OpenError, PushReceiver, connect, greeting};
use crate::store::redis::error::{CommandFailure, RedisError, RedisErrorKind};
use crate::store::redis::invalidations::InvalidationReceiver;
use crate::store::redis::near_cache::{CacheSource, NearCache, TrackingHealth};
use crate::store::redis::role::RoleCommand;
use crate::store::redis::script::Script;
use crate::store::redis::url::{Address, Deployment};

/// A usable connection.
pub(super) struct RedisConnection {
    connection: MultiplexedConnection,
    hashes: [String; Script::ALL.len()],
    activity: Arc<Activity>,
    driver: AbortHandle,
    /// The near-cache that receives the server's invalidations.
    tracked: Option<(Arc<NearCache>, Arc<TrackingHealth>)>,
    /// The command that asks the server for its role.
    role: RoleCommand,
    retired: AtomicBool,
    retirement: Notify,
}

impl RedisConnection {
    /// Connects, authenticates and loads the scripts. The task ends with the connection.
    ///
    /// Fails if the server is not a primary or does not run scripts.
    pub(super) async fn open(
        address: &Address,
        config: &RedisConfig,
        tracked: Option<(Arc<NearCache>, Arc<TrackingHealth>)>,
    ) -> Result<(Self, JoinHandle<()>), OpenError> {
        let pushes = tracked.clone().map(|(near_cache, health)| {
            Arc::new(InvalidationReceiver { near_cache, health }) as PushReceiver
        });
        let info = greeting(
            &config.url.credentials,
            config.url.database,
            pushes.is_some(),
        );
        let GreetedConnection {
            connection,
            driver,
            activity,
        } = connect(address, config, &info, pushes).await?;
        let mut connection = Self {
            connection,
            hashes: Default::default(),
            activity,
            driver: driver.abort_handle(),
            tracked,
            role: RoleCommand::Ping,
            retired: AtomicBool::new(false),
            retirement: Notify::new(),
        };
        let prepared = async {
            connection.check_role(address, config).await?;
            connection.load_scripts().await
        };
        prepared.await.map_err(OpenError::Unusable)?;
        Ok((connection, driver))
    }

    /// Finds the command that asks this server for its role, and fails if it is not a primary. A
    /// replica in a cluster redirects by itself.
    async fn check_role(
        &mut self,
        address: &Address,
        config: &RedisConfig,
    ) -> Result<(), RedisError> {
        if config.url.topology == Deployment::Cluster {
            return Ok(());
        }
        for role in [RoleCommand::Role, RoleCommand::Info] {
            let replies = self
                .send_unchecked(&role.pipeline())
                .await
                .map_err(CommandFailure::into_error)?;
            match replies.first().and_then(|reply| role.is_primary(reply)) {
                Some(true) => {
                    self.role = role;
                    return Ok(());
                }
                Some(false) => {
                    let message = format!("{address} is a replica");
                    return Err(RedisError::new(RedisErrorKind::ReadOnly, message));
                }
                None => {}
            }
        }
        tracing::debug!(%address, "the server does not state its role (ROLE, INFO)");
        Ok(())
    }

    async fn load_scripts(&mut self) -> Result<(), RedisError> {
        let mut pipeline = redis::pipe();
        for script in Script::ALL {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(script.source());
        }
        // Asks for a script that no server has. The first arguments of a commit are not text: a
        // server that does not know the command would repeat them in an invalid error.
        pipeline.cmd("EVALSHA").arg(NO_SCRIPT).arg(0);
        let mut loaded = self
            .send_unchecked(&pipeline)
            .await
            .map_err(CommandFailure::into_error)?;
        if let Some(Value::ServerError(error)) = loaded.pop()
            && let failure = CommandFailure::of_reply(&error, "EVALSHA")
            && !matches!(failure, CommandFailure::NoScript)
        {
            return Err(failure.into_error());
        }
        for (hash, reply) in self.hashes.iter_mut().zip(loaded) {
            *hash = match reply {
                Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
                Value::SimpleString(text) => Some(text),
                Value::ServerError(error) => {
                    return Err(CommandFailure::of_reply(&error, "SCRIPT LOAD").into_error());
                }
                _ => None,
            }
            .ok_or_else(|| RedisError::new(RedisErrorKind::Unexpected, "no hash of a script"))?;
        }
        Ok(())
    }

    /// Sends the commands in one write, and waits for all the answers. Returns an error if one of
    /// them is.
    pub(super) async fn send(&self, pipeline: &Pipeline) -> Result<Vec<Value>, CommandFailure> {
        let replies = self.send_unchecked(pipeline).await?;
        for (reply, command) in replies.iter().zip(pipeline.cmd_iter()) {
            if let Value::ServerError(error) = reply {
                return Err(CommandFailure::of_reply(error, &name(command)));
            }
        }
        Ok(replies)
    }

    /// As [`send`](Self::send), with errors among the answers.
    pub(super) async fn send_unchecked(
        &self,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, CommandFailure> {
        let mut connection = self.connection.clone();
        connection
            .send_packed_commands(pipeline, 0, pipeline.len())
            .await
            .map_err(|error| CommandFailure::of(&error))
    }

    /// Asks whether the server is still a primary, and retires the connection if it is not.
    pub(super) async fn check(&self, patience: Duration) {
        let sent_at = clock::now();
        let question = self.role.pipeline();
        let replies = self.send_within(&question, patience, None).await;
        // After a failure of the connection the driver ends by itself.
        let Ok(replies) = replies else {
            return;
        };
        match replies
            .first()
            .and_then(|reply| self.role.is_primary(reply))
        {
            Some(false) => self.start_draining(),
            // An error is an answer as well: the invalidations before it have arrived.
            Some(true) | None => self.is_well(sent_at),
        }
    }

    /// Takes the connection out of use: its server is no longer a primary. It closes when the
    /// pending operations have their answers.
    pub(super) fn start_draining(&self) {
        if let Some((_, health)) = &self.tracked {
            health.end();
        }
        self.retired.store(true, Relaxed);
        self.retirement.notify_one();
    }

    /// Completes when the connection is taken out of use.
    pub(super) async fn retirement(&self) {
        self.retirement.notified().await;
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// As [`send_unchecked`](Self::send_unchecked), but closes the connection when it is of no use:
    ///
    /// - No data moves on it for `limit`: it is half open, or the server is suspended. A request or
    ///   an answer that is under way for longer, because it is large and the network slow, is
    ///   waited for.
    /// - Nothing has arrived on it for `limit` when the `deadline` passes. Later requests would
    ///   wait behind the rest of this one, which is of no use any more.
    pub(super) async fn send_within(
        &self,
        pipeline: &Pipeline,
        limit: Duration,
        deadline: Option<Instant>,
    ) -> Result<Vec<Value>, CommandFailure> {
        let sent_at = Instant::now();
        let mut answer = std::pin::pin!(self.send_unchecked(pipeline));
        let mut silent_since = sent_at;
        loop {
            let silent_until = silent_since + limit;
            let until = deadline.map_or(silent_until, |deadline| silent_until.min(deadline));
            if let Ok(answer) = timeout_at(until, &mut answer).await {
                return answer;
            }
            let message = if deadline == Some(until) {
                // Without a pause: the caller's own time limit passes at about the same time.
                let arrived = self.activity.arrived().max(sent_at);
                if arrived + limit <= Instant::now() {
                    self.close();
                }
                "no answer within the operation timeout"
            } else {
                // After a suspension of this process, what has arrived meanwhile is read first.
                task::yield_now().await;
                let moved = self.activity.moved();
                if moved > silent_since {
                    silent_since = moved;
                    continue;
                }
                self.close();
                "no data moves on the connection"
            };
            let error = RedisError::new(RedisErrorKind::TimedOut, message);
            return Err(CommandFailure::Broken(error));
        }
    }

    pub(super) fn hash(&self, script: Script) -> &str {
        &self.hashes[script as usize]
    }

    /// Returns `true` if operations may use the connection.
    pub(super) fn is_open(&self) -> bool {
        !self.driver.is_finished() && !self.is_retired()
    }

    /// The origin of copies that come over this connection from now on; `None`: the server sends no
    /// invalidations.
    pub(super) fn source(&self) -> Option<CacheSource> {
        let (near_cache, health) = self.tracked.as_ref()?;
        Some(near_cache.source(health))
    }

    /// The near-cache that receives the server's invalidations, if it can, and whether it does.
    pub(super) fn tracking(&self) -> Option<(&NearCache, &TrackingHealth)> {
        let (near_cache, health) = self.tracked.as_ref()?;
        Some((near_cache, health))
    }

    /// Records the answer to a request, with which all earlier invalidations have arrived.
    fn is_well(&self, sent_at: Timestamp) {
        if let Some((_, health)) = &self.tracked {
            health.answered(sent_at);
        }
    }

    /// Drops the connection: pending operations get no answer, and in particular not another one's.
    pub(super) fn close(&self) {
        if let Some((_, health)) = &self.tracked {
            health.end();
        }
        self.driver.abort();
    }
}

impl Drop for RedisConnection {
    fn drop(&mut self) {
        self.close();
    }
}

/// The name of a command.
pub(super) fn name(command: &redis::Cmd) -> String {
    match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    }
}

/// The hash of no script.
const NO_SCRIPT: &str = "0000000000000000000000000000000000000000";
