//! Operations of the clients that log users in and end all of their sessions.

use std::sync::Arc;

use crate::cluster::replica::event::{Reply, Step};
use crate::cluster::replica::message::OpId;
use crate::cluster::replica::message::UpdateStatus;
use crate::session::{
    Changes, IndexEntry, Outcome, Record, Root, SecretHash, UserKey, new_index, put,
};

use super::plan::HOUR;
use super::users::{Call, INDEX_LIFETIME, NAMES, Stage, UserSession, index_of};
use super::world::World;

/// The result of an operation.
enum Answer {
    Loaded(Option<Arc<Record>>),
    Committed(Arc<Record>),
    Deleted,
    Failed,
}

impl World {
    /// Registers the next operation of a call.
    fn next_operation(&mut self, mut call: Call, stage: Stage) -> (OpId, usize) {
        self.last_op += 1;
        call.stage = stage;
        call.written = None;
        let node = call.node;
        self.users.calls.insert(self.last_op, call);
        (self.last_op, node)
    }

    pub(super) fn load_of(
        &mut self,
        call: Call,
        key: Root,
        secret: Option<SecretHash>,
        stage: Stage,
    ) {
        let (op, node) = self.next_operation(call, stage);
        let now = self.clock(node);
        match self.replica(node).load(now, op, &key, secret.as_ref()) {
            Step::Done(loaded) => self.user_answer(op, Answer::Loaded(loaded.into_live())),
            Step::Wait(_) => {}
            Step::Refused(_) => self.user_answer(op, Answer::Failed),
        }
        self.flush_outputs(node);
    }

    pub(super) fn commit_of(
        &mut self,
        call: Call,
        (key, base): (Root, Option<&Arc<Record>>),
        changes: &Changes,
        stage: Stage,
    ) {
        let (op, node) = self.next_operation(call, stage);
        let now = self.clock(node);
        match self.replica(node).commit(now, op, &key, base, changes) {
            Step::Done(Outcome::Committed(record)) => {
                self.user_answer(op, Answer::Committed(record));
            }
            Step::Wait(outcome) => {
                if let (Outcome::Committed(record), Some(call)) =
                    (outcome, self.users.calls.get_mut(&op))
                {
                    call.written = Some(record);
                }
            }
            Step::Done(_) | Step::Refused(_) => self.user_answer(op, Answer::Failed),
        }
        self.flush_outputs(node);
    }

    pub(super) fn delete_of(&mut self, call: Call, key: Root, stage: Stage) {
        let (op, node) = self.next_operation(call, stage);
        let now = self.clock(node);
        match self.replica(node).delete(now, op, &key) {
            Step::Done(_) => self.user_answer(op, Answer::Deleted),
            Step::Wait(_) => {}
            Step::Refused(_) => self.user_answer(op, Answer::Failed),
        }
        self.flush_outputs(node);
    }

    /// Handles a reply to a call. Returns `false` if it is none of these calls.
    pub(super) fn reply_to_user(&mut self, op: OpId, reply: &Reply) -> bool {
        let Some(call) = self.users.calls.get(&op) else {
            return false;
        };
        let answer = match (reply, &call.stage, &call.written) {
            (Reply::Found(loaded), ..) => Answer::Loaded(loaded.clone().into_live()),
            (
                Reply::Written | Reply::Updated(UpdateStatus::Applied | UpdateStatus::Gone, _),
                Stage::Delete(_),
                _,
            ) => Answer::Deleted,
            (Reply::Written, _, Some(record)) => Answer::Committed(record.clone()),
            (Reply::Updated(UpdateStatus::Applied, Some(record)), ..) => {
                Answer::Committed(record.clone())
            }
            _ => Answer::Failed,
        };
        self.user_answer(op, answer);
        true
    }

    /// Continues a call with the result of its operation.
    fn user_answer(&mut self, op: OpId, answer: Answer) {
        let Some(call) = self.users.calls.remove(&op) else {
            return;
        };
        match (call.stage.clone(), answer) {
            (Stage::Create(session), Answer::Committed(_)) => {
                let user = self.users.sessions[session].user;
                self.load_of(call, index_of(user), None, Stage::LoadIndex(session));
            }
            (Stage::LoadIndex(session), Answer::Loaded(index)) => {
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
                let place = (index_of(user), index.as_ref());
                self.commit_of(call, place, &changes, Stage::List(session));
            }
            (Stage::List(session), Answer::Committed(_)) => {
                let is_divided = self.partitioned;
                let session = &mut self.users.sessions[session];
                session.answered_at = Some(self.now);
                session.is_divided = is_divided;
                self.pause_user(call.client);
            }
            (Stage::Look(end), Answer::Loaded(index)) => self.look(call, end, index.as_ref()),
            (Stage::Note(mut end), Answer::Committed(index)) => {
                end.is_noted = true;
                self.look(call, end, Some(&index));
            }
            (Stage::Check(mut end, key), Answer::Loaded(found)) => {
                let user = UserKey::of(NAMES[end.user]);
                match found {
                    Some(record) if record.user() != Some(user) => self.check_next(call, end),
                    Some(_) => {
                        end.gone.push(key);
                        self.delete_of(call, key, Stage::Delete(end));
                    }
                    // Another call may have deleted it, and not on all nodes yet.
                    None => self.delete_of(call, key, Stage::Delete(end)),
                }
            }
            (Stage::Delete(end), Answer::Deleted) => self.check_next(call, end),
            (Stage::Read(session, was_ended), Answer::Loaded(found)) => {
                self.read_of(call, session, was_ended, found.as_ref());
            }
            (stage, _) => {
                if let Stage::Look(end)
                | Stage::Note(end)
                | Stage::Check(end, _)
                | Stage::Delete(end) = stage
                {
                    self.users.ends_until[end.user] = self.now;
                }
                self.pause_user(call.client);
            }
        }
    }

    /// Called when a process ends: its calls have no result.
    pub(super) fn forget_user_calls(&mut self, node: usize) {
        let at_node = |(op, call): (&OpId, &Call)| (call.node == node).then_some(*op);
        let ops: Vec<_> = self.users.calls.iter().filter_map(at_node).collect();
        for op in ops {
            self.user_answer(op, Answer::Failed);
        }
    }
}
