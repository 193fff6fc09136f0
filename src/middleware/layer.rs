//! What the application configures, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tower_layer::Layer;

use super::service::SessionService;
use super::{Route, SessionCookie};
use crate::session::Changes;
use crate::store::SessionStore;
use crate::store::erased::ErasedStore;

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
/// # What is stored when
///
/// What a handler wrote is committed after it has returned, whatever status it returned, and before
/// the response leaves. A handler that panics has not returned: nothing is stored (put a layer that
/// catches panics outside this one). If the commit fails, or does not take effect because the session
/// has ended or expired meanwhile, a plain response with the
/// [error's status](crate::SessionError::status) stands in for the handler's. It sets no cookie,
/// unless an earlier `save` or `update` of the same request has changed the id.
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
    pub(super) idle: Option<Duration>,
    pub(super) absolute: Duration,
    pub(super) first_visit: Option<Duration>,
    pub(super) limits: Limits,
    pub(super) turnovers: Turnovers,
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
    /// Names in a session; removed ones count, because their removal is remembered. Defaults to
    /// 1,024.
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
                idle: Some(IDLE),
                absolute: ABSOLUTE,
                first_visit: None,
                limits: Limits::default(),
                turnovers: Turnovers::default(),
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
    #[must_use]
    pub fn with_cookie(mut self, cookie: SessionCookie) -> Self {
        self.config().cookie = cookie;
        self
    }

    /// How long a session may pause between two requests; `None`: no limit but the absolute one.
    /// Defaults to 30 minutes.
    #[must_use]
    pub fn with_idle_timeout(mut self, idle: Option<Duration>) -> Self {
        self.config().idle = idle;
        self
    }

    /// How long after its creation a session ends, whatever happens. Defaults to 24 hours.
    #[must_use]
    pub fn with_absolute_timeout(mut self, absolute: Duration) -> Self {
        self.config().absolute = absolute;
        self
    }

    /// A shorter idle time for sessions with which nobody has come back yet: robots never do.
    /// Defaults to none.
    #[must_use]
    pub fn with_first_visit_timeout(mut self, idle: Duration) -> Self {
        self.config().first_visit = Some(idle);
        self
    }

    /// How large a session may become.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.config().limits = limits;
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
    /// assert_eq!(layer.turnovers(), 0);
    /// # }
    /// # Ok::<(), distributable::InvalidRoute>(())
    /// ```
    #[doc(alias = "failovers")]
    #[must_use]
    pub fn turnovers(&self) -> u64 {
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
    pub(super) fn make_create(&self, changes: &mut Changes) {
        changes.make_create(self.idle, self.absolute);
        if let Some(idle) = self.first_visit {
            changes.first_visit(idle);
        }
    }
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

const MIB: usize = 1 << 20;
/// Tomcat's and the Servlet world's habit.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// A working day and its evening.
const ABSOLUTE: Duration = Duration::from_secs(24 * 60 * 60);
