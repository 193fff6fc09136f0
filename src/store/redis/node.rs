//! A server, and the task that keeps a connection to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{self, JoinHandle};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::address::Address;
use super::error::{RedisError, RedisErrorKind};
use super::link::Link;
use super::near::Near;
use super::settings::{
    CONNECT_WITHIN, GONE_GRACE, HEARTBEAT, RECONNECT_MAX, RECONNECT_MIN, Settings,
};
use super::tracking;

/// A server that is kept connected as long as somebody holds this.
#[derive(Debug)]
pub(super) struct Node {
    state: watch::Receiver<State>,
}

#[derive(Clone)]
enum State {
    Connecting,
    Up(Arc<Link>),
    /// Since when, and why.
    Down(Instant, Arc<RedisError>),
}

impl Node {
    /// Begins to connect. With `near`, the server is to tell what changes. A
    /// connection on which nothing is heard for `patience` is given up.
    pub(super) fn start(
        address: Address,
        settings: Arc<Settings>,
        near: Option<Arc<Near>>,
        patience: Duration,
    ) -> Self {
        let (sender, state) = watch::channel(State::Connecting);
        task::spawn(keep_connected(address, settings, near, patience, sender));
        Self { state }
    }

    /// A connection, as soon as there is one.
    pub(super) async fn link(&self, deadline: Instant) -> Result<Arc<Link>, RedisError> {
        let mut state = self.state.clone();
        loop {
            let until = match &*state.borrow_and_update() {
                State::Up(link) if link.is_open() => return Ok(link.clone()),
                State::Down(since, why) => {
                    let until = (*since + GONE_GRACE).min(deadline);
                    if Instant::now() >= until {
                        return Err(why.again());
                    }
                    until
                }
                State::Up(_) | State::Connecting => deadline,
            };
            let changed = timeout_at(until, state.changed()).await;
            if changed.is_err() && Instant::now() >= deadline {
                return Err(match &*state.borrow() {
                    State::Down(_, why) => why.again(),
                    _ => RedisError::new(RedisErrorKind::Unreachable, "it takes too long"),
                });
            }
        }
    }

    /// For how long it could not be used.
    pub(super) fn down_for(&self) -> Duration {
        match &*self.state.borrow() {
            State::Down(since, _) => since.elapsed(),
            State::Up(_) | State::Connecting => Duration::ZERO,
        }
    }

    /// The connection that there is at the moment.
    pub(super) fn current(&self) -> Option<Arc<Link>> {
        match &*self.state.borrow() {
            State::Up(link) if link.is_open() => Some(link.clone()),
            _ => None,
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connecting => "Connecting",
            Self::Up(_) => "Up",
            Self::Down(..) => "Down",
        })
    }
}

/// Connects, watches the connection, and connects again, until nobody holds the node.
async fn keep_connected(
    address: Address,
    settings: Arc<Settings>,
    near: Option<Arc<Near>>,
    patience: Duration,
    state: watch::Sender<State>,
) {
    let mut pause = RECONNECT_MIN;
    let mut down_since = None;
    loop {
        let opened = tokio::select! {
            opened = timeout(CONNECT_WITHIN, tracking::open(&address, &settings, near.as_ref())) => opened,
            () = state.closed() => return,
        };
        let failure = match opened {
            Ok(Ok((link, driver))) => {
                let link = Arc::new(link);
                if down_since.take().is_some() {
                    tracing::info!(%address, "connected to Redis again");
                }
                pause = RECONNECT_MIN;
                state.send_replace(State::Up(link.clone()));
                if watch_over(&link, driver, patience, &state).await.is_none() {
                    return;
                }
                state.send_replace(State::Connecting);
                tracing::debug!(%address, "a connection to Redis is gone");
                continue;
            }
            Ok(Err(error)) => error,
            Err(_) => {
                let what = match settings.tls {
                    Some(_) => format!("{address} does not answer: check that it speaks TLS"),
                    None => format!("{address} does not answer: check that it does not want TLS"),
                };
                RedisError::new(RedisErrorKind::Unreachable, what)
            }
        };
        let since = *down_since.get_or_insert_with(|| {
            tracing::warn!(%address, error = %failure.again(), "Redis cannot be used");
            Instant::now()
        });
        state.send_replace(State::Down(since, Arc::new(failure)));
        tokio::select! {
            () = sleep(pause) => {}
            () = state.closed() => return,
        }
        pause = (pause * 2).min(RECONNECT_MAX);
    }
}

/// Returns when the connection is of no use any more; `None`: nobody needs it.
async fn watch_over(
    link: &Link,
    mut driver: JoinHandle<()>,
    patience: Duration,
    state: &watch::Sender<State>,
) -> Option<()> {
    let mut ping = redis::pipe();
    ping.cmd("PING");
    loop {
        tokio::select! {
            _ = &mut driver => return Some(()),
            () = state.closed() => return None,
            () = beat(link, &ping, patience) => {}
        }
    }
}

/// Closes a connection on which nothing comes back.
async fn beat(link: &Link, ping: &redis::Pipeline, patience: Duration) {
    sleep(HEARTBEAT).await;
    // What comes back does not matter; after an error the driver ends by itself.
    if link.send_within(ping, patience).await.is_ok() {
        link.is_well();
    }
}
