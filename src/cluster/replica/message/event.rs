//! Events of sessions in messages, and their places in the log of the node that reports them.

use serde::{Deserialize, Serialize};

use crate::session::{EndReason, Root, SessionEventKind, Timestamp, UserKey};

/// An event of a session, for subscribers on other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) sent_at: Timestamp,
    pub(crate) kind: SessionEventKind,
    pub(crate) key: Root,
    pub(crate) user: Option<UserKey>,
    pub(crate) at: Timestamp,
    /// Events that the sender does not have any more, between this one and the one before.
    pub(crate) lost: u64,
    /// Absent in the events of nodes of an earlier version.
    pub(crate) traced: Option<Traced>,
}

/// Why a session is about to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) key: Root,
    pub(crate) reason: EndReason,
}

/// What a receiver needs to recognize an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traced {
    pub(crate) place: Cursor,
    /// Whether a node that has failed since may have reported it.
    pub(crate) possible_repeat: bool,
    /// Distinguishes the rotations of one session.
    pub(crate) rotation: u64,
}

/// A place in the log of the events that a node reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// Identifies the log among those of the same name.
    pub(crate) log: u64,
    /// The number of the last event before the place.
    pub(crate) seq: u64,
}
