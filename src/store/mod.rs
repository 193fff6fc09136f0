//! Session stores: the contract, and the builders, errors and states of the stores of this crate.
//!
//! A store holds [`Record`]s under the [`Root`]s of their ids and has four operations: [`load`],
//! [`commit`], [`touch`] and [`delete`]. It commits *changes*, not whole records, and commits them
//! conditionally. Therefore two requests can write different attributes concurrently, and a slow
//! request cannot revive a session that has ended. A store that can read and write in one step (a
//! lock, a transaction, a script) can use [`Changes::apply`], which implements the rule.
//!
//! [`Changes::apply`]: crate::session::Changes::apply
//! [`Record`]: crate::session::Record
//! [`Root`]: crate::Root
//! [`load`]: SessionStore::load
//! [`commit`]: SessionStore::commit
//! [`touch`]: SessionStore::touch
//! [`delete`]: SessionStore::delete

mod boxed;
pub(crate) mod erased;
#[cfg(all(feature = "snapshot", unix))]
pub(crate) mod export;
mod record_bytes;
pub(crate) mod session_store;
pub(crate) mod typed;
pub(crate) mod users;

#[cfg(feature = "memory")]
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "replicated")]
pub(crate) mod replicated;
#[cfg(all(feature = "snapshot", unix))]
pub(crate) mod snapshot;
#[cfg(feature = "testing")]
pub(crate) mod testing;

#[cfg(feature = "redis")]
pub use self::redis::{
    NearCacheStatus, PlainValues, RedisError, RedisErrorKind, RedisStoreBuilder,
};
#[cfg(feature = "replicated")]
pub use crate::cluster::{
    ClusterStatus, DrainReport, Member, MemberState, Multicast, RefusedNode,
    ReplicatedStoreBuilder, Secret,
};
pub use crate::watch::SessionWatch;
#[cfg(feature = "memory")]
pub use memory::{MemoryStatus, MemoryStoreBuilder};
pub(crate) use session_store::SessionStore;
#[cfg(all(feature = "snapshot", unix))]
pub use snapshot::{
    LoadReport, SaveReport, SnapshotError, SnapshotErrorKind, SnapshotStoreBuilder,
};
