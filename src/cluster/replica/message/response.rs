//! Responses of members to requests of this node.

use serde::{Deserialize, Serialize};

use crate::session::{Root, Timestamp};

use crate::cluster::replica::message::{KeyedEntry, OpId, UpdateStatus, ViewId};

/// The response to a request for the rest of a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlotEntries {
    pub(crate) view: ViewId,
    pub(crate) round: u64,
    pub(crate) slot: u16,
    pub(crate) sent_at: Timestamp,
    pub(crate) entries: Vec<KeyedEntry>,
    /// Whether the request is to be repeated after the last key.
    pub(crate) more: bool,
}

/// The response to a request for a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GetReply {
    pub(crate) view: ViewId,
    pub(crate) op: OpId,
    pub(crate) sent_at: Timestamp,
    /// What the sender has of the session.
    pub(crate) entry: Option<KeyedEntry>,
}

/// The owner's answer to an update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UpdateResponse {
    pub(crate) op: OpId,
    pub(crate) sent_at: Timestamp,
    pub(crate) verdict: UpdateStatus,
    /// The session after the update, if the receiver does not hold it.
    pub(crate) entry: Option<KeyedEntry>,
}

/// A holder's vote on a proposal to raise a floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vote {
    pub(crate) view: ViewId,
    pub(crate) op: OpId,
    pub(crate) key: Root,
    pub(crate) agrees: bool,
}
