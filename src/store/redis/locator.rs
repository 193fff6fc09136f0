//! Who has which session.

use std::sync::Arc;

use tokio::time::Instant;

use super::address::{Address, Topology};
use super::error::RedisError;
use super::settings::Settings;

/// Knows, or finds out, which server owns a slot.
#[derive(Debug)]
pub(super) enum Locator {
    /// One server owns all of them.
    Alone(Address),
}

impl Locator {
    pub(super) fn new(settings: &Arc<Settings>) -> Self {
        match &settings.url.topology {
            Topology::Alone => Self::Alone(settings.url.addresses[0].clone()),
            Topology::Sentinel { .. } | Topology::Cluster => unreachable!("not built yet"),
        }
    }

    pub(super) async fn owner(
        &self,
        _slot: u16,
        _deadline: Instant,
    ) -> Result<Address, RedisError> {
        match self {
            Self::Alone(address) => Ok(address.clone()),
        }
    }

    /// Every server that owns slots.
    pub(super) async fn masters(&self, _deadline: Instant) -> Result<Vec<Address>, RedisError> {
        match self {
            Self::Alone(address) => Ok(vec![address.clone()]),
        }
    }

    /// Whether there is nowhere else to ask.
    pub(super) const fn is_fixed(&self) -> bool {
        matches!(self, Self::Alone(_))
    }

    /// A node has said who owns this slot now.
    pub(super) fn moved(&self, _slot: u16, _node: &str) {}

    /// A node has said who else to ask.
    pub(super) fn redirect(&self, _slot: u16, _node: &str) -> Option<Address> {
        None
    }

    /// The owner of this slot does not answer as an owner should.
    pub(super) fn suspect(&self, _slot: u16) {}
}
