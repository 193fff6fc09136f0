//! Validation of received messages, and the encoding of events.
//!
//! The encoding of a message is derived from [`Message`]; that of a session is in
//! [`record`](super::record).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::cluster::replica::message::{
    Happened, Message, Proposal, Reason, SlotEntries, UpdateRequest,
};
use crate::cluster::replica::node::Node;
use crate::session::{EndReason, Root, SLOTS, SessionEventKind, SessionPage, Timestamp, UserKey};

use crate::cluster::wire::handshake::check_node;
use crate::cluster::wire::record::{is_access, is_valid};
use crate::cluster::wire::{WireError, at_most, put};

/// Checks what no type checks. The content of sessions is checked when it is decoded.
pub(super) fn validate(message: &Message) -> Result<(), WireError> {
    match message {
        Message::View(view) => {
            validate_nodes(&view.members)?;
            validate_nodes(&view.removed)
        }
        Message::Touch { access, .. } => is_access(*access),
        Message::Digests { digests, .. } => {
            at_most(digests.len(), SLOTS)?;
            digests.iter().try_for_each(|(slot, _)| is_slot(*slot))
        }
        Message::DigestDiff { slots, .. } => {
            at_most(slots.len(), SLOTS)?;
            slots.iter().try_for_each(|slot| is_slot(*slot))
        }
        Message::PullSlot { slot, .. } | Message::SlotEntries(SlotEntries { slot, .. }) => {
            is_slot(*slot)
        }
        Message::Update(UpdateRequest {
            expect: Some((_, Some(version))),
            ..
        }) => is_valid(version),
        Message::Propose(Proposal { floor, .. }) => is_valid(floor),
        Message::ListPage(response) => {
            at_most(response.part.sessions.len(), SessionPage::LIMIT_MAX)
        }
        Message::Swim(_)
        | Message::Write(_)
        | Message::Ack { .. }
        | Message::Nack { .. }
        | Message::Get { .. }
        | Message::GetReply { .. }
        | Message::Update(_)
        | Message::Updated { .. }
        | Message::Leave
        | Message::Busy { .. }
        | Message::Vote { .. }
        | Message::Listen { .. }
        | Message::Happened(_)
        | Message::Listens(_)
        | Message::Reason(_)
        | Message::ListSlots(_) => Ok(()),
    }
}

fn validate_nodes(nodes: &[Node]) -> Result<(), WireError> {
    at_most(nodes.len(), NODES_MAX)?;
    nodes.iter().try_for_each(check_node)
}

fn is_slot(slot: u16) -> Result<(), WireError> {
    if usize::from(slot) < SLOTS {
        Ok(())
    } else {
        Err(WireError::NoSuchSlot)
    }
}

#[derive(Serialize, Deserialize)]
struct WireEvent {
    sent_at: Timestamp,
    kind: WireEventKind,
    key: Root,
    user: Option<UserKey>,
    at: Timestamp,
    lost: u64,
}

#[derive(Serialize, Deserialize)]
enum WireEventKind {
    Created,
    Rotated,
    Logout,
    User,
    Admin,
    Limit,
    Idle,
    Absolute,
}

impl Serialize for Happened {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = WireEvent {
            sent_at: self.sent_at,
            kind: self.kind.into(),
            key: self.key,
            user: self.user,
            at: self.at,
            lost: self.lost,
        };
        event.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Happened {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let event = WireEvent::deserialize(deserializer)?;
        Ok(Self {
            sent_at: event.sent_at,
            kind: event.kind.into(),
            key: event.key,
            user: event.user,
            at: event.at,
            lost: event.lost,
            traced: None,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct WireReason {
    key: Root,
    kind: WireEventKind,
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reason = WireReason {
            key: self.key,
            kind: SessionEventKind::Deleted(self.reason).into(),
        };
        reason.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireReason { key, kind } = WireReason::deserialize(deserializer)?;
        match kind.into() {
            SessionEventKind::Deleted(reason) => Ok(Self { key, reason }),
            _ => Err(D::Error::custom("not a reason for a deletion")),
        }
    }
}

/// Appends the fields that were added to a message later. Absent ones are not written.
pub(super) fn put_later(message: &Message, out: &mut Vec<u8>) {
    match message {
        Message::View(view) => view.kinds.iter().for_each(|kinds| put(kinds, out)),
        Message::Listen { after, .. } => after.iter().for_each(|after| put(after, out)),
        Message::Happened(happened) => {
            happened.traced.iter().for_each(|traced| put(traced, out));
        }
        _ => {}
    }
}

/// Reads the fields that were added to a message later. A sender of an earlier version does not
/// write them.
pub(super) fn read_later(message: &mut Message, later: &[u8]) {
    match message {
        Message::View(view) => view.kinds = postcard::from_bytes(later).ok(),
        Message::Listen { after, .. } => *after = postcard::from_bytes(later).ok(),
        Message::Happened(happened) => happened.traced = postcard::from_bytes(later).ok(),
        _ => {}
    }
}

impl From<SessionEventKind> for WireEventKind {
    fn from(kind: SessionEventKind) -> Self {
        let Some(reason) = kind.reason() else {
            return match kind {
                SessionEventKind::Rotated => Self::Rotated,
                _ => Self::Created,
            };
        };
        match reason {
            EndReason::Logout => Self::Logout,
            EndReason::User => Self::User,
            EndReason::Admin => Self::Admin,
            EndReason::Limit => Self::Limit,
            EndReason::Idle => Self::Idle,
            EndReason::Absolute => Self::Absolute,
        }
    }
}

impl From<WireEventKind> for SessionEventKind {
    fn from(kind: WireEventKind) -> Self {
        match kind {
            WireEventKind::Created => Self::Created,
            WireEventKind::Rotated => Self::Rotated,
            WireEventKind::Logout => Self::Deleted(EndReason::Logout),
            WireEventKind::User => Self::Deleted(EndReason::User),
            WireEventKind::Admin => Self::Deleted(EndReason::Admin),
            WireEventKind::Limit => Self::Deleted(EndReason::Limit),
            WireEventKind::Idle => Self::Expired(EndReason::Idle),
            WireEventKind::Absolute => Self::Expired(EndReason::Absolute),
        }
    }
}

/// Far more nodes than a cluster and the former members that it remembers.
const NODES_MAX: usize = 1 << 12;
