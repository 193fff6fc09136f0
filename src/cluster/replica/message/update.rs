//! Updates: changes that the owner of a session orders, and its answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::session::{Name, Record, Root, Rotation, Timestamp, Version};

use crate::cluster::replica::delta::Delta;
use crate::cluster::replica::message::{OpId, ViewId};

/// A change that the session's owner orders: an atomic update, a rotation, or any change from a
/// member that does not hold the session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpdateRequest {
    pub(crate) view: ViewId,
    pub(crate) op: OpId,
    pub(crate) key: Root,
    /// Whether the asker has sent it before, so that it may have been applied.
    pub(crate) retry: bool,
    pub(crate) sent_at: Timestamp,
    /// The attribute, and the version that it is expected to have.
    pub(crate) expect: Option<(Name, Option<Version>)>,
    /// The delta to apply; the version in `delta.updates` names the attempt.
    pub(crate) delta: Arc<Delta>,
    /// The new secret, to be set if the session's is still the one that the request presented.
    pub(crate) rotation: Option<Rotation>,
    pub(crate) order: Operation,
}

impl UpdateRequest {
    /// Returns the approximate size of what it changes.
    pub(crate) fn size(&self) -> usize {
        let record = match &self.order {
            Operation::Create(record) => record.payload_bytes(),
            Operation::Update | Operation::Delete => 0,
        };
        self.delta.payload_bytes() + record
    }
}

/// The operation requested from the owner.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operation {
    /// Apply the delta, replace the secret, or both.
    Update,
    /// Create this session, which must not exist yet.
    Create(Arc<Record>),
    /// Delete the session.
    Delete,
}

/// The result of an ordered change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UpdateStatus {
    /// Applied by every holder.
    Applied,
    /// Another write came first; nothing was changed.
    Conflict,
    /// The session does not exist.
    Gone,
    /// The receiver is not the owner, or the view changed meanwhile: repeat the request.
    Retry,
    /// The request was repeated, and whether the first attempt was applied cannot be determined.
    Indeterminate,
    /// The owner has no room for a new session, or for the growth of an existing one.
    Full,
    /// The session would exceed its maximum size.
    TooLarge,
    /// The change is a rotation, and another rotation came first; nothing was changed.
    Superseded,
}
