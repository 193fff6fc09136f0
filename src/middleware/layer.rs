//! What the application configures, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tower_layer::Layer;

use super::hint::Hint;
use super::service::SessionService;
use super::timeout::Timeout;
use super::{Route, SessionCookie, SessionError, SessionErrorKind};
use crate::clock;
use crate::error::StoreError;
use crate::session::{Changes, Login, Record, Root, SecretHash, UserKey};
use crate::store::SessionStore;
use crate::store::erased::ErasedStore;
use crate::store::users::{self, NewLogin};

/// Gives every request below it a session to ask for.
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
/// # Ok::<(), distributable::InvalidRoute>(())
/// ```
///
/// A route that does not ask costs next to nothing: no cookie is read, no store is called, the
/// response says nothing about sessions. Where one is asked for, the response varies on the cookie,
/// and carries a new one only if there is something new to say.
///
/// Layers nest. Of two with the same cookie name the outer one is in charge and the inner one passes
/// everything through. Two with different names are two sessions; a handler gets that of the inner
/// layer.
///
/// The request's `Cookie` header, which contains the id, is marked
/// [sensitive](http::HeaderValue::set_sensitive) for everything inside: its `Debug` output is hidden.
/// For layers that log requests outside of this one, put tower-http's
/// `SetSensitiveRequestHeadersLayer` with `COOKIE` around them.
///
/// # What is stored when
///
/// What a handler wrote is committed after it has returned, whatever status it returned, and before
/// the response leaves. If the commit fails, or does not take effect because the session
/// has ended or expired meanwhile, a plain response with the
/// [error's status](crate::SessionError::status) stands in for the handler's. It sets no cookie,
/// unless an earlier `save` or `update` of the same request has changed the id.
///
/// [`save`](crate::Session::save), [`update`](crate::Session::update) and
/// [`invalidate`](crate::Session::invalidate) take effect at once, and nothing that happens to the
/// request afterwards takes them back. In this table *saved* is what they have stored, and *staged*
/// is what was written and not saved:
///
/// | what happens | saved | staged | cookie |
/// | --- | --- | --- | --- |
/// | the handler returns, with any status | stays | stored | sent |
/// | the handler panics; the layer that catches it is outside this one, or there is none | stays | dropped | not sent |
/// | the handler panics; the layer that catches it is inside | stays | stored | sent |
/// | a time-out, or a client that goes away; the layer that notices is outside this one | stays | dropped, unless the commit has begun | not sent |
/// | a time-out; the layer that notices is inside | stays | stored | sent |
/// | the last commit fails | stays | not stored (with [`Indeterminate`](crate::StoreErrorKind::Indeterminate): may be stored) | sent only if an earlier commit has changed the id |
/// | the last commit rotates the id and fails with `Indeterminate` | stays | taken back as soon as the store answers | not sent |
/// | the session was ended or has expired meanwhile | is gone | dropped, 409 | not sent |
/// | another request has rotated the id meanwhile | stays | stored; with `cycle_id`: dropped, 409 | not sent |
///
/// So a request that calls `cycle_id` and `save`, and is then cut off outside this layer, leaves the
/// browser with an id that is not valid any more: the visitor is logged out. To avoid that, leave
/// the commit to this layer, or put layers for panics and time-outs inside it; those then store what
/// was staged so far.
///
/// # First visits
///
/// Requests without a cookie that run at the same time and write each make a session of their own;
/// the browser keeps the one whose response comes last. Where a page loads several resources that
/// write, have the page itself make the session first.
///
/// # What counts as a use
///
/// A request uses its session from the moment when it takes it: the access is recorded then, once a
/// tenth of the idle time (at most a minute) has passed since the one before. A request that runs
/// for as long as the idle time or longer touches the session again and again, so that the session
/// does not idle out under it. The body of a response that is still being sent is no use; a
/// [detached](crate::Session::detached) handle counts when it commits or calls
/// [`touch`](crate::Session::touch).
///
/// The idle time of a session is that of the layer which has created it, or what
/// [`set_max_inactive_interval`](crate::Session::set_max_inactive_interval) has set: where nodes are
/// configured differently, the node that creates a session decides.
#[derive(Clone, Debug)]
pub struct SessionLayer {
    config: Arc<Config>,
}

/// Everything that the requests of one layer share.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) store: Arc<dyn ErasedStore>,
    pub(super) cookie: SessionCookie,
    pub(super) route: Option<Route>,
    pub(super) affinity: Affinity,
    idle: Option<Timeout>,
    absolute: Timeout,
    first_visit: Option<Timeout>,
    pub(super) limits: Limits,
    /// The sessions that a user may have, and what comes of more.
    user_sessions: usize,
    refuses_excess: bool,
    pub(super) turnovers: Turnovers,
    pub(super) hint: Hint,
}

