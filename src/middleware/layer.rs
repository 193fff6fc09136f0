//! [`SessionLayer`]: the builder of the middleware.
//!
//! It sets everything that is configured once per application; it handles no request itself.

use std::sync::Arc;
use std::time::Duration;

use http::response::Parts;
use tower_layer::Layer;

use crate::middleware::carrier::Carrier;
use crate::middleware::commit_when::CommitWhen;
use crate::middleware::config::Config;
use crate::middleware::cookie::SessionCookie;
use crate::middleware::cookie::route::{Affinity, Route};
use crate::middleware::header::SessionHeader;
use crate::middleware::limits::Limits;
use crate::middleware::service::SessionService;
use crate::middleware::timeout::Timeout;
use crate::store::SessionStore;

/// A `tower::Layer` that provides a [`Session`](crate::Session) to the wrapped service.
///
/// ```
/// # #[cfg(all(feature = "axum", feature = "memory"))] {
/// use axum::{Router, routing::get};
/// use distributable::{MemoryStore, Route, Session, SessionError, SessionLayer};
///
/// async fn counter(session: Session) -> Result<String, SessionError> {
///     let n = session.get::<u32>("session_counter")?.unwrap_or(0) + 1;
///     session.insert("session_counter", &n)?;
///     Ok(format!("Session Counter = {n}"))
/// }
///
/// let layer = SessionLayer::new(MemoryStore::new()).with_route(Route::new("node1")?);
/// let app: Router = Router::new().route("/", get(counter)).layer(layer);
/// # }
/// # Ok::<(), distributable::SetupError>(())
/// ```
///
/// Handlers that do not extract the session cost next to nothing: no cookie is parsed, the store is
/// not called and no header is added. If the session is extracted, the response varies on the
/// cookie, and it sets a new cookie only if the cookie changes.
///
/// Layers nest. Of two layers with the same cookie name, the outer one is used and the inner
/// one passes requests through, which is logged as a warning unless both are clones of one layer.
/// Two layers with different names provide two sessions; a handler
/// gets that of the inner layer.
///
/// The request's `Cookie` header, which contains the id, is marked
/// [sensitive](http::HeaderValue::set_sensitive) for the wrapped service: its `Debug` output is
/// hidden. For layers outside of this one that log requests, put tower-http's
/// `SetSensitiveRequestHeadersLayer` with `COOKIE` around them.
///
/// # When changes are stored
///
/// The handler's writes are committed after it has returned, with any status, and before the
/// response is sent. If the commit fails, or has no effect because the session has ended or expired
/// meanwhile, the client receives a plain response with the [error's
/// status](crate::SessionError::status) instead. It sets no cookie, unless an earlier `save` or
/// `update` of the same request has changed the id.
///
/// [`save`](crate::Session::save), [`update`](crate::Session::update) and
/// [`invalidate`](crate::Session::invalidate) take effect at once and are not undone by a later
/// failure of the request. In this table, *saved* is what they have stored, and *staged* is what
/// was written and not saved:
///
/// | case | saved | staged | cookie |
/// | --- | --- | --- | --- |
/// | the handler returns, with any status | kept | stored | sent |
/// | it returns, and `commit_when` decides against the commit | kept | dropped | (1) |
/// | it panics, and a layer inside this one answers | kept | stored (2) | sent |
/// | it panics otherwise | kept | dropped | not sent |
/// | a timeout, enforced inside this layer | kept | stored (2) | sent |
/// | a timeout, enforced outside this layer | kept | dropped (3) | not sent |
/// | the client disconnects | kept | dropped (3) | not sent |
/// | the final commit fails | kept | not stored (4) | (1) |
/// | the final commit rotates the id and fails with `Indeterminate` | kept | (5) | not sent |
/// | the session was deleted or has expired meanwhile | deleted | dropped, 409 | not sent |
/// | another request has rotated the id meanwhile | kept | stored (6) | not sent |
///
/// 1. Sent only if an earlier commit of the same request has changed the id.
/// 2. The response of the inner layer cannot be distinguished from a handler's.
///    [`commit_when`](Self::commit_when) can decide against it: see [below](#timeouts).
/// 3. Stored if the commit has begun before.
/// 4. With [`Indeterminate`](crate::StoreErrorKind::Indeterminate) it may be stored.
/// 5. Taken back as soon as the store answers.
/// 6. With `cycle_id` it is dropped, and the client receives 409.
///
/// A request that calls `cycle_id` and `save` and is then cut off outside this layer leaves the
/// browser with an id that is no longer valid: the visitor is logged out. To avoid that, leave the
/// commit to this layer, or put layers for panics and timeouts inside it, so that the staged writes
/// are stored.
///
/// # Timeouts
///
/// A layer that enforces a timeout drops the handler and answers in its place. Outside this layer,
/// the staged writes are dropped with the handler. Inside this layer, its response cannot be
/// distinguished from a handler's, and what the handler has staged until then is stored: half of
/// its work, perhaps. To store only what handlers have finished, mark the responses that come from
/// inside the timeout, and commit no others:
///
/// ```
/// # #[cfg(all(feature = "axum", feature = "memory"))] {
/// use std::time::Duration;
///
/// use axum::middleware::map_response;
/// use axum::{Router, http::StatusCode, response::Response, routing::post};
/// use distributable::{MemoryStore, Session, SessionError, SessionLayer};
/// use tower_http::timeout::TimeoutLayer;
///
/// async fn order(session: Session) -> Result<(), SessionError> {
///     session.insert("order", "begun")?;
///     // ... what may take too long ...
///     session.insert("order", "done")
/// }
///
/// /// The handler has run to its end.
/// #[derive(Clone)]
/// struct Finished;
///
/// async fn finish(mut response: Response) -> Response {
///     response.extensions_mut().insert(Finished);
///     response
/// }
///
/// let limit = Duration::from_secs(10);
/// let app: Router = Router::new()
///     .route("/order", post(order))
///     .layer(map_response(finish))
///     .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, limit))
///     .layer(
///         SessionLayer::new(MemoryStore::new())
///             .commit_when(|head| head.extensions.get::<Finished>().is_some()),
///     );
/// # }
/// ```
///
/// # First visits
///
/// Concurrent requests without a cookie that write create one session each; the browser keeps the
/// one whose response arrives last. If a page loads several resources that write, let the page
/// itself create the session.
///
/// # What counts as a use
///
/// A request uses its session from the moment when the session is extracted: the access is recorded
/// then, if a tenth of the idle timeout (at most a minute) has passed since the last recorded one.
/// A request that runs for as long as the idle timeout touches the session repeatedly, so that it
/// does not expire while the request runs. Sending the body of a response does not count as a use
/// of the session; a [detached](crate::Session::detached) handle counts when it commits or calls
/// [`touch`](crate::Session::touch).
///
/// The idle timeout of a session is that of the layer that created it, or the value set with
/// [`set_idle_timeout`](crate::Session::set_idle_timeout): if nodes are
/// configured differently, the node that creates the session decides.
#[derive(Clone, Debug)]
pub struct SessionLayer {
    pub(super) config: Arc<Config>,
}

