//! Events of sessions: the subscribing members, and the reports to them.
//!
//! The node that carries out a call reports what has come of it, and the owner of a session reports
//! that it has expired. A member with subscribers sends `Listen` once a second; each event is
//! sent to those members once, when it happens. So an event is received at most once: one that is
//! under way when a link breaks or a node dies is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::session::{EventScope, Root, SessionEvent, SessionEventKind, Timestamp, UserKey};

use super::Replica;
use super::cluster_view::ClusterView;
use super::event::{Output, Report};
use super::message::{Happened, Message};
use super::peer_table::{PeerIndex, PeerSet};

/// Who wants to know what happens to sessions.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// The widest scope that is subscribed to at this node.
    here: Option<EventScope>,
    /// Members with subscribers to what happens here.
    peers: PeerSet,
    /// Whether there is any, for those who hold no lock.
    any: Arc<AtomicBool>,
}

impl Listeners {
    /// Whether there is any: to be asked without a lock.
    pub(crate) fn any(&self) -> Arc<AtomicBool> {
        self.any.clone()
    }

    fn review(&self) {
        let any = self.here.is_some() || !self.peers.is_empty();
        self.any.store(any, Ordering::Relaxed);
    }
}

impl ClusterView {
    /// The subscribers at this node have changed.
    pub(crate) fn listen(&mut self, scope: Option<EventScope>) {
        let before = self.wants_events();
        self.listeners.here = scope;
        self.listeners.review();
        if self.wants_events() || before {
            for peer in self.peers().iter() {
                self.ask_for_events(peer);
            }
        }
    }

    /// Starts or stops the events of a member, as the subscribers at this node require.
    pub(crate) fn ask_for_events(&mut self, peer: PeerIndex) {
        let wanted = self.wants_events();
        self.send(peer, Message::Listen { wanted });
    }

    /// Returns `true` if the events of other nodes are wanted here.
    pub(crate) fn wants_events(&self) -> bool {
        self.listeners.here == Some(EventScope::Cluster)
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
        for peer in self
            .listeners
            .peers
            .iter()
            .filter(is_late)
            .collect::<Vec<_>>()
        {
            self.listeners.peers.remove(peer);
        }
        self.listeners.review();
    }

    /// A member has said whether it wants to know what happens here.
    pub(crate) fn handle_listen(&mut self, now: Timestamp, from: PeerIndex, wanted: bool) {
        if let Some(peer) = self.peers.get_mut(from) {
            peer.listens_until = now.plus(LISTENS_FOR);
        }
        match wanted {
            true => self.listeners.peers.insert(from),
            false => self.listeners.peers.remove(from),
        }
        self.listeners.review();
    }

    /// A member has gone, and its place may be taken by another one.
    pub(crate) fn stop_listening(&mut self, peer: PeerIndex) {
        self.listeners.peers.remove(peer);
        self.listeners.review();
    }

    /// Reports what has happened to a session.
    pub(crate) fn happened(&mut self, key: Root, kind: SessionEventKind, user: Option<UserKey>) {
        let at = self.now;
        if self.listeners.here.is_some() {
            let event = SessionEvent {
                kind,
                key,
                user,
                node: Some(self.me.name.to_string()),
                at,
            };
            self.output(Output::Event(Report::Mine(event)));
        }
        for peer in self.listeners.peers.iter() {
            let happened = Happened {
                sent_at: at,
                kind,
                key,
                user,
                at,
                lost: 0,
            };
            self.send(peer, Message::Happened(happened));
        }
    }

    /// A member has reported what has happened to a session.
    pub(crate) fn handle_event(&mut self, now: Timestamp, from: PeerIndex, happened: Happened) {
        if !self.wants_events() {
            return;
        }
        if happened.lost > 0 {
            self.output(Output::Event(Report::Lost(happened.lost)));
        }
        let node = self.peers.get(from).map(|peer| peer.node.name.to_string());
        let event = SessionEvent {
            kind: happened.kind,
            key: happened.key,
            user: happened.user,
            node,
            at: now.minus(happened.sent_at.since(happened.at)),
        };
        self.output(Output::Event(Report::Theirs(event)));
    }
}

impl Replica {
    /// Returns `true` if events are subscribed to, here or at a member.
    pub(crate) fn reports(&self) -> bool {
        self.listened.load(Ordering::Relaxed)
    }

    /// Reports what a call of this node has done to a session.
    pub(crate) fn report(
        &self,
        now: Timestamp,
        key: Root,
        kind: SessionEventKind,
        user: Option<UserKey>,
    ) {
        let mut control = self.control();
        if !control.cluster.left {
            control.cluster.now = now;
            control.cluster.happened(key, kind, user);
        }
    }
}

/// How long a member gets events after it has asked for them last.
const LISTENS_FOR: Duration = Duration::from_secs(5);