/// How many requests came to a node that their cookie did not name.
///
/// A clone counts from zero: a configuration is copied to become another one, maybe another node's,
/// while everything that serves by one configuration shares it.
#[derive(Debug, Default)]
pub(super) struct Turnovers(AtomicU64);

/// Which node the cookie's route names, so that a sticky balancer sends the next request there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Affinity {
    /// The node that has served: a client that was sent elsewhere stays there.
    #[default]
    Local,
    /// The node that holds the session, where the store knows it: clients follow their data.
    Owner,
    /// The node that issued the cookie; it is not re-issued because another node has served.
    Off,
}

/// How large a session may become. What goes beyond is refused by the call that tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// One attribute's encoded value. Defaults to 16 MiB.
    pub attribute_bytes: usize,
    /// Names and values of a session together. Defaults to 16 MiB.
    pub session_bytes: usize,
    /// Attributes in a session; removed ones do not count. Defaults to 1,024.
    pub attributes: usize,
    /// One attribute's name. Defaults to 256.
    pub name_bytes: usize,
}

impl SessionLayer {
    /// Sessions live in `store`; everything else is at its default.
    pub fn new<S: SessionStore>(store: S) -> Self {
        Self {
            config: Arc::new(Config {
                store: Arc::new(store),
                cookie: SessionCookie::default(),
                route: None,
                affinity: Affinity::default(),
                idle: Some(Timeout::new(IDLE)),
                absolute: Timeout::new(ABSOLUTE),
                first_visit: None,
                limits: Limits::default(),
                user_sessions: USER_SESSIONS,
                refuses_excess: false,
                turnovers: Turnovers::default(),
                hint: Hint::default(),
            }),
        }
    }

    /// This node's name, which goes into the cookie behind the id. Defaults to none.
    #[must_use]
    pub fn with_route(mut self, route: Route) -> Self {
        self.config().route = Some(route);
        self
    }

    /// Which node the cookie names. Defaults to [`Affinity::Local`].
    #[must_use]
    pub fn with_affinity(mut self, affinity: Affinity) -> Self {
        self.config().affinity = affinity;
        self
    }

    /// The cookie's name and attributes. Defaults to [`SessionCookie::default`].
    ///
    /// Cookies do not know ports: two applications on one host, also on different ports, replace each
    /// other's cookie if both use the default name. Give each a name of its own, or a path.
    #[must_use]
    pub fn with_cookie(mut self, cookie: SessionCookie) -> Self {
        self.config().cookie = cookie;
        self
    }

    /// How long a session may pause between two requests; `None`: no limit but the absolute one.
    /// Defaults to 30 minutes. More than 100 years are 100 years; zero is the error
    /// [`InvalidTimeout`](crate::SessionErrorKind::InvalidTimeout) of every request that takes the
    /// session.
    ///
    /// A shorter time than a stored session was made with applies at once, at this layer: what has
    /// been idle for longer is not found any more. A longer one does not extend the stored session.
    /// What [`set_max_inactive_interval`](crate::Session::set_max_inactive_interval) has set for one
    /// session stays.
    #[must_use]
    pub fn with_idle_timeout(mut self, idle: Option<Duration>) -> Self {
        self.config().idle = idle.map(Timeout::new);
        self
    }

    /// How long after its creation a session ends, whatever happens. Defaults to 24 hours. For zero
    /// and huge times see [`with_idle_timeout`](Self::with_idle_timeout).
    ///
    /// A shorter time than a stored session was made with applies at once, at this layer: older
    /// sessions are not found any more. A longer one does not extend them. To end sessions after an
    /// incident, restart all nodes with a short time.
    #[must_use]
    pub fn with_absolute_timeout(mut self, absolute: Duration) -> Self {
        self.config().absolute = Timeout::new(absolute);
        self
    }

    /// A shorter idle time for sessions whose browser has not come back yet: robots never do.
    /// Defaults to none. An idle time that a handler sets for the session comes before it.
    #[must_use]
    pub fn with_initial_idle_timeout(mut self, idle: Duration) -> Self {
        self.config().first_visit = Some(Timeout::new(idle));
        self
    }

