//! [`SessionStore`]: the contract of every store.

use std::convert::Infallible;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::error::{SessionError, StoreError};
use crate::events::SessionEvents;
use crate::session::{
    AttributeOf, Changes, EndReason, Loaded, Name, Outcome, Record, Root, Scope, SecretHash,
    SessionCursor, SessionId, SessionInfo, SessionPage, Storable, UserKey,
};
use crate::store::{typed, users};
use crate::watch::SessionWatch;

/// A store of sessions.
///
/// # For implementers
///
/// - Every method *must* be safe to call from many tasks at once.
/// - Every method *must* treat a session for which [`Record::is_live`] returns `false` as absent,
///   whether or not it has been removed.
/// - Time *must* be [`Timestamp::now`](crate::session::Timestamp::now): the middleware compares a
///   record's points in time with it.
/// - A failure *must* be an error, never [`Loaded::Absent`] and never [`Outcome::Gone`]: these
///   assert that the session does not exist, and log the user out. Return `Err` when unsure.
/// - A root for which [`Root::is_index`] returns `true` names the list of a user's sessions. It is
///   loaded and committed like a session, but it is none: [`delete`](Self::delete) *must* leave it
///   and return `false`, and it *must not* be counted as a session.
/// - After [`delete`](Self::delete) has been acknowledged, the session *must not* come back, and
///   after a rotation its former secret must not become valid again, even if messages arrive late.
/// - The future of [`commit`](Self::commit) and [`delete`](Self::delete) runs to completion even if
///   the client disconnects: the middleware moves it to a task of its own.
///
/// The suite in `distributable::testing` (feature `testing`) checks a store against this contract,
/// and its documentation has a complete store to start from.
pub trait SessionStore: Send + Sync + 'static {
    /// Draws the id of a new session. Stores that place sessions choose the slot of its root.
    fn new_id(&self) -> SessionId {
        SessionId::generate()
    }

    /// Returns the session under `key`, as [`Record::loaded`] answers for the `secret` that a
    /// request presents; [`Loaded::Absent`] if there is certainly no live one.
    ///
    /// Without a secret, the secret is not checked: the caller is a request, or work that it has
    /// left running, that has presented the secret before.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot determine the answer.
    fn load(
        &self,
        key: &Root,
        secret: Option<&SecretHash>,
    ) -> impl Future<Output = Result<Loaded, StoreError>> + Send;

    /// Applies `changes` to the session under `key`, all of them or none, as defined by
    /// [`Changes::apply`]. `base` is the session as the request has loaded it; `None` if the
    /// changes create one.
    ///
    /// A commit counts as an access, unless the changes are
    /// [without one](Changes::without_access). It does not check the secret: the request has
    /// presented it when it loaded the session, and its writes are stored even if the id was
    /// rotated since.
    ///
    /// # Errors
    ///
    /// Fails if the changes are not stored as safely as this store promises. The kind
    /// [`Indeterminate`](crate::StoreErrorKind::Indeterminate) means that they may have taken
    /// effect; with every other kind nothing was changed.
    fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Records an access without changing attributes. Never creates a session; an absent session is
    /// not an error. Called when a request has loaded the session and an access is due, and
    /// repeatedly while a long request runs.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be reached.
    fn touch(&self, key: &Root) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes the session under `key` permanently. Returns `true` if a live session existed.
    ///
    /// # Errors
    ///
    /// Fails if the deletion is not certain on every node. Treat the session as still valid.
    fn delete(&self, key: &Root) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Deletes the session like [`delete`](Self::delete), with a `reason` for the event. The
    /// middleware calls this. Without it, the reason is [`EndReason::Admin`].
    ///
    /// The default calls [`delete`](Self::delete), for stores without [`events`](Self::events).
    ///
    /// # Errors
    ///
    /// As [`delete`](Self::delete).
    fn delete_because(
        &self,
        key: &Root,
        reason: EndReason,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        let _ = reason;
        self.delete(key)
    }

    /// Subscribes to the events of sessions: created, rotated, ended and expired. The
    /// [guide](crate::guide::operations) lists what a subscriber can rely on.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use distributable::{MemoryStore, Scope, SessionStore};
    ///
    /// # async fn watch(store: MemoryStore) -> Result<(), distributable::StoreError> {
    /// let mut events = store.events(Scope::Node)?;
    /// while let Some(event) = events.recv().await {
    ///     match event {
    ///         Ok(event) => println!("{} {:?}", event.key, event.kind),
    ///         Err(lagged) => eprintln!("{lagged}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::StoreErrorKind::Unsupported) when the store reports none, as the
    /// default does.
    fn events(&self, scope: Scope) -> Result<SessionEvents, StoreError> {
        let _ = scope;
        Err(StoreError::unsupported())
    }

    /// Returns a page of the live sessions, for administration: at most `limit` of them (at most
    /// [`SessionPage::LIMIT_MAX`]), after the page that has returned `after`. With `RedisStore`
    /// there may be some more, because the server returns its keys in groups.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use distributable::{MemoryStore, Scope, SessionStore};
    ///
    /// # async fn count(store: MemoryStore) -> Result<usize, distributable::StoreError> {
    /// let (mut sessions, mut after) = (0, None);
    /// loop {
    ///     let page = store.list(Scope::Node, after.as_ref(), 500).await?;
    ///     sessions += page.sessions.len();
    ///     match page.next {
    ///         Some(next) => after = Some(next),
    ///         None => return Ok(sessions),
    ///     }
    /// }
    /// # }
    /// # }
    /// ```
    ///
    /// Sessions may come and go between two pages. A session that lives from the first page to the
    /// last is listed exactly once; with `RedisStore` at least once, and possibly several times. On
    /// a `ReplicatedStore` this holds for [`Scope::Cluster`], and for [`Scope::Node`] while
    /// no node joins or leaves.
    ///
    /// On a node that does not keep all sessions, as with [`Copies::Count`](crate::Copies), the
    /// list of the cluster is assembled from the nodes that own them: each node returns what the
    /// owner of a session has. When nodes join, leave or fail between two pages or during one, a
    /// session that lives throughout is still listed exactly once, and the cursor is valid at every
    /// node. A page that has to wait for such a change fails after
    /// [`ack_timeout`](crate::store::ReplicatedStoreBuilder::ack_timeout).
    ///
    /// Reading the list does not count as a use of the sessions. It locks one slot of the sessions
    /// at a time, and the time of a page depends on its limit.
    ///
    /// # Errors
    ///
    /// - [`InvalidCursor`](crate::StoreErrorKind::InvalidCursor) if `after` is not a cursor of this
    ///   store, or if the servers of Redis have changed or restarted since: start again.
    /// - [`NotReady`](crate::StoreErrorKind::NotReady) while a node of a cluster catches up, and
    ///   [`Unavailable`](crate::StoreErrorKind::Unavailable) while sessions may have been lost with
    ///   failed nodes, or if a node does not answer in time: try again with the same cursor. No
    ///   session is left out because of a failure.
    /// - [`Unsupported`](crate::StoreErrorKind::Unsupported) by default, and for
    ///   `Scope::Cluster` with `Copies::Count` while a node of an earlier version is part of it.
    fn list(
        &self,
        scope: Scope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<SessionPage, StoreError>> + Send {
        let _ = (scope, after, limit);
        async { Err(StoreError::unsupported()) }
    }

    /// Watches the session under `key`, so that [`Session::changed`](crate::Session::changed) need
    /// not wait for its next look. `None` if this store does not wake tasks, or too many wait.
    ///
    /// The watch *must* begin before this returns: a change that a later [`load`](Self::load) does
    /// not return yet must wake the task. A store that wraps another passes this on.
    fn watch(&self, key: &Root) -> Option<SessionWatch> {
        let _ = key;
        None
    }

    /// Returns the route of the node that should serve this session, if the store knows a better
    /// one than the node that has just served it. Used with `Affinity::Owner`.
    fn route(&self, key: &Root) -> Option<String> {
        let _ = key;
        None
    }

    /// Returns `true` while nodes are missing that may hold sessions which this node cannot see.
    /// [`end_user`](Self::end_user) then records the end of an unknown user's sessions as well.
    fn is_divided(&self) -> bool {
        false
    }

    /// Returns the live sessions of a user who has [logged in](crate::Session::log_in), the latest
    /// login first, for example for a list of devices.
    ///
    /// It contains every session whose login was answered before the call. Reading it does not
    /// count as a use of the sessions.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot determine the list.
    fn sessions_of(
        &self,
        user: impl Into<UserKey> + Send,
    ) -> impl Future<Output = Result<Vec<SessionInfo>, StoreError>> + Send
    where
        Self: Sized,
    {
        users::sessions_of(self, user.into())
    }

    /// Deletes all sessions of a user: "log out everywhere". Returns their number.
    ///
    /// When this returns, every session whose login was answered before the call is permanently
    /// invalid on every node; the near-cache of Redis may return it for a moment longer. A session
    /// whose login is concurrent with the call is deleted as well, or it is in the list afterward
    /// and the next call deletes it. In a partition each side deletes the sessions that it can see,
    /// and those of the other side are deleted when the partition heals.
    ///
    /// # Errors
    ///
    /// Fails if not all deletions are certain. Call it again then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some sessions may be deleted and others not.
    fn end_user(
        &self,
        user: impl Into<UserKey> + Send,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send
    where
        Self: Sized,
    {
        users::end_user(self, user.into(), None)
    }

    /// Like [`end_user`](Self::end_user), but keeps one session: "log out everywhere else".
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

    /// Returns the session under `key` as it is, for administration and background jobs. This does
    /// not count as a use of the session.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use distributable::{MemoryStore, Root, SessionStore};
    ///
    /// # async fn look(store: MemoryStore, key: Root) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Some(session) = store.peek(&key).await? {
    ///     let cart = session.get_typed::<Vec<u32>>("cart")?;
    ///     println!("created at {:?}, cart {cart:?}", session.created_at());
    /// }
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails if the store cannot determine the answer.
    fn peek(
        &self,
        key: &Root,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send
    where
        Self: Sized,
    {
        async {
            if key.is_index() {
                return Ok(None);
            }
            Ok(self.load(key, None).await?.into_live())
        }
    }

    /// Replaces an attribute of the session under `key` by the result of `f`, atomically, for work
    /// without a request: a webhook, a job. Returns the new value, or `None` if there is no live
    /// session; none is created.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use distributable::{Attribute, MemoryStore, Root, SessionError, SessionStore};
    ///
    /// const PAID: Attribute<Vec<u64>> = Attribute::new("paid");
    ///
    /// /// Called by the payment service; the order was stored with the key of its session.
    /// async fn order_paid(store: MemoryStore, key: Root, order: u64) -> Result<(), SessionError> {
    ///     let add = |paid: Option<Vec<u64>>| [paid.unwrap_or_default(), vec![order]].concat();
    ///     match store.update(&key, PAID, add).await? {
    ///         Some(paid) => println!("the session has {} paid orders", paid.len()),
    ///         None => println!("the visitor's session has ended"),
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// ```
    ///
    /// As with [`Session::update`](crate::Session::update), no other request or job on any node
    /// writes the attribute in between, and `f` is called again if one was first, so it should have
    /// no side effects. Requests that run read the new value when they load the session again;
    /// [`Session::changed`](crate::Session::changed) waits for it.
    ///
    /// This does not count as a use of the session, which expires when it would have. The size
    /// limits of the store apply; the [`Limits`](crate::Limits) of a layer do not.
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be [decoded](crate::SessionErrorKind::Decode) or
    /// [encoded](crate::SessionErrorKind::Encode), if the name is
    /// [reserved](crate::SessionErrorKind::ReservedName), if others were faster in a thousand
    /// attempts ([`Conflict`](crate::SessionErrorKind::Conflict)), or if the store fails. After
    /// [`Indeterminate`](crate::StoreErrorKind::Indeterminate) the attribute may have been
    /// replaced; after every other error it was not.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the attribute may have been replaced, as a whole, or not at all.
    fn update<T>(
        &self,
        key: &Root,
        name: impl AttributeOf<T>,
        mut f: impl FnMut(Option<T>) -> T + Send,
    ) -> impl Future<Output = Result<Option<T>, SessionError>> + Send
    where
        Self: Sized,
        T: Storable + DeserializeOwned + Send,
    {
        let (key, name) = (*key, Name::from(name.as_name()));
        async move {
            let updated = typed::update(self, key, name, |old| Ok::<_, Infallible>(f(old)));
            let Ok(new) = updated.await?;
            Ok(new)
        }
    }

    /// Like [`update`](Self::update), with a closure that may decline. Its error leaves the
    /// attribute unchanged and is returned as it is.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    ///
    /// # Cancel safety
    ///
    /// As [`update`](Self::update).
    fn try_update<T, E>(
        &self,
        key: &Root,
        name: impl AttributeOf<T>,
        f: impl FnMut(Option<T>) -> Result<T, E> + Send,
    ) -> impl Future<Output = Result<Result<Option<T>, E>, SessionError>> + Send
    where
        Self: Sized,
        T: Storable + DeserializeOwned + Send,
        E: Send,
    {
        typed::update(self, *key, Name::from(name.as_name()), f)
    }
}
