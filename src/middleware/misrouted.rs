//! The number of misrouted requests: requests that were sent to another node than the one that
//! their cookie names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::layer::SessionLayer;

/// Counts requests whose cookie named a node other than the one that served them.
///
/// A clone starts at zero: a configuration is cloned to be changed, possibly for another node. The
/// services of one configuration share it without cloning.
#[derive(Debug, Default)]
pub(super) struct Turnovers(AtomicU64);

impl SessionLayer {
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
        self.config.turnovers.get()
    }
}

impl Turnovers {
    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Clone for Turnovers {
    fn clone(&self) -> Self {
        Self::default()
    }
}