    /// How large a session may become.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.config().limits = limits;
        self
    }

    /// How many sessions a user may have who [logs in](crate::Session::log_in), at least one. Once a
    /// login is stored, the sessions with the oldest logins that are too many are ended; or the login
    /// is refused, with [`with_excess_logins_refused`](Self::with_excess_logins_refused).
    ///
    /// Defaults to 1,000. Logins that run at the same time may exceed it for a moment.
    #[must_use]
    pub fn with_max_sessions_per_user(mut self, sessions: usize) -> Self {
        self.config().user_sessions = sessions.max(1);
        self
    }

    /// Refuses a login of a user who has as many sessions as are allowed, with
    /// [`TooManySessions`](SessionErrorKind::TooManySessions), instead of ending the oldest one.
    #[must_use]
    pub fn with_excess_logins_refused(mut self) -> Self {
        self.config().refuses_excess = true;
        self
    }

    /// How many requests came to this node although their cookie named another one: *turnovers*.
    ///
    /// One request counts once, when its handler takes the session, the session is found, and what
    /// stands behind the dot of its cookie is a route and not this node's. That is so with every
    /// [`Affinity`]. A cookie without a route, or with something that can be none, names no node
    /// and does not count. Without [`with_route`](Self::with_route) it stays 0.
    ///
    /// It counts since this layer was last configured. Clones count together, and with the services
    /// that they have made, so keep one to ask. A clone that is configured further is another
    /// layer, and begins at 0.
    ///
    /// With a sticky balancer it rises when another node fails or is taken out, by one for each of
    /// that node's users who is sent here, and rests otherwise. If it keeps rising while all nodes
    /// are up, the balancer does not follow the cookie: it looks for another cookie or for other
    /// routes, or is not sticky at all. So much for [`Affinity::Local`]. With [`Affinity::Owner`]
    /// and [`Affinity::Off`] every request counts for as long as the cookie goes on naming another
    /// node. A route is the client's word: anybody who has a session can make the number rise.
    ///
    /// ```
    /// # #[cfg(all(feature = "axum", feature = "memory"))] {
    /// use distributable::{MemoryStore, Route, SessionLayer};
    ///
    /// let layer = SessionLayer::new(MemoryStore::new()).with_route(Route::new("node1")?);
    /// let app: axum::Router = axum::Router::new().layer(layer.clone());
    /// assert_eq!(layer.misrouted_requests(), 0);
    /// # }
    /// # Ok::<(), distributable::InvalidRoute>(())
    /// ```
    #[doc(alias = "failovers")]
    #[must_use]
    pub fn misrouted_requests(&self) -> u64 {
        self.config.turnovers.0.load(Relaxed)
    }

    /// The configuration of a layer nobody has configured.
    pub(super) fn into_config(self) -> Arc<Config> {
        self.config
    }

    fn config(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }
}

impl Config {
    /// Makes changes the birth of a session.
    pub(super) fn make_create(&self, secret: SecretHash, changes: &mut Changes) {
        changes.make_create(secret, self.idle.map(Timeout::get), self.absolute.get());
        if let Some(idle) = self.first_visit {
            changes.first_visit(idle.get());
        }
    }

    /// Fails if the user has too many sessions to log in once more, and the oldest is not to be ended.
    pub(super) async fn check_excess(
        &self,
        user: &UserKey,
        key: &Root,
    ) -> Result<(), SessionError> {
        if !self.refuses_excess {
            return Ok(());
        }
        let sessions = users::sessions_of(&*self.store, *user).await?;
        let others = sessions.iter().filter(|session| session.key != *key);
        match others.count() < self.user_sessions {
            true => Ok(()),
            false => Err(SessionErrorKind::TooManySessions.into()),
        }
    }

    /// Lists a session as one of the user who has logged in with it.
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
            absolute: self.absolute.get(),
            record: record.clone(),
            max_sessions: self.user_sessions,
        };
        users::register(&*self.store, login).await
    }

    /// A login as this user: the absolute lifetime begins anew.
    pub(super) fn login(&self, user: UserKey) -> Login {
        Login {
            user: Some(user),
            absolute: self.absolute.get(),
        }
    }

    /// Refuses a configuration with which every session would end before it is used.
    pub(super) fn check(&self) -> Result<(), SessionError> {
        let times = [self.idle, self.first_visit, Some(self.absolute)];
        if times.into_iter().flatten().any(Timeout::is_zero) {
            return Err(SessionErrorKind::InvalidTimeout.into());
        }
        Ok(())
    }

    /// Returns `true` if a session that the store has found is within this layer's limits as well,
    /// which may have become shorter since the session was made.
    pub(super) fn admits(&self, record: &Record) -> bool {
        let now = clock::now();
        let idle = self.idle_of(record, false);
        now < record.began_at().plus(self.absolute.get()) && record.is_live_with(idle, now)
    }

    /// Returns `true` if it is time to record another access.
    pub(super) fn is_touch_due(&self, record: &Record) -> bool {
        let idle = self.idle_of(record, true);
        record.is_touch_due_with(idle, clock::now())
    }

    /// The idle time in force for a session, whose browser has come back with it now if it has
    /// `returned`: what was set for the session, or the shorter of what it was made with and what is
    /// configured now.
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

    /// The idle time of a session that is made now.
    pub(super) fn idle_of_new(&self) -> Option<Duration> {
        let (idle, first) = (
            self.idle.map(Timeout::get),
            self.first_visit.map(Timeout::get),
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

/// How many sessions a user may have.
const USER_SESSIONS: usize = 1_000;

const MIB: usize = 1 << 20;
/// Tomcat's and the Servlet world's habit.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// A working day and its evening.
const ABSOLUTE: Duration = Duration::from_secs(24 * 60 * 60);