impl SessionLayer {
    /// Creates a layer that keeps its sessions in `store`, with the default settings.
    pub fn new<S: SessionStore>(store: S) -> Self {
        Self {
            config: Arc::new(Config::new(Arc::new(store))),
        }
    }

    /// Sets this node's name, which follows the id in the cookie. Defaults to none.
    #[must_use]
    pub fn with_route(mut self, route: Route) -> Self {
        self.config().route = Some(route);
        self
    }

    /// Sets which node the cookie names. Defaults to [`Affinity::Local`].
    #[must_use]
    pub fn with_affinity(mut self, affinity: Affinity) -> Self {
        self.config().affinity = affinity;
        self
    }

    /// Sets the cookie's name and attributes. Defaults to [`SessionCookie::default`].
    ///
    /// Cookies are not separated by port: two applications on one host, even on different ports,
    /// replace each other's cookie if both use the default name. Give each its own name, or its own
    /// path.
    ///
    /// It replaces a [`header`](Self::with_header) that was set before.
    #[must_use]
    pub fn with_cookie(mut self, cookie: SessionCookie) -> Self {
        self.config().carrier = Carrier::Cookie(cookie);
        self
    }

    /// Has the id travel in a header in place of the cookie, for clients that keep no cookies. No
    /// cookie is read or set then. Defaults to the cookie.
    ///
    /// The value is what a cookie's would be, the route included. A response has the header when
    /// the client does not have the right id: when the session is made, after a rotation, when
    /// another node serves, and with an empty value after a logout. Whatever the client is, it has
    /// to keep the value as secret as a password. A page's scripts can read it, unlike a cookie;
    /// for browsers, use a cookie. Requests from other origins need the header's name in the CORS
    /// headers `Access-Control-Allow-Headers` and `Access-Control-Expose-Headers`.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use distributable::{MemoryStore, SessionHeader, SessionLayer};
    ///
    /// let header = SessionHeader::new("X-Session-Id")?;
    /// let layer = SessionLayer::new(MemoryStore::new()).with_header(header);
    /// # }
    /// # Ok::<(), distributable::SetupError>(())
    /// ```
    #[must_use]
    pub fn with_header(mut self, header: SessionHeader) -> Self {
        self.config().carrier = Carrier::Header(header);
        self
    }

