//! The decision to serve sessions, and what an unknown session means then.
//!
//! A node that serves may answer that a session does not exist, which logs a user out. So it starts
//! to serve only under one of these conditions:
//!
//! - A member that serves has accepted it, and it is complete.
//! - No member serves, and no other node can: no address is configured, or every configured address
//!   refuses connections or does not resolve.
//! - No member serves, and some address does not answer. A node there may hold sessions. This node
//!   waits for `join_timeout`, then serves with a *loss window*: for `loss_grace` an unknown
//!   session is an error.
//! - No member serves, and a node of this cluster rejects this one. Then it serves only together
//!   with enough other nodes: `expect_nodes`, or more than half of the configured addresses. So a
//!   node with a wrong configuration stops itself, and not the start of the whole cluster.
//! - A node of another cluster, or with another secret, rejects this one. This node may be the one
//!   with the wrong configuration, so it does not serve alone. With any member, the other node is
//!   foreign, and counts as an address that does not answer.
//!
//! After a pause a node continues in a new incarnation under the same conditions. If all members
//! were paused at the same time, no member serves; they have kept their memory, so they serve again
//! as soon as all of them are back and have compared their sessions.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::session::Timestamp;

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::outlook::Outlook;

/// The configured conditions for serving.
#[derive(Clone, Debug)]
pub(crate) struct Requirements {
    /// How long a node that finds no other node waits before it serves alone.
    pub(crate) bootstrap_timeout: Duration,
    /// With fewer members than this a node waits for `join_timeout`.
    pub(crate) expect_nodes: usize,
    /// How long a node waits for other nodes that may exist.
    pub(crate) join_timeout: Duration,
    /// How long after a loss an unknown session may be a lost one.
    pub(crate) loss_grace: Duration,
}

impl Default for Requirements {
    fn default() -> Self {
        Self {
            bootstrap_timeout: Duration::from_secs(2),
            expect_nodes: 1,
            join_timeout: Duration::from_secs(10),
            loss_grace: Duration::from_secs(60),
        }
    }
}

/// What a node that is to serve may conclude about an unknown session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// It does not exist.
    Complete,
    /// It does not exist, because all members from before a pause are back and none was lost.
    AllReturned,
    /// It may be at a node that does not answer.
    Uncertain,
}

/// State of the decision in addition to the members.
#[derive(Debug)]
pub(crate) struct Readiness {
    pub(crate) requirements: Requirements,
    outlook: Outlook,
    /// The largest number of members at one time, including this node.
    most: usize,
    /// The state before a pause while serving, until this node serves again.
    pause: Option<StateBeforePause>,
    /// When a rejection last prevented this node from serving.
    held_up_at: Timestamp,
}

#[derive(Debug)]
struct StateBeforePause {
    at: Timestamp,
    members: BTreeSet<SocketAddr>,
    /// The end of the loss window that the node had then.
    loss_window_until: Timestamp,
}

impl Readiness {
    pub(crate) fn new(requirements: Requirements) -> Self {
        Self {
            requirements,
            outlook: Outlook::default(),
            most: 1,
            pause: None,
            held_up_at: Timestamp::default(),
        }
    }

    /// Updates the state of the addresses, and ends a loss window whose cause is gone.
    pub(crate) fn set_outlook(&mut self, outlook: Outlook, cluster: &mut ClusterView) {
        self.outlook = outlook;
        if cluster.ready && !self.is_open(cluster) {
            cluster.silence_until = Timestamp::default();
        }
    }

    /// Records the members of a node that was paused while it served.
    pub(crate) fn pause(&mut self, now: Timestamp, cluster: &ClusterView) {
        // A node that is paused again before it serves keeps the members of the first time: it may
        // not have met all of them since.
        if cluster.ready {
            let members = cluster.peers.iter();
            self.pause = Some(StateBeforePause {
                at: now,
                // By address: they return in other incarnations.
                members: members.map(|(_, peer)| peer.node.address).collect(),
                loss_window_until: cluster.loss_window_until,
            });
        }
    }

    /// Returns the members from before a pause, until this node serves again.
    #[cfg(all(feature = "snapshot", unix))]
    pub(crate) fn before_pause(&self) -> impl Iterator<Item = &SocketAddr> {
        self.pause.iter().flat_map(|pause| &pause.members)
    }

