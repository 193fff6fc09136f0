//! The subscriptions: a connection to each server on which it sends events.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, OwnedMutexGuard, watch};
use tokio::task::{self, JoinHandle};
use tokio::time::{Instant, sleep, timeout};

use crate::store::redis::RedisShared;
use crate::store::redis::config::{
    CONNECT_WITHIN, HEARTBEAT, PONG_WITHIN, RECONNECT_MAX, RECONNECT_MIN,
};
use crate::store::redis::connect::{self, OpenError};
use crate::store::redis::error::{CommandFailure, RedisError, RedisErrorKind};
use crate::store::redis::events::Events;
use crate::store::redis::events::receiver::EventReceiver;
use crate::store::redis::outage::{Outage, OutageReport};
use crate::store::redis::role::RoleCommand;
use crate::store::redis::url::{Address, Deployment};

/// Keeps a subscription to each server that owns slots, until there are no subscribers or the store
/// is dropped.
///
/// `is_late`: there were subscribers before, who are informed that events may have been lost.
pub(super) async fn keep_subscribed(
    shared: Weak<RedisShared>,
    mut turn: OwnedMutexGuard<()>,
    is_late: bool,
) {
    let mut servers: HashMap<Address, EventSubscription> = HashMap::new();
    let mut was_complete = is_late;
    loop {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let events = &shared.events;
        if !events.bus.is_wanted() {
            drop(turn);
            // A subscriber that came in between has seen that there is a task.
            let Some(again) = events.again(&events.subscribing) else {
                events.complete.send_replace(false);
                return;
            };
            turn = again;
        }
        match wanted(&shared).await {
            Ok(wanted) => {
                // With other channels a subscription is made anew: it would lack the events of the
                // slots that have come to the server.
                servers.retain(|address, server| wanted.get(address) == Some(&server.channels));
                for (address, channels) in wanted {
                    servers.entry(address).or_insert_with_key(|address| {
                        EventSubscription::start(&shared, address.clone(), channels, was_complete)
                    });
                }
            }
            Err(error) => {
                let cause = error.flattened();
                tracing::debug!(%cause, "cannot determine which servers have events");
            }
        }
        let is_complete =
            !servers.is_empty() && servers.values().all(|server| *server.is_up.borrow());
        was_complete |= is_complete;
        events.complete.send_if_modified(|known| {
            let is_new = *known != is_complete;
            *known = is_complete;
            is_new
        });
        if !is_complete && was_complete {
            // Its slots may have another owner.
            shared.router.topology.mark_stale();
        }
        drop(shared);
        // No handle is held while sleeping: it would keep a store alive whose other handles are
        // dropped.
        sleep(if was_complete {
            CHECK_EVERY
        } else {
            CHECK_SOON
        })
        .await;
    }
}

/// Which channels to subscribe to at which server.
async fn wanted(shared: &RedisShared) -> Result<HashMap<Address, Vec<String>>, RedisError> {
    let deadline = Instant::now() + shared.config.operation_timeout;
    let primaries = shared.router.topology.primaries(deadline).await?;
    let mut wanted: HashMap<_, _> = primaries.into_iter().map(|it| (it, Vec::new())).collect();
    let sharded = shared.events.channels.sharded();
    let slots: Vec<_> = sharded.iter().map(|channel| channel.slot).collect();
    let owners = shared.router.topology.owners(&slots, deadline).await?;
    for (channel, owner) in sharded.iter().zip(owners) {
        if let Some(channels) = owner.and_then(|owner| wanted.get_mut(&owner)) {
            channels.push(channel.name.clone());
        }
    }
    Ok(wanted)
}

