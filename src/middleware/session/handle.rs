//! [`Session`]: the handle, and the attributes that it reads and writes.

use std::fmt;
use std::sync::{Arc, MutexGuard};

use http::request::Parts;
use serde::de::DeserializeOwned;
use tracing::error;

use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::request::{MISSING_LAYER, RequestSession};
use crate::middleware::session::detached::Detached;
use crate::middleware::state::SessionState;
use crate::session::{AttributeName, AttributeOf, Storable, Value, codec, is_reserved};

/// A visitor's session, as seen by one request.
///
/// Extracting it awaits the store once; reading and writing do not. The first write creates the
/// session. Clones share one session. Requests of one session do not block each other.
///
/// [`insert`](Self::insert), [`remove`](Self::remove), [`log_in`](Self::log_in),
/// [`cycle_id`](Self::cycle_id) and the other writes that do not wait are *staged*: they are stored
/// together when the handler has returned, before the response is sent. [`save`](Self::save),
/// [`update`](Self::update), [`invalidate`](Self::invalidate) and [`log_out`](Self::log_out) take
/// effect at once, and a later error of the request does not undo them.
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
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # #[cfg(feature = "testing")]
/// # assert_eq!(runtime.block_on(add(Session::for_test())).unwrap(), "1 in the cart");
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
/// session was loaded. Its response sets no cookie. After a login of another user, the next call
/// that stores or reloads something takes the session away from this request
/// ([`Superseded`](SessionErrorKind::Superseded)): data that the user's requests store is not shown
/// to it. If the same user has logged in again, this request is one of that user's and keeps the
/// session.
#[derive(Clone)]
pub struct Session {
    pub(super) request: Arc<RequestSession>,
    pub(super) detached: Option<Arc<Detached>>,
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
    /// Fails if the store fails, if the request has not passed a
    /// [`SessionLayer`](crate::SessionLayer), or if the response was sent before the session was
    /// first requested.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing, except that the access may already be recorded; the
    /// next call loads the session again.
    pub async fn from_parts(parts: &Parts) -> Result<Self, SessionError> {
        let Some(request) = RequestSession::of(&parts.extensions) else {
            error!(message = MISSING_LAYER);
            return Err(SessionErrorKind::MissingLayer.into());
        };
        request.load(&parts.uri, &parts.headers).await?;
        Ok(Self::of(request))
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

    /// Writes an attribute. Writing the same bytes again stores nothing, unless another request has
    /// changed the attribute since; then this write wins.
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
        state.write(name, Some(value), self.request.config())
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
        state.write(name, None, self.request.config())?;
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
            state.write(&name, None, self.request.config())?;
        }
        Ok(())
    }

    /// Returns a handle for work that continues after the response: a stream, a WebSocket, a task.
    ///
    /// It refers to the session and not to the id: it stays valid when another request changes the
    /// id with [`cycle_id`](Self::cycle_id), or when its user [logs in](Self::log_in) again. If
    /// another request has logged in another user since, the handle loses the session and returns
    /// [`Superseded`](crate::SessionErrorKind::Superseded), because it may have been opened with an
    /// id that was planted before. To end every handle of a user, end the session with
    /// [`log_out`](Self::log_out) or [`end_user`](crate::SessionStore::end_user).
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
        let new = || Arc::new(Detached::of(self.request.clone()));
        Self {
            request: self.request.clone(),
            detached: Some(self.detached.clone().unwrap_or_else(new)),
        }
    }

    pub(super) fn writable_state(&self) -> Result<MutexGuard<'_, SessionState>, SessionError> {
        let state = self.state();
        state.writable(self.detached.is_some())?;
        Ok(state)
    }

    pub(crate) fn encode<T: Storable + ?Sized>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<Value, SessionError> {
        not_reserved(name)?;
        let max_bytes = self.request.config().limits.attribute_bytes;
        codec::encode(value, max_bytes)
            .map_err(|error| SessionError::from(error).with_attribute(name))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("key", &self.state().key())
            .field("detached", &self.detached.is_some())
            .finish_non_exhaustive()
    }
}

pub(crate) fn decode<T: DeserializeOwned>(
    name: &str,
    value: Option<Value>,
) -> Result<Option<T>, SessionError> {
    let value = value.map(|value| codec::decode(&value)).transpose();
    value.map_err(|error| SessionError::from(error).with_attribute(name))
}

pub(super) fn not_reserved(name: &str) -> Result<(), SessionError> {
    if is_reserved(name) {
        return Err(SessionError::from(SessionErrorKind::ReservedName).with_attribute(name));
    }
    Ok(())
}
