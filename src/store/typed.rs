//! Typed values and attributes outside a request: for webhooks, jobs and administration.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::{SessionError, SessionErrorKind};
use crate::session::{
    AttributeOf, Changes, Name, Outcome, Record, Root, Storable, Value, codec, is_reserved,
};
use crate::store::erased::ErasedStore;

impl Value {
    /// Encodes a value in the format of [`Session::insert`](crate::Session::insert), for use
    /// outside a request.
    ///
    /// # Errors
    ///
    /// [`Encode`](crate::SessionErrorKind::Encode) if it would not read back equal, and
    /// [`TooLarge`](crate::SessionErrorKind::TooLarge) beyond 256 MiB.
    pub fn encode<T: Storable + ?Sized>(value: &T) -> Result<Self, SessionError> {
        Ok(codec::encode(value, VALUE_MAX)?)
    }

    /// Decodes a value that [`encode`](Self::encode) has made or a handler has stored.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::SessionErrorKind::Decode) if it is not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, SessionError> {
        Ok(codec::decode(self)?)
    }
}

impl Record {
    /// Returns an attribute as a value of its type; `None` if it is absent or removed.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use distributable::{Attribute, MemoryStore, Root, SessionStore};
    ///
    /// const CART: Attribute<Vec<u32>> = Attribute::new("cart");
    ///
    /// # async fn look(store: MemoryStore, key: Root) -> Result<(), Box<dyn std::error::Error>> {
    /// if let Some(session) = store.peek(&key).await? {
    ///     println!("{:?}: {:?}", session.last_accessed_at(), session.get_typed(CART)?);
    /// }
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::SessionErrorKind::Decode) if it is not a `T`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a name is a `&str`, a constant or a `String`, as in `Session::get`"
    )]
    pub fn get_typed<T: DeserializeOwned>(
        &self,
        name: impl AttributeOf<T>,
    ) -> Result<Option<T>, SessionError> {
        decoded(self, name.as_name())
    }
}

/// Replaces an attribute of the session under `key` by the result of `f`. `None`: there is no such
/// session.
pub(super) async fn update<T, E>(
    store: &dyn ErasedStore,
    key: Root,
    name: Name,
    mut f: impl FnMut(Option<T>) -> Result<T, E> + Send,
) -> Result<Result<Option<T>, E>, SessionError>
where
    T: Storable + DeserializeOwned + Send,
    E: Send,
{
    if is_reserved(&name) {
        return Err(SessionError::from(SessionErrorKind::ReservedName).with_attribute(&name));
    }
    // The list of a user's sessions is no session.
    if key.is_index() {
        return Ok(Ok(None));
    }
    let mut current = store.load(&key, None).await?.into_live();
    for tries in 0..UPDATE_TRIES_MAX {
        let Some(record) = current else {
            return Ok(Ok(None));
        };
        let new = match f(decoded(&record, &name)?) {
            Ok(new) => new,
            Err(error) => return Ok(Err(error)),
        };
        let changes = replace(&record, &name, &new)?;
        current = match store.commit(&key, Some(&record), changes).await? {
            Outcome::Committed(_) => return Ok(Ok(Some(new))),
            Outcome::Gone => None,
            Outcome::Conflict(record) => {
                backoff(tries).await;
                Some(record)
            }
            // Only of a rotation, which this is not.
            Outcome::Superseded => store.load(&key, None).await?.into_live(),
        };
    }
    Err(SessionError::from(SessionErrorKind::Conflict).with_attribute(&name))
}

/// The changes that replace an attribute, if it has not been written since.
fn replace<T: Storable>(
    record: &Arc<Record>,
    name: &Name,
    value: &T,
) -> Result<Changes, SessionError> {
    let value = Value::encode(value).map_err(|error| error.with_attribute(name))?;
    let mut changes = Changes::default();
    changes.insert(name.clone(), value);
    changes.require_version(name.clone(), record.version(name));
    changes.without_access();
    Ok(changes)
}

fn decoded<T: DeserializeOwned>(record: &Record, name: &str) -> Result<Option<T>, SessionError> {
    let value = record.get(name).map(Value::decode).transpose();
    value.map_err(|error| error.with_attribute(name))
}

/// Backs off after a conflict: at first by yielding, later for a random time, so that a node which
/// is remote from the session's owner gets its turn between requests that run at the owner.
pub(crate) async fn backoff(tries: usize) {
    let longest = (tries / TRIES_AT_ONCE).min(PAUSE_MS_MAX);
    // The keys of `RandomState` differ between calls, which is random enough to spread competitors.
    let random = RandomState::new().hash_one(tries) as usize;
    match random % (longest + 1) {
        0 => tokio::task::yield_now().await,
        ms => tokio::time::sleep(Duration::from_millis(ms as u64)).await,
    }
}

/// The largest value that is encoded outside a request: far more than any limit of a layer.
const VALUE_MAX: usize = 1 << 28;

/// Attempts before the pauses grow.
const TRIES_AT_ONCE: usize = 4;

/// The longest pause between two attempts, in milliseconds: many times the duration of an update.
const PAUSE_MS_MAX: usize = 8;

/// Attempts of an update before it fails. In each of them another request has succeeded, so this
/// many requests wrote one attribute of one session within the same moment.
pub(crate) const UPDATE_TRIES_MAX: usize = 1_024;
