//! Messages between replicas.
//!
//! Messages are plain data; `wire` encodes them. Each one is safe to lose, to repeat and to
//! reorder, and its doc gives the reason. Times in a message are on the sender's clock and are sent
//! along with `sent_at`, the sender's time of sending: the receiver uses differences only, so
//! clocks need not agree.

mod event;
mod list;
mod response;
mod update;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::{Root, SecretHash, Timestamp, Version};

use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::node::Node;

pub(crate) use self::event::{Cursor, Happened, Reason, Traced};
pub(crate) use self::list::{ListRequest, ListResponse};
pub(crate) use self::response::{GetReply, SlotEntries, UpdateResponse, Vote};
pub(crate) use self::update::{Operation, UpdateRequest, UpdateStatus};
pub(crate) use crate::cluster::replica::op_id::OpId;

/// Identifies a view: a set of members, and an epoch that only grows.
///
/// The set alone would repeat when a drain is canceled, and a message of the first period would
/// count in the second: two updates with the same expectation could both be applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ViewId {
    /// Larger than the epoch of every view that the node installed before.
    pub(crate) epoch: u64,
    /// The hash of the members and of their leaving flags, equal on all members.
    pub(crate) members: u64,
}

/// A session's state, or a part of it, with its key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeyedEntry {
    pub(crate) key: Root,
    pub(crate) entry: Entry,
}

/// One message from one node to another. **The order of the variants and of their fields is the
/// wire format**; see `wire`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// A packet of the membership protocol, which is designed for lossy networks.
    Swim(Vec<u8>),
    /// The sender's members and progress. Repeated until both sides agree. That an incarnation is
    /// down is final, and of the announcements of one sender the one with the largest number
    /// counts.
    View(View),
    /// Changes of sessions. Merging is idempotent and commutative; unacknowledged writes are sent
    /// again.
    Write(Write),
    /// These writes are merged here. Counts only in the view that it names; a lost one is repeated
    /// when the write is sent again.
    Ack { view: ViewId, seqs: Vec<u64> },
    /// A write was not merged: the sender is in another view, in which it does not hold the session
    /// or in which the writer is no member. The writer sends it again when the sender is in its
    /// view.
    Nack { view: ViewId, seq: u64 },
    /// A session was accessed. The latest access wins. A lost one is replaced by the next, and the
    /// other holders are asked before an expired session is reported as absent.
    Touch {
        sent_at: Timestamp,
        key: Root,
        accessed_at: Timestamp,
        /// The version of the access.
        access: u64,
    },
    /// A request to compare digests: one for each non-empty slot that the sender holds. Repeated
    /// until answered.
    Digests {
        view: ViewId,
        round: u64,
        digests: Vec<(u16, u64)>,
    },
    /// The response to `Digests`: the slots in which the sender has something else.
    DigestDiff {
        view: ViewId,
        round: u64,
        slots: Vec<u16>,
    },
    /// A request for what the requester lacks of a slot after this key. `known` has the versions of
    /// the entries that it has, and of their accesses. Repeated when the link of the request or of
    /// its answer is new, and in a new view.
    PullSlot {
        view: ViewId,
        round: u64,
        slot: u16,
        after: Option<Root>,
        known: Vec<KnownEntry>,
    },
    /// The response to `PullSlot`.
    SlotEntries(SlotEntries),
    /// A request for a session. Repeated when the link of the request or of its answer is new, and
    /// in a new view. If the secret is not the session's, the response has only its credential.
    Get {
        view: ViewId,
        op: OpId,
        key: Root,
        secret: Option<SecretHash>,
    },
    /// The response to `Get`. Counts only in the view that it names.
    GetReply(GetReply),
    /// A request to the session's owner to apply a change if the expected attribute is unchanged.
    /// The version in it names the attempt, so that a repeated one is recognized.
    Update(UpdateRequest),
    /// The response to `Update`. A lost one is repeated when the update is sent again.
    Updated(UpdateResponse),
    /// The sender leaves for good. If it is lost, failure detection removes the sender.
    Leave,
    /// The response to a request that is not answered, because too many wait at the sender.
    Busy { op: OpId },
    /// A proposal to raise a session's floor, if the receiver has the same content at or below it.
    /// A lost one times out, and the owner proposes again later.
    Propose(Proposal),
    /// The response to `Propose`. Counts only in the view that it names.
    Vote(Vote),
    /// Starts or stops the receiver's reports of events to the sender, who has everything up to
    /// `after`. Repeated while they are wanted; the receiver stops when it is not repeated in time.
    Listen {
        wanted: bool,
        /// Added later, and encoded separately.
        #[serde(skip)]
        after: Option<Cursor>,
    },
    /// An event of a session, reported by the sender. Numbered: one that was received is ignored,
    /// and what follows the last one received is sent again when the link is new.
    Happened(Happened),
    /// The response to `Listen`: the sender reports what follows this place. A lost one is replaced
    /// by the next, because `Listen` is repeated.
    Listens(Cursor),
    /// Why the sender is about to delete a session, or to have it deleted. If it is lost or late,
    /// the event that is reported if the sender fails has a general reason.
    Reason(Reason),
    /// A request for sessions that the receiver owns. Repeated when the link of the request or of
    /// its answer is new, and in a new view. Sent only to members that have announced that they
    /// know it.
    ListSlots(ListRequest),
    /// The response to `ListSlots`. Counts only in the view that it names.
    ListPage(ListResponse),
}