    /// Accepts and answers with the id in a header or in the cookie, whichever the client used, for
    /// one set of routes that serves both programs and browsers.
    ///
    /// A client that sends its id in one of them gets a new one in the same. One that sends none
    /// gets both, so **a script in a page can read the id from the response that makes the
    /// session**, although the cookie is `HttpOnly`. Where that matters, give programs routes and a
    /// layer of their own, with [`with_header`](Self::with_header). A request that presents two
    /// different live sessions has none, see
    /// [`Session::is_ambiguous`](crate::Session::is_ambiguous).
    #[must_use]
    pub fn with_cookie_or_header(mut self, cookie: SessionCookie, header: SessionHeader) -> Self {
        self.config().carrier = Carrier::Either(cookie, header);
        self
    }

    /// Decides by the head of the handler's response whether what the handler has written is
    /// stored. Where it is not, it is dropped, a new session and a new id included, and the
    /// response goes out as it is. Defaults to always, whatever status the response has.
    ///
    /// What [`save`](crate::Session::save), [`update`](crate::Session::update) and
    /// [`invalidate`](crate::Session::invalidate) have done before stays, and is sent to the
    /// client. The request counts as a use of the session all the same.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use distributable::{MemoryStore, SessionLayer};
    ///
    /// let layer = SessionLayer::new(MemoryStore::new())
    ///     .commit_when(|head| !head.status.is_server_error());
    /// # }
    /// ```
    #[must_use]
    pub fn commit_when(mut self, decide: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.config().commit_when = CommitWhen::new(decide);
        self
    }

    /// Sets the idle timeout; `None` leaves only the absolute timeout. Defaults to 30 minutes.
    /// Values above 100 years count as 100 years; with zero, every request that extracts the
    /// session fails with [`InvalidTimeout`](crate::SessionErrorKind::InvalidTimeout).
    ///
    /// A timeout shorter than the one that a stored session was created with applies to it at once,
    /// at this layer: a session that has been idle for longer is no longer found. A longer one does
    /// not extend it. A value set with
    /// [`set_idle_timeout`](crate::Session::set_idle_timeout) for one session
    /// takes precedence.
    #[must_use]
    pub fn with_idle_timeout(mut self, idle: Option<Duration>) -> Self {
        self.config().idle_timeout = idle.map(Timeout::new);
        self
    }

    /// Sets the absolute timeout: how long after its creation or its last login a session expires,
    /// however often it is used. Defaults to 24 hours. Zero and very long times are treated as in
    /// [`with_idle_timeout`](Self::with_idle_timeout).
    ///
    /// A timeout shorter than the one that a stored session was created with applies to it at once,
    /// at this layer: older sessions are no longer found. A longer one does not extend them.
    ///
    /// A shorter timeout does not delete sessions: they stay in the store and in the lists of their
    /// users, no event reports them, and a layer with a longer timeout finds them again. To end
    /// sessions after an incident, call [`end_user`](crate::SessionStore::end_user), or
    /// [`delete`](crate::SessionStore::delete) for each session of the
    /// [`list`](crate::SessionStore::list).
    #[must_use]
    pub fn with_absolute_timeout(mut self, timeout: Duration) -> Self {
        self.config().absolute_timeout = Timeout::new(timeout);
        self
    }

