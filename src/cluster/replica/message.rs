//! What nodes say to each other.
//!
//! Messages are pure data; `wire` turns them into bytes. Each one is safe to lose, to repeat and to
//! reorder, and its doc says why. Points in time inside a message are on the sender's clock and
//! travel beside `sent_at`, the sender's time when it spoke: the receiver only uses differences.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::{Name, Record, Root, Rotation, SecretHash, Stamp, Timestamp};

use super::entry::{Entry, Fragment};
use super::node::Node;

/// The name of one period of the membership: a set of members, and an epoch that only grows.
///
/// The set alone would come back when a drain is cancelled, and a message of the first period would
/// count in the second: two updates with the same expectation were both applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ViewId {
    /// Larger in each view that a node installs than in the one before.
    pub(crate) epoch: u64,
    /// The hash of the members and of their leaving flags, the same on every member.
    pub(crate) members: u64,
}

/// Names one call of a local user among the calls that are under way.
pub(crate) type OpId = u64;

/// A session's state, or a part of it, under its key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Copy {
    pub(crate) key: Root,
    pub(crate) entry: Entry,
}

/// One message from one node to another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    /// A packet of the membership protocol, which expects a lossy network.
    Swim(Vec<u8>),
    /// Who the sender thinks is in. Repeated until both sides agree; being down is final for an
    /// identity, and of what a node says of itself the largest number counts.
    View(View),
    /// Changes of sessions. Merging is idempotent and commutative; unacknowledged ones are sent
    /// again.
    Write(Write),
    /// These writes are merged here. Counts only in the view that it names; a lost one is asked for
    /// again by repeating the write.
    Ack { view: ViewId, seqs: Vec<u64> },
    /// A write was not merged: it came under another view than the sender's, in which it does not
    /// hold the session, or the writer is no member there. The writer sends it again when the
    /// sender is in its view.
    Refuse { view: ViewId, seq: u64 },
    /// Somebody used a session. The later access wins; a lost one is made up for by the next, and
    /// by asking the other holders before a session that has run out is called gone.
    Touch {
        sent_at: Timestamp,
        key: Root,
        accessed_at: Timestamp,
        /// The version of the access.
        access: u64,
    },
    /// "Here is a digest of each slot that I have; where do you differ?" Asked again until answered.
    Compare {
        view: ViewId,
        round: u64,
        digests: Vec<(u16, u64)>,
    },
    /// The answer to `Compare`: slots in which the sender has something else.
    Differ {
        view: ViewId,
        round: u64,
        slots: Vec<u16>,
    },
    /// "Send me what I lack of this slot, after this key; I have these versions, of the sessions and
    /// of their accesses." Asked again until answered.
    Pull {
        view: ViewId,
        round: u64,
        slot: u16,
        after: Option<Root>,
        known: Vec<Known>,
    },
    /// The answer to `Pull`. `more`: ask again after the last key here.
    Push {
        view: ViewId,
        round: u64,
        slot: u16,
        sent_at: Timestamp,
        copies: Vec<Copy>,
        more: bool,
    },
    /// "What do you have of this session?" Asked again until answered. With a secret that is not the
    /// session's, the answer has its credential only.
    Fetch {
        view: ViewId,
        op: OpId,
        key: Root,
        secret: Option<SecretHash>,
    },
    /// Too many questions of the receiver wait at the sender: this one is not answered.
    Busy { op: OpId },
    /// The answer to `Fetch`; counts only in the view that it names.
    Fetched {
        view: ViewId,
        op: OpId,
        sent_at: Timestamp,
        copy: Option<Copy>,
    },
    /// "You own this session: apply this if the attribute's last write is still the expected one."
    /// The stamp inside names the attempt, so that a repeated one is recognised.
    Update(Update),
    /// The answer to `Update`. A lost one is asked for again by repeating the update.
    Updated {
        op: OpId,
        sent_at: Timestamp,
        verdict: Verdict,
        copy: Option<Copy>,
    },
    /// "Is what you have of this session at or below this stamp the same as what I have?" A lost one
    /// is given up, and the owner proposes again later.
    Propose(Proposal),
    /// The answer to `Propose`; counts only in the view that it names.
    Vote {
        view: ViewId,
        op: OpId,
        key: Root,
        agrees: bool,
    },
    /// The sender leaves for good. If it is lost, failure detection finds out.
    Bye,
}

