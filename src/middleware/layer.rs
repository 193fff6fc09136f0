//! [`SessionLayer`]: the configuration of the middleware.
//!
//! It holds everything that is configured once per application and shares it with all requests. It
//! checks lifetimes and limits; it handles no request itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::Response;
use http::response::Parts;
use tower_layer::Layer;

use super::carrier::Carrier;
use super::header::SessionHeader;
use super::hint::Hint;
use super::service::SessionService;
use super::timeout::Timeout;
use super::{Route, SessionCookie};
use crate::clock;
use crate::error::{SessionError, SessionErrorKind, StoreError};
use crate::session::{Changes, Login, Record, Root, SecretHash, UserKey};
use crate::store::SessionStore;
use crate::store::erased::ErasedStore;
use crate::store::users::{self, NewLogin};

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
/// Layers nest. Of two layers with the same cookie name, the outer one is in charge and the inner
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
/// failure of the request. In this list, *saved* is what they have stored and *staged* is what was
/// written and not saved:
///
/// - **The handler returns**, with any status. Saved: kept. Staged: stored. Cookie: sent.
/// - **The handler returns**, and [`commit_when`](Self::commit_when) decides against the commit.
///   Saved: kept. Staged: dropped. Cookie: sent only if an earlier commit has changed the id.
/// - **The handler panics**, and the layer that catches the panic is inside this one. The same.
/// - **The handler panics**, and the layer that catches the panic is outside this one, or there is
///   none. Saved: kept. Staged: dropped. Cookie: not sent.
/// - **A timeout**, and the layer that enforces it is inside this one. As if the handler had
///   returned, unless [`commit_when`](Self::commit_when) decides otherwise: see
///   [below](#timeouts).
/// - **A timeout**, enforced by a layer outside this one, **or a client that disconnects**. Saved:
///   kept. Staged: dropped, unless the commit has begun. Cookie: not sent.
/// - **The final commit fails.** Saved: kept. Staged: not stored; with
///   [`Indeterminate`](crate::StoreErrorKind::Indeterminate) it may be stored. Cookie: sent only if
///   an earlier commit has changed the id.
/// - **The final commit rotates the id and fails with `Indeterminate`.** Saved: kept. Staged: taken
///   back as soon as the store answers. Cookie: not sent.
/// - **The session was ended or has expired meanwhile.** Saved: deleted with it. Staged: dropped,
///   and the client receives 409. Cookie: not sent.
/// - **Another request has rotated the id meanwhile.** Saved: kept. Staged: stored; with
///   `cycle_id`, dropped, and the client receives 409. Cookie: not sent.
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
/// does not expire while the request runs. Sending the body of a response is no use; a
/// [detached](crate::Session::detached) handle counts when it commits or calls
/// [`touch`](crate::Session::touch).
///
/// The idle timeout of a session is that of the layer that created it, or the value set with
/// [`set_idle_timeout`](crate::Session::set_idle_timeout): if nodes are
/// configured differently, the node that creates the session decides.
#[derive(Clone, Debug)]
pub struct SessionLayer {
    config: Arc<Config>,
}

/// State shared by all requests of one layer.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) store: Arc<dyn ErasedStore>,
    pub(super) carrier: Carrier,
    pub(super) commit_when: CommitWhen,
    pub(super) route: Option<Route>,
    pub(super) affinity: Affinity,
    idle: Option<Timeout>,
    absolute_timeout: Timeout,
    initial_idle_timeout: Option<Timeout>,
    pub(super) limits: Limits,
    /// Number of sessions that a user may have. `refuses_excess` decides what happens to more.
    user_sessions: usize,
    refuses_excess: bool,
    pub(super) turnovers: Turnovers,
    pub(super) hint: Hint,
}

/// Counts requests whose cookie named a node other than the one that served them.
///
/// A clone starts at zero: a configuration is cloned to be changed, possibly for another node. The
/// services of one configuration share it without cloning.
#[derive(Debug, Default)]
pub(super) struct Turnovers(AtomicU64);

/// The node that the cookie's route names, so that a sticky balancer sends the next request there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Affinity {
    /// The node that served the request: a client that was sent to another node stays there.
    #[default]
    Local,
    /// The node that holds the session, if the store knows it: clients follow their data.
    Owner,
    /// The node that issued the cookie. A request served by another node does not change it.
    Off,
}

