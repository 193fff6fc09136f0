//! The handle through which a handler reads and changes its session.
//!
//! [`Session`] is cheap to clone and refers to the state that its request shares. It reads and
//! writes the loaded session without waiting; the store is called when the session is loaded and
//! when it is committed. This module decides neither when a response commits nor which headers it
//! carries.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use http::request::Parts;
use serde::de::DeserializeOwned;
use tracing::error;

use super::carrier::Answer;
use super::complete::Complete;
use super::cookie::Persistence;
use super::layer::{Config, SessionLayer};
use super::request_session::RequestSession;
use super::route::Route;
use super::state::{Found, State, Update};
use super::test_store::TestStore;
use super::timeout::Timeout;
use super::update::Replacement;
use crate::error::{SessionError, SessionErrorKind};
use crate::session::{
    AttributeName, AttributeOf, Name, Root, SessionId, Storable, Timestamp, UserKey, Value,
    is_reserved, json,
};

/// A visitor's session, as seen by one request.
///
/// Extracting it awaits the store once; reading and writing do not. The first write creates the
/// session. Writes are stored when the handler has returned, before the response is sent. Clones
/// share one session. Requests of one session do not block each other.
///
/// ```
/// use distributable::{Attribute, Session, SessionError};
///
/// const CART: Attribute<Vec<String>> = Attribute::new("cart");
///
/// async fn add(session: Session) -> Result<String, SessionError> {
///     let mut cart = session.get(CART)?.unwrap_or_default();
///     cart.push("tea".to_owned());
///     session.insert(CART, &cart)?;
///     Ok(format!("{} in the cart", cart.len()))
/// }
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// assert_eq!(add(Session::for_test()).await?, "1 in the cart");
/// # Ok::<(), SessionError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # After the response is sent
///
/// A write through a clone that outlives the response cannot be stored with it: it returns an error
/// ([`TooLate`](SessionErrorKind::TooLate)) and is never lost silently. Streams, WebSockets and
/// tasks use a [`detached`](Self::detached) handle.
///
/// # If the session ends concurrently
///
/// Another request may log the visitor out while this one runs. The writes of this request are then
/// dropped, and the client receives that error (409) instead of the handler's response. The error
/// response sets no cookie, so it cannot undo the removal that the other response has sent.
/// [`save`](Self::save), [`update`](Self::update) and [`reload`](Self::reload) return the error to
/// the handler ([`Invalidated`](SessionErrorKind::Invalidated)). A request that has written nothing
/// receives its handler's response as usual.
///
/// # If the session id changes concurrently
///
/// Another request may call [`cycle_id`](Self::cycle_id) or [`log_in`](Self::log_in) while this one
/// runs. The writes of this request are stored in the session, because its id was valid when the
/// session was loaded. Its response sets no cookie. After a login, the next call that stores or
/// reloads something takes the session away from this request
/// ([`Superseded`](SessionErrorKind::Superseded)): data that the user's requests store is not shown
/// to it.
#[derive(Clone)]
pub struct Session {
    exchange: Arc<RequestSession>,
    detached: Option<Arc<Detached>>,
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a name is a `&str`, a `&CONSTANT` or a `String`; callers should not have to borrow twice"
)]
impl Session {
    /// Returns the session of the request with this head, and loads it on the first call. The axum
    /// extractor calls this; other frameworks can call it directly.
    ///
    /// # Errors
    ///
    /// Fails if the store fails, if the request has not passed a [`SessionLayer`], or if the
    /// response was sent before the session was first requested.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing, except that the access may already be recorded; the
    /// next call loads the session again.
    pub async fn from_parts(parts: &Parts) -> Result<Self, SessionError> {
        let Some(exchange) = RequestSession::of(&parts.extensions) else {
            error!(message = MISSING_LAYER);
            return Err(SessionErrorKind::MissingLayer.into());
        };
        exchange.load(&parts.uri, &parts.headers).await?;
        Ok(Self::of(exchange))
    }

    pub(super) fn config(&self) -> &Config {
        self.exchange.config()
    }

    /// A handle of a request's session.
    pub(super) const fn of(exchange: Arc<RequestSession>) -> Self {
        Self {
            exchange,
            detached: None,
        }
    }

