//! The channel of events from a store to its subscribers.
//!
//! Reporting an event never waits, and costs one atomic load if there are no subscribers. A slow
//! subscriber loses the oldest events and receives their number.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::session::{Scope, SessionEvent};

/// Receives the events of a store: what [`events`](crate::SessionStore::events) returns.
///
/// Events that are not received wait here, up to 4,096 of them. Dropping it ends the subscription.
#[derive(Debug)]
pub struct SessionEvents {
    receiver: broadcast::Receiver<Item>,
    /// `true` once all nodes whose events are to be received have confirmed the subscription;
    /// `None` if there are no others.
    confirmed: Option<watch::Receiver<bool>>,
    _subscription: Subscription,
}

/// The number of events that were lost before the next one, because they were not received in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a number of lost events says all there is to say"
)]
pub struct Lagged(pub u64);

impl SessionEvents {
    /// Waits until every ready node of the cluster has confirmed the subscription. Later events are
    /// received, whichever node reports them.
    ///
    /// Returns `false` after two seconds; then events of unconfirmed nodes may be missing until
    /// they confirm. They are asked again every second.
    ///
    /// With [`Scope::Node`], and on a store without nodes, it returns `true` at once. On a
    /// `RedisStore` the servers confirm it, with any scope.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn ready(&self) -> bool {
        let Some(mut confirmed) = self.confirmed.clone() else {
            return true;
        };
        let all = timeout(CONFIRMED_WITHIN, confirmed.wait_for(|all| *all));
        matches!(all.await, Ok(Ok(_)))
    }

    /// Waits for the next event. Returns `None` after the store was dropped.
    ///
    /// # Errors
    ///
    /// Fails if events were lost. The next call returns the oldest that is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn recv(&mut self) -> Option<Result<SessionEvent, Lagged>> {
        match self.receiver.recv().await {
            Ok(Item::Event(event)) => Some(Ok(event)),
            #[cfg(any(feature = "redis", feature = "replicated"))]
            Ok(Item::Lost(events)) => Some(Err(Lagged(events))),
            Err(RecvError::Lagged(events)) => Some(Err(Lagged(events))),
            Err(RecvError::Closed) => None,
        }
    }
}

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events were lost", self.0)
    }
}

impl Error for Lagged {}

