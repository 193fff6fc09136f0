//! The store whose sessions live in the memory of several nodes.

use std::net::SocketAddr;
use std::sync::Arc;

#[cfg(all(feature = "snapshot", unix))]
use crate::cluster::Copy;
use crate::cluster::{Cluster, ClusterStatus, DrainReport, ReplicatedStoreBuilder};
use crate::error::StoreError;
use crate::session::{Changes, Outcome, Record, SessionId, SessionKey};

use super::SessionStore;

/// Sessions in the memory of the application's own nodes: each node keeps every session, and any of
/// them can serve any.
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
/// // … and after the server has stopped:
/// store.drain().await;
/// # Ok(())
/// # }
/// ```
///
/// It promises that an acknowledged change is in the memory of every living node
/// ([`Ack::All`](crate::Ack::All)), that a read through any of them sees it, and that an ended
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
    /// it has everything that the others have. After [`drain`](Self::drain) that never comes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn ready(&self) {
        self.cluster.ready().await;
    }

    /// Leaves the cluster in order: waits up to ten seconds until another node has everything, says
    /// good-bye, and stops. Call it when no request is under way any more.
    ///
    /// [`is_ready`](Self::is_ready) says no at once, sessions are served until the node leaves. From
    /// then on every call is refused, and the port is free. The report says what could not be
    /// proved.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the node has left leaves it in the cluster, still serving.
    pub async fn drain(&self) -> DrainReport {
        self.cluster.drain().await
    }

    /// What this node holds in a slot.
    #[cfg(all(feature = "snapshot", unix))]
    pub(super) fn copies_in(&self, slot: usize) -> Vec<Copy> {
        self.cluster.export(slot)
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

    async fn load(&self, key: &SessionKey) -> Result<Option<Arc<Record>>, StoreError> {
        self.cluster.load(key).await
    }

    async fn commit(
        &self,
        key: &SessionKey,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        self.cluster.commit(key, base, &changes).await
    }

    async fn touch(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.cluster.touch(key);
        Ok(())
    }

    async fn end(&self, key: &SessionKey) -> Result<bool, StoreError> {
        self.cluster.end(key).await
    }
}
