//! Inputs and outputs of a replica.

use std::sync::Arc;
use std::time::Duration;

use crate::error::StoreErrorKind;
use crate::session::{ListPart, Loaded, Record, Scope, SessionEvent};

use crate::cluster::replica::message::{Message, OpId, UpdateStatus, ViewId};
use crate::cluster::replica::node::Node;
use crate::cluster::replica::outlook::Outlook;

/// An event that the replica handles.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Input {
    /// A message has arrived from a node that has identified itself as `from`, over a link on which
    /// this node has identified itself as incarnation `to`. Messages to an earlier incarnation do
    /// not count: they may have been buffered for as long as the process was stopped. The message
    /// had waited for `age` at its sender.
    Message {
        from: Node,
        to: u64,
        age: Duration,
        message: Message,
    },
    /// This node's link to `node` is up. Messages that were sent earlier and not reported as
    /// delivered may be lost.
    LinkUp { node: Node },
    /// A new link from `node` is up. Messages that `node` sent earlier may be lost.
    Accepted { node: Node },
    /// Messages of the data lane have reached `node`'s process, in the order in which they were
    /// sent: small ones, or one [large](Message::is_large) one. `bytes` is the sum of their
    /// [sizes](Message::size).
    Delivered {
        node: Node,
        bytes: usize,
        large: bool,
    },
    /// A credit from `node` has arrived while a large message is in flight to it. Reported at most
    /// every 100 ms.
    Progress { node: Node },
    /// Part of a large message has arrived from `node`. Reported at most every 100 ms.
    Arriving { node: Node },
    /// `node` has closed its link and its port refuses connections: the process is gone.
    Refused { node: Node },
    /// The state of the addresses at which other nodes may be has changed.
    Outlook(Outlook),
    /// Another process was seen under this node's name or address, in this incarnation number: an
    /// earlier incarnation of this node if its clock has been set back since.
    Seen { incarnation: u64 },
    /// A node that serves has this node's name.
    Rival { node: Node },
    /// The machine was paused, although its clock does not show it.
    Paused,
    /// The time that `poll_timeout` returned has come.
    Timeout,
    /// The widest scope of the subscriptions to events at this node has changed.
    Listen(Option<Scope>),
    /// Stop holding sessions and hand over those that are here; with `false`, cancel that.
    Drain(bool),
    /// Leave the cluster: nothing is written here any more.
    Leave,
}

/// An action for the driver.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    /// Send a message to `to`, if there is a link or one can be made; otherwise drop it.
    Send { to: Node, message: Message },
    /// A call has ended.
    Reply { op: OpId, reply: Reply },
    /// An event to report to operators.
    Notification(Notification),
    /// An event report for subscribers.
    Event(EventReport),
}

/// A report for subscribers to session events.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EventReport {
    /// An event that this node reports.
    Local(SessionEvent),
    /// The same, and subscribers with the scope of the cluster have received it from another node.
    LocalRepeat(SessionEvent),
    /// An event that a member has reported.
    Remote(SessionEvent),
    /// The number of events that a member could not send.
    Lost(u64),
    /// Whether all ready members have confirmed the subscription of this node.
    Confirmed(bool),
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// Read: the session, or that there is certainly none with the secret.
    Found(Loaded),
    /// Write: as many holders as the acknowledgement mode requires have it.
    Written,
    /// Write: timed out; some holders may have it.
    Indeterminate,
    /// The owner's decision, with the session after the change, or the unchanged one after a
    /// conflict.
    Updated(UpdateStatus, Option<Arc<Record>>),
    /// Read: no member has the session, but it may have been lost with failed nodes.
    Uncertain,
    /// List: what the other owners have, in this view.
    Listed(ViewId, ListPart),
    /// List: a member is of a version that cannot be asked.
    Unsupported,
    /// Timed out, or this node stopped serving; nothing was changed.
    Unavailable,
}

/// An event for operators.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Notification {
    /// A member was added.
    MemberUp(Node),
    /// A member has left or was declared down.
    MemberDown { node: Node, cause: DownCause },
    /// The members have changed, and copies of sessions are missing or not confirmed.
    CopyingBegins,
    /// All copies exist again.
    CopyingEnds { elapsed: Duration },
    /// A member that others reach does not reach this node: this node has declared it down.
    Unreachable(Node),
    /// A member answers, but receives no data: this node has declared it down.
    Stalled(Node),
    /// This node has started or stopped exceeding its limits, copies for other nodes included.
    OverLimit {
        is_over: bool,
        sessions: usize,
        bytes: usize,
    },
    /// This node serves sessions. With a `loss_window`, an unknown session is an error for that
    /// long, because a node that may have it does not answer.
    Ready { loss_window: Duration },
    /// This node is excluded from the cluster and does not serve.
    Excluded(Exclusion),
    /// Other members have repeatedly declared this node down although it runs: it stays out of the
    /// cluster for that long.
    Quarantined(Duration),
    /// This node was declared down, or was paused for so long that it may have been. It does not
    /// serve until it has joined in this new incarnation. All links must identify themselves again.
    Rejoining(Node),
}

/// Why a node is no longer a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DownCause {
    /// It has left in order.
    Left,
    /// This node has left it, in order to join in a new incarnation.
    Rejoining,
    /// A later incarnation of it is here.
    Restarted,
    /// It refuses connections: its process has ended.
    Refused,
    /// It has not answered the probes of the membership protocol.
    NoAnswer,
    /// Another member has declared it down.
    Reported,
    /// It does not reach this node.
    Unreachable,
    /// It answers, but receives no data.
    Stalled,
}

impl DownCause {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "it has left",
            Self::Rejoining => "this node joins again",
            Self::Restarted => "it was restarted",
            Self::Refused => "connection refused",
            Self::NoAnswer => "no answer to probes for 3 s",
            Self::Reported => "another member has declared it down",
            Self::Unreachable => "nothing arrives from it",
            Self::Stalled => "it receives no data",
        }
    }
}

/// Why a node is excluded from a cluster whose members it has met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exclusion {
    /// This older member has the same name.
    Name(Node),
    /// The cluster already has the maximum number of older members.
    Full,
}

/// The immediate result of starting a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Progress<T> {
    /// The call is complete.
    Ready(T),
    /// Wait for the [`Reply`] to this call; `Written` confirms the value.
    Pending(T),
    /// The call is rejected; nothing was changed.
    Rejected(StoreErrorKind),
}
