//! Announcements of this node's view and progress.

use crate::session::Timestamp;

use crate::cluster::replica::engine::{Engine, REMOVED_MAX};
use crate::cluster::replica::message::{KINDS, Message, View};
use crate::cluster::replica::peer_table::PeerIndex;

impl Engine {
    /// Repeats the acknowledgements of the peer's writes, then announces the view: the peer
    /// concludes that this node lacks the writes that it did not name.
    pub(super) fn announce(&mut self, now: Timestamp, peer: PeerIndex) {
        self.merged.acknowledge(peer, &mut self.cluster);
        let mine = Message::View(self.view_message(now, false));
        self.cluster.send(peer, mine);
        // Otherwise a peer that has just joined would report its events only after the next
        // repetition, up to a second later.
        if self.cluster.wants_events() {
            self.cluster.ask_for_events(peer);
        }
    }

    pub(super) fn announce_to_all(&mut self, now: Timestamp) {
        for peer in self.cluster.peers().iter() {
            self.announce(now, peer);
        }
    }

    /// Returns the announcement to send; with `ask`, it requests the peer's in return.
    pub(super) fn view_message(&mut self, now: Timestamp, ask: bool) -> View {
        // A node that was declared down finds its own identity among them, and joins again.
        let removed = self
            .membership
            .removed()
            .take(REMOVED_MAX)
            .cloned()
            .collect();
        self.announcements += 1;
        let cluster = &self.cluster;
        View {
            number: self.announcements,
            ask,
            view: cluster.view,
            members: cluster
                .peers
                .iter()
                .map(|(_, peer)| peer.node.clone())
                .collect(),
            removed,
            complete: cluster.is_complete(),
            ready: cluster.ready,
            leaving: cluster.leaving,
            loss_window: cluster.loss_window(now),
            kinds: Some(KINDS),
        }
    }
}