    /// Returns what this node may conclude when it serves now; `None` if it may not serve.
    pub(crate) fn decide(&mut self, now: Timestamp, cluster: &ClusterView) -> Option<Knowledge> {
        let members = 1 + cluster.peers().len();
        self.most = self.most.max(members);
        // A member that has not announced this view may confirm a write without this node, which
        // would then answer without it.
        if !cluster.is_stable() || !cluster.is_complete() {
            return None;
        }
        let waited = now.since(cluster.joining_since);
        let is_late = waited >= self.requirements.join_timeout;
        // Not without limit: a member that never comes would keep all others from serving.
        if self.lacks_members() && !is_late {
            return None;
        }
        let has_serving_peer = cluster.peers.iter().any(|(_, peer)| peer.ready);
        if !has_serving_peer && self.is_held_up(members) {
            self.held_up_at = now;
            return None;
        }
        // Decided before the next case, in which the former incarnations of the members would stay
        // on record as losses, and unknown sessions be errors.
        if self.have_all_returned(cluster) {
            return Some(Knowledge::AllReturned);
        }
        if has_serving_peer {
            return Some(Knowledge::Complete);
        }
        // Nodes that find each other first may not have found those that have the sessions yet.
        if waited < self.requirements.bootstrap_timeout {
            return None;
        }
        if !self.is_open(cluster) {
            return Some(Knowledge::Complete);
        }
        // An address that rejected this node until now may be about to close.
        let waited = waited.min(now.since(self.held_up_at));
        (waited >= self.requirements.join_timeout).then_some(Knowledge::Uncertain)
    }

    /// Called when this node starts to serve.
    pub(crate) fn serve(
        &mut self,
        now: Timestamp,
        knowledge: Knowledge,
        cluster: &mut ClusterView,
    ) {
        let pause = self.pause.take();
        match (knowledge, pause) {
            (Knowledge::Uncertain, _) => cluster.silence_until = now.plus(cluster.loss_grace),
            (Knowledge::AllReturned, Some(pause)) => {
                // The former incarnations of the members count as lost since the pause. All are
                // back with their memory: that is over, and so are the loss windows announced
                // because of it.
                cluster.losses.retain(|lost| *lost < pause.at);
                cluster.loss_window_until = pause.loss_window_until;
            }
            (Knowledge::Complete | Knowledge::AllReturned, _) => {}
        }
        cluster.ready = true;
    }

    /// Returns `true` while some node excludes this one.
    pub(crate) const fn is_excluded(&self) -> bool {
        self.outlook.excluding > 0
    }

    /// Returns `true` if a rejection prevents this number of members from serving.
    fn is_held_up(&self, members: usize) -> bool {
        let Outlook {
            configured,
            rejecting,
            foreign,
            ..
        } = self.outlook;
        let expected = self.requirements.expect_nodes;
        // A majority of the configured addresses and this node's own.
        let many = 2 * members > configured + 1 || expected > 1 && members >= expected;
        // A node alone is no majority, even if no address is configured: a node that multicast has
        // found may be the one that rejects it.
        rejecting > 0 && !(members > 1 && many) || foreign > 0 && members == 1
    }

    /// Returns `true` if all members from before a pause are back, and no other member has recorded
    /// a loss.
    fn have_all_returned(&self, cluster: &ClusterView) -> bool {
        let peers = || cluster.peers.iter().map(|(_, peer)| peer);
        let is_here = |address: &SocketAddr| peers().any(|peer| peer.node.address == *address);
        let is_back = |pause: &StateBeforePause| pause.members.iter().all(is_here);
        self.pause.as_ref().is_some_and(is_back) && peers().all(|peer| !peer.ready || peer.certain)
    }

    /// Returns `true` if a node that does not answer may hold sessions.
    fn is_open(&self, cluster: &ClusterView) -> bool {
        let peers = cluster.peers().len();
        let Outlook {
            accepting,
            foreign,
            silent,
            ..
        } = self.outlook;
        // A node that has accepted this one and is no member yet may have sessions as well.
        silent + foreign > 0 || accepting > peers || self.lacks_members()
    }

    const fn lacks_members(&self) -> bool {
        // The most at one time: members that were here and have left are not waited for.
        self.most < self.requirements.expect_nodes
    }
}
