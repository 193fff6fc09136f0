//! What goes into a replica, and what comes out.

use std::sync::Arc;
use std::time::Duration;

use crate::error::StoreErrorKind;
use crate::session::{Loaded, Record};

use super::message::{Message, OpId, UpdateStatus};
use super::node::Node;
use super::readiness::Outlook;

/// Something that happened to this node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Input {
    /// A message has come from a node that has introduced itself as `from`, over a link at which
    /// this node has introduced itself as generation `to`. What was said to a former life does not
    /// count: it may have lain in a buffer for as long as the process was stopped. It has waited
    /// for `age` at its sender after it was made.
    Message {
        from: Node,
        to: u64,
        age: Duration,
        message: Message,
    },
    /// This node's link to `node` is up. Messages that were sent to it before and not reported as
    /// delivered may be lost.
    LinkUp { node: Node },
    /// A new link from `node` is up. Messages that `node` sent before may be lost.
    Accepted { node: Node },
    /// Messages of the data lane have reached `node`'s process, in the order in which they were
    /// sent: small ones, or a [large](Message::is_large) one. `bytes` is the sum of their
    /// [sizes](Message::size).
    Delivered {
        node: Node,
        bytes: usize,
        large: bool,
    },
    /// Part of a large message has reached `node`, or has come from it. Reported at most every 100
    /// ms.
    Progress { node: Node },
    /// `node` has closed its link and its port refuses a new one: the process is gone.
    Refused { node: Node },
    /// What dialing shows of the addresses at which other nodes may be has changed.
    Outlook(Outlook),
    /// Another process has been seen under this node's name or address, in this generation: an
    /// earlier incarnation of this node, if its clock has been set back since.
    Seen { generation: u64 },
    /// This node serves sessions, and has this node's name.
    Rival { node: Node },
    /// The machine was paused, although its clock does not show it.
    Paused,
    /// The time that `poll_timeout` named has come.
    Timeout,
    /// Stop holding sessions, and hand over what is here; or, with `false`, take that back.
    Drain(bool),
    /// Leave the cluster: nothing more will be written here.
    Leave,
}

/// Something for the driver to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    /// Send this to `to`, if there is or can be a link; otherwise drop it.
    Send { to: Node, message: Message },
    /// A call has ended.
    Reply { op: OpId, reply: Reply },
    /// Something that operators want to know.
    Notification(Notification),
}

/// How a call has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// A read: this is the session, or there certainly is none with the secret.
    Found(Loaded),
    /// A write: as many holders as the acknowledgement asks for have it.
    Written,
    /// A write: time ran out; some holders may have it.
    Indeterminate,
    /// What the session's owner has decided; the session with the change, or after a conflict as it
    /// stands.
    Updated(UpdateStatus, Option<Arc<Record>>),
    /// A read: nobody has the session, but it may have been lost with the nodes that had it.
    Uncertain,
    /// Time ran out, or this node stopped serving; nothing was changed.
    Unavailable,
}

/// What operators want to know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Notification {
    /// A member was added.
    Joined(Node),
    /// A member left or was declared down.
    Left(Node),
    /// A member is alive for others, but nothing is heard from it here: this node has declared it
    /// down.
    Deaf(Node),
    /// A member answers, but data that was sent to it does not arrive: this node has declared it
    /// down.
    Stalled(Node),
    /// This node holds more than its limits, copies for others included, or does not any more.
    OverLimit {
        is_over: bool,
        sessions: usize,
        bytes: usize,
    },
    /// This node serves sessions from now on; with `doubt`, an unknown session is an error
    /// meanwhile, because a node that may have it does not answer.
    Ready { doubt: Duration },
    /// This node has no place in the cluster, and does not serve.
    Excluded(Exclusion),
    /// Others have declared this node down again and again although it runs: it stays away for a
    /// while.
    Away(Duration),
    /// This node was declared down by others, or was stopped for so long that it may have been. It
    /// does not serve until it has joined under this new identity. All links must introduce
    /// themselves anew.
    Reborn(Node),
}

/// Why a node has no place in a cluster whose members it has met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exclusion {
    /// This member has the same name, and is older.
    Name(Node),
    /// The cluster has as many older members as there can be.
    Full,
}

/// How a call begins: with its result, or with what to wait for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step<T> {
    /// The result.
    Done(T),
    /// Wait for the `Reply` of this call; `Written` confirms the value.
    Wait(T),
    /// Refused; nothing was changed.
    Refused(StoreErrorKind),
}
