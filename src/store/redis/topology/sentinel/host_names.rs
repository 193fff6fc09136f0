//! The addresses behind the host names of servers: two names may lead to one server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use crate::store::redis::topology::sentinel::ANSWER_WITHIN;
use crate::store::redis::url::Address;

/// The addresses of host names.
#[derive(Debug, Default)]
pub(super) struct HostNames(HashMap<Address, (Instant, Vec<SocketAddr>)>);

impl HostNames {
    /// Looks up the unknown names, and drops those that are not needed.
    pub(super) async fn resolve(&mut self, addresses: &[Address]) {
        self.0
            .retain(|address, (at, _)| addresses.contains(address) && at.elapsed() < NAMES_FOR);
        if addresses.windows(2).all(|two| two[0] == two[1]) {
            return;
        }
        for address in addresses {
            if !self.0.contains_key(address) {
                let lookup = lookup_host((address.host.as_str(), address.port));
                let found = match timeout(ANSWER_WITHIN, lookup).await {
                    Ok(Ok(found)) => found.map(canonical).collect(),
                    _ => Vec::new(),
                };
                self.0.insert(address.clone(), (Instant::now(), found));
            }
        }
    }

    /// Returns `true` if both names lead to one server.
    pub(super) fn are_one(&self, one: &Address, other: &Address) -> bool {
        let found = |address| self.0.get(address).map(|(_, found)| found.as_slice());
        one == other
            || found(one)
                .zip(found(other))
                .is_some_and(|(one, other)| one.iter().any(|address| other.contains(address)))
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// How long the addresses of a name are used.
const NAMES_FOR: Duration = Duration::from_secs(10);