/// A server, and the task that is subscribed to it.
struct EventSubscription {
    channels: Vec<String>,
    is_up: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl EventSubscription {
    /// `is_late`: events may have been lost before.
    fn start(
        shared: &Arc<RedisShared>,
        address: Address,
        channels: Vec<String>,
        is_late: bool,
    ) -> Self {
        let (sender, is_up) = watch::channel(false);
        let subscriber = Subscriber {
            shared: Arc::downgrade(shared),
            address,
            channels: channels.clone(),
        };
        Self {
            channels,
            is_up,
            task: task::spawn(subscriber.keep_connected(sender, is_late)),
        }
    }
}

impl Drop for EventSubscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Subscriber {
    shared: Weak<RedisShared>,
    address: Address,
    channels: Vec<String>,
}

impl Subscriber {
    async fn keep_connected(self, is_up: watch::Sender<bool>, mut is_late: bool) {
        let mut pause = RECONNECT_MIN;
        let mut outage = Outage::default();
        loop {
            let Some(shared) = self.shared.upgrade() else {
                return;
            };
            let opened = match timeout(CONNECT_WITHIN, self.open(&shared)).await {
                Ok(opened) => opened,
                Err(_) => {
                    let message = format!("{} does not answer", self.address);
                    Err(RedisError::new(RedisErrorKind::Unreachable, message))
                }
            };
            match opened {
                Ok(connection) => {
                    // Reported only now: events are lost until the subscription is in place.
                    if is_late {
                        shared.events.interrupted();
                    }
                    drop(shared);
                    if let Some(lasted) = outage.ends(Instant::now()) {
                        let elapsed_ms = lasted.as_millis() as u64;
                        tracing::info!(address = %self.address, elapsed_ms, "events are received again");
                    }
                    is_up.send_replace(true);
                    pause = RECONNECT_MIN;
                    connection.watch_over().await;
                    is_up.send_replace(false);
                    is_late = true;
                    tracing::debug!(address = %self.address, "a subscription was lost");
                }
                Err(error) => {
                    drop(shared);
                    self.log(outage.fails(Instant::now()), &error);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    fn log(&self, report: Option<OutageReport>, cause: &RedisError) {
        let address = &self.address;
        match report {
            Some(OutageReport::Begins) => {
                tracing::warn!(%address, %cause, "no events are received")
            }
            Some(OutageReport::Lasts(lasted)) => {
                let elapsed_ms = lasted.as_millis() as u64;
                tracing::warn!(%address, %cause, elapsed_ms, "still no events are received");
            }
            None => {}
        }
    }

    async fn open(&self, shared: &Arc<RedisShared>) -> Result<EventConnection, RedisError> {
        let config = &shared.config;
        let end = Arc::new(Notify::new());
        let listener = Arc::new(EventReceiver {
            shared: self.shared.clone(),
            expired: shared.events.channels.expired.clone(),
            end: end.clone(),
        });
        let info = connect::greeting(&config.url.credentials, config.url.database, true);
        let connected = connect::connect(&self.address, config, &info, Some(listener))
            .await
            .map_err(OpenError::into_error)?;
        let mut connection = EventConnection {
            connection: connected.connection,
            driver: connected.driver,
            end,
            role: match config.url.topology {
                // A replica in a cluster redirects by itself.
                Deployment::Cluster => RoleCommand::Ping,
                Deployment::Standalone | Deployment::Sentinel { .. } => RoleCommand::Role,
            },
        };
        if connection.is_replica().await? {
            let message = format!("{} is a replica", self.address);
            return Err(RedisError::new(RedisErrorKind::ReadOnly, message));
        }
        connection
            .subscribe("SUBSCRIBE", shared.events.channels.all())
            .await?;
        if let Some(first) = self.channels.first()
            && self.subscribe_sharded(&mut connection, first).await?
        {
            connection.try_publishing("SPUBLISH", first).await?;
        }
        connection
            .subscribe_expired(&shared.events, &self.address)
            .await;
        connection
            .try_publishing("PUBLISH", shared.events.channels.all())
            .await?;
        Ok(connection)
    }

    /// Returns `false` if the server has no sharded channels.
    async fn subscribe_sharded(
        &self,
        connection: &mut EventConnection,
        first: &str,
    ) -> Result<bool, RedisError> {
        match connection.subscribe("SSUBSCRIBE", first).await {
            // A server before 7.0 sends all events to all servers.
            Err(error) if is_unknown(&error) => return Ok(false),
            subscribed => subscribed?,
        }
        for channel in &self.channels[1..] {
            connection.subscribe("SSUBSCRIBE", channel).await?;
        }
        Ok(true)
    }
}

/// A connection on which a server sends events.
struct EventConnection {
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
    /// The server has ended a subscription.
    end: Arc<Notify>,
    role: RoleCommand,
}

impl EventConnection {
    /// Sends a command. Returns its answer.
    async fn ask(&mut self, words: &[&str]) -> Result<Value, RedisError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd(words[0]).arg(&words[1..]);
        let sent = self.connection.send_packed_commands(&pipeline, 0, 1).await;
        match sent
            .map_err(|error| CommandFailure::of(&error).into_error())?
            .pop()
        {
            Some(Value::ServerError(error)) => {
                Err(CommandFailure::of_reply(&error, words[0]).into_error())
            }
            Some(answer) => Ok(answer),
            None => Err(RedisError::new(RedisErrorKind::Unexpected, "no answer")),
        }
    }

    /// One channel at a time: the server confirms each of them.
    async fn subscribe(&mut self, command: &str, channel: &str) -> Result<(), RedisError> {
        self.ask(&[command, channel]).await.map(drop)
    }

    /// Subscribes to the keys that the server reports as expired, if it does.
    async fn subscribe_expired(&mut self, events: &Events, address: &Address) {
        let flags = self.ask(&["CONFIG", "GET", "notify-keyspace-events"]).await;
        let is_known = flags.is_ok();
        let is_on = flags.map_or(true, |flags| reports_expired(&flags));
        let subscribed = if is_on {
            self.subscribe("SUBSCRIBE", &events.channels.expired).await
        } else {
            Ok(())
        };
        if (!is_on || subscribed.is_err()) && !events.silent.swap(true, Relaxed) {
            tracing::info!(
                %address,
                is_known,
                "the server reports no expired keys (notify-keyspace-events Ex): only sessions that \
                 nodes with subscribers have seen are reported as expired"
            );
        }
    }

    /// Events of this node are missing if it may not publish: an empty message tries that.
    async fn try_publishing(&mut self, command: &str, channel: &str) -> Result<(), RedisError> {
        self.ask(&[command, channel, ""]).await.map(drop)
    }

    async fn is_replica(&mut self) -> Result<bool, RedisError> {
        let pipeline = self.role.pipeline();
        let sent = self.connection.send_packed_commands(&pipeline, 0, 1).await;
        let replies = sent.map_err(|error| CommandFailure::of(&error).into_error())?;
        let is_primary = replies
            .first()
            .and_then(|reply| self.role.is_primary(reply));
        Ok(is_primary == Some(false))
    }

    /// Completes when the connection can no longer be used.
    async fn watch_over(mut self) {
        loop {
            let end = self.end.clone();
            tokio::select! {
                () = end.notified() => return,
                () = sleep(HEARTBEAT) => {}
            }
            let is_well = matches!(timeout(PONG_WITHIN, self.is_replica()).await, Ok(Ok(false)));
            if !is_well {
                return;
            }
        }
    }
}

impl Drop for EventConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Returns `true` if the server does not have the command at all.
fn is_unknown(error: &RedisError) -> bool {
    error.kind() == RedisErrorKind::Denied && error.to_string().contains("unknown command")
}

/// Returns `true` if the answer to `CONFIG GET` has the flags of expired keys.
fn reports_expired(answer: &Value) -> bool {
    let flags = match answer {
        Value::Map(pairs) => pairs.first().map(|(_, flags)| flags),
        Value::Array(list) => list.get(1),
        _ => None,
    };
    let Some(Value::BulkString(flags)) = flags else {
        return false;
    };
    let has = |flag: u8| flags.contains(&flag);
    has(b'E') && (has(b'x') || has(b'A'))
}

/// How often the owners of slots are compared with the subscriptions.
const CHECK_EVERY: Duration = Duration::from_millis(200);
/// The same until every server has been subscribed to.
const CHECK_SOON: Duration = Duration::from_millis(20);