/// The number of kinds of messages in protocol 2. Later kinds get the next numbers.
pub(crate) const KINDS: u32 = 24;

/// The number of kinds that a member knows at least if it answers `ListSlots`.
pub(crate) const LIST_KINDS: u32 = 24;

/// The queue in which a message waits for its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Membership, views and acknowledgements: small, and never queued behind data.
    Control,
    /// Everything that carries sessions or requests them, within a window of bytes in flight.
    Data,
}

impl Message {
    pub(crate) const fn lane(&self) -> Lane {
        match self {
            Self::Swim(_)
            | Self::View(_)
            | Self::Ack { .. }
            | Self::Nack { .. }
            | Self::Busy { .. }
            | Self::Vote { .. }
            | Self::Listen { .. }
            | Self::Listens(_)
            | Self::Leave => Lane::Control,
            Self::Write(_)
            | Self::Touch { .. }
            | Self::Digests { .. }
            | Self::DigestDiff { .. }
            | Self::PullSlot { .. }
            | Self::SlotEntries { .. }
            | Self::Get { .. }
            | Self::GetReply { .. }
            | Self::Update(_)
            | Self::Updated { .. }
            | Self::Happened(_)
            | Self::ListSlots(_)
            | Self::ListPage(_)
            // Must not be overtaken by the deletion.
            | Self::Reason(_)
            // Must not overtake the writes that the sender has made before.
            | Self::Propose(_) => Lane::Data,
        }
    }

    /// Returns the approximate size on the wire, which windows and budgets use.
    pub(crate) fn size(&self) -> usize {
        let entries = |entries: &[KeyedEntry]| entries.iter().map(KeyedEntry::size).sum::<usize>();
        FIXED
            + match self {
                Self::Swim(packet) => packet.len(),
                Self::View(view) => (view.members.len() + view.removed.len()) * NODE,
                Self::Write(write) => entries(&write.entries),
                Self::Ack { seqs, .. } => seqs.len() * NUMBER,
                Self::Digests { digests, .. } => digests.len() * (SLOT + NUMBER),
                Self::DigestDiff { slots, .. } => slots.len() * SLOT,
                Self::PullSlot { known, .. } => known.len() * (KEY + 2 * NUMBER),
                Self::SlotEntries(response) => entries(&response.entries),
                Self::GetReply(GetReply { entry, .. })
                | Self::Updated(UpdateResponse { entry, .. }) => {
                    entry.as_ref().map_or(0, KeyedEntry::size)
                }
                Self::Update(update) => update.size(),
                Self::ListPage(response) => response.part.sessions.len() * LISTED,
                Self::Nack { .. }
                | Self::Busy { .. }
                | Self::Touch { .. }
                | Self::Get { .. }
                | Self::Propose(_)
                | Self::Vote { .. }
                | Self::Listen { .. }
                | Self::Listens(_)
                | Self::Happened(_)
                | Self::Reason(_)
                | Self::ListSlots(_)
                | Self::Leave => 0,
            }
    }

    /// Returns the sequence number of a write.
    pub(crate) const fn seq(&self) -> Option<u64> {
        match self {
            Self::Write(write) => Some(write.seq),
            _ => None,
        }
    }

