//! The owner of a session: one server, the master named by sentinels, or a cluster's owner of a
//! slot.

mod cluster;
mod sentinel;

use std::sync::Arc;

use tokio::time::Instant;

use self::cluster::Cluster;
use self::sentinel::Sentinel;
use crate::store::redis::config::Settings;
use crate::store::redis::error::RedisError;
use crate::store::redis::keys;
use crate::store::redis::near_cache::Near;
use crate::store::redis::url::{Address, Topology};

/// Finds the server that owns a slot.
#[derive(Debug)]
pub(super) enum Locator {
    /// One server owns all of them.
    Alone(Address),
    Sentinel(Sentinel),
    Cluster(Cluster),
}

impl Locator {
    pub(super) fn new(settings: &Arc<Settings>, near: Option<&Arc<Near>>) -> Self {
        let near = near.cloned();
        match &settings.url.topology {
            Topology::Alone => Self::Alone(settings.url.addresses[0].clone()),
            Topology::Sentinel { .. } => Self::Sentinel(Sentinel::new(settings.clone(), near)),
            Topology::Cluster => Self::Cluster(Cluster::new(settings.clone(), near)),
        }
    }

    /// Returns the server that owns a key's slot; waits until it is known.
    pub(super) async fn owner(&self, key: &[u8], deadline: Instant) -> Result<Address, RedisError> {
        match self {
            Self::Alone(address) => Ok(address.clone()),
            Self::Sentinel(sentinel) => sentinel.master(deadline).await,
            Self::Cluster(cluster) => cluster.owner(keys::slot(key), deadline).await,
        }
    }

    /// Returns every server that owns slots; waits until they are known.
    pub(super) async fn masters(&self, deadline: Instant) -> Result<Vec<Address>, RedisError> {
        match self {
            Self::Alone(address) => Ok(vec![address.clone()]),
            Self::Sentinel(sentinel) => Ok(vec![sentinel.master(deadline).await?]),
            Self::Cluster(cluster) => cluster.masters(deadline).await,
        }
    }

    /// Returns a hash of the owners of slots, which differs when sessions may have moved from one
    /// server to another.
    pub(super) fn layout(&self) -> u64 {
        match self {
            // A replica that becomes the master has the same sessions.
            Self::Alone(_) | Self::Sentinel(_) => 0,
            Self::Cluster(cluster) => cluster.layout(),
        }
    }

    /// Returns the owners of these slots, as far as they have one; waits until they are known.
    pub(super) async fn owners(
        &self,
        slots: &[u16],
        deadline: Instant,
    ) -> Result<Vec<Option<Address>>, RedisError> {
        match self {
            Self::Cluster(cluster) => cluster.owners(slots, deadline).await,
            Self::Alone(_) | Self::Sentinel(_) => {
                let masters = self.masters(deadline).await?;
                Ok(vec![masters.into_iter().next(); slots.len()])
            }
        }
    }

    /// Returns `true` if there is no other server to ask.
    pub(super) const fn is_fixed(&self) -> bool {
        matches!(self, Self::Alone(_))
    }

    /// Returns `true` if the server is among those that may be asked.
    pub(super) fn knows(&self, address: &Address) -> bool {
        match self {
            Self::Alone(_) => true,
            Self::Sentinel(sentinel) => sentinel.is_master(address),
            Self::Cluster(cluster) => cluster.knows(address),
        }
    }

    /// Records the owner of a key's slot that the server `from` has named.
    pub(super) fn moved(&self, key: &[u8], node: &str, from: &Address) {
        if let Self::Cluster(cluster) = self {
            cluster.moved(keys::slot(key), node, from);
        }
    }

    /// Returns the server to which `from` redirects.
    pub(super) fn redirect(&self, node: &str, from: &Address) -> Option<Address> {
        match self {
            Self::Cluster(_) => from.redirect(node),
            Self::Alone(_) | Self::Sentinel(_) => None,
        }
    }

    /// Records that an owner does not answer as an owner should.
    pub(super) fn suspect(&self) {
        match self {
            Self::Alone(_) => {}
            Self::Sentinel(sentinel) => sentinel.suspect(),
            Self::Cluster(cluster) => cluster.suspect(),
        }
    }
}
