//! The handle through which a handler reads and changes its session.
//!
//! [`Session`] is cheap to clone and refers to the state that its request shares. It reads and
//! writes the loaded session without waiting; the store is called when the session is loaded and
//! when it is committed. This module decides neither when a response commits nor which headers it
//! carries.

mod attributes;
mod identity;
mod lifetime;
mod login;
mod update;

use std::fmt;
use std::sync::{Arc, MutexGuard};

use http::request::Parts;
use tracing::error;

pub(super) use self::attributes::decode;
use super::carrier::Answer;
use super::complete::Complete;
use super::config::Config;
use super::layer::SessionLayer;
use super::request_session::RequestSession;
use super::state::{Found, State, Update};
use super::test_store::TestStore;
use crate::error::{SessionError, SessionErrorKind};

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

    fn writable_state(&self) -> Result<MutexGuard<'_, State>, SessionError> {
        let state = self.state();
        state.writable(self.detached.is_some())?;
        Ok(state)
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

/// State shared by the detached handles of an exchange.
struct Detached(Arc<RequestSession>);

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.warn_of_loss();
    }
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
