//! The atomic update of one attribute: [`Session::update`] and its variants.
//!
//! An attribute is read, a new value is computed from it, and the commit expects that the attribute
//! has not been written since. If it has, everything is repeated with the newer value.

use std::convert::Infallible;

use serde::de::DeserializeOwned;

use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::session::handle::{Session, decode, not_reserved};
use crate::middleware::state::AttributeUpdate;
use crate::session::{AttributeOf, Name, Storable, Value};
use crate::store::typed::{UPDATE_TRIES_MAX, backoff};

impl Session {
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
    /// use distributable::{Attribute, Session, SessionError};
    ///
    /// const TICKETS: Attribute<Vec<u32>> = Attribute::new("tickets");
    ///
    /// async fn draw(session: Session) -> Result<(), SessionError> {
    ///     session.insert(TICKETS, &vec![7, 8])?;
    ///     let ticket = session.update_with(TICKETS, |tickets| tickets.as_mut()?.pop()).await?;
    ///     assert_eq!(ticket, Some(8));
    ///     assert_eq!(session.get(TICKETS)?, Some(vec![7]));
    ///     Ok(())
    /// }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # #[cfg(feature = "testing")]
    /// # runtime.block_on(draw(Session::for_test())).unwrap();
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

    /// Replaces an attribute by what `f` makes of its value, atomically, and returns what `f`
    /// returns beside it.
    async fn replace<R>(
        &self,
        name: &Name,
        mut f: impl FnMut(Option<Value>) -> Result<(Replacement, R), SessionError> + Send,
    ) -> Result<R, SessionError> {
        not_reserved(name)?;
        for tries in 0..UPDATE_TRIES_MAX {
            let (old, after) = {
                let state = self.writable_state()?;
                (state.value(name).cloned(), state.version(name))
            };
            let (replacement, returned) = f(old)?;
            let value = match replacement {
                Replacement::None => return Ok(returned),
                Replacement::Removal => None,
                Replacement::Value(value) => {
                    self.state().check_limits(name, &value, self.config())?;
                    Some(value)
                }
            };
            let name = name.clone();
            let update = AttributeUpdate { name, value, after };
            if self.commit(Some(update)).await? {
                return Ok(returned);
            }
            backoff(tries).await;
        }
        Err(SessionError::from(SessionErrorKind::Conflict).with_attribute(name))
    }
}

/// The new content of an attribute.
enum Replacement {
    Value(Value),
    Removal,
    /// The attribute stays as it is, and nothing is stored.
    None,
}
