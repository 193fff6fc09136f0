//! The response to a request: the work that it waits for, and its headers.

use http::HeaderMap;
use tracing::warn;

use crate::middleware::carrier::ResponseId;
use crate::middleware::cookie::route::{Affinity, Route};
use crate::middleware::request::RequestSession;
use crate::middleware::state::{CookieAction, OnResponse};
use crate::session::Root;

impl RequestSession {
    /// Closes the session to writes, and returns the work that is left for the response.
    ///
    /// Staged changes are dropped first, unless the response `commits`.
    pub(crate) fn close(&self, commits: bool) -> OnResponse {
        let mut state = self.state();
        if !commits {
            state.discard();
        }
        state.close()
    }

    /// Closes the session to writes: no response will carry them.
    pub(crate) fn abandon(&self) {
        self.state().abandon();
    }

    /// Logs a warning about changes that can no longer be saved.
    pub(crate) fn warn_of_loss(&self) {
        let lost = self.state().lost();
        if let Some(key) = lost {
            warn!(%key, "a detached session was dropped with unsaved changes");
        }
    }

    /// Writes the response headers: that the response depends on the cookie, and the cookie if it
    /// changes.
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        let action = self.state().cookie_action(&self.config);
        self.write_id(action, headers);
    }

    /// The same for a response that replaces the handler's because the commit has failed.
    pub(crate) fn write_headers_on_error(&self, headers: &mut HeaderMap) {
        let action = self.state().cookie_action_on_error(&self.config);
        self.write_id(action, headers);
    }

    /// The route that the session's cookie should name.
    pub(crate) fn route(&self, key: &Root) -> Option<Route> {
        let here = self.config.route.as_ref()?;
        let owner = match self.config.affinity {
            Affinity::Owner => self.config.store.route(key),
            Affinity::Local | Affinity::Off => None,
        };
        let owner = owner.and_then(|route| Route::new(&route).ok());
        Some(owner.unwrap_or_else(|| here.clone()))
    }

    fn write_id(&self, action: Option<CookieAction>, headers: &mut HeaderMap) {
        self.config.carrier.vary(headers);
        let Some(action) = action else { return };
        let (placement, is_new, removes_other) = {
            let state = self.state();
            (
                state.placement(),
                state.is_new(),
                state.has_deleted_rivals(),
            )
        };
        if is_new && placement.is_guess() {
            self.config.hint.issued();
        }
        let session = match &action {
            CookieAction::Removal => None,
            CookieAction::Session(id, persistence) => Some((id, *persistence)),
        };
        let route = session.and_then(|(id, _)| self.route(&id.key()));
        let response_id = ResponseId {
            id: session,
            route: route.as_ref(),
            removes_other,
        };
        self.config.carrier.write(headers, placement, response_id);
    }
}
