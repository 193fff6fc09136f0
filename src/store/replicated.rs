//! The store whose sessions live in the memory of several nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::cluster::{Cluster, ClusterStatus, DrainReport, ReplicatedStoreBuilder};
#[cfg(all(feature = "snapshot", unix))]
use crate::cluster::{HeldState, KeyedEntry, Survivor};
use crate::error::StoreError;
use crate::session::{Changes, Loaded, Outcome, Record, Root, SecretHash, SessionId};

use super::SessionStore;

/// Sessions in the memory of the application's own nodes: every node, or a number of them, keeps
/// each session ([`Copies`](crate::Copies)), and any of them can serve any.
///
/// ```no_run
/// use distributable::{ReplicatedStore, SessionLayer};
///
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let store = ReplicatedStore::builder("node1")
///     .bind("127.0.0.1:4000")
///     .peer("127.0.0.1:4001")
///     .start()
///     .await?;
/// let layer = SessionLayer::new(store.clone());
/// // … and after the server has stopped, see `drain_on`:
/// store.drain().await;
/// # Ok(())
/// # }
/// ```
///
/// It promises that an acknowledged change is in the memory of every living node that keeps the
/// session ([`Ack::All`](crate::Ack::All)), that a read through any node sees it, and that an ended
/// session has ended on all of them for ever. A node that has not caught up, or may have been left
/// behind, answers [`NotReady`](crate::StoreErrorKind::NotReady) instead of guessing.
///
/// It does not promise that both sides of a broken network agree while it is broken: both serve,
/// and merge afterwards. What is only in memory is gone when all nodes are.
///
/// This is a handle of one node; clones are the same node. The node stops abruptly when the last
/// one is dropped; [`drain`](Self::drain) stops it in order.
#[derive(Clone, Debug)]
pub struct ReplicatedStore {
    cluster: Arc<Cluster>,
}

impl ReplicatedStore {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let cluster = Arc::new(cluster);
        Self { cluster }
    }

    /// Begins a node called `name`: 1 to 32 letters, digits and underscores, different on every
    /// node, and the same as the route of the [`SessionLayer`](crate::SessionLayer) above it.
    pub fn builder(name: impl Into<String>) -> ReplicatedStoreBuilder {
        ReplicatedStoreBuilder::new(name.into())
    }

    /// How the node and its cluster are doing.
    #[must_use]
    pub fn status(&self) -> ClusterStatus {
        self.cluster.status()
    }

    /// Whether the node serves sessions: it has joined and caught up, and is not draining.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.cluster.is_ready()
    }

    /// Waits until the node serves sessions: at most two seconds if it finds nobody, otherwise until
    /// it has everything that the others have. It is about joining: a node that leaves answers at
    /// once, so ask [`is_ready`](Self::is_ready) where that matters.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn ready(&self) {
        self.cluster.ready().await;
    }

    /// Stops being a place for sessions, and begins to hand over what is here:
    /// [`is_ready`](Self::is_ready) says no from now on. Sessions are still found, and new ones live
    /// on the nodes that stay. [`drain_on`](Self::drain_on) does it at the right time.
    pub fn start_draining(&self) {
        self.cluster.start_draining();
    }

    /// Waits for `signal`, then stops being a place for sessions and goes on serving for `wait`: what
    /// [`with_graceful_shutdown`] takes. [`drain`](Self::drain) once the server has stopped.
    ///
    /// From the signal on [`is_ready`](Self::is_ready) says no, so that a balancer that asks sends
    /// nobody any more; meanwhile sessions are still found, new ones live on the nodes that stay, and
    /// what is here is handed over. `wait` should be longer than it takes the balancer to notice.
    ///
    /// ```no_run
    /// # async fn serve(
    /// #     listener: tokio::net::TcpListener,
    /// #     app: axum::Router,
    /// #     store: distributable::ReplicatedStore,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let ended = store.drain_on(distributable::shutdown_signal()?, Duration::from_secs(1));
    /// axum::serve(listener, app).with_graceful_shutdown(ended).await?;
    /// let report = store.drain().await;
    /// if !report.handed_over {
    ///     eprintln!("not everything was handed over: {report:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the signal has no effect; after it the node stays as it is until
    /// it is drained.
    ///
    /// [`with_graceful_shutdown`]: https://docs.rs/axum/0.8/axum/serve/struct.Serve.html#method.with_graceful_shutdown
    pub fn drain_on(
        &self,
        signal: impl Future<Output = ()> + Send + 'static,
        wait: Duration,
    ) -> impl Future<Output = ()> + Send + 'static {
        let store = self.clone();
        async move {
            signal.await;
            store.start_draining();
            sleep(wait).await;
        }
    }

    /// Leaves the cluster in order: hands over what is here, waits for the
    /// [proof](DrainReport::handed_over) at most the
    /// [`drain_timeout`](ReplicatedStoreBuilder::drain_timeout), says good-bye, and stops. Call it
    /// when no request is under way any more.
    ///
    /// [`is_ready`](Self::is_ready) says no at once, sessions are served until the node leaves. From
    /// then on every call is refused, and the port is free. The report says what could not be
    /// proved.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the node has left leaves it in the cluster, serving and a place for
    /// sessions again, also if [`start_draining`](Self::start_draining) was called before.
    pub async fn drain(&self) -> DrainReport {
        let report = self.cluster.drain().await;
        if report.handed_over {
            tracing::info!(
                "left the cluster: all {} sessions handed over",
                report.sessions
            );
        } else if report.last {
            tracing::info!(
                sessions = report.sessions,
                "left the cluster as its last node: its sessions are on no other node"
            );
        } else {
            tracing::warn!(
                "left the cluster without proof that {} sessions are elsewhere: {} members stay, \
                 {} changes are not acknowledged",
                report.sessions,
                report.remaining,
                report.unacknowledged
            );
        }
        report
    }

    /// What this node holds in a slot.
    #[cfg(all(feature = "snapshot", unix))]
    pub(super) fn copies_in(&self, slot: usize) -> Vec<KeyedEntry> {
        self.cluster.export(slot)
    }

    /// The members that stay if this node leaves now, or stayed when it left.
    #[cfg(all(feature = "snapshot", unix))]
    pub(super) fn survivors(&self) -> Vec<Survivor> {
        self.cluster.survivors()
    }

    /// What has become of sessions that this node may not use before it meets a member.
    #[cfg(all(feature = "snapshot", unix))]
    pub(super) fn held(&self) -> HeldState {
        self.cluster.held()
    }

    /// Where the node listens for the other nodes.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.cluster.local_addr()
    }
}

impl SessionStore for ReplicatedStore {
    fn new_id(&self) -> SessionId {
        self.cluster.new_id()
    }

    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        self.cluster.load(key, secret).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        self.cluster.commit(key, base, &changes).await
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        self.cluster.touch(key);
        Ok(())
    }

    async fn end(&self, key: &Root) -> Result<bool, StoreError> {
        self.cluster.end(key).await
    }

    fn route(&self, key: &Root) -> Option<String> {
        self.cluster.owner(key)
    }
}
