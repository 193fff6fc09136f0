//! Losses that the guarantees cover: the nodes that may stop now.

use crate::cluster::copies::Copies;
use crate::cluster::replica::node::Node;
use crate::cluster::replica::{MemberStatus, Replica};

use crate::cluster::sim::world::World;

impl World {
    /// Returns `true` if the guarantees cover the loss of this node: its sessions were handed over,
    /// and fewer nodes than hold a session are missing, including this one. After a partition, or
    /// once a slow node was removed, every node must have everything, so that no side's writes are
    /// lost with it.
    pub(super) fn can_lose(&self, index: usize) -> bool {
        if self.nodes[index].replica.is_none() || self.is_outsider(index) {
            return true;
        }
        let is_split = self
            .nodes
            .iter()
            .any(|node| node.falsely_removed || !node.falsely_suspects.is_empty());
        if self.partitioned || is_split && self.plan.has_slow_nodes() {
            return self.has_converged();
        }
        let is_running = |at: &usize| self.nodes[*at].replica.is_some() && !self.is_outsider(*at);
        let mut running = (0..self.nodes.len()).filter(is_running);
        match self.plan.copies {
            Copies::All => {
                running.any(|at| at != index && !self.nodes[at].leaving && self.is_caught_up(at))
            }
            Copies::Count(copies) => running
                .all(|at| self.is_caught_up(at) && self.has_spare_copies(at, copies.get().into())),
        }
    }

    /// Returns `true` for a node whose name is taken by a member of the cluster, so that the other
    /// nodes reject it. One that serves may be all that is left of the cluster.
    fn is_outsider(&self, index: usize) -> bool {
        let replica = self.nodes[index].replica.as_ref();
        if !self.plan.has_name_conflicts() || replica.is_some_and(Replica::is_ready) {
            return false;
        }
        let me = &self.nodes[index].me;
        let is_double = |other: &usize| {
            let other = &self.nodes[*other];
            other.replica.is_some() && other.me.name == me.name && other.me.address != me.address
        };
        let accepts = |other: &usize| {
            let replica = self.nodes[*other].replica.as_ref();
            let members = replica.map(|replica| replica.status().members);
            members.is_some_and(|members| members.iter().any(|member| member.node == *me))
        };
        let mut all = 0..self.nodes.len();
        all.clone().any(|other| is_double(&other)) && !all.any(|other| accepts(&other))
    }

    fn is_caught_up(&self, at: usize) -> bool {
        let status = self.replica(at).status();
        self.is_awake(at) && status.ready && status.complete
    }

    /// Returns `true` if, according to this node, all holders are complete and one more may stop.
    fn has_spare_copies(&self, at: usize, copies: usize) -> bool {
        let status = self.replica(at).status();
        let stays = |member: &&MemberStatus| !member.leaving;
        let others = status.members.iter().filter(stays);
        let is_gone = |member: &Node| {
            let index = self.nodes.iter().position(|node| node.me == *member);
            index.is_none_or(|index| !self.is_awake(index))
        };
        let missing = others
            .clone()
            .filter(|member| is_gone(&member.node))
            .count();
        let candidates = others.count() + usize::from(!self.nodes[at].leaving);
        status.settled && missing + 1 < copies.min(candidates)
    }
}
