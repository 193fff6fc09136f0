//! The store that replicates sessions between the memories of several nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::cluster::{ClusterHandle, ClusterStatus, DrainReport, ReplicatedStoreBuilder};
#[cfg(all(feature = "snapshot", unix))]
use crate::cluster::{KeyedEntry, SurvivingMember, WithheldState};
use crate::error::StoreError;
use crate::events::SessionEvents;
use crate::session::{
    Changes, EndReason, Loaded, Outcome, Record, Root, Scope, SecretHash, SessionCursor, SessionId,
    SessionPage,
};
use crate::watch::SessionWatch;

use crate::store::SessionStore;

/// Sessions in the memory of the application's own nodes: all nodes, or a configured number of them
/// ([`Copies`](crate::Copies)), keep each session, and every node can serve every session.
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
/// An acknowledged change is in the memory of every live node that keeps the session
/// ([`Ack::All`](crate::Ack::All)), a read through any node returns it, and an ended session has
/// ended on all of them permanently. A node that has not caught up, or may have been cut off,
/// returns [`NotReady`](crate::StoreErrorKind::NotReady) rather than a stale answer.
///
/// During a network partition the two sides do not agree: both serve, and merge afterward.
/// Sessions that are only in memory are lost when all nodes stop.
///
/// This is a handle of one node; clones refer to the same node. The node stops abruptly when the
/// last one is dropped; [`drain`](Self::drain) stops it in order.
#[derive(Clone, Debug)]
pub struct ReplicatedStore {
    cluster: Arc<ClusterHandle>,
}

impl ReplicatedStore {
    pub(crate) fn new(cluster: ClusterHandle) -> Self {
        let cluster = Arc::new(cluster);
        Self { cluster }
    }

    /// Returns a builder for a node called `name`: 1 to 32 letters, digits and underscores, unique
    /// in the cluster, and the same as the route of the [`SessionLayer`](crate::SessionLayer) above
    /// it.
    pub fn builder(name: impl Into<String>) -> ReplicatedStoreBuilder {
        ReplicatedStoreBuilder::new(name.into())
    }

    /// Returns the state of the node and its cluster.
    #[must_use]
    pub fn status(&self) -> ClusterStatus {
        self.cluster.status()
    }

    /// Returns `true` if the node serves sessions: it has joined and caught up, and is not
    /// draining.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.cluster.is_ready()
    }

    /// Waits until the node serves sessions: until it has joined and received all sessions that it
    /// keeps. Without a member this takes two seconds if every configured address refuses
    /// connections, and `join_timeout` if one does not answer. It does not end while a node of the
    /// cluster rejects this one, so use a timeout. It also returns when the node leaves, whether or
    /// not it has ever served: check [`is_ready`](Self::is_ready) where that matters.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn ready(&self) {
        self.cluster.ready().await;
    }

    /// Starts draining: this node takes no new sessions and transfers its sessions to the remaining
    /// nodes. [`is_ready`](Self::is_ready) returns `false` from now on. Its sessions can still be
    /// read and written through it. [`drain_on`](Self::drain_on) calls it on a signal.
    pub fn start_draining(&self) {
        self.cluster.start_draining();
    }

    /// Waits for `signal`, then starts draining and goes on serving for `grace`; made for
    /// [`with_graceful_shutdown`]. Call [`drain`](Self::drain) once the server has stopped.
    ///
    /// From the signal on [`is_ready`](Self::is_ready) returns `false`, so that a balancer with
    /// health checks sends no more clients. Meanwhile sessions are still served, new ones are
    /// placed on the remaining nodes, and this node's sessions are transferred to them. `grace`
    /// should exceed the time that the balancer takes to notice.
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
    /// if !report.complete && !report.last {
    ///     eprintln!("the other nodes may lack sessions: {report:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the signal has no effect; after it, the node keeps draining until
    /// [`drain`](Self::drain) is called.
    ///
    /// [`with_graceful_shutdown`]: https://docs.rs/axum/0.8/axum/serve/struct.Serve.html#method.with_graceful_shutdown
    pub fn drain_on(
        &self,
        signal: impl Future<Output = ()> + Send + 'static,
        grace: Duration,
    ) -> impl Future<Output = ()> + Send + 'static {
        let store = self.clone();
        async move {
            signal.await;
            store.start_draining();
            sleep(grace).await;
        }
    }

    /// Leaves the cluster in order: transfers this node's sessions, waits for the
    /// [proof](DrainReport::complete) of that for at most the
    /// [`drain_timeout`](ReplicatedStoreBuilder::drain_timeout), announces the departure, and
    /// stops. Call it when no request is running any more.
    ///
    /// [`is_ready`](Self::is_ready) returns `false` at once; sessions are served until the node
    /// leaves. From then on every call fails, and the port is free. The report states what could
    /// not be proved.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the node has left keeps it in the cluster: it serves and takes
    /// new sessions again, even if [`start_draining`](Self::start_draining) was called before.
    pub async fn drain(&self) -> DrainReport {
        let report = self.cluster.drain().await;
        if report.complete {
            tracing::info!(
                sessions = report.sessions,
                "left the cluster: all sessions handed over"
            );
        } else if report.last {
            tracing::info!(
                sessions = report.sessions,
                "left the cluster as its last node: its sessions are on no other node"
            );
        } else {
            tracing::warn!(
                sessions = report.sessions,
                members = report.members_remaining,
                unacknowledged = report.unacknowledged,
                "left before all sessions were confirmed by other members; raise `drain_timeout`"
            );
        }
        report
    }

    /// The entries that this node holds in a slot.
    #[cfg(all(feature = "snapshot", unix))]
    pub(super) fn copies_in(&self, slot: usize) -> Vec<KeyedEntry> {
        self.cluster.export(slot)
    }

    /// The members that remain if this node leaves now, or remained when it left.
    #[cfg(all(feature = "snapshot", unix))]
    pub(super) fn survivors(&self) -> Vec<SurvivingMember> {
        self.cluster.survivors()
    }

    /// The state of sessions that this node may not use before it contacts a member.
    #[cfg(all(feature = "snapshot", unix))]
    pub(super) fn withheld_state(&self) -> WithheldState {
        self.cluster.withheld_state()
    }

    /// Returns the address on which the node listens for other nodes.
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

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        self.delete_because(key, EndReason::Admin).await
    }

    async fn delete_because(&self, key: &Root, reason: EndReason) -> Result<bool, StoreError> {
        if key.is_index() {
            return Ok(false);
        }
        self.cluster.delete(key, reason).await
    }

    fn events(&self, scope: Scope) -> Result<SessionEvents, StoreError> {
        Ok(self.cluster.events(scope))
    }

    async fn list(
        &self,
        scope: Scope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Result<SessionPage, StoreError> {
        self.cluster.list(scope, after, limit).await
    }

    fn watch(&self, key: &Root) -> Option<SessionWatch> {
        self.cluster.watch(key)
    }

    fn route(&self, key: &Root) -> Option<String> {
        self.cluster.owner(key)
    }

    fn is_divided(&self) -> bool {
        self.cluster.is_divided()
    }
}