/// Size limits of a session. The call that would exceed a limit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Encoded size of one attribute's value, in bytes. Defaults to 16 MiB.
    pub attribute_bytes: usize,
    /// Size of all names and values of a session, in bytes. Defaults to 16 MiB.
    pub session_bytes: usize,
    /// Number of attributes in a session; removed ones do not count. Defaults to 1,024.
    pub attributes: usize,
    /// Size of one attribute's name, in bytes. Defaults to 256.
    pub name_bytes: usize,
}

impl SessionLayer {
    /// Creates a layer that keeps its sessions in `store`, with the default settings.
    pub fn new<S: SessionStore>(store: S) -> Self {
        Self {
            config: Arc::new(Config {
                store: Arc::new(store),
                carrier: Carrier::Cookie(SessionCookie::default()),
                commit_when: CommitWhen::default(),
                route: None,
                affinity: Affinity::default(),
                idle: Some(Timeout::new(IDLE)),
                absolute_timeout: Timeout::new(ABSOLUTE),
                initial_idle_timeout: None,
                limits: Limits::default(),
                user_sessions: USER_SESSIONS,
                refuses_excess: false,
                turnovers: Turnovers::default(),
                hint: Hint::default(),
            }),
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

    /// Has the id travel in a header or in the cookie, as the client does it, for one set of routes
    /// that serves both programs and browsers.
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
        self.config().commit_when = CommitWhen(Some(Arc::new(decide)));
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
        self.config().idle = idle.map(Timeout::new);
        self
    }

    /// Sets the absolute timeout: how long after its creation a session expires, however often it
    /// is used. Defaults to 24 hours. Zero and very long times are treated as in
    /// [`with_idle_timeout`](Self::with_idle_timeout).
    ///
    /// A timeout shorter than the one that a stored session was created with applies to it at once,
    /// at this layer: older sessions are no longer found. A longer one does not extend them. To end
    /// all sessions after an incident, restart all nodes with a short timeout.
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
    /// Sessions that have expired do not count, as far as they are among the 64 with the oldest
    /// logins: a login looks at no more of them. Each login that deletes sessions is logged, with
    /// their number and the limit.
    ///
    /// Defaults to 1,000. Values above 10,000 count as 10,000. Concurrent logins may exceed the
    /// limit for a moment.
    #[must_use]
    pub fn with_max_sessions_per_user(mut self, sessions: usize) -> Self {
        self.config().user_sessions = sessions.clamp(1, USER_SESSIONS_MAX);
        self
    }

    /// Refuses the login of a user who already has the maximum number of sessions, with
    /// [`TooManySessions`](SessionErrorKind::TooManySessions), instead of deleting the oldest
    /// session.
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
    #[doc(alias = "failovers")]
    #[must_use]
    pub fn misrouted_requests(&self) -> u64 {
        self.config.turnovers.0.load(Relaxed)
    }

    /// Returns the configuration.
    pub(super) fn into_config(self) -> Arc<Config> {
        self.config
    }

    fn config(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }
}

/// What decides whether the changes of a request are stored; `None`: they always are.
#[derive(Clone, Default)]
pub(super) struct CommitWhen(Option<Arc<Decide>>);

type Decide = dyn Fn(&Parts) -> bool + Send + Sync;

impl CommitWhen {
    /// Returns `true` if the response with this head is to store what its handler has written.
    pub(super) fn admits<B>(&self, response: Response<B>) -> (bool, Response<B>) {
        let Some(decide) = &self.0 else {
            return (true, response);
        };
        let (head, body) = response.into_parts();
        let admitted = decide(&head);
        (admitted, Response::from_parts(head, body))
    }
}

impl fmt::Debug for CommitWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "CommitWhen(..)",
            None => "CommitWhen(always)",
        })
    }
}

impl Config {
    /// Turns the changes into the creation of a session.
    pub(super) fn make_create(&self, secret: SecretHash, changes: &mut Changes) {
        changes.make_create(
            secret,
            self.idle.map(Timeout::get),
            self.absolute_timeout.get(),
        );
        if let Some(idle) = self.initial_idle_timeout {
            changes.initial_idle_timeout(idle.get());
        }
    }

