//! Requests of peers, as they wait for room for their responses.

use crate::cluster::replica::message::{Message, OpId};

/// Identifies a request of a peer: a repeated request replaces the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Question {
    Digests,
    PullSlot(u16),
    Get(OpId),
    List(OpId),
}

impl Question {
    pub(crate) const fn of(message: &Message) -> Option<Self> {
        match message {
            Message::Digests { .. } => Some(Self::Digests),
            Message::PullSlot { slot, .. } => Some(Self::PullSlot(*slot)),
            Message::Get { op, .. } => Some(Self::Get(*op)),
            Message::ListSlots(request) => Some(Self::List(request.op)),
            _ => None,
        }
    }

    /// Returns `true` if it is part of a comparison.
    pub(crate) const fn is_comparison(self) -> bool {
        matches!(self, Self::Digests | Self::PullSlot(_))
    }
}
