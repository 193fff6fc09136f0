//! One connection to one server, shared by everybody.
//!
//! Only `MultiplexedConnection` of the `redis` crate is used, which pairs answers with questions by
//! their order and never reconnects. Its connection manager and its cluster client are not: as of
//! 1.8.1 the one keeps half-open connections and replicas for ever, the other answers `ASK` during
//! slow migrations of slots and may then stop for good (redis-rs issues 1438 and 2418, and
//! valkey-glide 2643, are of that kind).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Pipeline, ProtocolVersion, RedisConnectionInfo, Value};
use tokio::net::TcpStream;
use tokio::task::{self, AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout};

use super::address::{Address, Credentials, Topology};
use super::error::{Failure, RedisError, RedisErrorKind};
use super::near::{Health, Near, Source};
use super::script::Script;
use super::settings::Settings;
use super::tracking::Listener;

/// A connection that can be used.
pub(super) struct Link {
    connection: MultiplexedConnection,
    hashes: [String; Script::ALL.len()],
    opened: Instant,
    /// When anything was last heard, in milliseconds since `opened`.
    heard: AtomicU64,
    driver: AbortHandle,
    /// Where the server tells what changes.
    tracked: Option<(Arc<Near>, Arc<Health>)>,
}

/// Who gets what a server says without being asked.
pub(super) type Pushes = Arc<dyn AsyncPushSender>;

impl Link {
    /// Connects, says who we are, and brings the scripts. The task ends with the connection.
    pub(super) async fn open(
        address: &Address,
        settings: &Settings,
        tracked: Option<(Arc<Near>, Arc<Health>)>,
    ) -> Result<(Self, JoinHandle<()>), RedisError> {
        let pushes = tracked
            .clone()
            .map(|(near, health)| Listener { near, health });
        let pushes = pushes.map(|listener| Arc::new(listener) as Pushes);
        let info = info(
            &settings.url.credentials,
            settings.url.database,
            pushes.is_some(),
        );
        let (connection, driver) = connect(address, settings, &info, pushes).await?;
        let mut link = Self {
            connection,
            hashes: Default::default(),
            opened: Instant::now(),
            heard: AtomicU64::new(0),
            driver: driver.abort_handle(),
            tracked,
        };
        let mut pipeline = redis::pipe();
        for script in Script::ALL {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(script.source());
        }
        let sentinel = matches!(settings.url.topology, Topology::Sentinel { .. });
        if sentinel {
            pipeline.cmd("ROLE");
        }
        let loaded = link.send(&pipeline).await;
        let mut loaded = loaded.map_err(|failure| refused(address, failure))?;
        if sentinel && !loaded.pop().is_some_and(|role| is_master(&role)) {
            let what = format!("{address} is not the master any more");
            return Err(RedisError::new(RedisErrorKind::ReadOnly, what));
        }
        for (hash, reply) in link.hashes.iter_mut().zip(loaded) {
            *hash = match reply {
                Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
                Value::SimpleString(text) => Some(text),
                _ => None,
            }
            .ok_or_else(|| RedisError::new(RedisErrorKind::Unexpected, "no hash of a script"))?;
        }
        Ok((link, driver))
    }

