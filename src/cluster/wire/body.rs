//! Encoding of each kind of message.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::{
    EndReason, Root, Rotation, SLOTS, SecretHash, SessionEventKind, Timestamp, UserKey, Version,
};

use super::hello::check_node;
use super::session::{
    WireDelta, WireKeyedEntry, WireRecord, WireRotation, attribute_name, copies_of, is_access,
    is_valid,
};
use super::{Bytes, WireError, at_most};
use crate::cluster::replica::message::{
    Happened, KeyedEntry, Known, Message, Operation, Proposal, Update, UpdateStatus, View, ViewId,
    Write,
};
use crate::cluster::replica::node::Node;

/// The messages of protocol 2, one variant each.
#[derive(Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for as long as one message is encoded or decoded"
)]
pub(super) enum Body<'a> {
    Swim(#[serde(borrow)] Bytes<'a>),
    View {
        number: u64,
        ask: bool,
        view: ViewId,
        members: Cow<'a, [Node]>,
        removed: Cow<'a, [Node]>,
        complete: bool,
        ready: bool,
        leaving: bool,
        doubt: Duration,
    },
    Write {
        seq: u64,
        /// The difference to the sequence number of the oldest open write.
        behind: u64,
        view: ViewId,
        strict: bool,
        sent_at: Timestamp,
        #[serde(borrow)]
        copies: Vec<WireKeyedEntry<'a>>,
    },
    Ack {
        view: ViewId,
        seqs: Cow<'a, [u64]>,
    },
    Nack {
        view: ViewId,
        seq: u64,
    },
    Touch {
        sent_at: Timestamp,
        key: Root,
        accessed_at: Timestamp,
        access: u64,
    },
    Digests {
        view: ViewId,
        round: u64,
        digests: Cow<'a, [(u16, u64)]>,
    },
    DigestDiff {
        view: ViewId,
        round: u64,
        slots: Cow<'a, [u16]>,
    },
    PullSlot {
        view: ViewId,
        round: u64,
        slot: u16,
        after: Option<Root>,
        known: Cow<'a, [Known]>,
    },
    SlotEntries {
        view: ViewId,
        round: u64,
        slot: u16,
        sent_at: Timestamp,
        #[serde(borrow)]
        copies: Vec<WireKeyedEntry<'a>>,
        more: bool,
    },
    Get {
        view: ViewId,
        op: u64,
        key: Root,
        secret: Option<SecretHash>,
    },
    GetReply {
        view: ViewId,
        op: u64,
        sent_at: Timestamp,
        #[serde(borrow)]
        copy: Option<WireKeyedEntry<'a>>,
    },
    Update {
        view: ViewId,
        op: u64,
        key: Root,
        retry: bool,
        sent_at: Timestamp,
        #[serde(borrow)]
        expect: Option<(&'a str, Option<Version>)>,
        #[serde(borrow)]
        fragment: WireDelta<'a>,
        rotation: Option<WireRotation>,
        #[serde(borrow)]
        order: WireOperation<'a>,
    },
    Updated {
        op: u64,
        sent_at: Timestamp,
        verdict: WireUpdateStatus,
        #[serde(borrow)]
        copy: Option<WireKeyedEntry<'a>>,
    },
    Leave,
    Busy {
        op: u64,
    },
    Propose {
        view: ViewId,
        op: u64,
        key: Root,
        floor: Version,
        content: u64,
    },
    Vote {
        view: ViewId,
        op: u64,
        key: Root,
        agrees: bool,
    },
    Listen {
        wanted: bool,
    },
    Happened {
        sent_at: Timestamp,
        kind: WireEventKind,
        key: Root,
        user: Option<UserKey>,
        at: Timestamp,
        lost: u64,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) enum WireEventKind {
    Created,
    Rotated,
    Logout,
    User,
    Admin,
    Limit,
    Idle,
    Absolute,
}

#[derive(Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is a part of a message that is encoded or decoded"
)]
pub(super) enum WireOperation<'a> {
    Update,
    Create(#[serde(borrow)] WireRecord<'a>),
    Delete,
}

#[derive(Serialize, Deserialize)]
pub(super) enum WireUpdateStatus {
    Applied,
    Conflict,
    Gone,
    Retry,
    Indeterminate,
    Full,
    TooLarge,
    Superseded,
}

