//! What a client is in the middle of: load, then commit, as the middleware does.

use crate::session::{Outcome, SessionKey, Value};

use super::oracle::Known;

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) client: usize,
    pub(super) node: usize,
    /// Which of the oracle's models it is about.
    pub(super) model: usize,
    pub(super) key: SessionKey,
    pub(super) action: Action,
    /// What clients knew when it began.
    pub(super) known: Known,
    /// What it writes.
    pub(super) value: Option<Value>,
    pub(super) begun_at: u64,
    pub(super) stage: Stage,
    /// Whether it has begun to move or end the session.
    pub(super) moves: bool,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Read,
    Write(&'static str),
    /// Count one up, atomically.
    Update,
    End,
    Rotate(SessionKey),
}

/// How far a request is.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    Loading,
    Committing { outcome: Outcome, result: u64 },
    Ending,
}

/// Attributes that are written without looking.
pub(super) const NAMES: [&str; 3] = ["cart", "theme", "user"];

/// The attribute that is counted up.
pub(super) const COUNTER: &str = "counter";
