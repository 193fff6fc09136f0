//! The handle of a session for work that continues after the response.

use std::sync::Arc;

use super::Session;
use crate::middleware::request_session::RequestSession;

impl Session {
    /// Returns a handle for work that continues after the response: a stream, a WebSocket, a task.
    ///
    /// It refers to the session and not to the id: it stays valid when another request changes the
    /// id with [`cycle_id`](Self::cycle_id). If another request has [logged in](Self::log_in) a
    /// user since, the handle loses the session and returns
    /// [`Superseded`](crate::SessionErrorKind::Superseded), because it may have been opened with an
    /// id that was planted before.
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
}

/// State shared by the detached handles of an exchange.
pub(super) struct Detached(Arc<RequestSession>);

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.warn_of_loss();
    }
}