    /// Returns the sender's time in the message, if the message contains times.
    const fn sent_at(&mut self) -> Option<&mut Timestamp> {
        match self {
            Self::Write(Write { sent_at, .. })
            | Self::Touch { sent_at, .. }
            | Self::SlotEntries(SlotEntries { sent_at, .. })
            | Self::GetReply(GetReply { sent_at, .. })
            | Self::Update(UpdateRequest { sent_at, .. })
            | Self::Updated(UpdateResponse { sent_at, .. })
            | Self::Happened(Happened { sent_at, .. })
            | Self::ListPage(ListResponse { sent_at, .. }) => Some(sent_at),
            Self::Swim(_)
            | Self::View(_)
            | Self::Ack { .. }
            | Self::Nack { .. }
            | Self::Digests { .. }
            | Self::DigestDiff { .. }
            | Self::PullSlot { .. }
            | Self::Get { .. }
            | Self::Busy { .. }
            | Self::Propose(_)
            | Self::Vote { .. }
            | Self::Listen { .. }
            | Self::Listens(_)
            | Self::Reason(_)
            | Self::ListSlots(_)
            | Self::Leave => None,
        }
    }

    /// Returns the message with `now` as its time of sending.
    pub(crate) fn spoken_at(mut self, now: Timestamp) -> Self {
        // It may have waited for room in the window. By its former time, the deadlines in it would
        // be later at the receiver by that wait.
        if let Some(sent_at) = self.sent_at() {
            *sent_at = now;
        }
        self
    }

    /// Adds the time that the message has waited at its sender to `sent_at`, so that differences to
    /// it are correct again.
    pub(crate) fn aged(&mut self, age: Duration) {
        if let Self::View(view) = self {
            // It has run on while the announcement waited: at this node, unknown sessions would be
            // errors for longer than at the sender.
            view.loss_window = view.loss_window.saturating_sub(age);
        } else if let Some(sent_at) = self.sent_at() {
            *sent_at = sent_at.plus(age);
        }
    }

    /// Returns `true` if the message is sent in chunks between which other messages pass.
    pub(crate) fn is_large(&self) -> bool {
        self.lane() == Lane::Data && self.size() > SMALL_MAX
    }
}

impl KeyedEntry {
    pub(crate) fn size(&self) -> usize {
        KEY + self.entry.weight()
    }
}

/// The largest message that is sent in one piece.
pub(crate) const SMALL_MAX: usize = 64 << 10;

/// Approximate sizes on the wire: fields of fixed length, a key, a number, a slot, a node's
/// identity, and a session in a list.
pub(crate) const FIXED: usize = 64;
const KEY: usize = 12;
const NUMBER: usize = 9;
const SLOT: usize = 3;
const NODE: usize = 64;
const LISTED: usize = 80;

/// The sender's members and progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct View {
    /// Larger in each later announcement of the sender.
    pub(crate) number: u64,
    /// Whether the sender requests an announcement in return.
    pub(crate) ask: bool,
    pub(crate) view: ViewId,
    /// Members other than the sender.
    pub(crate) members: Vec<Node>,
    /// Incarnations known to be down, which is final.
    pub(crate) removed: Vec<Node>,
    /// Whether the sender is complete in this view.
    pub(crate) complete: bool,
    /// Whether the sender serves sessions.
    pub(crate) ready: bool,
    /// Whether the sender is leaving and holds no slots.
    pub(crate) leaving: bool,
    /// For how much longer the sender treats an unknown session as possibly lost.
    pub(crate) loss_window: Duration,
    /// The number of kinds of messages that the sender knows. Added later, and encoded separately;
    /// absent from nodes of an earlier version.
    #[serde(skip)]
    pub(crate) kinds: Option<u32>,
}

/// The key of an entry, its version, and the version of its last access.
pub(crate) type KnownEntry = (Root, u64, u64);

/// Changes that a holder is to merge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Write {
    /// The sequence number of this write at the sender.
    pub(crate) seq: u64,
    /// The difference to the sequence number of the sender's oldest open write.
    pub(crate) behind: u64,
    pub(crate) view: ViewId,
    /// Merge only if the receiver is in the same view: an atomic update must not take effect after
    /// the owner has changed.
    pub(crate) strict: bool,
    pub(crate) sent_at: Timestamp,
    pub(crate) entries: Arc<[KeyedEntry]>,
}

impl Write {
    /// Returns the sequence number of the sender's oldest open write: acknowledgements of earlier
    /// ones need not be remembered.
    pub(crate) const fn oldest(&self) -> u64 {
        self.seq.saturating_sub(self.behind)
    }
}

/// A floor that the owner of a session proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    pub(crate) view: ViewId,
    pub(crate) op: OpId,
    pub(crate) key: Root,
    pub(crate) floor: Version,
    /// The hash of what the owner has at or below the floor.
    pub(crate) content: u64,
}
