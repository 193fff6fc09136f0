//! Where sessions live: the contract that every store keeps, and the stores.
//!
//! A store holds [`Record`]s under the [`Root`]s of their ids and answers four questions: [`load`], [`commit`],
//! [`touch`] and [`end`]. It commits *changes*, not whole records, and it commits them
//! conditionally: that is what lets two requests write different attributes at once, and keeps a
//! slow request from reviving a session that has ended. Whoever can look and write in one step (a
//! lock, a transaction, a script) has the rule ready made in [`Changes::apply`].
//!
//! [`load`]: SessionStore::load
//! [`commit`]: SessionStore::commit
//! [`touch`]: SessionStore::touch
//! [`end`]: SessionStore::end

pub(crate) mod erased;
pub(crate) mod users;

use std::sync::Arc;

use crate::error::StoreError;
use crate::session::{
    Changes, Loaded, Outcome, Record, Root, SecretHash, SessionId, SessionInfo, UserKey,
};

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
pub use self::redis::{NearCacheStatus, RedisError, RedisErrorKind, RedisStore, RedisStoreBuilder};
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
#[cfg(all(feature = "snapshot", unix))]
pub use snapshot::{
    LoadReport, SaveReport, SnapshotError, SnapshotErrorKind, SnapshotStore, SnapshotStoreBuilder,
};

/// Where sessions live.
///
/// # For implementers
///
/// - Every method *must* be safe to call from many tasks at once.
/// - A session whose [`Record::is_live`] says no *must* be treated as absent by every method, swept
///   or not.
/// - Time *must* be [`now`]: the middleware compares a record's points in time with it.
/// - A failure *must* be an error, never `None` and never [`Outcome::Gone`]: those mean that there
///   certainly is no such session, and log the user out.
/// - After [`end`](Self::end) has been acknowledged, the session *must* stay dead, and after a
///   rotation its former secret, whatever arrives late.
/// - The future of [`commit`](Self::commit) and [`end`](Self::end) runs to completion even when the
///   client disconnects: the middleware gives it a task of its own.
///
/// The suite in `distributable::testing` (feature `testing`) holds a store to this, and its
/// documentation has a complete store to start from.
pub trait SessionStore: Send + Sync + 'static {
    /// Draws the id of a new session. Stores that place sessions choose the slot of its root.
    fn new_id(&self) -> SessionId {
        SessionId::generate()
    }

    /// The session under `key`, as [`Record::loaded`] answers for the `secret` that a request
    /// presents; [`Loaded::Absent`] when there certainly is none that is live.
    ///
    /// Without a secret the session is given to whoever asks for it: a request, or what it has left
    /// behind, that has presented the secret before.
    ///
    /// # Errors
    ///
    /// When the store cannot tell.
    fn load(
        &self,
        key: &Root,
        secret: Option<&SecretHash>,
    ) -> impl Future<Output = Result<Loaded, StoreError>> + Send;

    /// Applies `changes` to the session under `key`, all of them or none, as
    /// [`Changes::apply`] defines. `base` is the session as the request has loaded it; `None` when
    /// the changes create one.
    ///
    /// A commit counts as an access. It does not ask for the secret: the request has presented it
    /// when it loaded the session, and what it writes lands there also when the id was rotated since.
    ///
    /// # Errors
    ///
    /// When the changes are not stored as safely as this store promises. The kind
    /// [`Indeterminate`](crate::StoreErrorKind::Indeterminate) says that they may have taken
    /// effect; with every other kind nothing was changed.
    fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Records an access without changing attributes. Never creates; an absent session is no error.
    /// Called when a request has loaded the session and an access is due, and again while it runs
    /// for long.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    fn touch(&self, key: &Root) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends the session under `key` for ever. Says whether there was a live one.
    ///
    /// # Errors
    ///
    /// When it is not certain that the session is dead on every node.
    fn end(&self, key: &Root) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The route of the node that should serve this session, where the store knows a better one
    /// than the node that has just served it. Used with `Affinity::Owner`.
    fn route(&self, key: &Root) -> Option<String> {
        let _ = key;
        None
    }

    /// The live sessions of a user who has [logged in](crate::Session::log_in), the latest login
    /// first: what "my devices" shows.
    ///
    /// It has every session whose login was answered before the call. Reading the list is no use of
    /// the sessions in it.
    ///
    /// # Errors
    ///
    /// When the store cannot tell.
    fn sessions_of(
        &self,
        user: impl Into<UserKey> + Send,
    ) -> impl Future<Output = Result<Vec<SessionInfo>, StoreError>> + Send
    where
        Self: Sized,
    {
        users::sessions_of(self, user.into())
    }

    /// Ends all sessions of a user: "log out everywhere". Returns how many there were.
    ///
    /// When this returns, every session whose login was answered before the call is dead on every
    /// node, for good. A login that is concurrent with the call is ended as well, or its session is
    /// in the list afterwards and the next call ends it. In a partition each side ends the sessions
    /// that it can see, and those of the other side are ended when the sides meet.
    ///
    /// # Errors
    ///
    /// When it is not certain that all of them are dead. Call it again then.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped some sessions may be ended and others not.
    fn end_user(
        &self,
        user: impl Into<UserKey> + Send,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send
    where
        Self: Sized,
    {
        users::end_user(self, user.into(), None)
    }

    /// The same, but for one session: "log out everywhere else".
    ///
    /// # Errors
    ///
    /// As [`end_user`](Self::end_user).
    fn end_user_except(
        &self,
        user: impl Into<UserKey> + Send,
        kept: Root,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send
    where
        Self: Sized,
    {
        users::end_user(self, user.into(), Some(kept))
    }

    /// The session under `key` as it is, for administration and background jobs. Looking is no use of
    /// the session.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// # use distributable::session::Root;
    /// use distributable::{MemoryStore, SessionStore};
    ///
    /// # async fn look(store: MemoryStore, key: Root) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Some(session) = store.peek(&key).await? {
    ///     let cart: Option<Vec<u32>> = session.get("cart").map(|v| v.decode()).transpose()?;
    ///     println!("created at {:?}, cart {cart:?}", session.created_at());
    /// }
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot tell.
    fn peek(
        &self,
        key: &Root,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send
    where
        Self: Sized,
    {
        async {
            let record = self.load(key, None).await?.into_live();
            Ok(record.filter(|record| !record.is_index()))
        }
    }
}
