//! The attributes of a session: reading, writing and removing them.

use serde::de::DeserializeOwned;

use super::Session;
use crate::error::{SessionError, SessionErrorKind};
use crate::session::{AttributeName, AttributeOf, Storable, Value, is_reserved, json};

#[expect(
    clippy::needless_pass_by_value,
    reason = "a name is a `&str`, a `&CONSTANT` or a `String`; callers should not have to borrow twice"
)]
impl Session {
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

pub(crate) fn decode<T: DeserializeOwned>(
    name: &str,
    value: Option<Value>,
) -> Result<Option<T>, SessionError> {
    let value = value.map(|value| json::decode(&value)).transpose();
    value.map_err(|error| SessionError::from(error).with_attribute(name))
}

pub(crate) fn not_reserved(name: &str) -> Result<(), SessionError> {
    if is_reserved(name) {
        return Err(SessionError::from(SessionErrorKind::ReservedName).with_attribute(name));
    }
    Ok(())
}
