//! Clients that log users in and end all sessions of a user, through any node, as the stores do.
//!
//! A login creates a session and adds it to the user's index; it is answered when both are
//! acknowledged. An end notes itself in the index, then deletes each session that is listed. Other
//! clients read and write these sessions meanwhile. All of this draws from a random source of its
//! own, and takes place only in runs [with users](super::plan::Plan::users).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use crate::session::{
    Changes, Login, Record, Root, SecretHash, UserKey, new_index, note_end, remove,
};

use crate::cluster::sim::event::SimEvent;
use crate::cluster::sim::invariants::{ended_users_stay_ended, logins_survive};
use crate::cluster::sim::plan::HOUR;
use crate::cluster::sim::users::{
    INDEX_LIFETIME, NAMES, USERS, UserCall, UserEnd, UserSession, UserStage, index_of,
};
use crate::cluster::sim::values::draw_tiny;
use crate::cluster::sim::world::World;

impl World {
    /// Adds the clients.
    pub(super) fn add_users(&mut self) {
        if self.plan.users {
            for client in 0..USER_CLIENTS {
                self.at(3_000_000 + client as u64, SimEvent::ActForUser { client });
            }
        }
    }

    pub(super) fn act_for_user(&mut self, client: usize) {
        if self.ended {
            return;
        }
        let node = self.users.rng.random_range(0..self.nodes.len());
        let user = self.users.rng.random_range(0..USERS);
        if !self.is_serving(node) {
            return self.pause_user(client);
        }
        let known = self.users.sessions.iter().enumerate();
        let mut of_user: Vec<_> = known
            .filter(|(_, it)| it.user == user)
            .map(|(at, _)| at)
            .collect();
        of_user.drain(..of_user.len().saturating_sub(REMEMBERED));
        let call = UserCall {
            client,
            node,
            begun_at: self.now,
            stage: UserStage::Last,
            written: None,
        };
        match self.users.rng.random_range(0..100) {
            0..6 => {
                let end = UserEnd {
                    user,
                    is_noted: false,
                    todo: Vec::new(),
                    seen: BTreeSet::new(),
                    gone: Vec::new(),
                };
                self.load_of(call, index_of(user), None, UserStage::Look(end));
            }
            6..30 => self.log_in(call, user),
            _ if of_user.is_empty() => self.pause_user(client),
            _ => {
                let session = of_user[self.users.rng.random_range(0..of_user.len())];
                let UserSession {
                    key,
                    secret,
                    is_ended,
                    ..
                } = self.users.sessions[session];
                self.load_of(call, key, Some(secret), UserStage::Read(session, is_ended));
            }
        }
    }

    pub(super) fn pause_user(&mut self, client: usize) {
        let slowly = self.disturbed_until > self.now + LONG_FAULT;
        let most = if slowly { 4_000_000 } else { 200_000 };
        let after = self.users.rng.random_range(2_000..most);
        self.after(after, SimEvent::ActForUser { client });
    }

    /// Creates a session of a user. Its login has the user's index changed next.
    fn log_in(&mut self, call: UserCall, user: usize) {
        let rng = &mut self.users.rng;
        let idle = match rng.random_range(0..3) {
            0 => Duration::from_millis(rng.random_range(1_500..8_000)),
            _ => 2 * HOUR,
        };
        let session = UserSession {
            key: Root::from_bytes(rng.random()),
            secret: SecretHash::from_bytes(rng.random()),
            user,
            idle,
            begun_at: self.now,
            answered_at: None,
            is_ended: false,
            is_divided: false,
        };
        let mut changes = Changes::create(session.secret, Some(idle), 24 * HOUR);
        changes.log_in(Login {
            user: Some(UserKey::of(NAMES[user])),
            absolute_timeout: 24 * HOUR,
        });
        changes.insert("cart".into(), draw_tiny(rng));
        let key = session.key;
        self.users.sessions.push(session);
        let at = self.users.sessions.len() - 1;
        self.commit_of(call, key, None, &changes, UserStage::Create(at));
    }

    /// Notes the end in the index, then goes through the sessions in it.
    pub(super) fn look(&mut self, call: UserCall, mut end: UserEnd, index: Option<&Arc<Record>>) {
        self.users.ends_until[end.user] = self.now;
        let root = index_of(end.user);
        match index {
            Some(index) if !end.is_noted => {
                let mut changes = Changes::default();
                note_end(&mut changes);
                self.commit_of(call, root, Some(index), &changes, UserStage::Note(end));
            }
            Some(index) => {
                let ended = index.listed().into_iter().filter(|listed| listed.is_ended);
                let new = ended
                    .map(|listed| listed.key)
                    .filter(|key| end.seen.insert(*key));
                end.todo = new.collect();
                if end.todo.is_empty() {
                    self.end_answered(&call, &end, Some(index));
                } else {
                    self.check_next(call, end);
                }
            }
            None if !end.is_noted && self.replica(call.node).is_divided() => {
                let mut changes = new_index(INDEX_LIFETIME);
                note_end(&mut changes);
                self.commit_of(call, root, None, &changes, UserStage::Note(end));
            }
            None => self.end_answered(&call, &end, None),
        }
    }