    /// Creates a new session in a store of its own, for unit tests of handlers.
    #[must_use]
    pub fn for_test() -> Self {
        let exchange =
            RequestSession::new(SessionLayer::new(TestStore::default()).into_config(), None);
        let answer = Answer::default();
        exchange
            .state()
            .load(Found::None, answer, exchange.config());
        Self {
            exchange: Arc::new(exchange),
            detached: None,
        }
    }

    /// Reads an attribute. Returns `None` if there is none of that name.
    ///
    /// # Errors
    ///
    /// Fails if the stored value is not a `T`. The attribute stays as it is, and the others stay
    /// readable.
    pub fn get<T: DeserializeOwned>(
        &self,
        name: impl AttributeOf<T>,
    ) -> Result<Option<T>, SessionError> {
        let name = name.as_name();
        let value = self.state().value(name).cloned();
        decode(name, value)
    }

    /// Writes an attribute. Writing the bytes that the attribute has already is no change, as long
    /// as the store still holds what the request has loaded; if another request has written
    /// meanwhile, this write is the later one and wins.
    ///
    /// `&None` is a value like any other: the attribute exists and holds `null`, which only
    /// [`get`](Self::get) with an `Option` type can read. To delete the attribute, use
    /// [`remove`](Self::remove).
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be encoded, is too large, or can no longer be stored. The session
    /// is then unchanged.
    pub fn insert<T: Storable + ?Sized>(
        &self,
        name: impl AttributeOf<T>,
        value: &T,
    ) -> Result<(), SessionError> {
        let name = name.as_name();
        let value = self.encode(name, value)?;
        let mut state = self.writable_state()?;
        state.write(name, Some(value), self.exchange.config())
    }

    /// Removes an attribute. Returns `true` if it existed.
    ///
    /// # Errors
    ///
    /// Fails if the removal can no longer be stored.
    pub fn remove(&self, name: impl AttributeName) -> Result<bool, SessionError> {
        let name = name.as_name();
        not_reserved(name)?;
        let mut state = self.writable_state()?;
        let existed = state.value(name).is_some();
        state.write(name, None, self.exchange.config())?;
        Ok(existed)
    }

    /// Reads an attribute and removes it, for example a message that is shown once.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get) and [`remove`](Self::remove); the attribute is then not removed.
    pub fn take<T: DeserializeOwned>(
        &self,
        name: impl AttributeOf<T>,
    ) -> Result<Option<T>, SessionError> {
        let name = name.as_name();
        let value = decode(name, self.state().value(name).cloned())?;
        if value.is_some() {
            self.remove(name)?;
        }
        Ok(value)
    }

    /// Returns `true` if there is an attribute of that name.
    #[must_use]
    pub fn contains(&self, name: impl AttributeName) -> bool {
        self.state().value(name.as_name()).is_some()
    }