impl<'a> From<&'a Message> for Body<'a> {
    fn from(message: &'a Message) -> Self {
        match *message {
            Message::Swim(ref packet) => Self::Swim(Bytes(packet)),
            Message::View(ref view) => Self::View {
                number: view.number,
                ask: view.ask,
                view: view.view,
                members: Cow::Borrowed(&view.members),
                removed: Cow::Borrowed(&view.removed),
                complete: view.complete,
                ready: view.ready,
                leaving: view.leaving,
                doubt: view.doubt,
            },
            Message::Write(ref write) => Self::Write {
                seq: write.seq,
                behind: write.seq.saturating_sub(write.oldest),
                view: write.view,
                strict: write.strict,
                sent_at: write.sent_at,
                copies: write.copies.iter().map(WireKeyedEntry::from).collect(),
            },
            Message::Ack { view, ref seqs } => Self::Ack {
                view,
                seqs: Cow::Borrowed(seqs),
            },
            Message::Nack { view, seq } => Self::Nack { view, seq },
            Message::Busy { op } => Self::Busy { op },
            Message::Touch {
                sent_at,
                key,
                accessed_at,
                access,
            } => Self::Touch {
                sent_at,
                key,
                accessed_at,
                access,
            },
            Message::Digests {
                view,
                round,
                ref digests,
            } => Self::Digests {
                view,
                round,
                digests: Cow::Borrowed(digests),
            },
            Message::DigestDiff {
                view,
                round,
                ref slots,
            } => Self::DigestDiff {
                view,
                round,
                slots: Cow::Borrowed(slots),
            },
            Message::PullSlot {
                view,
                round,
                slot,
                after,
                ref known,
            } => Self::PullSlot {
                view,
                round,
                slot,
                after,
                known: Cow::Borrowed(known),
            },
            Message::SlotEntries {
                view,
                round,
                slot,
                sent_at,
                ref copies,
                more,
            } => Self::SlotEntries {
                view,
                round,
                slot,
                sent_at,
                copies: copies.iter().map(WireKeyedEntry::from).collect(),
                more,
            },
            Message::Get {
                view,
                op,
                key,
                secret,
            } => Self::Get {
                view,
                op,
                key,
                secret,
            },
            Message::GetReply {
                view,
                op,
                sent_at,
                ref copy,
            } => Self::GetReply {
                view,
                op,
                sent_at,
                copy: copy.as_ref().map(WireKeyedEntry::from),
            },
            Message::Update(ref update) => Self::Update {
                view: update.view,
                op: update.op,
                key: update.key,
                retry: update.retry,
                sent_at: update.sent_at,
                expect: update
                    .expect
                    .as_ref()
                    .map(|(name, version)| (&**name, *version)),
                fragment: (&*update.fragment).into(),
                rotation: update.rotation.map(WireRotation::from),
                order: match &update.order {
                    Operation::Update => WireOperation::Update,
                    Operation::Create(record) => WireOperation::Create((&**record).into()),
                    Operation::Delete => WireOperation::Delete,
                },
            },
            Message::Updated {
                op,
                sent_at,
                verdict,
                ref copy,
            } => Self::Updated {
                op,
                sent_at,
                verdict: verdict.into(),
                copy: copy.as_ref().map(WireKeyedEntry::from),
            },
            Message::Propose(Proposal {
                view,
                op,
                key,
                floor,
                content,
            }) => Self::Propose {
                view,
                op,
                key,
                floor,
                content,
            },
            Message::Vote {
                view,
                op,
                key,
                agrees,
            } => Self::Vote {
                view,
                op,
                key,
                agrees,
            },
            Message::Listen { wanted } => Self::Listen { wanted },
            Message::Happened(Happened {
                sent_at,
                kind,
                key,
                user,
                at,
                lost,
            }) => Self::Happened {
                sent_at,
                kind: kind.into(),
                key,
                user,
                at,
                lost,
            },
            Message::Leave => Self::Leave,
        }
    }
}

