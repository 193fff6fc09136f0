//! Announcements of views received from peers.

use std::net::SocketAddr;

use crate::cluster::replica::engine::Engine;
use crate::cluster::replica::message::{Message, View};
use crate::cluster::replica::node::Node;
use crate::cluster::replica::peer_table::PeerIndex;
use crate::cluster::replica::table::EntryTable;
use crate::session::Timestamp;

impl Engine {
    pub(super) fn handle_view(
        &mut self,
        now: Timestamp,
        from: Node,
        mut view: View,
        table: &EntryTable,
    ) {
        if self.membership.is_down(&from) && !self.yields_to(&from, &view) {
            // It was cut off and has not been informed: it finds its own identity among the removed
            // ones. The members that it has declared down meanwhile are the healthy ones.
            let mine = Message::View(self.view_message(now, false));
            self.cluster.send_to(from, mine);
            return;
        }
        if self.outlives(now, &view.removed) {
            return;
        }
        self.membership
            .down(std::mem::take(&mut view.removed).into_iter());
        self.membership.alive(
            std::mem::take(&mut view.members)
                .into_iter()
                .chain([from.clone()]),
        );
        // The sender may be new here: its announcement must not be lost.
        self.adopt_members(now, table);
        if let Some(index) = self.cluster.peers.find(&from) {
            self.handle_progress(now, index, &view, table);
        }
    }

    /// Returns `true` if this node yields to one that it has declared down and that has declared
    /// this one down. The larger side of a partition continues as it is, and the nodes of the other
    /// side join it in new incarnations; of two sides of equal size the one with the lowest address
    /// continues. Both sides decide alike, so that not all nodes leave at the same time.
    fn yields_to(&self, from: &Node, view: &View) -> bool {
        let me = &self.cluster.me;
        if !view.removed.contains(me) {
            return false;
        }
        let peers = self.cluster.peers.iter().map(|(_, peer)| peer.node.address);
        let ours: Vec<_> = peers.chain([me.address]).collect();
        let theirs: Vec<_> = view
            .members
            .iter()
            .chain([from])
            .map(|node| node.address)
            .collect();
        let lowest = |side: &[SocketAddr]| side.iter().min().copied();
        let rank = |side: &[SocketAddr]| (side.len(), std::cmp::Reverse(lowest(side)));
        rank(&theirs) > rank(&ours)
    }

    /// Records the progress that a member has announced.
    pub(super) fn handle_progress(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        view: &View,
        table: &EntryTable,
    ) {
        let known = self.cluster.peers.get(from).map(|peer| peer.number);
        if known.is_some_and(|number| view.number > number) && !self.cluster.note_epoch(view.view) {
            return;
        }
        let is_behind = self.cluster.is_behind();
        let Some(peer) = self.cluster.peers.get_mut(from) else {
            return;
        };
        // An announcement that was overtaken must not replace a newer one: the sender would count
        // as behind, and writes would wait for it.
        if view.number > peer.number {
            let came = peer.view != Some(view.view);
            self.view_dirty |= peer.leaving != view.leaving || is_behind;
            if peer.number == 0 && view.ready && view.loss_window.is_zero() {
                // It has served without this node, and has everything that exists.
                self.cluster.silence_until = Timestamp::default();
            }
            peer.number = view.number;
            peer.view = Some(view.view);
            peer.complete = view.complete;
            peer.ready = view.ready;
            peer.kinds = view.kinds.unwrap_or_default();
            peer.certain = view.loss_window.is_zero();
            peer.leaving = view.leaving;
            self.cluster.handle_loss_window(now, view.loss_window);
            self.adopt_members(now, table);
            // It has not answered what it was asked in this view before it came into it.
            if came && self.cluster.agrees(from) {
                self.ask_again(now, from, table);
            }
        }
        // It may have answered earlier requests before its end of the link was up, and those
        // answers are lost.
        if self.cluster.peers.take_reconnected(from) {
            self.ask_again(now, from, table);
        }
        if self.cluster.agrees(from) {
            self.writes.send_missing(from, &mut self.cluster);
        }
        if view.ask {
            self.announce(now, from);
        }
    }
}
