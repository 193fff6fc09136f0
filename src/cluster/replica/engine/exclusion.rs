//! Exclusion: a node for which there is no place in the cluster whose members it has met.
//!
//! The node leaves, does not serve, and keeps its sessions. The members refuse its connections for
//! as long as the reason lasts. When no member does any more, it joins again in a new incarnation.
//!
//! A node that finds a later incarnation of itself renews itself without leaving: its clock was set
//! back while it was down.

use crate::session::Timestamp;

use crate::cluster::replica::engine::Engine;
use crate::cluster::replica::event::{Exclusion, Notification};
use crate::cluster::replica::member_selection::select_members;
use crate::cluster::replica::membership::Membership;
use crate::cluster::replica::node::{Node, SEEN_MAX};

impl Engine {
    /// Returns the nodes that are members; none if this node is excluded.
    pub(super) fn select_members(&mut self, now: Timestamp, nodes: Vec<Node>) -> Vec<Node> {
        match select_members(&self.cluster.me, nodes) {
            Ok(members) => members,
            Err(exclusion) => {
                self.exclude(now, exclusion);
                Vec::new()
            }
        }
    }

    /// Handles a node that serves under this node's name.
    pub(super) fn rival(&mut self, now: Timestamp, rival: Node) {
        let me = self.cluster.me.clone();
        // A node that does not serve has nothing to stop: the rejection itself keeps it from
        // serving.
        if self.cluster.ready && rival.name == me.name {
            let exclusion = select_members(&me, vec![rival]).err();
            if let Some(exclusion) = exclusion {
                self.exclude(now, exclusion);
            }
        }
    }

    fn exclude(&mut self, now: Timestamp, exclusion: Exclusion) {
        self.excluded = Some(exclusion.clone());
        self.membership.leave();
        self.cluster.ready = false;
        self.cluster.joining_since = now;
        self.cluster.notify(Notification::Excluded(exclusion));
        // Answered by this node alone, a read could find a session that the members have deleted,
        // and a list would lack theirs.
        self.reads.abort(&mut self.cluster);
        self.lists.abort(&mut self.cluster);
        self.backfills.clear();
    }

    /// Joins again when the reason is gone.
    pub(super) fn review_exclusion(&mut self, now: Timestamp) {
        let waited = now.since(self.cluster.joining_since);
        if waited >= self.settings.requirements.bootstrap_timeout
            && !self.readiness.is_excluded()
            && self.excluded.take().is_some()
        {
            let me = self.cluster.me.next_incarnation();
            // The stored members are outdated, and would exclude this node again.
            let seed = self.settings.seed.wrapping_add(me.incarnation);
            self.membership = Membership::new(me.clone(), seed);
            self.timers.clear();
            self.rejoin(now, me);
        }
    }

    /// Handles a later incarnation at this node's address that is down: this node's clock was set
    /// back, and the members accept no incarnation before that one. Returns `true` if this node
    /// continues in one above it.
    pub(super) fn outlives(&mut self, now: Timestamp, removed: &[Node]) -> bool {
        let me = &self.cluster.me;
        let is_later =
            |node: &&Node| node.address == me.address && node.incarnation > me.incarnation;
        let later = removed.iter().filter(is_later);
        let latest = later.map(|node| node.incarnation).max();
        let before = me.incarnation;
        if let Some(latest) = latest {
            self.renew_above(now, latest);
        }
        self.cluster.me.incarnation != before
    }

    /// Handles another process seen in this incarnation number under this node's name or address.
    pub(super) fn renew_above(&mut self, now: Timestamp, seen: u64) {
        let is_in = self.quarantined_until.is_none() && self.excluded.is_none();
        if seen >= self.cluster.me.incarnation && seen <= SEEN_MAX && is_in {
            let me = self.membership.renew_above(seen);
            self.rejoin(now, me);
        }
    }
}