/// The queue in which a message waits for its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Membership, views and acknowledgements: small, and never behind data.
    Control,
    /// Everything that carries sessions or asks for them, within a window of bytes in flight.
    Data,
}

impl Message {
    pub(crate) const fn lane(&self) -> Lane {
        match self {
            Self::Swim(_)
            | Self::View(_)
            | Self::Ack { .. }
            | Self::Refuse { .. }
            | Self::Busy { .. }
            | Self::Vote { .. }
            | Self::Bye => Lane::Control,
            Self::Write(_)
            | Self::Touch { .. }
            | Self::Compare { .. }
            | Self::Differ { .. }
            | Self::Pull { .. }
            | Self::Push { .. }
            | Self::Fetch { .. }
            | Self::Fetched { .. }
            | Self::Update(_)
            | Self::Updated { .. }
            // Behind the writes that the sender has made before.
            | Self::Propose(_) => Lane::Data,
        }
    }

    /// About how many bytes the message takes on the wire. Windows and budgets count with it.
    pub(crate) fn size(&self) -> usize {
        let copies = |copies: &[Copy]| copies.iter().map(Copy::size).sum::<usize>();
        FIXED
            + match self {
                Self::Swim(packet) => packet.len(),
                Self::View(view) => (view.members.len() + view.removed.len()) * NODE,
                Self::Write(write) => copies(&write.copies),
                Self::Ack { seqs, .. } => seqs.len() * NUMBER,
                Self::Compare { digests, .. } => digests.len() * (SLOT + NUMBER),
                Self::Differ { slots, .. } => slots.len() * SLOT,
                Self::Pull { known, .. } => known.len() * (KEY + 2 * NUMBER),
                Self::Push { copies: all, .. } => copies(all),
                Self::Fetched { copy, .. } | Self::Updated { copy, .. } => {
                    copy.as_ref().map_or(0, Copy::size)
                }
                Self::Update(update) => {
                    let record = match &update.order {
                        Order::Create(record) => record.payload_bytes(),
                        Order::Change | Order::End => 0,
                    };
                    update.fragment.payload_bytes() + record
                }
                Self::Refuse { .. }
                | Self::Busy { .. }
                | Self::Touch { .. }
                | Self::Fetch { .. }
                | Self::Propose(_)
                | Self::Vote { .. }
                | Self::Bye => 0,
            }
    }

    /// The number of a write.
    pub(crate) const fn seq(&self) -> Option<u64> {
        match self {
            Self::Write(write) => Some(write.seq),
            _ => None,
        }
    }

    /// The sender's time inside the message, if the message has points in time.
    const fn sent_at(&mut self) -> Option<&mut Timestamp> {
        match self {
            Self::Write(Write { sent_at, .. })
            | Self::Touch { sent_at, .. }
            | Self::Push { sent_at, .. }
            | Self::Fetched { sent_at, .. }
            | Self::Update(Update { sent_at, .. })
            | Self::Updated { sent_at, .. } => Some(sent_at),
            Self::Swim(_)
            | Self::View(_)
            | Self::Ack { .. }
            | Self::Refuse { .. }
            | Self::Compare { .. }
            | Self::Differ { .. }
            | Self::Pull { .. }
            | Self::Fetch { .. }
            | Self::Busy { .. }
            | Self::Propose(_)
            | Self::Vote { .. }
            | Self::Bye => None,
        }
    }

    /// The message as it leaves at `now`: the points in time inside are on the sender's clock.
    pub(crate) fn spoken_at(mut self, now: Timestamp) -> Self {
        if let Some(sent_at) = self.sent_at() {
            *sent_at = now;
        }
        self
    }

    /// Accounts for the time that the message has waited at its sender after it was made:
    /// differences to `sent_at` are right again.
    pub(crate) fn aged(&mut self, age: Duration) {
        if let Self::View(view) = self {
            view.doubt = view.doubt.saturating_sub(age);
        } else if let Some(sent_at) = self.sent_at() {
            *sent_at = sent_at.plus(age);
        }
    }

