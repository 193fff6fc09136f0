//! [`Session`]: the handle, and the attributes that it reads and writes.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, MutexGuard};

use http::request::Parts;
use serde::de::DeserializeOwned;
use tracing::error;

use super::detached::Detached;
use super::update::Replacement;
use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::request_session::{MISSING_LAYER, RequestSession};
use crate::middleware::state::State;
use crate::session::{AttributeName, AttributeOf, Name, Storable, Value, is_reserved, json};

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
    pub(super) exchange: Arc<RequestSession>,
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
        let Some(exchange) = RequestSession::of(&parts.extensions) else {
            error!(message = MISSING_LAYER);
            return Err(SessionErrorKind::MissingLayer.into());
        };
        exchange.load(&parts.uri, &parts.headers).await?;
        Ok(Self::of(exchange))
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

    pub(super) fn writable_state(&self) -> Result<MutexGuard<'_, State>, SessionError> {
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
        let max_bytes = self.exchange.config().limits.attribute_bytes;
        json::encode(value, max_bytes)
            .map_err(|error| SessionError::from(error).with_attribute(name))
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

pub(crate) fn decode<T: DeserializeOwned>(
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