    /// Sets a shorter idle timeout until the client has presented the cookie once, which keeps
    /// crawlers from filling the store. Defaults to none. An idle timeout that a handler sets takes
    /// precedence.
    #[must_use]
    pub fn with_initial_idle_timeout(mut self, idle: Duration) -> Self {
        self.config().initial_idle_timeout = Some(Timeout::new(idle));
        self
    }

    /// Sets the size limits of a session. Defaults to [`Limits::default`].
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.config().limits = limits;
        self
    }

    /// Sets how many sessions a user who [logs in](crate::Session::log_in) may have, at least one.
    /// Once a login is stored, the sessions with the oldest logins beyond the limit are deleted;
    /// with [`with_excess_logins_refused`](Self::with_excess_logins_refused), the login fails
    /// instead.
    ///
    /// Expired sessions do not count, but a login looks only at the 64 oldest to find them; before
    /// it is refused, it looks at all. Each login that deletes sessions is logged, with their
    /// number and the limit.
    ///
    /// Defaults to 1,000. Values above 10,000 count as 10,000. Concurrent logins may exceed the
    /// limit for a moment.
    #[must_use]
    pub fn with_max_sessions_per_user(mut self, sessions: usize) -> Self {
        self.config().user_sessions = sessions.clamp(1, USER_SESSIONS_MAX);
        self
    }

    /// Refuses the login of a user who already has the maximum number of sessions, with
    /// [`TooManySessions`](crate::SessionErrorKind::TooManySessions), instead of deleting the
    /// oldest session.
    ///
    /// The commit checks the limit before it stores the login. Concurrent logins can all pass that
    /// check; if they exceed the limit together, the sessions with the oldest logins are deleted.
    #[must_use]
    pub fn with_excess_logins_refused(mut self) -> Self {
        self.config().refuses_excess = true;
        self
    }

    /// Returns the number of misrouted requests: requests whose cookie named a different node.
    ///
    /// Each request counts once, if its handler extracts the session, the session is found, and the
    /// cookie has a valid route other than this node's. This holds for every [`Affinity`]. A cookie
    /// without a valid route names no node and does not count. Without
    /// [`with_route`](Self::with_route) the number stays 0.
    ///
    /// It counts since this layer was last configured. Clones and the services that they have made
    /// share the counter, so keep a clone to read it. Configuring a clone further makes it a
    /// separate layer, whose counter starts at 0.
    ///
    /// With [`Affinity::Local`] and a sticky balancer, the number should rise only on failover, by
    /// one for each user of the failed node that is sent here. A steady increase while all nodes
    /// are up means that the balancer does not follow the cookie: it reads another cookie, has
    /// other routes configured, or is not sticky. With [`Affinity::Owner`] and [`Affinity::Off`]
    /// every request counts for as long as the cookie names another node. The route is supplied by
    /// the client: any client with a session can make the number rise.
    ///
    /// ```
    /// # #[cfg(all(feature = "axum", feature = "memory"))] {
    /// use distributable::{MemoryStore, Route, SessionLayer};
    ///
    /// let layer = SessionLayer::new(MemoryStore::new()).with_route(Route::new("node1")?);
    /// let app: axum::Router = axum::Router::new().layer(layer.clone());
    /// assert_eq!(layer.misrouted_requests(), 0);
    /// # }
    /// # Ok::<(), distributable::SetupError>(())
    /// ```
    ///
    /// [`Affinity`]: crate::Affinity
    /// [`Affinity::Local`]: crate::Affinity::Local
    /// [`Affinity::Owner`]: crate::Affinity::Owner
    /// [`Affinity::Off`]: crate::Affinity::Off
    #[doc(alias = "failovers")]
    #[must_use]
    pub fn misrouted_requests(&self) -> u64 {
        self.config.misrouted_requests.get()
    }

    /// Returns the configuration.
    #[cfg(any(all(test, feature = "memory"), feature = "testing"))]
    pub(super) fn into_config(self) -> Arc<Config> {
        self.config
    }

    fn config(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> SessionService<S> {
        SessionService::new(inner, self.config.clone())
    }
}

/// The largest: a user's list of sessions takes about two megabytes then, and each login writes it.
const USER_SESSIONS_MAX: usize = 10_000;
