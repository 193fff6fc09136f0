//! Users that log in, their sessions, and the calls in progress.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::cluster::replica::message::OpId;
use crate::session::{Record, Root, SecretHash, UserKey, index_root};

/// The users, and the calls in progress.
#[derive(Debug)]
pub(super) struct SimUsers {
    pub(super) rng: StdRng,
    pub(super) calls: BTreeMap<OpId, UserCall>,
    pub(super) sessions: Vec<UserSession>,
    /// When a call that ends the sessions of each user last began or was in progress.
    pub(super) ends_until: [u64; USERS],
}

/// A session of a user, according to the results that clients received.
#[derive(Clone, Debug)]
pub(super) struct UserSession {
    pub(super) key: Root,
    pub(super) secret: SecretHash,
    pub(super) user: usize,
    pub(super) idle: Duration,
    pub(super) begun_at: u64,
    /// When the login was answered.
    pub(super) answered_at: Option<u64>,
    /// Whether a call that ends the user's sessions began after that, and was answered.
    pub(super) is_ended: bool,
    /// Whether the login was answered, or the end, while the nodes were divided.
    pub(super) is_divided: bool,
}

/// A call in progress: what is done with the result of the operation under way.
#[derive(Clone, Debug)]
pub(super) struct UserCall {
    pub(super) client: usize,
    pub(super) node: usize,
    pub(super) begun_at: u64,
    pub(super) stage: UserStage,
    /// The record after a write, once it is acknowledged.
    pub(super) written: Option<Arc<Record>>,
}

/// What is under way, and with what in view.
#[derive(Clone, Debug)]
pub(super) enum UserStage {
    /// The session of a login is created.
    Create(usize),
    /// The index is loaded, then changed.
    LoadIndex(usize),
    List(usize),
    /// The index is loaded to end the sessions in it, and changed to note that.
    Look(UserEnd),
    Note(UserEnd),
    /// A listed session is loaded, and deleted if it is the user's.
    Check(UserEnd, Root),
    Delete(UserEnd),
    /// A session is read; `true` if it had ended before.
    Read(usize, bool),
    /// Nothing depends on the result.
    Last,
}

/// A call that ends all sessions of a user.
#[derive(Clone, Debug)]
pub(super) struct UserEnd {
    pub(super) user: usize,
    pub(super) is_noted: bool,
    pub(super) todo: Vec<Root>,
    pub(super) seen: BTreeSet<Root>,
    /// Those that were deleted. The entry of one that was not found stays: it may be on the other
    /// side of a partition.
    pub(super) gone: Vec<Root>,
}

impl SimUsers {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed ^ 0x05e4),
            calls: BTreeMap::new(),
            sessions: Vec::new(),
            ends_until: [0; USERS],
        }
    }

    pub(super) fn are_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns `true` if a call is in progress at a node.
    pub(super) fn are_at(&self, node: usize) -> bool {
        self.calls.values().any(|call| call.node == node)
    }
}

pub(super) fn index_of(user: usize) -> Root {
    index_root(&UserKey::of(NAMES[user]))
}

pub(super) const NAMES: [&str; USERS] = ["ada", "bob"];

pub(super) const USERS: usize = 2;

/// Longer than a run.
pub(super) const INDEX_LIFETIME: Duration = Duration::from_secs(2 * 24 * 3600);
