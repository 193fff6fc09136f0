//! Sessions in the memory of several nodes.
//!
//! Each session is kept by all nodes or by a configured number of them. A holder reads it without
//! asking another node; a write is acknowledged when all other holders have it.
//!
//! ```text
//!           store/replicated: load · commit · touch · delete
//!              │ calls                        ▲ replies
//!   ┌──────────▼──────────────────────────────┴──┐
//!   │ replica    the protocol, without IO        │
//!   └──────────▲──────────────────────────────┬──┘
//!        Input │                              │ Output::{Send, Reply, Notification, Event}
//!   ┌──────────┴──────────────────────────────▼──┐
//!   │ driver     call → drain → queues, waiters  │   the only way into the replica
//!   └──────────▲──────────────────────────────┬──┘
//!      Message │                              │ Message
//!   ┌──────────┴──────────────────────────────▼──┐
//!   │ wire       Message ⇄ bytes                 │   versions, limits
//!   │ link       bytes ⇄ TLS ⇄ TCP               │   dial, handshake, lanes, credit, reconnect
//!   └──────────▲─────────────────────────────────┘
//!              │ addresses
//!   ┌──────────┴─────────────────────────────────┐
//!   │ discover   names, multicast                │   candidates to dial, no more
//!   └────────────────────────────────────────────┘
//! ```

mod builder;
mod discover;
mod door;
mod driver;
mod handle;
mod large_writes;
mod link;
mod listing;
mod outlook;
mod pending_calls;
mod rejections;
pub(crate) mod replica;
mod report;
mod runtime;
mod secret;
mod sightings;
#[cfg(test)]
mod sim;
mod status;
mod wire;

use std::num::NonZeroU8;

use crate::error::{SetupError, SetupErrorKind};

pub use builder::ReplicatedStoreBuilder;
pub use discover::Multicast;
pub(crate) use handle::Cluster;
#[cfg(all(feature = "snapshot", unix))]
pub(crate) use replica::{
    entry::Entry,
    message::KeyedEntry,
    withheld::{Survivor, WithheldState},
};
pub use secret::Secret;
pub use status::{ClusterStatus, DrainReport, Member, MemberState, RefusedNode};

/// The number of nodes that keep each session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(
    clippy::exhaustive_enums,
    reason = "there is no third way to say how many"
)]
pub enum Copies {
    /// Every node keeps every session: reads need no other node, and each write goes to all nodes.
    /// For a handful of nodes. Corresponds to Tomcat's `DeltaManager`.
    #[default]
    All,
    /// This many nodes keep each session, or all nodes if there are fewer. The session survives the
    /// failure of all but one of them. The holders are computed from the session's id and the names
    /// of the nodes (rendezvous hashing); the other nodes ask them. When a node joins or leaves,
    /// only its share of the sessions moves. Tomcat's `BackupManager`, WebLogic and JEUS keep 2.
    Count(NonZeroU8),
}

impl Copies {
    /// This many nodes keep a session: [`Copies::Count`] from a plain number.
    ///
    /// ```
    /// use distributable::Copies;
    ///
    /// let copies = Copies::count(2)?;
    /// assert!(Copies::count(0).is_err());
    /// # Ok::<(), distributable::SetupError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When it is 0, or more than 255.
    pub fn count(nodes: usize) -> Result<Self, SetupError> {
        let count = u8::try_from(nodes).ok().and_then(NonZeroU8::new);
        count.map(Self::Count).ok_or_else(|| {
            SetupError::new(
                SetupErrorKind::Copies,
                "a session is kept by 1 to 255 nodes",
            )
        })
    }
}

/// The condition under which a write is acknowledged and the response is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(
    clippy::exhaustive_enums,
    reason = "all, some and only myself: there is no fourth way"
)]
pub enum Ack {
    /// Every live holder of the session has it: a read through any node returns it, and it survives
    /// as long as one of them does.
    #[default]
    All,
    /// This many nodes have it, including the writing one (fewer if fewer are alive); the other
    /// holders follow.
    Copies(NonZeroU8),
    /// The writing node has it; the other holders follow, and may serve the previous value for a
    /// moment. If the node fails suddenly, writes that had not been sent are lost.
    Local,
}
