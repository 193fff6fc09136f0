//! Progress without faults: small writes are acknowledged, and members stay.

use crate::cluster::replica::Replica;
use crate::cluster::replica::message::OpId;
use crate::cluster::replica::node::Node;
use crate::session::Record;

use crate::cluster::sim::client::{Action, ClientRequest};
use crate::cluster::sim::event::SimEvent;
use crate::cluster::sim::invariants::{enough_copies, small_writes_progress};
use crate::cluster::sim::oracle::Life;
use crate::cluster::sim::sim_node::SimNode;
use crate::cluster::sim::world::{OBSERVE_INTERVAL, World};

impl World {
    /// Records whether the cluster is whole and undisturbed.
    pub(super) fn observe(&mut self) {
        if self.ended {
            return;
        }
        if self.now >= self.disturbed_until && self.is_whole() {
            self.steady_since.get_or_insert(self.now);
        } else {
            self.steady_since = None;
        }
        self.after(OBSERVE_INTERVAL, SimEvent::Observe);
    }

    /// Returns `true` if all running nodes serve, are complete and are members of one cluster.
    fn is_whole(&self) -> bool {
        let stays = |node: &&SimNode| node.replica.is_some() && !node.leaving;
        let staying = self.nodes.iter().filter(stays).count();
        if staying < usize::from(self.plan.min_copies) {
            return false;
        }
        let replicas = self.nodes.iter().filter_map(|node| node.replica.as_ref());
        let others = replicas.clone().count().saturating_sub(1);
        let mut states = replicas.map(|replica| replica.status());
        states.all(|status| {
            let agree = status.members.iter().all(|member| member.agrees);
            status.ready && status.complete && agree && status.members.len() == others
        })
    }

    /// Called when a request begins to write.
    pub(super) fn write_begins(&mut self, op: OpId) {
        let now = self.now;
        let is_bridged = self
            .bridged_since
            .is_some_and(|since| self.bridge_has_core && now >= since + BRIDGED_MIN);
        // Writes of one session wait for each other at its owner.
        let model = self.requests.get(&op).map(|request| request.model);
        let same = |request: &&ClientRequest| Some(request.model) == model;
        let is_alone = self.requests.values().filter(same).count() == 1;
        let Some(request) = self.requests.get_mut(&op) else {
            return;
        };
        request.is_bridged = is_bridged;
        self.totals.bridged_writes += u64::from(is_bridged);
        let model = &self.models[request.model];
        let writes = matches!(
            request.action,
            Action::Create | Action::Write(_) | Action::Update
        );
        let is_due = is_alone && self.plan.is_prompt() && self.steady_since.is_some();
        if writes && !model.is_large && is_due {
            request.small_write_at = Some(now);
            self.totals.steady_writes += 1;
            self.after(ACKNOWLEDGED_WITHIN, SimEvent::Due { op, begun_at: now });
        }
    }

    /// Called when a write was refused, and nothing was changed.
    pub(super) fn refused(&mut self, op: OpId) {
        let begun_at = self
            .requests
            .get(&op)
            .and_then(|request| request.small_write_at);
        if begun_at.is_some_and(|at| self.was_steady_since(at)) {
            self.totals.steady_refused += 1;
        }
        self.finish(op);
    }

    /// Checks that a small write has been acknowledged by now, if nothing has disturbed the
    /// cluster.
    pub(super) fn check_progress(&self, op: OpId, begun_at: u64) {
        let request = self
            .requests
            .get(&op)
            .filter(|request| request.small_write_at == Some(begun_at));
        if let Some(request) = request
            && self.was_steady_since(begun_at)
        {
            small_writes_progress(request, self.now);
        }
    }

    fn was_steady_since(&self, begun_at: u64) -> bool {
        let steady = self.steady_since.is_some_and(|since| since <= begun_at);
        steady && self.is_whole()
    }

    /// Checks that a write has the required number of copies when it is acknowledged.
    ///
    /// The copies must be on nodes that are alive from the point of view of the acknowledging node:
    /// a holder that failed a moment ago may still count, because no node can have noticed that.
    /// For a change that the owner of the session orders, the time that counts is when the owner
    /// decides, since the answer is under way after that.
    pub(super) fn check_copies(&self, request: &ClientRequest, record: &Record, ordered: bool) {
        let model = &self.models[request.model];
        // A rotation or deletion whose outcome is unknown may still take effect.
        let is_new = matches!(request.action, Action::Create);
        let stays = model.moves == 0 && !model.may_end && (is_new || model.life == Life::Live);
        let is_known = model.id == request.known.id && model.known().is_fresh(self.now);
        let name = match request.action {
            Action::Create => super::client::NAMES[0],
            Action::Write(name) => name,
            _ => return,
        };
        let is_fresh = request.known.is_fresh(self.now);
        let undisturbed = is_known && stays && is_fresh && model.secret == request.secret;
        if self.plan.min_copies <= 1 || !undisturbed {
            return;
        }
        // The record may include a later write that is not acknowledged yet.
        let is_shown = request.value.is_none() || record.get(name) == request.value.as_ref();
        if ordered && !is_shown {
            return;
        }
        let written = record.version(name);
        let has_it = |(index, replica): (usize, &Replica)| {
            let held = replica.peek(self.clock(index), &request.key);
            held.is_some_and(|record| record.version(name) >= written)
        };
        let copies = if ordered {
            let since = self.now.saturating_sub(ANSWER_MAX);
            let any = |index: &usize| {
                let memories = self.nodes[*index].memory_since(since);
                memories.into_iter().any(|memory| has_it((*index, memory)))
            };
            (0..self.nodes.len()).filter(any).count()
        } else {
            let replica = self.replica(request.node);
            let status = replica.status();
            let members = status.members.iter().map(|member| &member.node);
            let memory = |member: &Node| {
                let mut nodes = self.nodes.iter().enumerate();
                nodes.find_map(|(index, node)| Some((index, node.memory_of(member)?)))
            };
            let others = members.filter(|member| memory(member).is_some_and(has_it));
            others.count() + usize::from(has_it((request.node, replica)))
        };
        enough_copies(copies, self.plan.min_copies, request, self.now);
    }
}

/// How long the answer of a session's owner may be under way, in microseconds.
const ANSWER_MAX: u64 = 1_000_000;

/// How soon a small write must be acknowledged, in microseconds.
const ACKNOWLEDGED_WITHIN: u64 = 2_000_000;

/// How long nodes may take to decide which of them continue without each other, in microseconds.
pub(super) const BRIDGED_MIN: u64 = 10_000_000;