impl TryFrom<Body<'_>> for Message {
    type Error = WireError;

    fn try_from(body: Body<'_>) -> Result<Self, WireError> {
        Ok(match body {
            Body::Swim(packet) => Self::Swim(packet.0.to_vec()),
            Body::View {
                number,
                ask,
                view,
                members,
                removed,
                complete,
                ready,
                leaving,
                doubt,
            } => Self::View(View {
                number,
                ask,
                view,
                members: nodes(members)?,
                removed: nodes(removed)?,
                complete,
                ready,
                leaving,
                doubt,
            }),
            Body::Write {
                seq,
                behind,
                view,
                strict,
                sent_at,
                copies,
            } => Self::Write(Write {
                seq,
                oldest: seq.saturating_sub(behind),
                view,
                strict,
                sent_at,
                copies: copies_of(copies)?.into(),
            }),
            Body::Ack { view, seqs } => Self::Ack {
                view,
                seqs: seqs.into_owned(),
            },
            Body::Nack { view, seq } => Self::Nack { view, seq },
            Body::Busy { op } => Self::Busy { op },
            Body::Touch {
                sent_at,
                key,
                accessed_at,
                access,
            } => {
                is_access(access)?;
                Self::Touch {
                    sent_at,
                    key,
                    accessed_at,
                    access,
                }
            }
            Body::Digests {
                view,
                round,
                digests,
            } => {
                at_most(digests.len(), SLOTS)?;
                digests.iter().try_for_each(|(slot, _)| is_slot(*slot))?;
                Self::Digests {
                    view,
                    round,
                    digests: digests.into_owned(),
                }
            }
            Body::DigestDiff { view, round, slots } => {
                at_most(slots.len(), SLOTS)?;
                slots.iter().try_for_each(|slot| is_slot(*slot))?;
                Self::DigestDiff {
                    view,
                    round,
                    slots: slots.into_owned(),
                }
            }
            Body::PullSlot {
                view,
                round,
                slot,
                after,
                known,
            } => {
                is_slot(slot)?;
                Self::PullSlot {
                    view,
                    round,
                    slot,
                    after,
                    known: known.into_owned(),
                }
            }
            Body::SlotEntries {
                view,
                round,
                slot,
                sent_at,
                copies,
                more,
            } => {
                is_slot(slot)?;
                Self::SlotEntries {
                    view,
                    round,
                    slot,
                    sent_at,
                    copies: copies_of(copies)?,
                    more,
                }
            }
            Body::Get {
                view,
                op,
                key,
                secret,
            } => Self::Get {
                view,
                op,
                key,
                secret,
            },
            Body::GetReply {
                view,
                op,
                sent_at,
                copy,
            } => Self::GetReply {
                view,
                op,
                sent_at,
                copy: copy.map(KeyedEntry::try_from).transpose()?,
            },
            Body::Update {
                view,
                op,
                key,
                retry,
                sent_at,
                expect,
                fragment,
                rotation,
                order,
            } => {
                let expect = expect.map(|(name, version)| {
                    version.iter().try_for_each(is_valid)?;
                    Ok((attribute_name(name)?, version))
                });
                Self::Update(Update {
                    view,
                    op,
                    key,
                    retry,
                    sent_at,
                    expect: expect.transpose()?,
                    fragment: Arc::new(fragment.try_into()?),
                    rotation: rotation.map(Rotation::from),
                    order: match order {
                        WireOperation::Update => Operation::Update,
                        WireOperation::Create(record) => {
                            Operation::Create(Arc::new(record.try_into()?))
                        }
                        WireOperation::Delete => Operation::Delete,
                    },
                })
            }
            Body::Updated {
                op,
                sent_at,
                verdict,
                copy,
            } => Self::Updated {
                op,
                sent_at,
                verdict: verdict.into(),
                copy: copy.map(KeyedEntry::try_from).transpose()?,
            },
            Body::Propose {
                view,
                op,
                key,
                floor,
                content,
            } => {
                is_valid(&floor)?;
                Self::Propose(Proposal {
                    view,
                    op,
                    key,
                    floor,
                    content,
                })
            }
            Body::Vote {
                view,
                op,
                key,
                agrees,
            } => Self::Vote {
                view,
                op,
                key,
                agrees,
            },
            Body::Listen { wanted } => Self::Listen { wanted },
            Body::Happened {
                sent_at,
                kind,
                key,
                user,
                at,
                lost,
            } => Self::Happened(Happened {
                sent_at,
                kind: kind.into(),
                key,
                user,
                at,
                lost,
            }),
            Body::Leave => Self::Leave,
        })
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

impl From<UpdateStatus> for WireUpdateStatus {
    fn from(verdict: UpdateStatus) -> Self {
        match verdict {
            UpdateStatus::Applied => Self::Applied,
            UpdateStatus::Conflict => Self::Conflict,
            UpdateStatus::Gone => Self::Gone,
            UpdateStatus::Retry => Self::Retry,
            UpdateStatus::Indeterminate => Self::Indeterminate,
            UpdateStatus::Full => Self::Full,
            UpdateStatus::TooLarge => Self::TooLarge,
            UpdateStatus::Superseded => Self::Superseded,
        }
    }
}

impl From<WireUpdateStatus> for UpdateStatus {
    fn from(verdict: WireUpdateStatus) -> Self {
        match verdict {
            WireUpdateStatus::Applied => Self::Applied,
            WireUpdateStatus::Conflict => Self::Conflict,
            WireUpdateStatus::Gone => Self::Gone,
            WireUpdateStatus::Retry => Self::Retry,
            WireUpdateStatus::Indeterminate => Self::Indeterminate,
            WireUpdateStatus::Full => Self::Full,
            WireUpdateStatus::TooLarge => Self::TooLarge,
            WireUpdateStatus::Superseded => Self::Superseded,
        }
    }
}

fn nodes(nodes: Cow<'_, [Node]>) -> Result<Vec<Node>, WireError> {
    at_most(nodes.len(), NODES_MAX)?;
    nodes.iter().try_for_each(check_node)?;
    Ok(nodes.into_owned())
}

fn is_slot(slot: u16) -> Result<(), WireError> {
    match usize::from(slot) < SLOTS {
        true => Ok(()),
        false => Err(WireError::NoSuchSlot),
    }
}

/// The number of message kinds in protocol 2. Later kinds get the next numbers.
pub(super) const KINDS: u32 = 20;

/// Far more nodes than a cluster and the former members that it remembers.
const NODES_MAX: usize = 1 << 12;
