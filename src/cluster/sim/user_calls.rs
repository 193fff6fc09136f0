//! Operations of the clients that log users in and end all of their sessions.

use std::sync::Arc;

use crate::cluster::replica::event::{Progress, Reply};
use crate::cluster::replica::message::OpId;
use crate::cluster::replica::message::UpdateStatus;
use crate::session::{
    Changes, IndexEntry, Outcome, Record, Root, SecretHash, UserKey, new_index, put,
};

use crate::cluster::sim::plan::HOUR;
use crate::cluster::sim::users::{
    INDEX_LIFETIME, NAMES, UserCall, UserSession, UserStage, index_of,
};
use crate::cluster::sim::world::World;

/// The result of an operation.
enum OperationResult {
    Loaded(Option<Arc<Record>>),
    Committed(Arc<Record>),
    Deleted,
    Failed,
}

impl World {
    /// Registers the next operation of a call.
    fn next_operation(&mut self, mut call: UserCall, stage: UserStage) -> (OpId, usize) {
        self.last_op += 1;
        call.stage = stage;
        call.written = None;
        let node = call.node;
        self.users.calls.insert(self.last_op, call);
        (self.last_op, node)
    }

    pub(super) fn load_of(
        &mut self,
        call: UserCall,
        key: Root,
        secret: Option<SecretHash>,
        stage: UserStage,
    ) {
        let (op, node) = self.next_operation(call, stage);
        let now = self.clock(node);
        match self.replica(node).load(now, op, &key, secret.as_ref()) {
            Progress::Ready(loaded) => {
                self.user_answer(op, OperationResult::Loaded(loaded.into_live()))
            }
            Progress::Pending(_) => {}
            Progress::Rejected(_) => self.user_answer(op, OperationResult::Failed),
        }
        self.flush_outputs(node);
    }

    pub(super) fn commit_of(
        &mut self,
        call: UserCall,
        key: Root,
        base: Option<&Arc<Record>>,
        changes: &Changes,
        stage: UserStage,
    ) {
        let (op, node) = self.next_operation(call, stage);
        let now = self.clock(node);
        match self.replica(node).commit(now, op, &key, base, changes) {
            Progress::Ready(Outcome::Committed(record)) => {
                self.user_answer(op, OperationResult::Committed(record));
            }
            Progress::Pending(outcome) => {
                if let (Outcome::Committed(record), Some(call)) =
                    (outcome, self.users.calls.get_mut(&op))
                {
                    call.written = Some(record);
                }
            }
            Progress::Ready(_) | Progress::Rejected(_) => {
                self.user_answer(op, OperationResult::Failed)
            }
        }
        self.flush_outputs(node);
    }

    pub(super) fn delete_of(&mut self, call: UserCall, key: Root, stage: UserStage) {
        let (op, node) = self.next_operation(call, stage);
        let now = self.clock(node);
        match self.replica(node).delete(now, op, &key) {
            Progress::Ready(_) => self.user_answer(op, OperationResult::Deleted),
            Progress::Pending(_) => {}
            Progress::Rejected(_) => self.user_answer(op, OperationResult::Failed),
        }
        self.flush_outputs(node);
    }

    /// Handles a reply to a call. Returns `false` if it is none of these calls.
    pub(super) fn reply_to_user(&mut self, op: OpId, reply: &Reply) -> bool {
        let Some(call) = self.users.calls.get(&op) else {
            return false;
        };
        let answer = match (reply, &call.stage, &call.written) {
            (Reply::Found(loaded), ..) => OperationResult::Loaded(loaded.clone().into_live()),
            (
                Reply::Written | Reply::Updated(UpdateStatus::Applied | UpdateStatus::Gone, _),
                UserStage::Delete(_),
                _,
            ) => OperationResult::Deleted,
            (Reply::Written, _, Some(record)) => OperationResult::Committed(record.clone()),
            (Reply::Updated(UpdateStatus::Applied, Some(record)), ..) => {
                OperationResult::Committed(record.clone())
            }
            _ => OperationResult::Failed,
        };
        self.user_answer(op, answer);
        true
    }

    /// Continues a call with the result of its operation.
    fn user_answer(&mut self, op: OpId, answer: OperationResult) {
        let Some(call) = self.users.calls.remove(&op) else {
            return;
        };
        match (call.stage.clone(), answer) {
            (UserStage::Create(session), OperationResult::Committed(_)) => {
                let user = self.users.sessions[session].user;
                self.load_of(call, index_of(user), None, UserStage::LoadIndex(session));
            }
            (UserStage::LoadIndex(session), OperationResult::Loaded(index)) => {
                let UserSession { key, user, .. } = self.users.sessions[session];
                let mut changes = match index {
                    None => new_index(INDEX_LIFETIME),
                    Some(_) => Changes::default(),
                };
                let now = self.clock(call.node);
                let entry = IndexEntry {
                    label: None,
                    logged_in_at: now.as_millis(),
                    until: now.plus(24 * HOUR).as_millis(),
                };
                put(&mut changes, &key, &entry);
                let stage = UserStage::List(session);
                self.commit_of(call, index_of(user), index.as_ref(), &changes, stage);
            }
            (UserStage::List(session), OperationResult::Committed(_)) => {
                let is_divided = self.partitioned;
                let session = &mut self.users.sessions[session];
                session.answered_at = Some(self.now);
                session.is_divided = is_divided;
                self.pause_user(call.client);
            }
            (UserStage::Look(end), OperationResult::Loaded(index)) => {
                self.look(call, end, index.as_ref())
            }
            (UserStage::Note(mut end), OperationResult::Committed(index)) => {
                end.is_noted = true;
                self.look(call, end, Some(&index));
            }
            (UserStage::Check(mut end, key), OperationResult::Loaded(found)) => {
                let user = UserKey::of(NAMES[end.user]);
                match found {
                    Some(record) if record.user() != Some(user) => self.check_next(call, end),
                    Some(_) => {
                        end.gone.push(key);
                        self.delete_of(call, key, UserStage::Delete(end));
                    }
                    // Another call may have deleted it, and not on all nodes yet.
                    None => self.delete_of(call, key, UserStage::Delete(end)),
                }
            }
            (UserStage::Delete(end), OperationResult::Deleted) => self.check_next(call, end),
            (UserStage::Read(session, was_ended), OperationResult::Loaded(found)) => {
                self.read_of(call, session, was_ended, found.as_ref());
            }
            (stage, _) => {
                if let UserStage::Look(end)
                | UserStage::Note(end)
                | UserStage::Check(end, _)
                | UserStage::Delete(end) = stage
                {
                    self.users.ends_until[end.user] = self.now;
                }
                self.pause_user(call.client);
            }
        }
    }

    /// Called when a process ends: its calls have no result.
    pub(super) fn forget_user_calls(&mut self, node: usize) {
        let at_node = |(op, call): (&OpId, &UserCall)| (call.node == node).then_some(*op);
        let ops: Vec<_> = self.users.calls.iter().filter_map(at_node).collect();
        for op in ops {
            self.user_answer(op, OperationResult::Failed);
        }
    }
}
