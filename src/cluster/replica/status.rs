//! The state of a replica for operators.

use std::sync::Arc;

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::engine::Engine;
use crate::cluster::replica::event::Exclusion;
use crate::cluster::replica::node::Node;
use crate::cluster::replica::peer_table::PeerSet;
use crate::cluster::replica::placement::Placement;
use crate::cluster::replica::table::EntryTable;

/// The state of one node, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaStatus {
    pub(crate) me: Node,
    /// Whether it serves sessions.
    pub(crate) ready: bool,
    /// Whether it has everything that the members of its view had.
    pub(crate) complete: bool,
    /// Whether all members are complete in the same view.
    pub(crate) settled: bool,
    /// Whether some member stays when this one leaves.
    pub(crate) has_successor: bool,
    /// Concurrent writes from the sides of a healed partition of which one was discarded.
    pub(crate) discarded: u64,
    /// Sessions that this node owned when they expired.
    pub(crate) expired: u64,
    /// Members besides this node.
    pub(crate) members: Vec<MemberStatus>,
    pub(crate) sessions: usize,
    pub(crate) tombstones: usize,
    pub(crate) bytes: usize,
    /// Whether that exceeds the limits, because of copies for other nodes.
    pub(crate) over_limit: bool,
    /// Merges that have made a session larger than its limit.
    pub(crate) oversized: u64,
    /// Writes that some holder has not acknowledged yet.
    pub(crate) unacknowledged: usize,
    /// Whether no event waits for room on the link to a subscriber.
    pub(crate) reported: bool,
    /// Calls answered with an unknown outcome.
    pub(crate) indeterminate: u64,
    /// Why this node is excluded from the cluster.
    pub(crate) excluded: Option<Exclusion>,
}

/// The state of a member, as received by this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberStatus {
    pub(crate) node: Node,
    /// Whether it has announced the same view.
    pub(crate) agrees: bool,
    /// Whether it has announced that it is complete in that view.
    pub(crate) complete: bool,
    pub(crate) ready: bool,
    pub(crate) leaving: bool,
    /// Open writes of this node that it has not acknowledged.
    pub(crate) lag: usize,
}

impl ReplicaStatus {
    pub(crate) fn of(engine: &Engine, table: &EntryTable) -> Self {
        let cluster = &engine.cluster;
        let members = cluster.peers.iter().map(|(index, peer)| MemberStatus {
            node: peer.node.clone(),
            agrees: cluster.agrees(index),
            complete: peer.view == Some(cluster.view) && peer.complete,
            ready: peer.ready,
            leaving: peer.leaving,
            lag: engine.writes.lag(index),
        });
        Self {
            me: cluster.me.clone(),
            ready: cluster.ready,
            complete: cluster.is_complete(),
            settled: cluster.is_settled(),
            has_successor: cluster.peers.iter().any(|(_, peer)| !peer.leaving),
            discarded: table.discarded(),
            expired: table.expired(),
            members: members.collect(),
            sessions: table.sessions(),
            tombstones: table.tombstones(),
            bytes: table.bytes(),
            over_limit: table.is_over_limit(),
            oversized: table.oversized(),
            unacknowledged: engine.unacknowledged(),
            reported: cluster.is_reported(),
            indeterminate: cluster.indeterminate,
            excluded: engine.excluded.clone(),
        }
    }
}

/// The slots with fewer copies than configured, as far as a node can determine: some of their
/// holders are not complete, or there are too few members.
#[derive(Debug)]
pub(super) struct UnderReplicated {
    everything: bool,
    behind: PeerSet,
    placement: Arc<Placement>,
}

impl UnderReplicated {
    pub(super) fn of(cluster: &ClusterView) -> Self {
        let placement = cluster.placement.clone();
        let mut behind = PeerSet::default();
        for peer in cluster.peers().iter() {
            if !cluster.has_caught_up(peer) {
                behind.insert(peer);
            }
        }
        Self {
            everything: placement.lacks_members() || !cluster.is_complete(),
            behind,
            placement,
        }
    }

    /// Returns the number of live sessions in those slots. May have to visit all of them.
    pub(super) fn sessions(&self, table: &EntryTable) -> usize {
        if self.everything {
            table.sessions()
        } else if self.behind.is_empty() {
            0
        } else {
            let lacks = |slot| {
                !self
                    .placement
                    .holders(slot)
                    .peers
                    .and(self.behind)
                    .is_empty()
            };
            table.sessions_in(lacks)
        }
    }
}
