//! The events of sessions.
//!
//! The script that creates, rotates or ends a session publishes the event in the same step, and
//! every node that has subscribers receives it over a connection of its own to each server. So each
//! event that has taken effect is published once, whatever becomes of the answer, and events of one
//! session are in the order of the server.
//!
//! Expiry has no script. A node with subscribers checks the sessions that it knows when their
//! time has come, and at keys that the server reports as expired if it does
//! (`notify-keyspace-events`). A script then sets a claim, so that one node reports it, on the same
//! channel.
//!
//! ```text
//!   commit · end · expire ──PUBLISH──> server ──> subscription ──> message ──> bus ──> subscribers
//!                                                                     └──> watched ──> expiry
//! ```

mod channels;
mod expiry;
mod message;
mod receiver;
mod subscription;
mod watched;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::{OwnedMutexGuard, watch};

use crate::clock;
use crate::events::{EventBus, SessionEvents};
use crate::session::{Record, Root, Scope, SessionEvent, SessionEventKind};
use crate::store::redis::RedisShared;
use crate::store::redis::config::RedisConfig;
use crate::store::redis::url::Deployment;
use crate::sync::lock;
use channels::Channels;
use message::{EventMessage, EventMessageId, EventMessageKind, Instance};
use watched::{ExpiryWatch, KnownSession};

pub(super) use message::{NODE_NAME_MAX, reason_number};

/// Held by a background task while it runs; released even if the task ends with its runtime.
type TaskLock = Arc<tokio::sync::Mutex<()>>;

/// The events of a store: what it publishes, and its subscribers.
#[derive(Debug)]
pub(super) struct Events {
    bus: EventBus,
    channels: Channels,
    instance: Instance,
    node: String,
    application: Vec<u8>,
    watched: ExpiryWatch,
    recent: Mutex<Recent>,
    /// The lock of the task that keeps the subscriptions.
    subscribing: TaskLock,
    /// The lock of the task that checks for expired sessions.
    checking: TaskLock,
    /// `true` while every server is subscribed to.
    complete: watch::Sender<bool>,
    /// Set once it has been logged that a server does not report expired keys.
    silent: AtomicBool,
}

impl Events {
    pub(super) fn new(config: &RedisConfig) -> Self {
        let is_cluster = config.url.topology == Deployment::Cluster;
        let mut instance = Instance::default();
        // Nodes without random numbers would take each other's events for their own.
        let _ = SysRng.try_fill_bytes(&mut instance);
        Self {
            bus: EventBus::default(),
            channels: Channels::new(&config.prefix, config.url.database, is_cluster),
            instance,
            node: config.node.clone().unwrap_or_default(),
            application: config.application.clone().unwrap_or_default().into(),
            watched: ExpiryWatch::default(),
            recent: Mutex::default(),
            subscribing: Arc::default(),
            checking: Arc::default(),
            complete: watch::Sender::new(false),
            silent: AtomicBool::new(false),
        }
    }

    /// The argument of a script that publishes an event of the session under a key.
    pub(super) fn origin(&self, key: &[u8]) -> Vec<u8> {
        let channel = self.channels.of(key).as_bytes();
        let length = u8::try_from(channel.len()).unwrap_or_default();
        [&[length], channel, &self.instance, self.node.as_bytes()].concat()
    }

    /// Records a session as this node has read or written it, if there is a subscriber.
    pub(super) fn note(&self, key: &Root, record: &Record) {
        if self.bus.is_wanted() && !key.is_index() {
            self.watched.note(*key, KnownSession::of(record));
        }
    }

    /// Handles what a server has sent on a channel.
    fn receive(&self, bytes: &[u8]) {
        let now = clock::now();
        let Some(message) = EventMessage::parse(bytes, now) else {
            // An empty one tries whether this node may publish.
            if !bytes.is_empty() {
                tracing::debug!(
                    bytes = bytes.len(),
                    "a message that is no event was ignored"
                );
            }
            return;
        };
        // As with the sessions themselves: those without a name belong to every application.
        if !message.application.is_empty() && message.application != self.application {
            return;
        }
        let mut recent = lock(&self.recent);
        if !recent.is_new(message.id()) {
            return;
        }
        drop(recent);
        let key = message.key;
        let EventMessageKind::Event(kind) = message.content else {
            return self.watched.note(key, KnownSession::from(&message));
        };
        match kind.reason() {
            None => self.watched.note(key, KnownSession::from(&message)),
            Some(_) if matches!(kind, SessionEventKind::Deleted(_)) => self.watched.deleted(key),
            Some(_) => self.watched.forget(&key),
        }
        let event = SessionEvent {
            kind,
            key,
            user: message.user,
            node: message.node,
            at: now,
            possible_repeat: false,
        };
        if message.instance == self.instance {
            self.bus.report(event);
        } else {
            self.bus.relay(event);
        }
    }

    /// Returns the right to run a task again, if there are subscribers and no other task.
    fn again(&self, lock: &TaskLock) -> Option<OwnedMutexGuard<()>> {
        // In this order: a subscriber that comes after the first look finds the lock free.
        let wanted = self.bus.is_wanted().then(|| lock.clone());
        wanted?.try_lock_owned().ok()
    }

    /// Announces that events were lost, their number unknown.
    fn interrupted(&self) {
        self.bus.interrupted();
    }
}

impl RedisShared {
    /// Subscribes, and starts the tasks that receive events. Fails outside of a runtime.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        scope: Scope,
    ) -> Result<SessionEvents, tokio::runtime::TryCurrentError> {
        let runtime = tokio::runtime::Handle::try_current()?;
        let has_others = self.events.bus.is_wanted();
        let confirmed = self.events.complete.subscribe();
        let events = self.events.bus.subscribe_until(scope, confirmed);
        if let Ok(turn) = self.events.subscribing.clone().try_lock_owned() {
            self.events.complete.send_replace(false);
            // The task of the others has ended with its runtime: events were lost since.
            let store = Arc::downgrade(self);
            runtime.spawn(subscription::keep_subscribed(store, turn, has_others));
        }
        if let Ok(turn) = self.events.checking.clone().try_lock_owned() {
            runtime.spawn(expiry::keep_checking(Arc::downgrade(self), turn));
        }
        Ok(events)
    }
}

impl KnownSession {
    fn of(record: &Record) -> Self {
        Self {
            until: record.expires_at(),
            absolute_deadline: record.absolute_deadline(),
            user: record.user(),
            is_deleted: false,
        }
    }
}

impl From<&EventMessage> for KnownSession {
    fn from(message: &EventMessage) -> Self {
        Self {
            until: message.until,
            absolute_deadline: message.absolute_deadline,
            user: message.user,
            is_deleted: false,
        }
    }
}

/// The latest messages: in a cluster one may arrive from several servers.
#[derive(Debug, Default)]
struct Recent {
    known: HashSet<EventMessageId>,
    queue: VecDeque<EventMessageId>,
}

impl Recent {
    /// Records a message. Returns `true` if it was not among the latest.
    fn is_new(&mut self, id: EventMessageId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        if self.queue.len() >= RECENT_MAX
            && let Some(oldest) = self.queue.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.queue.push_back(id);
        true
    }
}

const RECENT_MAX: usize = 1_024;
