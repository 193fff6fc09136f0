//! What a handler holds.

use std::convert::Infallible;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use http::request::Parts;
use serde::de::DeserializeOwned;
use tracing::error;

use super::attribute::{AttributeName, AttributeOf, Storable};
use super::complete::Complete;
use super::cookie::{IsSecure, Persistence};
use super::error::{SessionError, SessionErrorKind};
use super::layer::SessionLayer;
use super::remember;
use super::request_session::RequestSession;
use super::route::Route;
use super::state::{Found, State, Update};
use super::test_store::TestStore;
use super::timeout::Timeout;
use crate::session::{Name, Root, SessionId, Timestamp, UserKey, Value, json};

/// A visitor's session, as one request sees it.
///
/// Taking it in a handler awaits the store once; reading and writing do not. The first write makes
/// the session, and what was written is stored when the handler has returned, before the response
/// leaves. Clones share one session; requests of one session do not lock each other out.
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
/// # When the response has left
///
/// What a kept clone writes then could not be stored with the response: it is an error
/// ([`TooLate`](SessionErrorKind::TooLate)), not a loss. Streams, WebSockets and tasks take a
/// [`detached`](Self::detached) handle.
///
/// # When the session ends meanwhile
///
/// Another request may log the visitor out while this one runs. What this one wrote is dropped then,
/// and the client receives that error (409) in place of the handler's response. It says nothing about
/// cookies, so that it cannot undo what the other said. [`save`](Self::save),
/// [`update`](Self::update) and [`reload`](Self::reload) return the error to the handler
/// ([`Invalidated`](SessionErrorKind::Invalidated)). A request that has written nothing is answered as usual.
///
/// # When the session gets a new id meanwhile
///
/// Another request may call [`cycle_id`](Self::cycle_id) or [`log_in`](Self::log_in) while this one
/// runs. What this one writes is stored in the session: its id was valid when it took it. Its
/// response sets no cookie. After a login it has no session any more once it has stored or reloaded
/// something ([`Superseded`](SessionErrorKind::Superseded)): what the user's requests store is not
/// shown to it.
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
    /// The session of the request with this head, loaded on first demand: what the axum extractor
    /// calls, for every other framework.
    ///
    /// # Errors
    ///
    /// When the store fails, when the request has not passed a [`SessionLayer`], or when the
    /// response has left before anybody asked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing, but the access may be recorded already; the session is
    /// loaded when it is asked for again.
    pub async fn from_parts(parts: &Parts) -> Result<Self, SessionError> {
        let Some(exchange) = RequestSession::of(&parts.extensions) else {
            error!("{MISSING_LAYER}");
            return Err(SessionErrorKind::MissingLayer.into());
        };
        exchange.load(&parts.uri, &parts.headers).await?;
        Ok(Self::of(exchange))
    }

    /// A handle of a request's session.
    pub(super) const fn of(exchange: Arc<RequestSession>) -> Self {
        Self {
            exchange,
            detached: None,
        }
    }

    /// A new session in a store of its own, to call handlers with in their unit tests.
    #[must_use]
    pub fn for_test() -> Self {
        let exchange =
            RequestSession::new(SessionLayer::new(TestStore::default()).into_config(), None);
        let (found, secure) = (Found::None, IsSecure::default());
        exchange.state().load(found, secure, exchange.config());
        Self {
            exchange: Arc::new(exchange),
            detached: None,
        }
    }

    /// Reads an attribute; `None` when there is none of that name.
    ///
    /// # Errors
    ///
    /// When what is stored is not a `T`. The attribute stays as it is, and the others are readable.
    pub fn get<T: DeserializeOwned>(
        &self,
        name: impl AttributeOf<T>,
    ) -> Result<Option<T>, SessionError> {
        let name = name.as_name();
        let value = self.state().value(name).cloned();
        decode(name, value)
    }

    /// Writes an attribute. Where the store still holds what the request has loaded, writing the
    /// same bytes again changes nothing; if another request has written meanwhile, this write is the
    /// later one and counts.
    ///
    /// `&None` is a value like any other: the attribute is there and holds `null`, which
    /// [`get`](Self::get) reads as an `Option` only. To have no attribute, [`remove`](Self::remove) it.
    ///
    /// # Errors
    ///
    /// When the value cannot be encoded, is too large, or could not be stored any more. The session
    /// is then as it was.
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

    /// Removes an attribute. Says whether there was one.
    ///
    /// # Errors
    ///
    /// When that could not be stored any more.
    pub fn remove(&self, name: impl AttributeName) -> Result<bool, SessionError> {
        let name = name.as_name();
        not_reserved(name)?;
        let mut state = self.writable_state()?;
        let existed = state.value(name).is_some();
        state.write(name, None, self.exchange.config())?;
        Ok(existed)
    }

    /// Reads an attribute and removes it: a message that is shown once, for example.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get) and [`remove`](Self::remove); it is not removed then.
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

    /// Whether there is an attribute of that name.
    #[must_use]
    pub fn contains(&self, name: impl AttributeName) -> bool {
        self.state().value(name.as_name()).is_some()
    }

    /// The names of all attributes, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names = self.state().names();
        names.iter().map(|name| name.as_str().to_owned()).collect()
    }

    /// Removes all attributes; the session stays.
    ///
    /// # Errors
    ///
    /// When that could not be stored any more.
    pub fn clear(&self) -> Result<(), SessionError> {
        let mut state = self.writable_state()?;
        for name in state.names() {
            state.write(&name, None, self.exchange.config())?;
        }
        Ok(())
    }

    /// Replaces an attribute by what `f` makes of it, as one step: no other request, on whatever
    /// node, writes it in between. Returns what `f` made.
    ///
    /// The result is stored at once, with everything else that this request has written so far. If
    /// somebody else was faster, `f` is called again with what they have written; it should do
    /// nothing but compute.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), [`insert`](Self::insert) and [`save`](Self::save). The kind
    /// [`Conflict`](SessionErrorKind::Conflict) says that others were faster a few hundred times.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop a store call that is under way: the attribute is replaced as
    /// a whole or not at all.
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

    /// Like [`update`](Self::update), with a closure that may refuse. Its error changes nothing and
    /// comes back as it is.
    ///
    /// ```
    /// # async fn reserve(session: distributable::Session) -> Result<(), distributable::SessionError> {
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
        for tries in 0..UPDATE_TRIES_MAX {
            let (old, after) = {
                let state = self.writable_state()?;
                (state.value(&name).cloned(), state.stamp(&name))
            };
            let new = match f(decode(&name, old)?) {
                Ok(new) => new,
                Err(error) => return Ok(Err(error)),
            };
            let value = self.encode(&name, &new)?;
            self.state().admits(&name, &value, self.exchange.config())?;
            let name = name.clone();
            let update = Update { name, value, after };
            if self.commit(Some(update)).await? {
                return Ok(Ok(new));
            }
            give_way(tries).await;
        }
        Err(SessionError::from(SessionErrorKind::Conflict).with_attribute(&name))
    }

    /// Gives the session a new id; the former one is dead once the response has left. Call it whenever
    /// a visitor's rights change, unless [`log_in`](Self::log_in) does it: an id that an attacker has
    /// planted in the browser before is then worth nothing.
    ///
    /// For a minute requests with the former id, which the browser may have sent before the answer
    /// arrived, get no session, and an error ([`Superseded`](SessionErrorKind::Superseded)) if they
    /// write; their responses set no cookie. A request that has loaded the session before still
    /// writes to it. If the rotation fails without a certain outcome, it is taken back as soon as the
    /// store answers.
    ///
    /// A session that this request is making needs no other id, and keeps the one it has. Where there
    /// is none there is nothing to cycle: at login ask [`exists`](Self::exists) first, or write first
    /// who the visitor is.
    ///
    /// # Errors
    ///
    /// When there is no session, or when no cookie can be sent any more. The commit fails with
    /// [`Superseded`](SessionErrorKind::Superseded) if another request has rotated the id first.
    #[doc(alias = "changeSessionId")]
    #[doc(alias = "renew")]
    pub fn cycle_id(&self) -> Result<(), SessionError> {
        self.writable_state()?.cycle_id()
    }

    /// Logs a user in: gives the session a new id, binds it to the user and lets its absolute lifetime
    /// begin anew, all in one step with what the request writes. Without a session it makes one.
    ///
    /// `user` is the application's id of the user. The session keeps a one-way hash of it,
    /// [`user`](Self::user). A request that was sent with a former id of the session, such as the
    /// second press of a login button, makes a session of its own.
    ///
    /// # Errors
    ///
    /// When the session has ended meanwhile, or when no cookie can be sent any more. If another request
    /// has rotated the id first, the commit makes a session of its own, as for a former id.
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

    /// The same, with a label under which [`sessions_of`](crate::SessionStore::sessions_of) lists the
    /// session, a device for example. At most 256 bytes.
    ///
    /// # Errors
    ///
    /// As [`log_in`](Self::log_in), and when the label is too long.
    pub fn log_in_with_label(&self, user: &str, label: &str) -> Result<(), SessionError> {
        let (user, config) = (UserKey::of(user), self.exchange.config());
        self.state().log_in(user, Some(label), config)
    }

    /// Logs the user out: the same as [`invalidate`](Self::invalidate).
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn log_out(&self) -> Result<bool, SessionError> {
        self.invalidate().await
    }

    /// The user who is [logged in](Self::log_in).
    #[must_use]
    pub fn user(&self) -> Option<UserKey> {
        self.state().user()
    }

    /// Ends the session. Returns `true` if there was one; in a request with a former id there is none.
    /// With the defaults of every store it is dead on every node when this returns; with `Ack::Local`,
    /// `Ack::Copies` or a near-cache of Redis another node may answer from its copy for a moment
    /// longer.
    ///
    /// Everything that was written is dropped; what is written afterwards makes a new session. It
    /// may be called at any time: when the response has left, the browser keeps a cookie that opens
    /// nothing.
    ///
    /// # Errors
    ///
    /// When it is not certain that the session is dead everywhere. It counts as alive then.
    ///
    /// # Cancel safety
    ///
    /// Once it has been polled, the session is ended even when the future is dropped.
    #[doc(alias = "destroy")]
    #[doc(alias = "flush")]
    #[doc(alias = "logout")]
    pub async fn invalidate(&self) -> Result<bool, SessionError> {
        Complete::new(self.exchange.clone().end()).await
    }

    /// Stores what was written so far, without waiting for the end of the request.
    ///
    /// # Errors
    ///
    /// When the store fails or the session has ended meanwhile. After a failing store the changes
    /// are kept and go with the next attempt.
    ///
    /// # Cancel safety
    ///
    /// Once it has been polled, the changes are stored even when the future is dropped.
    pub async fn save(&self) -> Result<(), SessionError> {
        match self.commit(None).await? {
            true => Ok(()),
            false => Err(SessionErrorKind::Conflict.into()),
        }
    }

    /// Loads what other requests have stored meanwhile. What this one has written and not saved
    /// stays on top.
    ///
    /// # Errors
    ///
    /// When the store fails or the session has ended meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Once it has been polled, the session is loaded even when the future is dropped.
    pub async fn reload(&self) -> Result<(), SessionError> {
        Complete::new(self.exchange.clone().reload()).await
    }

    /// Records a use of the session now, once a tenth of the idle time (at most a minute) has passed
    /// since the one before. A request is a use by itself; this is for a [`detached`](Self::detached)
    /// handle that serves a stream or a WebSocket for long.
    ///
    /// # Errors
    ///
    /// When the store fails, or when the session has ended or expired
    /// ([`Invalidated`](SessionErrorKind::Invalidated)): what it serves should end then.
    ///
    /// # Cancel safety
    ///
    /// Once it has been polled, the use is recorded even when the future is dropped.
    pub async fn touch(&self) -> Result<(), SessionError> {
        Complete::new(self.exchange.clone().use_now()).await
    }

    /// The session's id, without a route. **Whoever has it has the session**: see
    /// [`key`](Self::key) for logs.
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        self.state().id()
    }

    /// The id with a route behind it, as the cookie has it. **A secret**, as the id is.
    #[must_use]
    pub fn routed_id(&self) -> Option<String> {
        let (id, key) = {
            let state = self.state();
            (state.id()?, state.key()?)
        };
        Some(super::route::join(&id, self.exchange.route(&key).as_ref()))
    }

    /// The route behind the dot of the cookie with which this request showed its session: the node
    /// that the balancer was to choose. [`routed_id`](Self::routed_id) has the one that a new cookie
    /// would carry.
    ///
    /// `None` when the request makes the session, or has none any more; when the cookie had no
    /// route; and when what it had can be no [`Route`]. A new id changes nothing about it. Where
    /// the browser sent the session's id several times, a cookie that names this node counts,
    /// otherwise the first that names one.
    ///
    /// It is what the client has sent: a valid name, but of any node or none. Compare it with names
    /// that you know; as an address or the label of a metric it would let clients choose.
    /// [`SessionLayer::misrouted_requests`] counts how often it names another node than this one.
    #[doc(alias = "getRequestedSessionId")]
    #[doc(alias = "sessionIdAttribute")]
    #[must_use]
    pub fn requested_route(&self) -> Option<Route> {
        self.state().requested_route()
    }

    /// The name under which stores and logs know the session. No secret.
    #[must_use]
    pub fn key(&self) -> Option<Root> {
        self.state().key()
    }

    /// Whether there is a session, or will be once what was written is stored.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.state().exists()
    }

    /// Whether the browser presented several live sessions, or more session cookies than are looked
    /// up (four). None of them is used then, because one may have been planted: this request has no
    /// session. The first write ends those that are live and makes a new session, and
    /// [`invalidate`](Self::invalidate) ends them as well; either clears the cookies that can be
    /// named. Two cookies come about when the cookie's domain is changed, or when two hosts of one
    /// domain set it.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.state().is_ambiguous()
    }

    /// Whether there is a session that the browser does not know yet: this request makes it.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.state().is_new()
    }

    /// When the session was made, as that node's clock said; `None` while it is not stored.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        Some(self.state().record()?.created_at())
    }

    /// The last access that was recorded before this request; `None` while the session is not
    /// stored.
    ///
    /// Accesses are recorded when a tenth of the idle time, at most a minute, has passed since the
    /// one before.
    #[must_use]
    pub fn last_accessed_at(&self) -> Option<Timestamp> {
        Some(self.state().record()?.last_accessed_at())
    }

    /// How long the session may pause between two requests; `None`: as long as it lives. It is what
    /// is in force: a first visit may pause for as long as the layer allows it, and a layer with a
    /// shorter idle time than the session was made with applies its own.
    #[must_use]
    pub fn max_inactive_interval(&self) -> Option<Duration> {
        self.state().max_inactive(self.exchange.config())
    }

    /// Sets how long this session may pause between two requests; `None`: as long as it lives. It
    /// comes before what the layer is configured with, also for a first visit. That alone makes no
    /// session: without one, it goes for the one that this request may make yet. More than 100 years
    /// are 100 years.
    ///
    /// # Errors
    ///
    /// When the time is less than a millisecond, or could not be stored any more.
    pub fn set_max_inactive_interval(&self, idle: Option<Duration>) -> Result<(), SessionError> {
        let idle = idle.map(Timeout::new);
        if idle.is_some_and(Timeout::is_zero) {
            return Err(SessionErrorKind::InvalidTimeout.into());
        }
        self.writable_state()?
            .set_max_inactive(idle.map(Timeout::get));
        Ok(())
    }

    /// Sets how long the browser keeps this session's cookie: "remember me". That alone makes no
    /// session: without one, it goes for the one that this request may make yet.
    ///
    /// The session remembers it: the cookie has the same age when it is sent again, with a new id or
    /// from another node, and a browser that keeps coming back gets a fresh one in time, so that it
    /// keeps the cookie for at least this long after its last visit. Setting an age, also the one that
    /// it has, sends a fresh cookie now. It does not make the session live longer; its idle and
    /// absolute lifetimes do.
    ///
    /// # Errors
    ///
    /// When the age is zero, or no cookie can be sent any more.
    pub fn set_persistence(&self, persistence: Persistence) -> Result<(), SessionError> {
        if persistence == Persistence::MaxAge(Duration::ZERO) {
            return Err(SessionErrorKind::InvalidTimeout.into());
        }
        self.writable_state()?
            .set_persistence(persistence, self.exchange.config())
    }

    /// A handle for what goes on after the response: a stream, a WebSocket, a task.
    ///
    /// It refers to the session, and not to the id: it goes on when another request changes that with
    /// [`cycle_id`](Self::cycle_id). When another request has [logged in](Self::log_in) a user since,
    /// the session is no longer this handle's, and it returns
    /// [`Superseded`](SessionErrorKind::Superseded): it may have been opened with an id that was
    /// planted before.
    ///
    /// Its writes after the response are kept until [`save`](Self::save) is called, as often as one
    /// likes, on it or one of its clones; [`update`](Self::update) saves by itself. What is not
    /// saved when the last of them is dropped is lost, and a warning says so. It can make no new
    /// session and no new id, because no cookie can be sent any more, and it holds nothing that
    /// other requests would wait for.
    ///
    /// Holding it is no use of the session: [`touch`](Self::touch) is, and returns an error once the
    /// session has ended.
    #[must_use]
    pub fn detached(&self) -> Self {
        self.state().detach();
        let new = || Arc::new(Detached(self.exchange.clone()));
        Self {
            exchange: self.exchange.clone(),
            detached: Some(self.detached.clone().unwrap_or_else(new)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.exchange.state()
    }

    fn writable_state(&self) -> Result<MutexGuard<'_, State>, SessionError> {
        let state = self.state();
        state.writable(self.detached.is_some())?;
        Ok(state)
    }

    fn encode<T: Storable + ?Sized>(&self, name: &str, value: &T) -> Result<Value, SessionError> {
        not_reserved(name)?;
        let max_bytes = self.exchange.config().limits.attribute_bytes;
        json::encode(value, max_bytes)
            .map_err(|error| SessionError::from(error).with_attribute(name))
    }

    fn commit(&self, update: Option<Update>) -> Complete<bool> {
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

/// What the detached handles of an exchange share.
struct Detached(Arc<RequestSession>);

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.warn_of_loss();
    }
}

