//! Events of sessions: the subscribing members, and the reports to them.
//!
//! The node that carries out a call reports what has come of it, and the owner of a session reports
//! that it has expired. Members with subscribers send `Listen` once a second, and each event is
//! sent to them. While the members stay the same, each of them receives it exactly once:
//!
//! - A node numbers its events and keeps the latest of them ([`log`]). `Listen` names the last one
//!   that its sender has; after a break of the link, or an absence of at most a minute, the member
//!   receives what follows it, and the number of events that are not kept any more.
//! - A member accepts an event only if it has all earlier ones of that node ([`received`]), so one
//!   that is sent again, or overtakes another, counts once.
//!
//! If the node that is to report an event fails first, it is reported at least once, as a *possible
//! repeat*. A holder that merges a creation, a rotation or a deletion remembers it for 20 seconds
//! ([`witness`]), and so does the owner that orders it for another member. When the node that is to
//! report it is declared down, one of the others that have remembered it reports it: that node
//! cannot know which members have received it. A member that has does not hand it out again.
//!
//! An event is lost if all nodes that have the change fail before it was sent. Memory is bounded:
//! of more events than the limits allow, the earliest are dropped. Nothing is remembered and no
//! message is sent while there is no subscriber.
//!
//! A subscription is *confirmed* when every ready member has answered a `Listen`: what happens from
//! then on anywhere is received.

mod failover;
pub(super) mod listeners;
mod log;
mod received;
mod reports;
mod witness;

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::session::{EndReason, Root, Scope, Timestamp};

use self::listeners::EventStream;
use self::log::LOGGED_FOR;
use crate::cluster::replica::Replica;
use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::event::{EventReport, Output};
use crate::cluster::replica::message::{Cursor, Message};
use crate::cluster::replica::peer_table::{PeerIndex, PeerSet};

pub(crate) use self::log::Happening;

impl ClusterView {
    /// The subscribers at this node have changed.
    pub(crate) fn listen(&mut self, scope: Option<Scope>) {
        let before = self.wants_events();
        self.listeners.here = scope;
        self.listeners.review(self.now);
        if self.wants_events() == before {
            return;
        }
        if before {
            // A later subscription begins with what happens then.
            self.listeners.places.clear();
        }
        self.listeners.seen.clear();
        self.listeners.confirmed = PeerSet::default();
        for peer in self.peers().iter() {
            self.ask_for_events(peer);
        }
        self.review_confirmation();
    }

    /// Starts, continues or stops the events of a member, as the subscribers at this node require.
    pub(crate) fn ask_for_events(&mut self, peer: PeerIndex) {
        let wanted = self.wants_events();
        let name = self.peers.get(peer).map(|peer| &peer.node.name);
        let after = name.and_then(|name| self.listeners.places.get(name));
        self.send(peer, Message::Listen { wanted, after });
    }

    /// Returns `true` if the events of other nodes are wanted here.
    pub(crate) fn wants_events(&self) -> bool {
        self.listeners.here == Some(Scope::Cluster)
    }

    /// Asks all members again, and forgets those that have not asked for long.
    pub(crate) fn review_listeners(&mut self, now: Timestamp) {
        if self.wants_events() {
            for peer in self.peers().iter() {
                self.ask_for_events(peer);
            }
        }
        let is_late = |peer: &PeerIndex| {
            let peer = self.peers.get(*peer);
            peer.is_none_or(|peer| peer.listens_until <= now)
        };
        let late = self.listeners.peers.iter().filter(is_late);
        for peer in late.collect::<Vec<_>>() {
            self.stop_events(peer);
        }
        self.listeners.log.forget(now);
        self.listeners.witnesses.forget(now);
        self.listeners.review(now);
        self.review_confirmation();
    }

    /// Handles a member's request for the events of this node, or that it wants no more.
    pub(crate) fn handle_listen(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        wanted: bool,
        after: Option<Cursor>,
    ) {
        let Some(peer) = self.peers.get_mut(from) else {
            return;
        };
        peer.listens_until = now.plus(LISTENS_FOR);
        let listeners = &mut self.listeners;
        if !wanted {
            listeners.peers.remove(from);
            listeners.streams.remove(&from);
            return listeners.review(now);
        }
        let end = listeners.log.end(now);
        let received = listeners.log.find(after);
        let began = received.unwrap_or(end.seq);
        let stream = listeners.streams.entry(from).or_insert(EventStream {
            began,
            sent: began,
            received,
        });
        stream.received = stream.received.max(received);
        if let Some(seq) = received
            && seq < stream.sent
            && self.flow.is_idle(from)
        {
            // It did not accept what was sent last: an earlier one was missing.
            stream.sent = seq;
        }
        let began = Cursor {
            seq: stream.began,
            ..end
        };
        listeners.peers.insert(from);
        listeners.review(now);
        self.send(from, Message::Listens(began));
        self.send_events(from);
    }

    /// Handles a member's confirmation that its events from this place on are sent to this node.
    pub(crate) fn handle_listens(&mut self, from: PeerIndex, began: Cursor) {
        if self.wants_events()
            && let Some(peer) = self.peers.get(from)
        {
            self.listeners.places.begin(&peer.node.name, began);
            self.listeners.confirmed.insert(from);
            self.review_confirmation();
        }
    }

    /// Reports a change of whether all ready members have confirmed the subscription of this node.
    fn review_confirmation(&mut self) {
        let confirmed = self.listeners.confirmed;
        let have_all_confirmed = self
            .peers
            .iter()
            .all(|(index, peer)| !peer.ready || confirmed.contains(index));
        let is_confirmed = self.ready && have_all_confirmed || !self.wants_events();
        if self.listeners.is_confirmed != is_confirmed {
            self.listeners.is_confirmed = is_confirmed;
            self.output(Output::Event(EventReport::Confirmed(is_confirmed)));
        }
    }

    /// A member has gone, and its place may be taken by another one.
    pub(crate) fn stop_listening(&mut self, peer: PeerIndex) {
        self.stop_events(peer);
        self.listeners.confirmed.remove(peer);
        self.listeners.review(self.now);
        self.review_confirmation();
    }

    /// Stops the events for a member that did not decline them: it may come back for what it has
    /// missed.
    fn stop_events(&mut self, peer: PeerIndex) {
        if self.listeners.peers.contains(peer) {
            self.listeners.peers.remove(peer);
            self.listeners.streams.remove(&peer);
            self.listeners.logs_until = self.now.plus(LOGGED_FOR);
        }
    }
}

impl Replica {
    /// Returns `true` if events are subscribed to, here or at a member.
    pub(crate) fn reports(&self) -> bool {
        self.listened.load(Ordering::Relaxed)
    }

    /// Reports what a call of this node has done to a session.
    pub(crate) fn report(&self, now: Timestamp, happening: Happening) {
        let mut engine = self.engine();
        if !engine.cluster.left {
            engine.cluster.now = now;
            engine.cluster.emit(happening, now, false);
        }
    }

    /// Announces why this node is about to delete a session.
    pub(crate) fn announce_reason(&self, now: Timestamp, key: Root, reason: EndReason) {
        let mut engine = self.engine();
        if !engine.cluster.left {
            engine.cluster.now = now;
            engine.cluster.announce_reason(key, reason);
        }
    }
}

/// How long a member gets events after it has asked for them last.
const LISTENS_FOR: Duration = Duration::from_secs(5);
