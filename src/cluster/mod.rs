//! Sessions in the memory of several nodes.
//!
//! Each session is kept by all nodes or by a configured number of them. A holder reads it without
//! asking another node; a write is acknowledged when all other holders have it.
//!
//! ```text
//!           store/replicated: load · commit · touch · delete
//!              │ calls                        ▲ replies
//!   ┌──────────▼──────────────────────────────┴──┐
//!   │ replica    the protocol, without I/O       │
//!   └──────────▲──────────────────────────────┬──┘
//!        Input │                              │ Output::{Send, Reply, Notification, Event}
//!   ┌──────────┴──────────────────────────────▼──┐
//!   │ driver     call → outputs → queues, waiters│   the only way into the replica
//!   └──────────▲──────────────────────────────┬──┘
//!      Message │                              │ Message
//!   ┌──────────┴──────────────────────────────▼──┐
//!   │ wire       Message ⇄ bytes                 │   versions, limits
//!   │ transport  bytes ⇄ TLS ⇄ TCP               │   dial, handshake, lanes, credit, reconnect
//!   └──────────▲─────────────────────────────────┘
//!              │ addresses
//!   ┌──────────┴─────────────────────────────────┐
//!   │ discovery  names, multicast                │   candidates to dial, no more
//!   └────────────────────────────────────────────┘
//! ```

mod ack;
mod admission;
mod builder;
mod copies;
mod discovery;
mod driver;
mod handle;
mod large_writes;
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
mod throttle;
mod transport;
mod wire;

pub use ack::Ack;
pub use builder::ReplicatedStoreBuilder;
pub use copies::Copies;
pub use discovery::Multicast;
pub(crate) use handle::ClusterHandle;
#[cfg(all(feature = "snapshot", unix))]
pub(crate) use replica::{
    entry::Entry,
    message::KeyedEntry,
    withheld::{SurvivingMember, WithheldState},
};
pub use secret::Secret;
pub use status::{ClusterStatus, DrainReport, Member, MemberState, RefusedNode};
