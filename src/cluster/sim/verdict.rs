//! Whether what clients were told, and what is there in the end, is as it must be.

use crate::cluster::replica::Replica;
use crate::session::Record;

use super::client::Request;
use super::invariants::{
    acknowledged_survives, ended_stays_ended, expires, holders_agree, updates_count_once,
};
use super::oracle::Life;
use super::requests::count;
use super::world::{SimNode, Totals, World};

impl World {
    pub(super) fn check(&self, request: &Request, read: Option<&Record>) {
        if self.partitioned {
            return;
        }
        let place = format!(
            "at node{} after {} us ({})",
            request.node, self.now, request.key
        );
        let model = &self.models[request.model];
        // A node that is wrongly declared dead answers from what it has until it hears of it. One that
        // declares another dead may lack what that one kept alone; but what has ended has ended.
        let node = &self.nodes[request.node];
        if !node.falsely_removed {
            ended_stays_ended(&request.known, read, &place);
        }
        if model.id == request.known.id && model.key == request.key {
            expires(model, self.now, read, &place);
        }
        // Somebody may have tried to end or to move it while this was under way.
        if model.life == Life::Live
            && !node.falsely_removed
            && node.falsely_suspects.is_empty()
            && model.key == request.key
            && model.id == request.known.id
            && request.known.is_fresh(self.now)
        {
            acknowledged_survives(&request.known, read, &place);
        }
    }

    pub(super) fn check_final_state(&mut self) {
        assert!(self.has_converged(), "{}", self.failure_report());
        for index in 0..self.nodes.len() {
            let now = self.clock(index);
            for model in &self.models {
                if !self.replica(index).holds(&model.key) {
                    continue;
                }
                let read = self.replica(index).look(now, &model.key);
                let place = format!("at node{index} in the end ({})", model.key);
                ended_stays_ended(&model.known(), read.as_deref(), &place);
                // Where two sides wrote the same, the later write counts, which is all that is asked.
                if model.known().is_fresh(self.now) {
                    acknowledged_survives(&model.known(), read.as_deref(), &place);
                }
                let split = self.partitioned || self.removed_while_running;
                if let (Life::Live, Some(record), false) = (model.life, read, split) {
                    updates_count_once(model, count(&record));
                }
            }
        }
        let Totals { begun, succeeded } = self.totals;
        // Each side of a partition has half of the sessions, and says so.
        let least = if self.partitioned { 25 } else { 4 };
        assert!(
            succeeded * least > begun,
            "only {succeeded} of {begun} requests succeeded"
        );
    }

    /// Whether every node runs, serves, has caught up and holds the same as the others.
    pub(super) fn has_converged(&self) -> bool {
        let all = self.nodes.len() - 1;
        let fine = |(index, node): (usize, &SimNode)| {
            node.replica.as_ref().is_some_and(|replica| {
                let status = replica.status();
                self.is_running(index)
                    && status.ready
                    && status.complete
                    && status.unacknowledged == 0
                    && status.members.len() == all
                    && status.members.iter().all(|member| member.agrees)
            })
        };
        let replicas = self.nodes.iter().filter_map(|node| node.replica.as_ref());
        self.nodes.iter().enumerate().all(fine) && holders_agree(replicas, self.plan.copies)
    }

    pub(super) fn failure_report(&self) -> String {
        let status = |node: &SimNode| node.replica.as_ref().map(Replica::status);
        let all: Vec<_> = self.nodes.iter().map(status).collect();
        format!(
            "seed {}: not well after {} us: {all:#?}\nrequests {:?}",
            self.plan.seed, self.now, self.requests
        )
    }
}
