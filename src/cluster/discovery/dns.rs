//! Discovery by name: nodes configured as `host:port`.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::clock;

use crate::cluster::driver::Driver;
use crate::cluster::outlook::Lookup;

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
        for address in addresses(lookup) {
            if !driver.links.add_candidate(address) && !warned {
                warned = true;
                tracing::warn!(
                    peer = %name,
                    %address,
                    "a replication peer on another machine is not dialed, because it cannot reach \
                     this node; set an address of this machine with `bind` or `advertise`"
                );
            }
        }
        sleep(match driver.is_looking() {
            true => LOOKING_INTERVAL,
            false => LOOK_UP_INTERVAL,
        })
        .await;
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

/// Returns the addresses behind `host:port`; none if the lookup fails.
pub(crate) async fn resolve(name: &str) -> Vec<SocketAddr> {
    addresses(look_up(name).await)
}

fn addresses(lookup: Lookup) -> Vec<SocketAddr> {
    match lookup {
        Lookup::Addresses(addresses) => addresses,
        Lookup::Nowhere | Lookup::Failure => Vec::new(),
    }
}

async fn look_up(name: &str) -> Lookup {
    if let Ok(address) = name.parse() {
        return Lookup::Addresses(vec![address]);
    }
    match lookup_host(name).await {
        Ok(found) => {
            let found: Vec<_> = found.take(ADDRESSES_MAX).collect();
            match found.is_empty() {
                true => Lookup::Nowhere,
                false => Lookup::Addresses(found),
            }
        }
        Err(error) if is_nowhere(name, &error) => Lookup::Nowhere,
        Err(_) => Lookup::Failure,
    }
}

/// Returns `true` if a lookup has failed because the name does not exist or has no address.
///
/// The standard library gives the reason as text only: that of `gai_strerror` on Unix, where it is
/// never translated because no Rust program sets the locale by itself. An unknown text counts as a
/// failure of the name server, which is the cautious choice.
fn is_nowhere(name: &str, error: &io::Error) -> bool {
    // WSAHOST_NOT_FOUND and WSANO_DATA; Unix has no such error numbers.
    if matches!(error.raw_os_error(), Some(11001 | 11004)) {
        return true;
    }
    // RFC 6761, section 6.4: such a name never exists, whatever a name server answers.
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    if host.trim_end_matches('.').ends_with(".invalid") {
        return true;
    }
    let text = error.to_string();
    NOWHERE.iter().any(|reason| text.ends_with(reason))
}

/// A name that does not resolve, and when that was logged.
#[derive(Debug)]
struct NameFailure {
    since: Instant,
    logged: Option<Instant>,
}

impl NameFailure {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            logged: None,
        }
    }

    /// Logs a name that stays without an address: after a short time, and then each minute.
    fn report(&mut self, name: &str, lookup: &Lookup) {
        let cause = match lookup {
            Lookup::Addresses(_) => return *self = Self::begin(),
            Lookup::Nowhere => "the name does not exist, or has no address",
            Lookup::Failure => "the name server fails or does not answer",
        };
        let due = self.logged.is_none_or(|at| at.elapsed() >= LOG_AGAIN_AFTER);
        if self.since.elapsed() >= FAILING_FOR && due {
            self.logged = Some(Instant::now());
            tracing::warn!(peer = %name, cause, "the name of a replication peer does not resolve");
        }
    }
}

/// The texts of `gai_strerror` for a name that does not exist or has no address: glibc, musl, Apple
/// and the BSDs, Android.
const NOWHERE: [&str; 8] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
    "nodename nor servname provided, or not known",
    "hostname nor servname provided, or not known",
    "No address associated with nodename",
    "no address associated with name",
];

/// Interval between lookups of a name.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(1);
/// The interval while this node looks for peers for the first time.
const LOOKING_INTERVAL: Duration = Duration::from_millis(300);
/// Timeout of a lookup.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a name may fail to resolve before that is logged, and the interval after that.
const FAILING_FOR: Duration = Duration::from_secs(5);
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Most addresses used per name: as many as a cluster has members.
const ADDRESSES_MAX: usize = 64;
