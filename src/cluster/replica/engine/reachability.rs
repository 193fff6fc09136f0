//! Asymmetric partitions: removal of a peer that other members reach and this node does not.
//!
//! Every member needs a working link to every other one: writes wait for all holders, and for all
//! members to be in one view. The membership protocol keeps a member as long as *any* member
//! receives from it. So a node that waits for a peer asks it for its view, and declares it down
//! when nothing at all has arrived from it for a while. Of two members that cannot reach each other
//! the older one does that first, so that only one of them is removed.
//!
//! The removed node returns in a new incarnation at once, because the link may have been broken for
//! a moment only. If it still is, that incarnation is short, since no member waits long for the
//! same peer again. After a few short incarnations, which have no other cause, the node is
//! quarantined for a while, so that the other members can work.
//!
//! With many nodes it may take several rounds until one side is left. In rare cases each member
//! that stays has been declared down once by a member that left later. Then no member serves, and
//! those that stay wait for `join_timeout`, since the nodes that do not answer may have sessions.
//!
//! This costs nothing while members answer, and depends on no other node's clock.

use std::time::Duration;

use crate::session::Timestamp;

use crate::cluster::replica::engine::Engine;
use crate::cluster::replica::event::{DownCause, Notification};
use crate::cluster::replica::message::Message;
use crate::cluster::replica::node::Node;
use crate::cluster::replica::peer_table::PeerIndex;

impl Engine {
    /// Requests a view from every peer that is behind or that this node waits for, and declares
    /// down those that have not answered for long.
    pub(super) fn probe_lagging(&mut self, now: Timestamp) {
        let cluster = &self.cluster;
        let overdue = self
            .writes
            .overdue(now)
            .union(self.reads.overdue(now))
            .union(self.lists.overdue(now))
            .union(self.updates.overdue(now, cluster));
        // Includes members that are not known to be complete or to serve: if such an announcement
        // was lost, sessions that were handed over would stay here.
        let waited_for = cluster.peers.iter().filter(|(index, peer)| {
            !cluster.has_caught_up(*index) || !peer.ready || overdue.contains(*index)
        });
        for peer in waited_for.map(|(index, _)| index).collect::<Vec<_>>() {
            if !self.declare_unreachable(now, peer) {
                let mine = self.view_message(now, true);
                self.cluster.send(peer, Message::View(mine));
            }
        }
    }

    /// Counts a request to a peer. Returns `true` if it has been silent for too long and is down.
    fn declare_unreachable(&mut self, now: Timestamp, peer: PeerIndex) -> bool {
        let me = &self.cluster.me;
        let Some(silent) = self.cluster.peers.get_mut(peer) else {
            return true;
        };
        let age = |node: &Node| (node.incarnation, node.address);
        let last_silent_at = self.silent.get(&silent.node.address);
        let most = if last_silent_at.is_some_and(|at| now.since(*at) < SILENT_FOR) {
            UNANSWERED_AGAIN
        } else if age(me) < age(&silent.node) {
            UNANSWERED_MAX
        } else {
            UNANSWERED_MAX + YOUNGER
        };
        silent.unanswered += 1;
        if silent.unanswered <= most || !self.cluster.rules.reachability() {
            return false;
        }
        let node = silent.node.clone();
        self.silent.retain(|_, at| now.since(*at) < SILENT_FOR);
        if self.silent.insert(node.address, now).is_none() {
            self.cluster.notify(Notification::Unreachable(node.clone()));
        }
        self.declare_down(node, DownCause::Unreachable);
        true
    }

    /// Records that something has arrived from a node.
    pub(super) fn record_contact(&mut self, now: Timestamp, from: &Node, peer: Option<PeerIndex>) {
        if let Some(peer) = peer.and_then(|peer| self.cluster.peers.get_mut(peer)) {
            peer.active_at = now;
            peer.unanswered = 0;
        }
        self.silent.remove(&from.address);
    }

    /// Called when other members have declared this node down: continues in a new incarnation, or
    /// starts the quarantine.
    pub(super) fn declared_down(&mut self, now: Timestamp, me: Node) {
        // The new incarnation starts without the memory of the old one, which may have declared the
        // healthy members down and would ignore them until they all had left as well.
        self.membership.restart(me.clone());
        self.timers.clear();
        self.cluster.peers.mark_departed();
        self.rejoin(now, me);
        let recent = &mut self.short_incarnations;
        recent.retain(|at| now.since(*at) < SHORT_INCARNATIONS_WITHIN);
        recent.push(now);
        // Without two other members, no other node is held up.
        if recent.len() >= SHORT_INCARNATIONS && self.cluster.peers.iter().count() > 1 {
            recent.clear();
            self.quarantined_until = Some(now.plus(QUARANTINE));
            self.membership.leave();
            self.cluster.notify(Notification::Quarantined(QUARANTINE));
        }
    }

    /// Ends the quarantine when its time is over.
    pub(super) fn end_quarantine(&mut self, now: Timestamp) {
        if self.quarantined_until.is_some_and(|until| until <= now) {
            self.quarantined_until = None;
            let me = self.membership.renew();
            self.rejoin(now, me);
        }
    }
}

/// Unanswered requests, five a second, before a peer is declared down: nearly three seconds, in
/// which the membership protocol usually detects a member that is down or stopped.
const UNANSWERED_MAX: u32 = 14;

/// Further requests made by the younger of two members: by then the older one has acted, if it can,
/// and callers still wait (for five seconds by default).
const YOUNGER: u32 = 7;

/// The same for a peer at an address that recently did not answer.
const UNANSWERED_AGAIN: u32 = 1;

/// How long an address counts as recently silent.
const SILENT_FOR: Duration = Duration::from_secs(60);

/// A node declared down this often within so short a time is alive and cannot be reached by some
/// member: the membership protocol takes more than two seconds each time.
const SHORT_INCARNATIONS: usize = 3;
const SHORT_INCARNATIONS_WITHIN: Duration = Duration::from_secs(6);

/// Duration of the quarantine: ten times as long as the node holds up the other members when it
/// tries again, since they remember that it did not answer. After the network has healed, it is
/// back within this time.
const QUARANTINE: Duration = Duration::from_secs(4);