/// The sending end, which a store keeps.
#[derive(Debug, Default)]
pub(crate) struct EventBus {
    node: Channel,
    cluster: Channel,
    subscribers: Arc<AtomicUsize>,
    /// `true` while all nodes have confirmed the subscription of this one.
    #[cfg(feature = "replicated")]
    confirmed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Channel {
    /// Made for the first subscriber.
    sender: OnceLock<broadcast::Sender<Item>>,
    subscribers: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
enum Item {
    Event(SessionEvent),
    /// The number of events that were lost on the way here.
    #[cfg(any(feature = "redis", feature = "replicated"))]
    Lost(u64),
}

/// Counts one subscriber for as long as it lives.
#[derive(Debug)]
struct Subscription([Arc<AtomicUsize>; 2]);

impl Subscription {
    fn new(counters: [&Arc<AtomicUsize>; 2]) -> Self {
        for counter in counters {
            counter.fetch_add(1, Relaxed);
        }
        Self(counters.map(Arc::clone))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for counter in &self.0 {
            counter.fetch_sub(1, Relaxed);
        }
    }
}

impl EventBus {
    pub(crate) fn subscribe(&self, scope: Scope) -> SessionEvents {
        let channel = match scope {
            Scope::Node => &self.node,
            Scope::Cluster => &self.cluster,
        };
        let new = || broadcast::Sender::new(EVENTS_WAITING_MAX);
        SessionEvents {
            receiver: channel.sender.get_or_init(new).subscribe(),
            confirmed: None,
            _subscription: Subscription::new([&self.subscribers, &channel.subscribers]),
        }
    }

    /// Subscribes at a store that confirms it.
    #[cfg(feature = "redis")]
    pub(crate) fn subscribe_until(
        &self,
        scope: Scope,
        confirmed: watch::Receiver<bool>,
    ) -> SessionEvents {
        SessionEvents {
            confirmed: Some(confirmed),
            ..self.subscribe(scope)
        }
    }

    /// Subscribes at one node of several. The others have to confirm the subscription.
    #[cfg(feature = "replicated")]
    pub(crate) fn subscribe_among_nodes(&self, scope: Scope) -> SessionEvents {
        let is_wide = scope == Scope::Cluster;
        SessionEvents {
            confirmed: is_wide.then(|| self.confirmed.subscribe()),
            ..self.subscribe(scope)
        }
    }

    /// Records whether all nodes have confirmed the subscription of this one.
    #[cfg(feature = "replicated")]
    pub(crate) fn confirmed(&self, by_all: bool) {
        self.confirmed.send_replace(by_all);
    }

    /// Returns `true` if there is a subscriber.
    #[cfg(any(feature = "memory", feature = "redis"))]
    pub(crate) fn is_wanted(&self) -> bool {
        self.subscribers.load(Relaxed) > 0
    }

    /// The widest scope of a subscriber.
    #[cfg(feature = "replicated")]
    pub(crate) fn wanted(&self) -> Option<Scope> {
        let is_wanted = |channel: &Channel| channel.subscribers.load(Relaxed) > 0;
        if is_wanted(&self.cluster) {
            Some(Scope::Cluster)
        } else {
            is_wanted(&self.node).then_some(Scope::Node)
        }
    }

    /// Hands out an event that this node reports.
    pub(crate) fn report(&self, event: SessionEvent) {
        self.node.send(Item::Event(event.clone()));
        self.cluster.send(Item::Event(event));
    }

    /// Hands out an event that this node reports and that another node has reported before.
    #[cfg(feature = "replicated")]
    pub(crate) fn report_again(&self, event: SessionEvent) {
        self.node.send(Item::Event(event));
    }

    /// Hands out an event that another node has reported.
    #[cfg(any(feature = "redis", feature = "replicated"))]
    pub(crate) fn relay(&self, event: SessionEvent) {
        self.cluster.send(Item::Event(event));
    }

    /// Events of any node were lost on their way, and it is not known how many.
    #[cfg(feature = "redis")]
    pub(crate) fn interrupted(&self) {
        self.node.send(Item::Lost(1));
        self.cluster.send(Item::Lost(1));
    }

    /// Events of another node were lost on their way.
    #[cfg(feature = "replicated")]
    pub(crate) fn lost(&self, events: u64) {
        self.cluster.send(Item::Lost(events));
    }
}

impl Channel {
    fn send(&self, item: Item) {
        if self.subscribers.load(Relaxed) > 0
            && let Some(sender) = self.sender.get()
        {
            // The last subscriber may just have gone.
            let _ = sender.send(item);
        }
    }
}

/// Events that wait for a subscriber before the oldest are lost: a power of two, as the channel
/// has.
const EVENTS_WAITING_MAX: usize = 4_096;

/// How long a subscriber waits for the confirmation of all nodes: it takes one round trip, unless a
/// node is about to be declared down.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(2);

#[cfg(all(test, feature = "memory"))]
mod tests {
    use super::*;
    use crate::session::{Root, SessionEventKind, Timestamp};

    fn event(at: u64) -> SessionEvent {
        SessionEvent {
            kind: SessionEventKind::Created,
            key: Root::from_bytes([1; 12]),
            user: None,
            node: None,
            at: Timestamp::from_millis(at),
            possible_repeat: false,
        }
    }

    #[tokio::test]
    async fn a_slow_subscriber_loses_the_oldest_and_gets_their_number() {
        let bus = EventBus::default();
        assert!(!bus.is_wanted());
        bus.report(event(0));
        let mut events = bus.subscribe(Scope::Node);
        assert!(bus.is_wanted());
        for at in 1..=EVENTS_WAITING_MAX as u64 + 3 {
            bus.report(event(at));
        }
        assert_eq!(events.recv().await, Some(Err(Lagged(3))));
        assert_eq!(events.recv().await, Some(Ok(event(4))));
        drop(events);
        assert!(!bus.is_wanted());
    }

    #[tokio::test]
    async fn the_end_of_the_store_ends_the_events() {
        let bus = EventBus::default();
        let mut events = bus.subscribe(Scope::Cluster);
        bus.report(event(1));
        drop(bus);
        assert_eq!(events.recv().await, Some(Ok(event(1))));
        assert_eq!(events.recv().await, None);
    }
}
