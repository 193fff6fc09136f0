//! The parameters of connections to a server.

use std::sync::Arc;
use std::time::Duration;

use crate::store::redis::config::RedisConfig;
use crate::store::redis::near_cache::NearCache;
use crate::store::redis::presence::Presence;
use crate::store::redis::topology::Topology;

/// The parameters of the task that keeps a server connected.
pub(super) struct ServerOptions {
    pub(super) config: Arc<RedisConfig>,
    pub(super) topology: Arc<Topology>,
    /// The near-cache that receives the server's invalidations.
    pub(super) near_cache: Option<Arc<NearCache>>,
    /// How long a connection with a pending request may be silent.
    pub(super) patience: Duration,
    /// Counts usable connections; without it, failures are not logged either.
    pub(super) presence: Option<Arc<Presence>>,
}