fn decode<T: DeserializeOwned>(
    name: &str,
    value: Option<Value>,
) -> Result<Option<T>, SessionError> {
    let value = value.map(|value| json::decode(&value)).transpose();
    value.map_err(|error| SessionError::from(error).with_attribute(name))
}

fn not_reserved(name: &str) -> Result<(), SessionError> {
    if remember::is_reserved(name) {
        return Err(SessionError::from(SessionErrorKind::ReservedName).with_attribute(name));
    }
    Ok(())
}

/// Lets others go first after a conflict: at first for a moment, later for a random while, so that
/// whoever asks the session's owner from afar gets a turn between those who ask it at home.
async fn give_way(tries: usize) {
    let longest = (tries / TRIES_AT_ONCE).min(PAUSE_MS_MAX);
    // Its keys differ from one to the next, which is random enough to part those who collide.
    let random = RandomState::new().hash_one(tries) as usize;
    match random % (longest + 1) {
        0 => tokio::task::yield_now().await,
        ms => tokio::time::sleep(Duration::from_millis(ms as u64)).await,
    }
}

/// Names the version, because two versions of this crate in one program do not see each other.
pub(super) const MISSING_LAYER: &str = concat!(
    "a route takes a distributable::Session (version ",
    env!("CARGO_PKG_VERSION"),
    "), but its requests do not pass a distributable::SessionLayer of that version first. With axum, \
     call `.layer(SessionLayer::new(store))` on the router after the route, and after every layer \
     that takes the session: the layer that is added last runs first"
);

/// Tries before whoever lost again waits longer.
const TRIES_AT_ONCE: usize = 4;

/// The longest wait between two tries, in milliseconds: many times what an update takes.
const PAUSE_MS_MAX: usize = 8;

/// How often [`Session::update`] tries before it gives up. Each time somebody else has succeeded,
/// so this many others wrote one attribute of one session within the same moment.
const UPDATE_TRIES_MAX: usize = 256;
