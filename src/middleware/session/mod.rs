//! The handle through which a handler reads and changes its session.
//!
//! [`Session`] is cheap to clone and refers to the state that its request shares. It reads and
//! writes the loaded session without waiting; the store is called when the session is loaded and
//! when it is committed. This module decides neither when a response commits nor which headers it
//! carries.

// First, so that the documentation of the handle begins with the methods for attributes.
mod handle;
mod update;

mod detached;
mod identity;
mod lifetime;
mod login;
mod stored;

use std::sync::{Arc, MutexGuard};

pub use self::handle::Session;
pub(super) use self::handle::decode;
use crate::middleware::config::Config;
use crate::middleware::request::RequestSession;
use crate::middleware::state::SessionState;

// Access of the middleware to what is behind a handle.
impl Session {
    /// A handle of a request's session.
    pub(super) const fn of(request: Arc<RequestSession>) -> Self {
        Self {
            request,
            detached: None,
        }
    }

    pub(super) fn config(&self) -> &Config {
        self.request.config()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, SessionState> {
        self.request.state()
    }
}
