//! Sessions in the memory of several nodes.
//!
//! Every node keeps every session, or a number of nodes each one's. A node that keeps it reads it
//! without asking anybody; a write is acknowledged when all the others that keep it have it.
//!
//! ```text
//!           store/replicated: load · commit · touch · end
//!              │ calls                        ▲ replies
//!   ┌──────────▼──────────────────────────────┴──┐
//!   │ replica    the protocol, without IO        │
//!   └──────────▲──────────────────────────────┬──┘
//!        Input │                              │ Output::{Send, Reply, Notification}
//!   ┌──────────┴──────────────────────────────▼──┐
//!   │ driver     call → drain → outboxes, waiters│   the only code that waits
//!   └──────────▲──────────────────────────────┬──┘
//!      Message │                              │ Message
//!   ┌──────────┴──────────────────────────────▼──┐
//!   │ wire       Message ⇄ bytes                 │   versions, limits
//!   │ link       bytes ⇄ TLS ⇄ TCP               │   dial, introduce, lanes, credit, reconnect
//!   └──────────▲─────────────────────────────────┘
//!              │ addresses
//!   ┌──────────┴─────────────────────────────────┐
//!   │ discover   names, multicast                │   candidates for dialling, no more
//!   └────────────────────────────────────────────┘
//! ```

mod builder;
mod discover;
mod door;
mod driver;
mod handle;
mod large_writes;
mod link;
mod outlook;
mod pending_calls;
mod rejections;
pub(crate) mod replica;
mod secret;
mod sightings;
#[cfg(test)]
mod sim;
mod start_error;
mod status;
mod wire;

use std::num::NonZeroU8;

pub use builder::ReplicatedStoreBuilder;
pub use discover::Multicast;
pub(crate) use handle::Cluster;
#[cfg(all(feature = "snapshot", unix))]
pub(crate) use replica::{
    entry::Entry,
    held::{HeldState, Survivor},
    message::KeyedEntry,
};
pub use secret::{Secret, SecretError, SecretErrorKind};
pub use start_error::{StartError, StartErrorKind};
pub use status::{ClusterStatus, DrainReport, Member, MemberState, RefusedNode};

/// How many nodes keep a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(
    clippy::exhaustive_enums,
    reason = "there is no third way to say how many"
)]
pub enum Copies {
    /// Every node keeps every session: reading never asks anybody, each write goes to all. For a
    /// handful of nodes. Tomcat's `DeltaManager` does the same.
    #[default]
    All,
    /// This many nodes keep a session, all of them where there are no more: it survives the death
    /// of all but one of them. Which ones follows from the session's id and the names of the nodes
    /// (rendezvous hashing); the others ask them. A node that comes or goes moves its share of the
    /// sessions and no more. Tomcat's `BackupManager`, WebLogic and JEUS keep 2.
    Count(NonZeroU8),
}

/// What has to happen before a write counts as acknowledged, and the response may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(
    clippy::exhaustive_enums,
    reason = "all, some and only myself: there is no fourth way"
)]
pub enum Ack {
    /// Every live holder of the session has it: a read through any node sees it, and it survives
    /// as long as one of them does.
    #[default]
    All,
    /// This many nodes have it, the writing one included (fewer where fewer are alive); the rest
    /// follow.
    Copies(NonZeroU8),
    /// The writing node has it; the others follow, and may answer from what they had before for a
    /// moment. Its sudden death loses what had not been sent.
    Local,
}
