//! Departure of members: orderly ([`Message::Leave`]) or by failure.
//!
//! A node that leaves hands over first, announces it, and sends [`Message::Leave`] as its last
//! message. The other direction of the same link is a connection of its own, which closes at that
//! moment. The node at its other end may find the port refused before it has read `Leave`: an
//! orderly leave would be treated as a failure, with a warning in the log and sessions that count
//! as possibly lost. Therefore the refused port of a node that may have handed over counts only
//! when its `Leave` would have arrived. A leaving node holds no slots, so sessions wait for it only
//! if it has failed during the hand-over, and no longer than that.
//!
//! Another member may read `Leave` first and spread that the node is down. When `Leave` arrives
//! here after that, the node no longer counts as missing.
//!
//! [`Message::Leave`]: crate::cluster::replica::message::Message::Leave

use std::time::Duration;

use crate::cluster::replica::engine::Engine;
use crate::cluster::replica::event::DownCause;
use crate::cluster::replica::node::Node;
use crate::session::Timestamp;

impl Engine {
    pub(super) fn handle_leave(&mut self, from: Node) {
        let known = self.cluster.peers.find(&from);
        if let Some(peer) = known.and_then(|peer| self.cluster.peers.get_mut(peer)) {
            peer.departed = true;
            peer.down = Some(DownCause::Left);
        } else if let Some((incarnation, lost_at)) = self.missing.get(&from.name).copied()
            && incarnation == from.incarnation
        {
            // Only of this incarnation: a late `Leave` of an earlier process does not count for the
            // next one, which has failed.
            self.missing.remove(&from.name);
            self.note_departed(from.name.clone());
            self.all_returned = self.missing.is_empty();
            self.cluster.not_lost(lost_at);
        }
        self.membership.down([from].into_iter());
    }

    /// Called when a node refuses connections.
    pub(super) fn handle_refused(&mut self, now: Timestamp, node: Node) {
        let known = self.cluster.peers.find(&node);
        match known.and_then(|peer| self.cluster.peers.get_mut(peer)) {
            // Until it is complete, it cannot have handed over, and sends no `Leave`.
            Some(peer) if peer.leaving && peer.complete => {
                peer.refused_at.get_or_insert(now);
            }
            _ => self.declare_down(node, DownCause::Refused),
        }
    }

    /// Declares leaving nodes down that refuse connections and whose `Leave` has not arrived.
    pub(super) fn declare_refused_down(&mut self, now: Timestamp) {
        let peers = self.cluster.peers.iter();
        let is_late = |refused_at| now.since(refused_at) >= LEAVE_WITHIN;
        let overdue: Vec<_> = peers
            .filter(|(_, peer)| peer.refused_at.is_some_and(is_late))
            .map(|(_, peer)| peer.node.clone())
            .collect();
        for node in overdue {
            self.declare_down(node, DownCause::Refused);
        }
    }
}

/// How long `Leave` may be under way after its sender's port has refused a connection: longer
/// than a busy node takes to read what has arrived, and shorter than the detection of a failure.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
