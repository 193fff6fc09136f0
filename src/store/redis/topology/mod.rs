//! The owner of a session: one server, the primary named by sentinels, or a cluster's owner of a
//! slot.

mod cluster;
mod sentinel;
mod slot_table;
mod tasks;

use std::sync::Arc;

use tokio::time::Instant;

use self::cluster::ClusterTopology;
use self::sentinel::SentinelTopology;
use crate::store::redis::config::RedisConfig;
use crate::store::redis::error::RedisError;
use crate::store::redis::keys;
use crate::store::redis::near_cache::NearCache;
use crate::store::redis::url::{Address, Deployment};

/// Finds the server that owns a slot.
#[derive(Debug)]
pub(super) enum Topology {
    /// One server owns all of them.
    Standalone(Address),
    Sentinel(SentinelTopology),
    Cluster(ClusterTopology),
}

impl Topology {
    pub(super) fn new(config: &Arc<RedisConfig>, near_cache: Option<&Arc<NearCache>>) -> Self {
        let near_cache = near_cache.cloned();
        match &config.url.topology {
            Deployment::Standalone => Self::Standalone(config.url.addresses[0].clone()),
            Deployment::Sentinel { .. } => {
                Self::Sentinel(SentinelTopology::new(config.clone(), near_cache))
            }
            Deployment::Cluster => Self::Cluster(ClusterTopology::new(config.clone(), near_cache)),
        }
    }

    /// Returns the server that owns a key's slot; waits until it is known.
    pub(super) async fn owner(&self, key: &[u8], deadline: Instant) -> Result<Address, RedisError> {
        match self {
            Self::Standalone(address) => Ok(address.clone()),
            Self::Sentinel(sentinel) => sentinel.primary(deadline).await,
            Self::Cluster(cluster) => cluster.owner(keys::slot(key), deadline).await,
        }
    }

    /// Returns every server that owns slots; waits until they are known.
    pub(super) async fn primaries(&self, deadline: Instant) -> Result<Vec<Address>, RedisError> {
        match self {
            Self::Standalone(address) => Ok(vec![address.clone()]),
            Self::Sentinel(sentinel) => Ok(vec![sentinel.primary(deadline).await?]),
            Self::Cluster(cluster) => cluster.primaries(deadline).await,
        }
    }

    /// Returns a hash of the owners of slots, which differs when sessions may have moved from one
    /// server to another.
    pub(super) fn layout(&self) -> u64 {
        match self {
            // A replica that becomes the primary has the same sessions.
            Self::Standalone(_) | Self::Sentinel(_) => 0,
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
            Self::Standalone(_) | Self::Sentinel(_) => {
                let primaries = self.primaries(deadline).await?;
                Ok(vec![primaries.into_iter().next(); slots.len()])
            }
        }
    }

    /// Returns `true` if there is no other server to ask.
    pub(super) const fn is_fixed(&self) -> bool {
        matches!(self, Self::Standalone(_))
    }

    /// Returns `true` if the server is among those that may be asked.
    pub(super) fn contains(&self, address: &Address) -> bool {
        match self {
            Self::Standalone(_) => true,
            Self::Sentinel(sentinel) => sentinel.is_primary(address),
            Self::Cluster(cluster) => cluster.contains(address),
        }
    }

    /// Returns the first of the keys that this server owns, as far as that is known.
    pub(super) fn find_key_of(
        &self,
        address: &Address,
        mut keys: impl Iterator<Item = Vec<u8>>,
    ) -> Option<Vec<u8>> {
        match self {
            Self::Cluster(cluster) => cluster.find_key_of(address, keys),
            Self::Standalone(_) | Self::Sentinel(_) => keys.next(),
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
            Self::Standalone(_) | Self::Sentinel(_) => None,
        }
    }

    /// Records that an owner does not answer as an owner should.
    pub(super) fn mark_stale(&self) {
        match self {
            Self::Standalone(_) => {}
            Self::Sentinel(sentinel) => sentinel.mark_stale(),
            Self::Cluster(cluster) => cluster.mark_stale(),
        }
    }
}
