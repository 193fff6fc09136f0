//! Where this node stands: who it is, who else is in, how far it has caught up.
//!
//! Every part of the replica looks here and speaks through here; only
//! [`Control`](super::control::Control) changes it.

use crate::session::Timestamp;

use super::event::{News, Output, Reply};
use super::message::{Message, OpId, ViewId};
use super::node::Node;
use super::placement::{PeerIndex, PeerSet, Roster, view_id, weight};

/// Where a node stands in its cluster.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) me: Node,
    pub(crate) roster: Roster,
    pub(crate) view: ViewId,
    /// Peers all of whose sessions are here, as of this view.
    pub(crate) done: PeerSet,
    /// Whether this node serves sessions.
    pub(crate) ready: bool,
    /// Whether it has left for good.
    pub(crate) left: bool,
    /// Since when it has been trying to join.
    pub(crate) joining_since: Timestamp,
    out: Vec<Output>,
}

/// Who orders the atomic updates of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Me,
    Peer(PeerIndex),
}

impl Standing {
    pub(crate) fn new(me: Node, now: Timestamp) -> Self {
        let roster = Roster::default();
        Self {
            view: view_id(&me, &roster),
            me,
            roster,
            done: PeerSet::default(),
            ready: false,
            left: false,
            joining_since: now,
            out: Vec::new(),
        }
    }

    /// All members but this node.
    pub(crate) fn peers(&self) -> PeerSet {
        self.roster.all()
    }

    /// Peers that may have sessions which are not here yet.
    pub(crate) fn sources(&self) -> PeerSet {
        self.peers().without(self.done)
    }

    /// Whether everything that the members of this view had is here.
    pub(crate) fn is_complete(&self) -> bool {
        self.sources().is_empty()
    }

    /// Whether every member has said that it is in the same view.
    pub(crate) fn is_stable(&self) -> bool {
        self.roster
            .iter()
            .all(|(_, peer)| peer.view == Some(self.view))
    }

    /// The member that orders the atomic updates of a slot's sessions.
    pub(crate) fn owner(&self, slot: usize) -> Owner {
        let mine = (weight(slot, self.me.fingerprint()), Owner::Me);
        let theirs = self
            .roster
            .iter()
            .map(|(index, peer)| (weight(slot, peer.fingerprint), Owner::Peer(index)));
        theirs
            .fold(mine, |best, next| if next.0 > best.0 { next } else { best })
            .1
    }

    pub(crate) fn send(&mut self, to: PeerIndex, message: Message) {
        if let Some(peer) = self.roster.get(to) {
            let to = peer.node.clone();
            self.out.push(Output::Send { to, message });
        }
    }

    pub(crate) fn send_to(&mut self, to: Node, message: Message) {
        self.out.push(Output::Send { to, message });
    }

    pub(crate) fn reply(&mut self, op: OpId, reply: Reply) {
        self.out.push(Output::Reply { op, reply });
    }

    pub(crate) fn news(&mut self, news: News) {
        self.out.push(Output::News(news));
    }

    pub(crate) fn drain(&mut self, outputs: &mut Vec<Output>) {
        outputs.append(&mut self.out);
    }
}