    /// Checks the next listed session, or the index for further ones.
    pub(super) fn check_next(&mut self, call: UserCall, mut end: UserEnd) {
        match end.todo.pop() {
            Some(key) => self.load_of(call, key, None, UserStage::Check(end, key)),
            None => self.load_of(call, index_of(end.user), None, UserStage::Look(end)),
        }
    }

    /// Every session whose login was answered before the call began has ended. The entries of
    /// deleted sessions leave the index. Without an index nothing is noted, so logins on the other
    /// side of a partition may survive.
    pub(super) fn end_answered(
        &mut self,
        call: &UserCall,
        end: &UserEnd,
        index: Option<&Arc<Record>>,
    ) {
        let is_divided = self.partitioned;
        let sessions = self.users.sessions.iter_mut();
        for session in sessions.filter(|it| it.user == end.user && !it.is_ended) {
            let is_earlier = session.answered_at.is_some_and(|at| at < call.begun_at);
            if is_earlier && (index.is_some() || !is_divided) {
                session.is_ended = true;
                session.is_divided |= is_divided;
            }
        }
        let mut changes = Changes::default();
        for key in end.gone.iter().take(FORGOTTEN_AT_ONCE) {
            remove(&mut changes, key);
        }
        if index.is_none() || end.gone.is_empty() {
            self.pause_user(call.client);
        } else {
            self.commit_of(
                call.clone(),
                index_of(end.user),
                index,
                &changes,
                UserStage::Last,
            );
        }
    }

    pub(super) fn read_of(
        &mut self,
        call: UserCall,
        session: usize,
        was_ended: bool,
        found: Option<&Arc<Record>>,
    ) {
        let known = &self.users.sessions[session];
        let (key, node) = (known.key, call.node);
        if !self.partitioned && !self.nodes[node].falsely_removed && was_ended {
            ended_users_stay_ended(found.map(|record| &**record), key, self.now);
        }
        let Some(record) = found else {
            return self.pause_user(call.client);
        };
        let now = self.clock(node);
        if record.is_touch_due(now) {
            self.replica(node).touch(now, &key);
            self.flush_outputs(node);
        }
        let mut changes = Changes::default();
        changes.insert("cart".into(), draw_tiny(&mut self.users.rng));
        self.commit_of(call, key, Some(record), &changes, UserStage::Last);
    }

    /// Returns `true` if no session of an ended user is alive at any node.
    pub(super) fn users_have_ended(&self) -> bool {
        let must_end = |it: &&UserSession| it.is_ended && !self.is_undecided(it);
        let mut ended = self.users.sessions.iter().filter(must_end);
        let is_dead = |it: &UserSession| {
            let nodes = self
                .nodes
                .iter()
                .enumerate()
                .filter(|(_, node)| node.replica.is_some());
            nodes
                .clone()
                .all(|(index, _)| self.user_record(index, it).is_none())
        };
        ended.all(is_dead)
    }

    /// Checks that logins which no call has ended have survived.
    pub(super) fn check_logins(&self) {
        for session in &self.users.sessions {
            let ends_until = self.users.ends_until[session.user];
            let is_certain = session.answered_at.is_some() && session.idle == 2 * HOUR;
            if !is_certain || ends_until >= session.begun_at || self.is_undecided(session) {
                continue;
            }
            for index in 0..self.nodes.len() {
                if !self.nodes[index].retired && self.replica(index).holds(&session.key) {
                    logins_survive(
                        self.user_record(index, session).as_ref(),
                        index,
                        session.key,
                    );
                }
            }
        }
    }

    /// Returns `true` if it depends on clocks whether the session has ended: the login and the end
    /// had no knowledge of each other.
    fn is_undecided(&self, session: &UserSession) -> bool {
        (session.is_divided || self.partitioned && !session.is_ended) && !self.plan.skew.is_zero()
    }

    fn user_record(&self, index: usize, session: &UserSession) -> Option<Arc<Record>> {
        let found = self.replica(index).peek(self.clock(index), &session.key)?;
        found.is_current(&session.secret).then_some(found)
    }
}

const USER_CLIENTS: usize = 3;

/// Sessions of a user that clients still use.
const REMEMBERED: usize = 12;

/// Entries that leave an index with one change.
const FORGOTTEN_AT_ONCE: usize = 64;

/// Clients slow down while a fault lasts for longer than this, in microseconds.
const LONG_FAULT: u64 = 30_000_000;