    /// Fails if the user has too many sessions for another login, and the layer refuses excess
    /// logins.
    pub(super) async fn check_excess(
        &self,
        user: &UserKey,
        key: &Root,
    ) -> Result<(), SessionError> {
        if !self.refuses_excess {
            return Ok(());
        }
        if users::has_room(&*self.store, user, key, self.user_sessions).await? {
            Ok(())
        } else {
            Err(SessionErrorKind::TooManySessions.into())
        }
    }

    /// Adds a session to the index of the user who has logged in with it.
    pub(super) async fn register(
        &self,
        key: Root,
        user: UserKey,
        label: Option<String>,
        record: &Arc<Record>,
    ) -> Result<(), StoreError> {
        let login = NewLogin {
            user,
            key,
            label,
            absolute_timeout: self.absolute_timeout.get(),
            record: record.clone(),
            max_sessions: self.user_sessions,
        };
        users::register(&*self.store, login).await
    }

    /// The login of this user, which restarts the absolute lifetime.
    pub(super) fn login(&self, user: UserKey) -> Login {
        Login {
            user: Some(user),
            absolute_timeout: self.absolute_timeout.get(),
        }
    }

    /// Fails if the configuration has a timeout of zero, with which no session could be used.
    pub(super) fn check(&self) -> Result<(), SessionError> {
        let times = [
            self.idle,
            self.initial_idle_timeout,
            Some(self.absolute_timeout),
        ];
        if times.into_iter().flatten().any(Timeout::is_zero) {
            return Err(SessionErrorKind::InvalidTimeout.into());
        }
        Ok(())
    }

    /// Returns `true` if a session that the store has found is also within this layer's timeouts,
    /// which may have become shorter since the session was created.
    pub(super) fn admits(&self, record: &Record) -> bool {
        let now = clock::now();
        let idle = self.idle_of(record, false);
        now < record.began_at().plus(self.absolute_timeout.get()) && record.is_live_with(idle, now)
    }

    /// Returns `true` if another access is to be recorded.
    pub(super) fn is_touch_due(&self, record: &Record) -> bool {
        let idle = self.idle_of(record, true);
        record.is_touch_due_with(idle, clock::now())
    }

    /// The idle timeout in force for a session. `returned` is `true` if its browser has presented
    /// the cookie, as it does with this request. The result is the value set for the session or,
    /// without one, the shorter of the timeout that it was created with and the configured one.
    pub(super) fn idle_of(&self, record: &Record, returned: bool) -> Option<Duration> {
        let made_with = record.idle_time(returned);
        if record.has_own_idle_time() {
            return made_with;
        }
        let configured = if returned || record.has_returned() {
            self.idle.map(Timeout::get)
        } else {
            self.idle_of_new()
        };
        shorter(made_with, configured)
    }

    /// The idle timeout of a session that is created now.
    pub(super) fn idle_of_new(&self) -> Option<Duration> {
        let (idle, first) = (
            self.idle.map(Timeout::get),
            self.initial_idle_timeout.map(Timeout::get),
        );
        shorter(idle, first)
    }
}

/// The shorter of two times; `None` is no limit.
fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

impl Turnovers {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Clone for Turnovers {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> SessionService<S> {
        SessionService::new(inner, self.config.clone())
    }
}

impl Limits {
    /// Sets the limit for one attribute's encoded value.
    #[must_use]
    pub const fn with_attribute_bytes(mut self, bytes: usize) -> Self {
        self.attribute_bytes = bytes;
        self
    }

    /// Sets the limit for names and values together.
    #[must_use]
    pub const fn with_session_bytes(mut self, bytes: usize) -> Self {
        self.session_bytes = bytes;
        self
    }

    /// Sets the limit for the number of names.
    #[must_use]
    pub const fn with_attributes(mut self, count: usize) -> Self {
        self.attributes = count;
        self
    }

    /// Sets the limit for one name.
    #[must_use]
    pub const fn with_name_bytes(mut self, bytes: usize) -> Self {
        self.name_bytes = bytes;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attribute_bytes: 16 * MIB,
            session_bytes: 16 * MIB,
            attributes: 1024,
            name_bytes: 256,
        }
    }
}

/// Default number of sessions that a user may have.
const USER_SESSIONS: usize = 1_000;

/// The largest: a user's list of sessions takes about two megabytes then, and each login writes it.
const USER_SESSIONS_MAX: usize = 10_000;

const MIB: usize = 1 << 20;
/// The default of Tomcat and of other servlet containers.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// One day.
const ABSOLUTE: Duration = Duration::from_secs(24 * 60 * 60);
