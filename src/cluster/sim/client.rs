//! A client's request in progress: load, then commit, as the middleware does.

use crate::session::{Outcome, Root, SecretHash, Value};

use crate::cluster::sim::oracle::KnownResults;
use crate::cluster::sim::pool::PoolWrites;

/// One request.
#[derive(Clone, Debug)]
pub(super) struct ClientRequest {
    pub(super) client: usize,
    pub(super) node: usize,
    /// The index of its session's model.
    pub(super) model: usize,
    pub(super) key: Root,
    /// The secret that it presents.
    pub(super) secret: SecretHash,
    pub(super) action: Action,
    /// The results that clients had received when it began.
    pub(super) known: KnownResults,
    /// The value that it writes.
    pub(super) value: Option<Value>,
    /// The attributes that it sets and removes.
    pub(super) pool_writes: PoolWrites,
    pub(super) begun_at: u64,
    pub(super) stage: RequestStage,
    /// Whether it has begun to rotate or delete the session.
    pub(super) moves: bool,
    /// When it began a write of a small session.
    pub(super) small_write_at: Option<u64>,
    /// Whether it began to write long after some pairs of nodes had lost each other.
    pub(super) is_bridged: bool,
}

/// The operation of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Read,
    Write(&'static str),
    /// Set and remove attributes that no other client touches.
    Churn,
    /// Increment the counter atomically.
    Update,
    End,
    Rotate(SecretHash),
}

/// The progress of a request.
#[derive(Clone, Debug)]
pub(super) enum RequestStage {
    Loading,
    Committing { outcome: Outcome, result: u64 },
    Ending,
}

/// Attributes that are written without an expectation.
pub(super) const NAMES: [&str; 3] = ["cart", "theme", "user"];

/// Attributes with large values.
pub(super) const LARGE_NAMES: [&str; 3] = ["picture", "scan", "video"];

/// The counter attribute.
pub(super) const COUNTER: &str = "counter";