    /// Sends the commands in one write, and waits for all the answers.
    pub(super) async fn send(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Failure> {
        let mut connection = self.connection.clone();
        let replies = connection
            .send_packed_commands(pipeline, 0, pipeline.len())
            .await;
        let replies = replies.map_err(|error| Failure::of(&error))?;
        self.heard.store(self.age(), Relaxed);
        let refused = replies.iter().find_map(|reply| match reply {
            Value::ServerError(error) => Some(Failure::of(&error.clone().into())),
            _ => None,
        });
        match refused {
            Some(failure) => Err(failure),
            None => Ok(replies),
        }
    }

    /// As [`send`](Self::send), but closes the connection when nothing at all is heard on it for
    /// `limit`: it is half open, or the server stands still.
    pub(super) async fn send_within(
        &self,
        pipeline: &Pipeline,
        limit: Duration,
    ) -> Result<Vec<Value>, Failure> {
        let mut answer = std::pin::pin!(self.send(pipeline));
        loop {
            if let Ok(answer) = timeout(limit, &mut answer).await {
                return answer;
            }
            if self.heard.load(Relaxed) <= self.age().saturating_sub(millis(limit)) {
                self.close();
                let what = "a connection on which nothing is heard";
                return Err(Failure::Broken(RedisError::new(
                    RedisErrorKind::TimedOut,
                    what,
                )));
            }
        }
    }

    pub(super) fn hash(&self, script: Script) -> &str {
        &self.hashes[script as usize]
    }

    pub(super) fn is_open(&self) -> bool {
        !self.driver.is_finished()
    }

    /// What a copy depends on that is made of what comes over this connection from now on; `None`:
    /// the server does not tell what changes.
    pub(super) fn source(&self) -> Option<Source> {
        let (near, health) = self.tracked.as_ref()?;
        Some(near.source(health))
    }

    /// Something has come back, so everything that was said before has.
    pub(super) fn is_well(&self) {
        if let Some((near, health)) = &self.tracked {
            near.heard(health);
        }
    }

    /// Drops the connection: nobody who waits for an answer gets one, nor somebody else's.
    pub(super) fn close(&self) {
        if let Some((_, health)) = &self.tracked {
            health.set_tracked(false);
        }
        self.driver.abort();
    }

    fn age(&self) -> u64 {
        millis(self.opened.elapsed())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

/// A connection with nothing on it but the greeting.
pub(super) async fn connect(
    address: &Address,
    settings: &Settings,
    info: &RedisConnectionInfo,
    pushes: Option<Pushes>,
) -> Result<(MultiplexedConnection, JoinHandle<()>), RedisError> {
    let unreachable = |error: std::io::Error| {
        let what = format!("no connection to {address}");
        RedisError::new(RedisErrorKind::Unreachable, what).because(error)
    };
    let stream = TcpStream::connect((address.host.as_str(), address.port))
        .await
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let mut config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_pipeline_buffer_size(settings.max_in_flight);
    if let Some(pushes) = pushes {
        config = config.set_push_sender(pushes);
    }
    let greeted = match &settings.tls {
        None => greet(MultiplexedConnection::new_with_config(info, stream, config)).await,
        Some(tls) => {
            let stream = tls.wrap(&address.host, stream).await?;
            greet(MultiplexedConnection::new_with_config(info, stream, config)).await
        }
    };
    greeted.map_err(|error| refused(address, Failure::of_greeting(&error)))
}

/// What is said to a server first.
pub(super) fn info(credentials: &Credentials, database: i64, pushes: bool) -> RedisConnectionInfo {
    let protocol = match pushes {
        true => ProtocolVersion::RESP3,
        false => ProtocolVersion::RESP2,
    };
    let mut info = RedisConnectionInfo::default()
        .set_db(database)
        .set_protocol(protocol)
        .set_skip_set_lib_name();
    if let Some(user) = &credentials.user {
        info = info.set_username(user);
    }
    if let Some(password) = &credentials.password {
        info = info.set_password(password);
    }
    info
}

async fn greet<D: Future<Output = ()> + Send + 'static>(
    greeting: impl Future<Output = redis::RedisResult<(MultiplexedConnection, D)>>,
) -> redis::RedisResult<(MultiplexedConnection, JoinHandle<()>)> {
    let (connection, driver) = greeting.await?;
    Ok((connection, task::spawn(driver)))
}

fn refused(address: &Address, failure: Failure) -> RedisError {
    match failure {
        Failure::Apart(error)
        | Failure::Later(error)
        | Failure::Broken(error)
        | Failure::Final(error) => error,
        Failure::Moved(_) | Failure::Ask(_) | Failure::NoScript => {
            let what = format!("{address} redirects a connection");
            RedisError::new(RedisErrorKind::Unexpected, what)
        }
    }
}

fn is_master(role: &Value) -> bool {
    let Value::Array(parts) = role else {
        return false;
    };
    matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
