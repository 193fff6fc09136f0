//! Session stores: the contract that every store implements, and the stores of this crate.
//!
//! A store holds [`Record`]s under the [`Root`]s of their ids and has four operations: [`load`],
//! [`commit`], [`touch`] and [`end`]. It commits *changes*, not whole records, and commits them
//! conditionally. Therefore two requests can write different attributes concurrently, and a slow
//! request cannot revive a session that has ended. A store that can read and write in one step (a
//! lock, a transaction, a script) can use [`Changes::apply`], which implements the rule.
//!
//! [`Record`]: crate::session::Record
//! [`Root`]: crate::session::Root
//! [`Changes::apply`]: crate::session::Changes::apply
//! [`load`]: SessionStore::load
//! [`commit`]: SessionStore::commit
//! [`touch`]: SessionStore::touch
//! [`end`]: SessionStore::delete

pub(crate) mod erased;
mod record_bytes;
mod session_store;
pub(crate) mod typed;
pub(crate) mod users;

#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "replicated")]
mod replicated;
#[cfg(all(feature = "snapshot", unix))]
mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "redis")]
pub use self::redis::{
    NearCacheStatus, PlainValues, RedisError, RedisErrorKind, RedisStore, RedisStoreBuilder,
};
pub use crate::clock::now;
#[cfg(feature = "replicated")]
pub use crate::cluster::{
    ClusterStatus, DrainReport, Member, MemberState, Multicast, RefusedNode,
    ReplicatedStoreBuilder, Secret, SecretError, SecretErrorKind, StartError, StartErrorKind,
};
#[cfg(feature = "memory")]
pub use memory::{MemoryStatus, MemoryStore, MemoryStoreBuilder};
#[cfg(feature = "replicated")]
pub use replicated::ReplicatedStore;
pub use session_store::SessionStore;
#[cfg(all(feature = "snapshot", unix))]
pub use snapshot::{
    LoadReport, SaveReport, SnapshotError, SnapshotErrorKind, SnapshotStore, SnapshotStoreBuilder,
};
