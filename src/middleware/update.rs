//! The loop behind [`Session::update`] and its variants.
//!
//! An attribute is read, a new value is computed from it, and the commit expects that the attribute
//! has not been written since. If it has, everything is repeated with the newer value.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::error::{SessionError, SessionErrorKind};
use super::session::{Session, not_reserved};
use super::state::Update;
use crate::session::{Name, Value};

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

/// Backs off after a conflict: at first by yielding, later for a random time, so that a node which
/// is remote from the session's owner gets its turn between requests that run at the owner.
async fn give_way(tries: usize) {
    let longest = (tries / TRIES_AT_ONCE).min(PAUSE_MS_MAX);
    // The keys of `RandomState` differ between calls, which is random enough to spread competitors.
    let random = RandomState::new().hash_one(tries) as usize;
    match random % (longest + 1) {
        0 => tokio::task::yield_now().await,
        ms => tokio::time::sleep(Duration::from_millis(ms as u64)).await,
    }
}

/// Attempts before the pauses grow.
const TRIES_AT_ONCE: usize = 4;

/// The longest pause between two attempts, in milliseconds: many times the duration of an update.
const PAUSE_MS_MAX: usize = 8;

/// Attempts of [`Session::update`] before it fails. In each of them another request has succeeded,
/// so this many requests wrote one attribute of one session within the same moment.
const UPDATE_TRIES_MAX: usize = 1_024;
