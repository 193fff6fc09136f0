//! State of subscriptions to events: who receives them, and what was sent and received.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::session::{Scope, Timestamp};

use crate::cluster::replica::events::log::EventLog;
use crate::cluster::replica::events::received::{DeliveredEvents, Places};
use crate::cluster::replica::events::witness::Witnesses;
use crate::cluster::replica::peer_table::{PeerIndex, PeerSet};
use crate::cluster::replica::placement::Placement;

/// Subscribers to what happens to sessions, and what was sent to them and received for them.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// The widest scope that is subscribed to at this node.
    pub(super) here: Option<Scope>,
    /// Members with subscribers to what happens here.
    pub(super) peers: PeerSet,
    /// Until when events are logged although no member subscribes: one may come back.
    pub(super) logs_until: Timestamp,
    /// Whether events are reported or logged, readable without a lock.
    any: Arc<AtomicBool>,
    pub(super) log: EventLog,
    pub(super) streams: BTreeMap<PeerIndex, EventStream>,
    pub(super) places: Places,
    pub(super) seen: DeliveredEvents,
    pub(super) witnesses: Witnesses,
    /// Members that have confirmed the subscription of this node.
    pub(super) confirmed: PeerSet,
    pub(super) is_confirmed: bool,
    /// Earlier placements, and until when they were in force.
    pub(super) formers: VecDeque<(Timestamp, Arc<Placement>)>,
}

/// The events that a member receives.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventStream {
    /// The number of the last event before the subscription.
    pub(super) began: u64,
    /// The number of the last event that was sent.
    pub(super) sent: u64,
    /// The number of the last event that the member has confirmed. Members of an earlier version
    /// confirm none, and nothing is sent to them again.
    pub(super) received: Option<u64>,
}

impl Listeners {
    /// Returns whether there is a subscriber, for readers without a lock.
    pub(crate) fn any(&self) -> Arc<AtomicBool> {
        self.any.clone()
    }

    pub(super) fn is_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    pub(super) fn review(&mut self, now: Timestamp) {
        let any = self.here.is_some() || !self.peers.is_empty() || now < self.logs_until;
        let before = self.any.swap(any, Ordering::Relaxed);
        if before && !any {
            self.log.interrupt();
            self.witnesses.clear();
            self.formers.clear();
        }
    }
}