    /// Returns the names of all attributes, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names = self.state().names();
        names.iter().map(|name| name.as_str().to_owned()).collect()
    }

    /// Removes all attributes. The session itself stays.
    ///
    /// # Errors
    ///
    /// Fails if the removal can no longer be stored.
    pub fn clear(&self) -> Result<(), SessionError> {
        let mut state = self.writable_state()?;
        for name in state.names() {
            state.write(&name, None, self.exchange.config())?;
        }
        Ok(())
    }

    /// Replaces an attribute by the result of `f`, atomically: no other request on any node writes
    /// the attribute in between. Returns the new value.
    ///
    /// The result is stored at once, together with everything that this request has written so far.
    /// If another request has written the attribute first, `f` is called again with the newer
    /// value, so `f` should have no side effects.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), [`insert`](Self::insert) and [`save`](Self::save). Returns
    /// [`Conflict`](SessionErrorKind::Conflict) if other requests were faster in a thousand
    /// attempts.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop a store call in progress: the attribute is replaced as a
    /// whole or not at all.
    pub async fn update<T>(
        &self,
        name: impl AttributeOf<T>,
        mut f: impl FnMut(Option<T>) -> T + Send,
    ) -> Result<T, SessionError>
    where
        T: Storable + DeserializeOwned + Send,
    {
        let never = self.try_update(name, |old| Ok::<_, Infallible>(f(old)));
        let Ok(new) = never.await?;
        Ok(new)
    }

    /// Like [`update`](Self::update), with a closure that may fail. Its error leaves the attribute
    /// unchanged and is returned as it is.
    ///
    /// ```
    /// # use distributable::{Session, SessionError};
    /// # async fn reserve(session: Session) -> Result<(), SessionError> {
    /// let seats = session
    ///     .try_update("seats", |seats: Option<u32>| match seats.unwrap_or(0) {
    ///         4.. => Err("no more than four"),
    ///         seats => Ok(seats + 1),
    ///     })
    ///     .await?;
    /// # let _: Result<u32, &str> = seats;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    ///
    /// # Cancel safety
    ///
    /// As [`update`](Self::update).
    pub async fn try_update<T, E>(
        &self,
        name: impl AttributeOf<T>,
        mut f: impl FnMut(Option<T>) -> Result<T, E> + Send,
    ) -> Result<Result<T, E>, SessionError>
    where
        T: Storable + DeserializeOwned + Send,
        E: Send,
    {
        let name = Name::from(name.as_name());
        self.replace(&name, |old| {
            Ok(match f(decode(&name, old)?) {
                Ok(new) => (Replacement::Value(self.encode(&name, &new)?), Ok(new)),
                Err(error) => (Replacement::None, Err(error)),
            })
        })
        .await
    }

    /// Changes an attribute in place, atomically as [`update`](Self::update) does, and returns what
    /// the closure returns.
    ///
    /// The closure is given the attribute's value, or `None` if there is none. The attribute is
    /// written if the closure has changed it, and removed if the closure leaves `None` in place of
    /// a value. If nothing has changed, nothing is stored and no session is created.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// use distributable::{Attribute, Session};
    ///
    /// const TICKETS: Attribute<Vec<u32>> = Attribute::new("tickets");
    ///
    /// let session = Session::for_test();
    /// session.insert(TICKETS, &vec![7, 8])?;
    /// let ticket = session.update_with(TICKETS, |tickets| tickets.as_mut()?.pop()).await?;
    /// assert_eq!(ticket, Some(8));
    /// assert_eq!(session.get(TICKETS)?, Some(vec![7]));
    /// # Ok::<(), distributable::SessionError>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    ///
    /// # Cancel safety
    ///
    /// As [`update`](Self::update).
    pub async fn update_with<T, R>(
        &self,
        name: impl AttributeOf<T>,
        mut f: impl FnMut(&mut Option<T>) -> R + Send,
    ) -> Result<R, SessionError>
    where
        T: Storable + DeserializeOwned + Send,
        R: Send,
    {
        let name = Name::from(name.as_name());
        self.replace(&name, |old| {
            let mut value = decode(&name, old.clone())?;
            let returned = f(&mut value);
            let new = value.map(|value| self.encode(&name, &value)).transpose()?;
            let replacement = match new {
                new if new == old => Replacement::None,
                Some(new) => Replacement::Value(new),
                None => Replacement::Removal,
            };
            Ok((replacement, returned))
        })
        .await
    }

    /// Rotates the session id. The former id is rejected as soon as the response is sent. Call this
    /// whenever a visitor's privileges change, unless [`log_in`](Self::log_in) does it: an id that
    /// an attacker has planted in the browser (session fixation) is worthless afterwards.
    ///
    /// For one minute, requests with the former id, which the browser may have sent before the
    /// response arrived, get no session, and an error
    /// ([`Superseded`](SessionErrorKind::Superseded)) if they write; their responses set no cookie.
    /// A request that has loaded the session before the rotation can still write to it. If the
    /// rotation fails without a certain outcome, it is taken back as soon as the store answers.
    ///
    /// Does nothing for a session that this request creates: it keeps its new id. Returns
    /// [`NoSession`](SessionErrorKind::NoSession) if there is no session: at login, check
    /// [`exists`](Self::exists) first, or insert an attribute first.
    ///
    /// # Errors
    ///
    /// Fails if there is no session, or if a cookie can no longer be sent. The commit fails with
    /// [`Superseded`](SessionErrorKind::Superseded) if another request has rotated the id first.
    #[doc(alias = "changeSessionId")]
    #[doc(alias = "renew")]
    pub fn cycle_id(&self) -> Result<(), SessionError> {
        self.writable_state()?.cycle_id()
    }

    /// Logs a user in: rotates the session id, binds the session to the user and restarts its
    /// absolute lifetime, in one step with the writes of this request. Creates a session if there
    /// is none.
    ///
    /// `user` is the application's id of the user. The session stores a one-way hash of it, which
    /// [`user`](Self::user) returns. A request that was sent with a former id of the session, such
    /// as the second press of a login button, creates a session of its own.
    ///
    /// # Errors
    ///
    /// Fails if the session has ended meanwhile, or if a cookie can no longer be sent. If another
    /// request has rotated the id first, the commit creates a separate session, as for a former id.
    ///
    /// ```
    /// # use distributable::{Session, UserKey};
    /// # let session = Session::for_test();
    /// session.log_in("ada@example.com")?;
    /// assert_eq!(session.user(), Some(UserKey::of("ada@example.com")));
    /// # Ok::<(), distributable::SessionError>(())
    /// ```
    pub fn log_in(&self, user: &str) -> Result<(), SessionError> {
        let (user, config) = (UserKey::of(user), self.exchange.config());
        self.state().log_in(user, None, config)
    }

    /// Like [`log_in`](Self::log_in), with a label of at most 256 bytes, for example the device.
    /// [`sessions_of`](crate::SessionStore::sessions_of) lists the session under it.
    ///
    /// # Errors
    ///
    /// As [`log_in`](Self::log_in), and if the label is too long.
    pub fn log_in_with_label(&self, user: &str, label: &str) -> Result<(), SessionError> {
        let (user, config) = (UserKey::of(user), self.exchange.config());
        self.state().log_in(user, Some(label), config)
    }

    /// Logs the user out. Equivalent to [`invalidate`](Self::invalidate).
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn log_out(&self) -> Result<bool, SessionError> {
        self.invalidate().await
    }

    /// Returns the user who is [logged in](Self::log_in).
    #[must_use]
    pub fn user(&self) -> Option<UserKey> {
        self.state().user()
    }

    /// Deletes the session. Returns `true` if there was one; a request with a former id has none.
    /// With the default settings of every store, no node accepts the session once this returns;
    /// with `Ack::Local`, `Ack::Copies` or the near-cache of Redis, another node may answer from
    /// its copy for a moment longer.
    ///
    /// Unsaved writes are dropped; later writes create a new session. This may be called at any
    /// time. After the response is sent the cookie can no longer be removed; the browser keeps one
    /// that is not valid.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot confirm the deletion. Treat the session as still valid.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled, the deletion continues even if the future is dropped.
    #[doc(alias = "destroy")]
    #[doc(alias = "flush")]
    #[doc(alias = "logout")]
    pub async fn invalidate(&self) -> Result<bool, SessionError> {
        Complete::new(self.exchange.clone().end()).await
    }

    /// Stores all writes so far, without waiting for the end of the request.
    ///
    /// # Errors
    ///
    /// Fails if the store fails or the session has ended meanwhile. If the store fails, the changes
    /// are kept and included in the next attempt.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled, the changes are stored even if the future is dropped.
    pub async fn save(&self) -> Result<(), SessionError> {
        match self.commit(None).await? {
            true => Ok(()),
            false => Err(SessionErrorKind::Conflict.into()),
        }
    }

    /// Loads what other requests have stored meanwhile. Unsaved writes of this request stay in
    /// place on top of it.
    ///
    /// # Errors
    ///
    /// Fails if the store fails or the session has ended meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled, the session is loaded even if the future is dropped.
    pub async fn reload(&self) -> Result<(), SessionError> {
        Complete::new(self.exchange.clone().reload()).await
    }

    /// Waits until another request has written the session or given it another id, and loads it, as
    /// [`reload`](Self::reload) does. For a [`detached`](Self::detached) handle that serves a
    /// stream or a WebSocket.
    ///
    /// A change is noticed at once on a memory store, and on a replicated store where this node
    /// holds the session or makes the change itself. On other stores and nodes it is noticed up to
    /// a second later, when the store is asked again. Changes that follow each other may be noticed
    /// as one. What was changed since this handle has last loaded, saved or waited counts, what it
    /// has saved itself does not. Waiting is no use of the session.
    ///
    /// # Errors
    ///
    /// When the session has ended or expired ([`Invalidated`](SessionErrorKind::Invalidated)), when
    /// another request has logged in a user ([`Superseded`](SessionErrorKind::Superseded)), when
    /// there is no session that is stored, and when the store fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no change.
    pub async fn changed(&self) -> Result<(), SessionError> {
        self.exchange.changed().await
    }

    /// Records a use of the session now, if a tenth of the idle timeout (at most a minute) has
    /// passed since the last recorded use. Every request is a use already; this is for a
    /// [`detached`](Self::detached) handle of a long-lived stream or WebSocket.
    ///
    /// # Errors
    ///
    /// Fails if the store fails, or if the session has ended or expired
    /// ([`Invalidated`](SessionErrorKind::Invalidated)): end the stream or WebSocket then.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled, the use is recorded even if the future is dropped.
    pub async fn touch(&self) -> Result<(), SessionError> {
        Complete::new(self.exchange.clone().use_now()).await
    }

    /// Returns the session id, without a route. **Anyone who has it can use the session**: log
    /// [`key`](Self::key) instead.
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        self.state().id()
    }

    /// Returns the id with the route behind it, as in the cookie. **A secret**, as the id is.
    #[must_use]
    pub fn routed_id(&self) -> Option<String> {
        let (id, key) = {
            let state = self.state();
            (state.id()?, state.key()?)
        };
        Some(super::route::join(&id, self.exchange.route(&key).as_ref()))
    }

    /// Returns the route suffix of the session cookie that was sent with this request: the node
    /// that the balancer should have chosen. [`routed_id`](Self::routed_id) has the route that a
    /// new cookie would carry.
    ///
    /// Returns `None` if this request creates the session or no longer has one, if the cookie had
    /// no route, and if the text in its place is not a valid [`Route`]. A rotation of the id does
    /// not change it. If the browser sent the id in several cookies, a cookie that names this node
    /// takes precedence, then the first one that names a node.
    ///
    /// The value is supplied by the client: syntactically valid, but the name of any node or of
    /// none. Compare it with known names; do not use it as an address or as a metric label.
    /// [`SessionLayer::misrouted_requests`] counts how often it names a node other than this one.
    #[doc(alias = "getRequestedSessionId")]
    #[doc(alias = "sessionIdAttribute")]
    #[must_use]
    pub fn requested_route(&self) -> Option<Route> {
        self.state().requested_route()
    }

    /// Returns the name under which stores and logs refer to the session. It is not a secret.
    #[must_use]
    pub fn key(&self) -> Option<Root> {
        self.state().key()
    }

    /// Returns `true` if there is a session, or if the commit of the writes so far will create one.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.state().exists()
    }

    /// Returns `true` if the browser presented several live sessions, or more session cookies than
    /// are looked up (four). None of them is used, because one may have been planted: this request
    /// has no session. The first write deletes those that are live and creates a new session;
    /// [`invalidate`](Self::invalidate) deletes them as well. Both remove the cookies whose scope
    /// is known. Duplicate cookies arise when the cookie's domain is changed in the configuration,
    /// or when two hosts of one domain set the cookie.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.state().is_ambiguous()
    }

    /// Returns `true` if this request creates the session, so that the browser has no cookie for it
    /// yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.state().is_new()
    }

    /// Returns the creation time by the clock of the creating node; `None` while the session is not
    /// stored.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        Some(self.state().record()?.created_at())
    }

    /// Returns the time of the last access recorded before this request; `None` while the session
    /// is not stored.
    ///
    /// An access is recorded if a tenth of the idle timeout (at most a minute) has passed since the
    /// last recorded one.
    #[must_use]
    pub fn last_accessed_at(&self) -> Option<Timestamp> {
        Some(self.state().record()?.last_accessed_at())
    }

    /// Returns the idle timeout in force; `None` if the session has no idle timeout. A session
    /// whose browser has not returned the cookie yet has the layer's initial idle timeout. A layer
    /// whose idle timeout is shorter than the one that the session was created with applies its
    /// own.
    #[doc(alias = "max_inactive_interval")]
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.state().idle_timeout(self.exchange.config())
    }

    /// Sets the idle timeout of this session; `None` for no idle timeout. It takes precedence over
    /// the layer's timeouts, including the initial one. This alone creates no session:
    /// without one, the setting applies to the session that this request may still create. Values
    /// above 100 years count as 100 years.
    ///
    /// # Errors
    ///
    /// Fails if the time is less than a millisecond, or if the change can no longer be stored.
    #[doc(alias = "set_max_inactive_interval")]
    pub fn set_idle_timeout(&self, idle: Option<Duration>) -> Result<(), SessionError> {
        let idle = idle.map(Timeout::new);
        if idle.is_some_and(Timeout::is_zero) {
            return Err(SessionErrorKind::InvalidTimeout.into());
        }
        self.writable_state()?
            .set_idle_timeout(idle.map(Timeout::get));
        Ok(())
    }

    /// Sets how long the browser keeps the cookie of this session: "remember me". This alone
    /// creates no session: without one, the setting applies to the session that this request may
    /// still create.
    ///
    /// The setting is stored in the session: the cookie has the same age whenever it is sent again,
    /// with a new id or from another node. A browser that keeps returning receives a fresh cookie
    /// in time, so it keeps the cookie for at least this long after its last visit. Setting an age
    /// sends a fresh cookie now, even if the age is unchanged. It does not extend the session; the
    /// idle and absolute timeouts apply as before.
    ///
    /// # Errors
    ///
    /// Fails if the age is zero, or if a cookie can no longer be sent.
    pub fn set_persistence(&self, persistence: Persistence) -> Result<(), SessionError> {
        if persistence == Persistence::MaxAge(Duration::ZERO) {
            return Err(SessionErrorKind::InvalidTimeout.into());
        }
        self.writable_state()?
            .set_persistence(persistence, self.exchange.config())
    }

    /// Returns a handle for work that continues after the response: a stream, a WebSocket, a task.
    ///
    /// It refers to the session and not to the id: it stays valid when another request changes the
    /// id with [`cycle_id`](Self::cycle_id). If another request has [logged in](Self::log_in) a
    /// user since, the handle loses the session and returns
    /// [`Superseded`](SessionErrorKind::Superseded), because it may have been opened with an id
    /// that was planted before.
    ///
    /// Its writes after the response are kept until [`save`](Self::save) is called, any number of
    /// times, on it or on one of its clones; [`update`](Self::update) saves by itself. Writes that
    /// are not saved when the last clone is dropped are lost, and a warning is logged. It cannot
    /// create a session or rotate the id, because no cookie can be sent any more. It holds no lock
    /// that other requests wait for.
    ///
    /// Holding the handle does not count as a use of the session; [`touch`](Self::touch) does, and
    /// returns an error once the session has ended.
    #[must_use]
    pub fn detached(&self) -> Self {
        self.state().detach();
        let new = || Arc::new(Detached(self.exchange.clone()));
        Self {
            exchange: self.exchange.clone(),
            detached: Some(self.detached.clone().unwrap_or_else(new)),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.exchange.state()
    }

    pub(super) fn writable_state(&self) -> Result<MutexGuard<'_, State>, SessionError> {
        let state = self.state();
        state.writable(self.detached.is_some())?;
        Ok(state)
    }

    pub(super) fn encode<T: Storable + ?Sized>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<Value, SessionError> {
        not_reserved(name)?;
        let max_bytes = self.exchange.config().limits.attribute_bytes;
        json::encode(value, max_bytes)
            .map_err(|error| SessionError::from(error).with_attribute(name))
    }

    pub(super) fn commit(&self, update: Option<Update>) -> Complete<bool> {
        Complete::new(self.exchange.clone().commit(update, false))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("key", &self.key())
            .field("detached", &self.detached.is_some())
            .finish_non_exhaustive()
    }
}

/// State shared by the detached handles of an exchange.
struct Detached(Arc<RequestSession>);

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.warn_of_loss();
    }
}

pub(super) fn decode<T: DeserializeOwned>(
    name: &str,
    value: Option<Value>,
) -> Result<Option<T>, SessionError> {
    let value = value.map(|value| json::decode(&value)).transpose();
    value.map_err(|error| SessionError::from(error).with_attribute(name))
}

pub(super) fn not_reserved(name: &str) -> Result<(), SessionError> {
    if is_reserved(name) {
        return Err(SessionError::from(SessionErrorKind::ReservedName).with_attribute(name));
    }
    Ok(())
}

/// Includes the version, because two versions of this crate in one program do not share sessions.
pub(super) const MISSING_LAYER: &str = concat!(
    "a route takes a distributable::Session (version ",
    env!("CARGO_PKG_VERSION"),
    "), but its requests do not pass a distributable::SessionLayer of that version first. With axum, \
     call `.layer(SessionLayer::new(store))` on the router after the route, and after every layer \
     that takes the session: the layer that is added last runs first. In a tower::ServiceBuilder, \
     call it before the layers that take the session: there, the layer that is added first runs \
     first. A layer in between must keep the request's extensions"
);
