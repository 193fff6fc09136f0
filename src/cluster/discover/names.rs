//! Nodes that are given as `host:port`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::super::driver::Driver;

/// Looks up the names again and again, and has the addresses behind them dialled, for ever.
pub(super) async fn seek(driver: Arc<Driver>, names: Arc<[String]>) {
    // Each on its own: a name server that does not answer for one holds up nobody else.
    let mut each = JoinSet::new();
    for name in names.iter().cloned() {
        each.spawn(follow(driver.clone(), name));
    }
    while let Some(ended) = each.join_next().await {
        if let Err(error) = ended {
            tracing::error!("looking for replication peers has failed: {error}");
        }
    }
}

async fn follow(driver: Arc<Driver>, name: String) {
    let mut round = interval(LOOK_UP_INTERVAL);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        round.tick().await;
        for address in resolve(&name).await {
            if !driver.links.suggest(address) && !told {
                told = true;
                tracing::warn!(
                    "replication peer {name} is {address}, on another machine: it is not dialled, \
                     because this node cannot be reached from there; give it an address with \
                     `bind`, or with `advertise`"
                );
            }
        }
    }
}

/// The addresses behind `host:port`; none when nobody knows.
pub(in super::super) async fn resolve(name: &str) -> Vec<SocketAddr> {
    if let Ok(address) = name.parse() {
        return vec![address];
    }
    let found = lookup_host(name).await;
    found.map_or_else(|_| Vec::new(), |found| found.take(ADDRESSES_MAX).collect())
}

/// How often names are looked up, and new addresses among them dialled.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(1);
/// How many addresses of one name count: as many as a cluster of memory copies has members, and
/// some that are on their way in or out.
const ADDRESSES_MAX: usize = 64;
