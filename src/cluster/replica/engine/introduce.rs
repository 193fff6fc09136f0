//! Announcements of this node's view and progress.

use crate::session::Timestamp;

use super::{Engine, REMOVED_MAX};
use crate::cluster::replica::message::{Message, View};
use crate::cluster::replica::roster::PeerIndex;

impl Engine {
    /// Repeats the acknowledgements of the peer's writes, then announces the view: the peer
    /// concludes that this node lacks the writes that it did not name.
    pub(super) fn introduce(&mut self, now: Timestamp, peer: PeerIndex) {
        self.merged.acknowledge(peer, &mut self.standing);
        let mine = Message::View(self.introduction(now, false));
        self.standing.send(peer, mine);
    }

    pub(super) fn introduce_to_all(&mut self, now: Timestamp) {
        for peer in self.standing.peers().iter() {
            self.introduce(now, peer);
        }
    }

    /// Returns the announcement to send; with `ask`, it requests the peer's in return.
    pub(super) fn introduction(&mut self, now: Timestamp, ask: bool) -> View {
        let removed = self.membership.removed().take(REMOVED_MAX);
        let removed = removed.cloned().collect();
        self.introductions += 1;
        let standing = &self.standing;
        View {
            number: self.introductions,
            ask,
            view: standing.view,
            members: standing
                .roster
                .iter()
                .map(|(_, peer)| peer.node.clone())
                .collect(),
            removed,
            complete: standing.is_complete(),
            ready: standing.ready,
            leaving: standing.leaving,
            doubt: standing.doubt(now),
        }
    }
}
