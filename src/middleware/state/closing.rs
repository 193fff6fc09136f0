//! Closing a session: what the response still has to do.

use crate::error::SessionErrorKind;
use crate::middleware::cookie::persistence;
use crate::middleware::state::SessionState;

/// The work that is left when the handler has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnResponse {
    /// The session was never extracted: the response does not depend on it.
    Unused,
    /// None.
    Clean,
    /// The cookie is to be sent again, if it still has the session's id.
    Confirm,
    Commit,
}

impl SessionState {
    /// Closes the session to writes that the response could not carry, and returns the work that is
    /// left for it.
    pub(crate) fn close(&mut self) -> OnResponse {
        self.closed = true;
        if !self.extracted {
            OnResponse::Unused
        } else if self.is_pending()
            // A `save` whose handler was cut off continues. A response that does not wait for it
            // would lack the cookie of the session that it creates.
            || self.in_flight.is_some()
            || self.dropped
            || self.guards.failure.is_some()
        {
            OnResponse::Commit
        } else if self.sends_cookie_again() {
            OnResponse::Confirm
        } else {
            OnResponse::Clean
        }
    }

    /// Returns `true` if the session is stored under the id that the browser has presented.
    fn has_clients_id(&self) -> bool {
        let stored = self.stored.as_ref();
        stored.is_some_and(|stored| self.client == Some(stored.id))
    }

    /// Returns `true` if the browser is to receive a cookie with the id that it has presented.
    pub(crate) fn sends_cookie_again(&self) -> bool {
        self.stale_cookie && self.has_clients_id()
    }

    /// Closes the session to writes: there will be no response.
    pub(crate) fn abandon(&mut self) {
        self.closed = true;
        self.abandoned = true;
        self.keep_id();
    }

    /// Ensures that what handles store from now on leaves the id and the cookie as they are: no
    /// response of this request will carry a new one.
    pub(crate) fn keep_id(&mut self) {
        self.keeps_id = true;
        if self.in_flight.is_none() {
            self.drop_rotation();
        }
    }

    /// Drops a staged rotation or login with all changes, and a new age of the cookie. Stored
    /// later, they would leave the browser with an id that is not valid, or count a cookie as sent.
    pub(super) fn drop_rotation(&mut self) {
        let Some(stored) = &self.stored else { return };
        let id = stored.id;
        if self.rotates().is_some() || self.login.is_some() {
            // What a login writes must not be readable with the id from before it, which may be
            // planted.
            self.drop_changes();
            self.guards.losses += 1;
            self.guards.failure = Some(SessionErrorKind::TooLate.into());
        }
        self.id = Some(id);
        self.persistence = None;
        self.staged.unset(persistence::NAME);
        self.size = None;
    }

    /// Drops the staged changes, because the response decides against storing them.
    pub(crate) fn discard(&mut self) {
        self.drop_changes();
        self.dropped = false;
        self.id = self.stored.as_ref().map(|stored| stored.id);
    }
}
