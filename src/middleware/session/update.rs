//! The loop behind [`Session::update`] and its variants.
//!
//! An attribute is read, a new value is computed from it, and the commit expects that the attribute
//! has not been written since. If it has, everything is repeated with the newer value.

use super::handle::{Session, not_reserved};
use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::state::Update;
use crate::session::{Name, Value};
use crate::store::typed::{UPDATE_TRIES_MAX, give_way};

/// The new content of an attribute.
pub(super) enum Replacement {
    Value(Value),
    Removal,
    /// The attribute stays as it is, and nothing is stored.
    None,
}

impl Session {
    /// Replaces an attribute by what `f` makes of its value, atomically, and returns what `f`
    /// returns beside it.
    pub(super) async fn replace<R>(
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
                    self.state().admits(name, &value, self.config())?;
                    Some(value)
                }
            };
            let name = name.clone();
            let update = Update { name, value, after };
            if self.commit(Some(update)).await? {
                return Ok(returned);
            }
            give_way(tries).await;
        }
        Err(SessionError::from(SessionErrorKind::Conflict).with_attribute(name))
    }
}