    /// Returns `true` if the message is sent in chunks between which other messages pass.
    pub(crate) fn is_large(&self) -> bool {
        self.lane() == Lane::Data && self.size() > SMALL_MAX
    }
}

impl Copy {
    pub(crate) fn size(&self) -> usize {
        KEY + self.entry.weight()
    }
}

/// The largest message that is sent in one piece.
pub(crate) const SMALL_MAX: usize = 64 << 10;

/// What fields of fixed length, a key, a number, a slot and a node's identity take on the wire.
pub(crate) const FIXED: usize = 64;
const KEY: usize = 12;
const NUMBER: usize = 9;
const SLOT: usize = 3;
const NODE: usize = 64;

/// Who the sender thinks is in, and how far the sender is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    /// Larger in whatever the sender said later.
    pub(crate) number: u64,
    /// Whether the sender wants to hear the same from the receiver.
    pub(crate) ask: bool,
    pub(crate) view: ViewId,
    /// Members other than the sender.
    pub(crate) members: Vec<Node>,
    /// Identities that are known to be down, which is final.
    pub(crate) removed: Vec<Node>,
    /// Whether the sender has everything that the members of this view had.
    pub(crate) complete: bool,
    /// Whether the sender serves sessions.
    pub(crate) ready: bool,
    /// Whether the sender is on its way out: it holds nothing any more.
    pub(crate) leaving: bool,
    /// How much longer the sender takes a session that nobody has for one that may have been lost.
    pub(crate) doubt: Duration,
}

/// A session that a node has: its key, its version, and the version of its last access.
pub(crate) type Known = (Root, u64, u64);

/// Changes of sessions that a holder is to merge.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    /// Names this write among the sender's.
    pub(crate) seq: u64,
    /// The sender's oldest write that some holder has not acknowledged: acknowledgements of older
    /// ones need not be remembered.
    pub(crate) oldest: u64,
    pub(crate) view: ViewId,
    /// Merge only if the receiver is in the same view: an atomic update must not surface after its
    /// owner has changed.
    pub(crate) strict: bool,
    pub(crate) sent_at: Timestamp,
    pub(crate) copies: Arc<[Copy]>,
}

/// A change that the session's owner orders, on its way there: an atomic update, a rotation, or
/// whatever a member wants that does not hold the session itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Update {
    pub(crate) view: ViewId,
    pub(crate) op: OpId,
    pub(crate) key: Root,
    /// Whether the asker has sent it before, so that it may have been applied.
    pub(crate) retry: bool,
    pub(crate) sent_at: Timestamp,
    /// The attribute, and the stamp that its last write is expected to carry.
    pub(crate) expect: Option<(Name, Option<Stamp>)>,
    /// What to apply; the one in `fragment.updates` names the attempt.
    pub(crate) fragment: Arc<Fragment>,
    /// The new secret, if the session's is the one that the asker has presented.
    pub(crate) rotation: Option<Rotation>,
    pub(crate) order: Order,
}

/// A floor that the owner of a session would like to raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) view: ViewId,
    pub(crate) op: OpId,
    pub(crate) key: Root,
    pub(crate) floor: Stamp,
    /// What the owner has at or below the floor, as a hash.
    pub(crate) content: u64,
}

/// What the owner of a session is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Order {
    /// Apply the fragment, replace the secret, or both.
    Change,
    /// Make this session, which must not exist yet.
    Create(Arc<Record>),
    /// End the session.
    End,
}

/// What became of an atomic update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Applied by every holder.
    Applied,
    /// Another write came first; nothing was changed.
    Conflict,
    /// The change is a rotation, and another one came first; nothing was changed.
    Superseded,
    /// There is no such session.
    Gone,
    /// The one asked is not the owner, or the members changed meanwhile: ask again.
    Again,
    /// It was sent before and too much has happened since to tell whether it was applied.
    Unknown,
    /// The owner has no room for a new session, or for what a change adds to one.
    Full,
    /// The session would be larger than one may be.
    TooLarge,
}
