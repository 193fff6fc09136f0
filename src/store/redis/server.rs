//! A server, and the task that keeps a connection to it open.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{self, JoinHandle};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::store::redis::config::{
    CONNECT_WITHIN, GONE_GRACE, HEARTBEAT, RECONNECT_MAX, RECONNECT_MIN,
};
use crate::store::redis::connection::RedisConnection;
use crate::store::redis::error::{RedisError, RedisErrorKind};
use crate::store::redis::outage::{Outage, OutageReport};
use crate::store::redis::server_options::ServerOptions;
use crate::store::redis::tracking::{self, GreetingHistory};
use crate::store::redis::url::Address;

/// A server that is kept connected as long as this and the runtime exist in which it was started.
#[derive(Debug)]
pub(super) struct RedisServer {
    state: watch::Receiver<ServerState>,
}

#[derive(Clone)]
enum ServerState {
    Connecting,
    Up(Arc<RedisConnection>),
    /// The start and the cause of the outage.
    Down(Instant, Arc<RedisError>),
}

impl RedisServer {
    /// Starts to connect.
    pub(super) fn start(address: Address, options: ServerOptions) -> Self {
        let (sender, state) = watch::channel(ServerState::Connecting);
        task::spawn(keep_connected(address, options, sender));
        Self { state }
    }

    /// Returns a connection; waits until there is one.
    pub(super) async fn connection(
        &self,
        deadline: Instant,
    ) -> Result<Arc<RedisConnection>, RedisError> {
        let mut state = self.state.clone();
        loop {
            let until = match &*state.borrow_and_update() {
                ServerState::Up(connection) if connection.is_open() => {
                    return Ok(connection.clone());
                }
                ServerState::Down(since, cause) => {
                    let until = (*since + GONE_GRACE).min(deadline);
                    if Instant::now() >= until {
                        return Err(cause.flattened());
                    }
                    until
                }
                ServerState::Up(_) | ServerState::Connecting => deadline,
            };
            match timeout_at(until, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => {
                    let message = "the runtime in which the server was connected has ended: use \
                                   the store in one that lasts";
                    return Err(RedisError::new(RedisErrorKind::Unreachable, message));
                }
                Err(_) if Instant::now() < deadline => {}
                Err(_) => {
                    let late = "connecting takes too long";
                    return Err(match &*state.borrow() {
                        ServerState::Down(_, cause) => cause.flattened(),
                        _ => RedisError::new(RedisErrorKind::Unreachable, late),
                    });
                }
            }
        }
    }

    /// Returns `true` if the task has ended, with the runtime in which it was started.
    pub(super) fn has_ended(&self) -> bool {
        self.state.has_changed().is_err()
    }

    /// Returns how long the server could not be used.
    pub(super) fn down_for(&self) -> Duration {
        match &*self.state.borrow() {
            ServerState::Down(since, _) => since.elapsed(),
            ServerState::Up(_) | ServerState::Connecting => Duration::ZERO,
        }
    }

    /// Returns the current connection.
    pub(super) fn current(&self) -> Option<Arc<RedisConnection>> {
        match &*self.state.borrow() {
            ServerState::Up(connection) if connection.is_open() => Some(connection.clone()),
            _ => None,
        }
    }
}

impl std::fmt::Debug for ServerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connecting => "Connecting",
            Self::Up(_) => "Up",
            Self::Down(..) => "Down",
        })
    }
}

