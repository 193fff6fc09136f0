//! Discovery by name: nodes configured as `host:port`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::clock;
use crate::cluster::driver::Driver;
use crate::cluster::throttle::{LOG_EVERY, Throttle};
use crate::cluster::transport::{Lookup, look_up};

/// Resolves the names repeatedly, for as long as the node runs, and has their addresses dialed.
pub(super) async fn watch_names(driver: Arc<Driver>, names: Arc<[String]>) {
    // Separate tasks: a slow lookup of one name does not delay the other ones.
    let mut each = JoinSet::new();
    for name in names.iter().cloned() {
        each.spawn(watch_name(driver.clone(), name));
    }
    while let Some(ended) = each.join_next().await {
        if let Err(error) = ended {
            tracing::error!(cause = %error, "resolving replication peers has failed");
        }
    }
}

async fn watch_name(driver: Arc<Driver>, name: String) {
    let mut warned = false;
    let mut failing = NameFailure::begin();
    loop {
        let mut looking_up = pin!(look_up(&name));
        let lookup = match timeout(LOOK_UP_TIMEOUT, &mut looking_up).await {
            Ok(lookup) => lookup,
            Err(_) => {
                // A thread waits for the answer: only one at a time.
                driver
                    .addresses
                    .resolved(clock::now(), &name, &Lookup::Failure);
                failing.report(&name, &Lookup::Failure);
                looking_up.await
            }
        };
        driver.addresses.resolved(clock::now(), &name, &lookup);
        failing.report(&name, &lookup);
        for address in lookup.into_addresses() {
            if !driver.links.add_candidate(address) && !warned {
                warned = true;
                tracing::warn!(
                    name = %name,
                    %address,
                    "a replication peer on another machine is not dialed, because it cannot reach \
                     this node; set an address of this machine with `bind` or `advertise`"
                );
            }
        }
        let pause = if driver.is_looking() {
            LOOKING_INTERVAL
        } else {
            LOOK_UP_INTERVAL
        };
        sleep(pause).await;
    }
}

/// Has the former members of this node dialed while it looks for them.
pub(super) async fn dial_former(driver: &Driver) {
    loop {
        for address in driver.addresses.former() {
            driver.links.add_candidate(address);
        }
        sleep(LOOK_UP_INTERVAL).await;
    }
}

/// A name that does not resolve, and when that was logged.
#[derive(Debug)]
struct NameFailure {
    since: Instant,
    throttle: Throttle,
}

impl NameFailure {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            throttle: Throttle::new(LOG_EVERY),
        }
    }

    /// Logs a name that stays without an address: after a short time, and then each minute.
    fn report(&mut self, name: &str, lookup: &Lookup) {
        let cause = match lookup {
            Lookup::Addresses(_) => return *self = Self::begin(),
            Lookup::NotFound => "the name does not exist, or has no address",
            Lookup::Failure => "the name server fails or does not answer",
        };
        if self.since.elapsed() >= FAILING_FOR && self.throttle.is_due(clock::now()) {
            tracing::warn!(
                name = %name,
                cause,
                "the name of a replication peer does not resolve"
            );
        }
    }
}

/// Interval between lookups of a name.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(1);
/// The interval while this node looks for peers for the first time.
const LOOKING_INTERVAL: Duration = Duration::from_millis(300);
/// Timeout of a lookup.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a name may fail to resolve before that is logged.
const FAILING_FOR: Duration = Duration::from_secs(5);
