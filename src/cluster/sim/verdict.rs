//! Checks of single reads and of the final state.

use crate::session::Record;

use crate::cluster::sim::client::ClientRequest;
use crate::cluster::sim::invariants::{
    acknowledged_survives, ended_stays_ended, expires, holders_agree, reads_never_go_back,
    refusals_are_rare, rejected_changes_nothing, removed_stays_removed, updates_count_once,
};
use crate::cluster::sim::kinds::FaultKind;
use crate::cluster::sim::oracle::{Life, Model};
use crate::cluster::sim::requests::{count, counter};
use crate::cluster::sim::sim_node::SimNode;
use crate::cluster::sim::world::{RunTotals, World};

impl World {
    /// Checks the result of a read.
    pub(super) fn check(&self, request: &ClientRequest, read: Option<&Record>) {
        if self.partitioned {
            return;
        }
        let place = format!(
            "at node{} after {} us ({})",
            request.node, self.now, request.key
        );
        let model = &self.models[request.model];
        // A node that was falsely removed serves its values until it is informed. One that has
        // falsely removed another may lack what that one held alone; but deletions are final.
        let node = &self.nodes[request.node];
        if !node.falsely_removed {
            ended_stays_ended(&request.known, read, &place);
        }
        if model.id == request.known.id
            && model.secret == request.secret
            && self.plan.clock_includes_suspension
        {
            // A large response may be under way for a long time after it was sent.
            let at = if self.plan.has(FaultKind::LargeRecords) {
                request.begun_at
            } else {
                self.now
            };
            expires(model, at, read, &place);
        }
        if model.id == request.known.id && !self.removed_while_running {
            self.check_rejected(model, read, &place);
        }
        // Another client may have tried to delete or to rotate it meanwhile.
        if model.life == Life::Live
            && !node.falsely_removed
            && node.falsely_suspects.is_empty()
            && model.secret == request.secret
            && model.id == request.known.id
            && request.known.is_fresh(self.now)
        {
            reads_never_go_back(&request.known, read, &place);
            removed_stays_removed(&request.known, model, read, &place);
        }
    }

    fn check_rejected(&self, model: &Model, read: Option<&Record>, place: &str) {
        if let Some((_, written_by)) = read.and_then(counter) {
            rejected_changes_nothing(model, written_by, place);
        }
    }

    pub(super) fn check_final_state(&self) {
        assert!(self.has_converged(), "{}", self.failure_report());
        for index in 0..self.nodes.len() {
            if self.nodes[index].retired {
                continue;
            }
            let now = self.clock(index);
            for model in &self.models {
                if !self.replica(index).holds(&model.key) {
                    continue;
                }
                let read = self
                    .replica(index)
                    .peek(now, &model.key)
                    .filter(|record| record.is_current(&model.secret));
                let place = format!("at node{index} in the end ({})", model.key);
                ended_stays_ended(&model.known(), read.as_deref(), &place);
                // If both sides wrote the same attribute, only the later write is guaranteed.
                let known = if self.partitioned {
                    model.known_to_both_sides(self.now)
                } else {
                    model.known()
                };
                if known.is_fresh(self.now) {
                    acknowledged_survives(&known, read.as_deref(), &place);
                }
                if model.life == Life::Live && !self.partitioned {
                    removed_stays_removed(&model.known(), model, read.as_deref(), &place);
                }
                let split = self.partitioned || self.removed_while_running;
                if !split {
                    self.check_rejected(model, read.as_deref(), &place);
                }
                if let (Life::Live, Some(record), false) = (model.life, read, split) {
                    updates_count_once(model, count(&record));
                }
            }
        }
        assert!(self.users_have_ended(), "{}", self.failure_report());
        self.check_logins();
        self.check_totals();
    }

