//! The outcome of a commit.

use std::sync::Arc;

use crate::session::Record;

/// The outcome of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "these are the contract between stores and the middleware"
)]
pub enum Outcome {
    /// The changes are stored; this is the session with them.
    Committed(Arc<Record>),
    /// The changes expected another write of an attribute than the last one, or tried to create a
    /// session that exists. Nothing was changed; this is the current session.
    Conflict(Arc<Record>),
    /// The changes rotate the session's secret, and another request has rotated it first. Nothing
    /// was changed.
    Superseded,
    /// There is no such session, or there is none any more. Nothing was changed.
    Gone,
}
