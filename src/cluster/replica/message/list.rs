//! Messages of lists: sessions that another member owns.

use serde::{Deserialize, Serialize};

use crate::session::{ListPart, Root, Timestamp};

use crate::cluster::replica::message::{OpId, ViewId};

/// A request for sessions that the receiver owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListRequest {
    pub(crate) view: ViewId,
    pub(crate) op: OpId,
    /// The place after which the list continues.
    pub(crate) after: Option<Root>,
    /// The maximum number of sessions.
    pub(crate) limit: u16,
}

/// The response to a [`ListRequest`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListResponse {
    pub(crate) view: ViewId,
    pub(crate) op: OpId,
    pub(crate) sent_at: Timestamp,
    /// Sessions that the sender owns, without labels.
    pub(crate) part: ListPart,
}