/// Connects, monitors the connection, and reconnects, until the node is dropped.
async fn keep_connected(
    address: Address,
    options: ServerOptions,
    state: watch::Sender<ServerState>,
) {
    let mut pause = RECONNECT_MIN;
    let mut outage = Outage::default();
    let mut down_since = None;
    let mut greetings = GreetingHistory::default();
    loop {
        let opened = tokio::select! {
            opened = open(&address, &options, &mut greetings) => opened,
            () = state.closed() => return,
        };
        let failure = match opened {
            Ok((connection, driver)) => {
                let connection = Arc::new(connection);
                let up = options.presence.as_ref().map(|p| p.enter(&mut outage));
                if let Some(lasted) = up.as_ref().and_then(|(_, lasted)| *lasted) {
                    let elapsed_ms = lasted.as_millis() as u64;
                    tracing::info!(%address, elapsed_ms, "connected to Redis again");
                }
                pause = RECONNECT_MIN;
                down_since = None;
                state.send_replace(ServerState::Up(connection.clone()));
                let end = watch_over(&connection, driver, &address, &options, &state).await;
                if end == DisconnectReason::Unneeded {
                    return;
                }
                state.send_replace(ServerState::Connecting);
                drop(up);
                match end {
                    DisconnectReason::Demoted => {
                        tracing::info!(%address, "the Redis server is no longer a primary");
                    }
                    _ => tracing::debug!(%address, "a connection to Redis was closed"),
                }
                continue;
            }
            Err(error) => error,
        };
        if let Some(presence) = &options.presence {
            log(&address, presence.fails(&mut outage), &failure);
        }
        // The time of the first failure. With that of the latest one, every request would wait
        // again before it fails.
        let since = *down_since.get_or_insert_with(Instant::now);
        state.send_replace(ServerState::Down(since, Arc::new(failure)));
        tokio::select! {
            () = sleep(pause) => {}
            () = state.closed() => return,
        }
        pause = (pause * 2).min(RECONNECT_MAX);
    }
}

async fn open(
    address: &Address,
    options: &ServerOptions,
    greetings: &mut GreetingHistory,
) -> Result<(RedisConnection, JoinHandle<()>), RedisError> {
    let config = &options.config;
    let opened = tracking::open(address, options, greetings);
    if let Ok(opened) = timeout(CONNECT_WITHIN, opened).await {
        return opened;
    }
    greetings.timed_out();
    let message = match config.tls {
        Some(_) => format!("{address} does not answer: check that it speaks TLS"),
        None => format!("{address} does not answer: check that it does not require TLS"),
    };
    Err(RedisError::new(RedisErrorKind::Unreachable, message))
}

fn log(address: &Address, report: Option<OutageReport>, failure: &RedisError) {
    let cause = failure.flattened();
    match report {
        Some(OutageReport::Begins) => tracing::warn!(%address, %cause, "Redis cannot be used"),
        Some(OutageReport::Lasts(lasted)) => {
            let elapsed_ms = lasted.as_millis() as u64;
            tracing::warn!(%address, %cause, elapsed_ms, "Redis still cannot be used");
        }
        None => {}
    }
}

/// The reason why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DisconnectReason {
    Broken,
    /// The server is no longer a primary.
    Demoted,
    /// The node was dropped.
    Unneeded,
}

/// Completes when the connection can no longer be used.
async fn watch_over(
    connection: &RedisConnection,
    mut driver: JoinHandle<()>,
    address: &Address,
    options: &ServerOptions,
    state: &watch::Sender<ServerState>,
) -> DisconnectReason {
    let mut due = Instant::now();
    let mut pause = HEARTBEAT;
    let mut test_at = due + pause;
    loop {
        // From one question to the next: the time of an answer adds nothing to the age of copies.
        due = (due + HEARTBEAT).max(Instant::now());
        let beat = async {
            sleep_until(due).await;
            connection.check(options.patience).await;
            if Instant::now() >= test_at {
                tracking::test(connection, address, options).await;
                pause = (pause * 2).min(TEST_PAUSE_MAX);
                test_at = Instant::now() + pause;
            }
        };
        tokio::select! {
            _ = &mut driver => return DisconnectReason::Broken,
            () = connection.retirement() => return DisconnectReason::Demoted,
            () = state.closed() => return DisconnectReason::Unneeded,
            () = beat => {}
        }
    }
}

/// The maximum pause between self-tests of a connection while the server refuses them.
const TEST_PAUSE_MAX: Duration = Duration::from_secs(60);
