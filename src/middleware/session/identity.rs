//! The id of a session, and what the request has presented of it.

use crate::error::SessionError;
use crate::middleware::cookie::route::{self, Route};
use crate::middleware::session::Session;
use crate::session::{Root, SessionId};

impl Session {
    /// Returns the session id, without a route. **Anyone who has it can use the session**: log
    /// [`key`](Self::key) instead.
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        self.state().id()
    }

    /// Returns the id with the route behind it, as in the cookie. **A secret**, as the id is.
    #[must_use]
    pub fn routed_id(&self) -> Option<String> {
        let (id, key) = {
            let state = self.state();
            (state.id()?, state.key()?)
        };
        Some(route::join(&id, self.request.route(&key).as_ref()))
    }

    /// Returns the route suffix of the session cookie that was sent with this request: the node
    /// that the balancer should have chosen. [`routed_id`](Self::routed_id) has the route that a
    /// new cookie would carry.
    ///
    /// Returns `None` if this request creates the session or no longer has one, if the cookie had
    /// no route, and if the text in its place is not a valid [`Route`]. A rotation of the id does
    /// not change it. If the browser sent the id in several cookies, a cookie that names this node
    /// takes precedence, then the first one that names a node.
    ///
    /// The value is supplied by the client: syntactically valid, but the name of any node or of
    /// none. Compare it with known names; do not use it as an address or as a metric label.
    /// [`SessionLayer::misrouted_requests`](crate::SessionLayer::misrouted_requests) counts how
    /// often it names a node other than this one.
    #[doc(alias = "getRequestedSessionId")]
    #[doc(alias = "sessionIdAttribute")]
    #[must_use]
    pub fn requested_route(&self) -> Option<Route> {
        self.state().requested_route()
    }

    /// Returns the name under which stores and logs refer to the session. It is not a secret.
    #[must_use]
    pub fn key(&self) -> Option<Root> {
        self.state().key()
    }

    /// Returns `true` if there is a session, or if the commit of the writes so far will create one.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.state().exists()
    }

    /// Returns `true` if the request carried several live sessions, or more than four session
    /// cookies. The request then has no session, because one of them may have been planted. The
    /// first write deletes those that are live and creates a new session;
    /// [`invalidate`](Self::invalidate) deletes them as well. Both remove the cookies whose scope
    /// is known. Duplicate cookies arise when the cookie's domain is changed in the configuration,
    /// or when two hosts of one domain set the cookie.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.state().is_ambiguous()
    }

    /// Returns `true` if this request creates the session, so that the browser has no cookie for it
    /// yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.state().is_new()
    }

    /// Rotates the session id. The former id is rejected as soon as the response is sent. Call this
    /// whenever a visitor's privileges change, unless [`log_in`](Self::log_in) does it: an id that
    /// an attacker has planted in the browser (session fixation) is worthless afterward.
    ///
    /// For one minute, requests with the former id, which the browser may have sent before the
    /// response arrived, get no session, and an error
    /// ([`Superseded`](crate::SessionErrorKind::Superseded)) if they write; their responses set no
    /// cookie. A request that has loaded the session before the rotation can still write to it. If
    /// the rotation fails without a certain outcome, it is rolled back as soon as the store
    /// answers.
    ///
    /// Does nothing for a session that this request creates: it keeps its new id. Returns
    /// [`NoSession`](crate::SessionErrorKind::NoSession) if there is no session: at login, check
    /// [`exists`](Self::exists) first, or insert an attribute first.
    ///
    /// # Errors
    ///
    /// Fails if there is no session, or if a cookie can no longer be sent. The commit fails with
    /// [`Superseded`](crate::SessionErrorKind::Superseded) if another request has rotated the id
    /// first.
    #[doc(alias = "changeSessionId")]
    #[doc(alias = "renew")]
    pub fn cycle_id(&self) -> Result<(), SessionError> {
        self.writable_state()?.cycle_id()
    }
}