    /// Checks that enough requests have succeeded.
    fn check_totals(&self) {
        let RunTotals {
            begun,
            succeeded,
            steady_writes,
            steady_refused,
            bridged_writes,
            bridged_succeeded,
            bridged_time,
        } = self.totals;
        // Each side of a partition has half of the sessions, and reports that. Nodes that were
        // suspended refuse requests until they have joined again. Bridges that take turns for most
        // of a run may leave all nodes joining: what succeeds across them is checked over many
        // runs, in `run_all`.
        let is_rough =
            self.partitioned || self.plan.min_copies > 1 || self.plan.has(FaultKind::AllSuspended);
        let least = if !is_rough {
            4
        } else if self.plan.has(FaultKind::Bridges) {
            500
        } else {
            25
        };
        assert!(
            succeeded * least > begun,
            "only {succeeded} of {begun} requests succeeded"
        );
        refusals_are_rare(steady_refused, steady_writes);
        if self.plan.faults == [FaultKind::Bridges] && bridged_time >= BRIDGED_TIME_MIN {
            assert!(
                bridged_succeeded > 0,
                "none of {bridged_writes} writes in {bridged_time} us across a bridge succeeded"
            );
        }
    }

    /// Returns `true` if every node is complete and serves, and all holders agree.
    pub(super) fn has_converged(&self) -> bool {
        let replicas = self.nodes.iter().filter_map(|node| node.replica.as_ref());
        self.is_whole_again() && holders_agree(replicas, self.plan.copies)
    }

    /// Returns `true` if every node runs, serves, and is complete with all others as members.
    pub(super) fn is_whole_again(&self) -> bool {
        let mut nodes = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| !node.retired);
        let others = nodes.clone().count() - 1;
        let is_fine = |(index, node): (usize, &SimNode)| {
            node.replica.as_ref().is_some_and(|replica| {
                let status = replica.status();
                self.is_running(index)
                    && status.ready
                    && status.complete
                    && status.unacknowledged == 0
                    && status.members.len() == others
                    && status.members.iter().all(|member| member.agrees)
            })
        };
        nodes.all(is_fine)
    }

    /// Checks, after requests and faults have ended, that converging does not take too long.
    pub(super) fn check_convergence(&mut self) {
        let all = self.now.saturating_sub(self.disturbed_until);
        if !self.is_whole_again() {
            self.whole_after = all;
        }
        let since = self.disturbed_until.max(self.large_moved_at);
        let waited = self.now.saturating_sub(since);
        if waited > CONVERGES_WITHIN || all > MOVING_MAX {
            panic!("{}", self.failure_report());
        }
    }

    /// Describes a cluster that has not converged, one line for each node.
    pub(super) fn failure_report(&self) -> String {
        let mut report = format!(
            "seed {} ({:?}, {:?}): not converged at {} us, {} us after the last fault",
            self.plan.seed,
            self.plan.faults,
            self.plan.copies,
            self.now,
            self.now - self.disturbed_until
        );
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(replica) = &node.replica else {
                report += &format!("\n  {:?} is down", node.me);
                continue;
            };
            let status = replica.status();
            let members: Vec<_> = status
                .members
                .iter()
                .map(|member| format!("{:?} agrees {}", member.node, member.agrees))
                .collect();
            report += &format!(
                "\n  {:?} running {} ready {} complete {} settled {} sessions {} open {}: {}",
                node.me,
                self.is_running(index),
                status.ready,
                status.complete,
                status.settled,
                status.sessions,
                status.unacknowledged,
                members.join(", ")
            );
        }
        if !self.users_have_ended() {
            report += "\nsessions of ended users are alive";
        }
        report + &format!("\nrequests {:?}", self.requests)
    }
}

/// Across a bridge that lasts for so long some write succeeds, in microseconds.
const BRIDGED_TIME_MIN: u64 = 6_000_000;

/// How soon after the last fault all nodes must be members of one cluster, and the copies of each
/// session equal, in microseconds. The time in which large messages make progress is added.
const CONVERGES_WITHIN: u64 = 10_000_000;

/// How long large messages may make progress: all values that clients have written, to each of
/// seven other nodes, and once more in a response, over the slowest link.
const MOVING_MAX: u64 = 600_000_000;
