//! Outcomes of requests, and their consequences for the models.

use crate::cluster::replica::event::Reply;
use crate::cluster::replica::message::{OpId, UpdateStatus};
use crate::session::Outcome;

use crate::cluster::sim::client::{Action, ClientRequest, NAMES, RequestStage};
use crate::cluster::sim::invariants::update_is_new;
use crate::cluster::sim::oracle::Life;
use crate::cluster::sim::world::World;

impl World {
    pub(super) fn reply(&mut self, op: OpId, reply: Reply) {
        if self.reply_to_user(op, &reply) {
            return;
        }
        let Some(request) = self.requests.get(&op).cloned() else {
            return;
        };
        match (request.stage, reply) {
            (RequestStage::Loading, Reply::Found(record)) => self.loaded(op, record),
            (RequestStage::Ending, Reply::Written | Reply::Updated(UpdateStatus::Applied, _)) => {
                self.ended(op);
            }
            (RequestStage::Ending, Reply::Updated(UpdateStatus::Gone, _)) => {
                self.nothing_to_end(op)
            }
            (RequestStage::Committing { outcome, .. }, Reply::Written) => {
                self.committed(op, outcome, false);
            }
            // The caller is informed that the session does not exist.
            (RequestStage::Committing { .. }, Reply::Updated(UpdateStatus::Applied, None)) => {
                self.finish(op)
            }
            (
                RequestStage::Committing { result, .. },
                Reply::Updated(UpdateStatus::Applied, Some(record)),
            ) => {
                if request.action == Action::Update {
                    self.counted(op, result);
                } else {
                    self.committed(op, Outcome::Committed(record), true);
                }
            }
            (RequestStage::Committing { .. }, Reply::Updated(UpdateStatus::Conflict, _)) => {
                self.rejected(op);
            }
            (
                RequestStage::Committing { .. },
                Reply::Updated(
                    UpdateStatus::Superseded | UpdateStatus::Gone | UpdateStatus::Full,
                    _,
                ),
            ) => {
                self.finish(op);
            }
            (RequestStage::Committing { .. }, Reply::Updated(..) | Reply::Indeterminate) => {
                self.indeterminate(op);
            }
            (RequestStage::Committing { .. }, Reply::Unavailable) => self.refused(op),
            (_, _) => self.finish(op),
        }
    }

    pub(super) fn touched(&mut self, request: &ClientRequest) {
        let model = &mut self.models[request.model];
        if model.id == request.known.id {
            model.touched_at = self.now;
        }
    }

    fn counted(&mut self, op: OpId, result: u64) {
        if let Some(request) = self.requests.get(&op) {
            let model = &mut self.models[request.model];
            if model.id == request.known.id && !self.partitioned && !self.removed_while_running {
                update_is_new(model, result);
            }
            model.used_at = model.used_at.max(request.begun_at);
            self.totals.succeeded += 1;
            self.totals.bridged_succeeded += u64::from(request.is_bridged);
        }
        self.finish(op);
    }

    fn rejected(&mut self, op: OpId) {
        if let Some(request) = self.requests.get(&op) {
            let model = &mut self.models[request.model];
            if model.id == request.known.id && request.action == Action::Update {
                model.rejected_updates.insert(op);
            }
        }
        self.finish(op);
    }

    pub(super) fn committed(&mut self, op: OpId, outcome: Outcome, ordered: bool) {
        let Some(request) = self.requests.get(&op).cloned() else {
            return;
        };
        if let Outcome::Committed(record) = &outcome {
            self.check_copies(&request, record, ordered);
            self.totals.bridged_succeeded += u64::from(request.is_bridged);
        }
        let model = &mut self.models[request.model];
        if let Outcome::Committed(record) = outcome
            && model.id == request.known.id
        {
            self.totals.succeeded += 1;
            model.used_at = model.used_at.max(request.begun_at);
            match request.action {
                Action::Create => {
                    model.life = Life::Live;
                    model.acknowledge(NAMES[0], &record, request.begun_at);
                }
                Action::Write(name) if ordered => {
                    let value = request.value.as_ref();
                    model.acknowledge_ordered(name, value, &record, request.begun_at);
                }
                Action::Write(name) => model.acknowledge(name, &record, request.begun_at),
                Action::Churn => model.pool.acknowledge(&request.pool_writes),
                Action::Rotate(to) => {
                    let mut dead = model.clone();
                    dead.id = u64::MAX;
                    dead.secret = request.secret;
                    dead.life = Life::Ended;
                    let second = model.secret != request.secret;
                    assert!(
                        self.partitioned || self.removed_while_running || !second,
                        "two rotations of one secret of {}",
                        request.key
                    );
                    if second {
                        // Both sides of a partition have rotated it: it is deleted when they meet.
                        model.life = Life::Unknown;
                        model.may_end = true;
                    } else {
                        // If a partition began meanwhile, each side may have carried it out. Then a
                        // further rotation of one side counts as a fork.
                        let is_slow = self.now - request.begun_at > SLOW_ROTATION;
                        model.may_end |= self.partitioned && is_slow;
                        model.rotated_to(to);
                    }
                    self.models.push(dead);
                }
                _ => {}
            }
        }
        self.finish(op);
    }

    pub(super) fn ended(&mut self, op: OpId) {
        if let Some(request) = self.requests.get(&op) {
            let model = &mut self.models[request.model];
            if model.id == request.known.id {
                model.life = Life::Ended;
            }
            self.totals.succeeded += 1;
        }
        self.finish(op);
    }

    /// Handles a deletion that found no session, by a client that has just read it: it was deleted,
    /// or another client rotates or deletes it concurrently.
    pub(super) fn nothing_to_end(&mut self, op: OpId) {
        if let Some(request) = self.requests.get(&op) {
            let model = &mut self.models[request.model];
            let alone = model.moves == 1 && model.secret == request.secret;
            if model.id == request.known.id
                && alone
                && !self.partitioned
                && !self.removed_while_running
            {
                model.life = Life::Ended;
            }
        }
        self.finish(op);
    }

    /// Called when the outcome of a request is unknown.
    pub(super) fn indeterminate(&mut self, op: OpId) {
        if let Some(request) = self.requests.get(&op)
            && self.models[request.model].id == request.known.id
        {
            let model = &mut self.models[request.model];
            match request.action {
                Action::Update => model.indeterminate_updates += 1,
                Action::Rotate(_) if request.moves => model.may_end = true,
                _ => {}
            }
        }
        self.finish(op);
    }

    pub(super) fn finish(&mut self, op: OpId) {
        if let Some(request) = self.requests.remove(&op) {
            self.touched(&request);
            let model = &mut self.models[request.model];
            if request.moves && model.id == request.known.id {
                model.moves -= 1;
            }
            self.pause_client(request.client);
        }
    }

    pub(super) fn forget_requests(&mut self, node: usize) {
        let of_node =
            |(op, request): (&OpId, &ClientRequest)| (request.node == node).then_some(*op);
        for op in self.requests.iter().filter_map(of_node).collect::<Vec<_>>() {
            self.indeterminate(op);
        }
        self.forget_user_calls(node);
    }
}

/// A rotation that takes longer, in microseconds, was repeated in another view.
const SLOW_ROTATION: u64 = 1_000_000;
