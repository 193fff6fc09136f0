//! Nodes that are given as `host:port`.

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
    let mut told = false;
    let mut failing = Failing::begin();
    loop {
        let mut looking_up = pin!(look_up(&name));
        let lookup = match timeout(LOOK_UP_TIMEOUT, &mut looking_up).await {
            Ok(lookup) => lookup,
            Err(_) => {
                // A thread waits for the answer: one at a time.
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
            if !driver.links.suggest(address) && !told {
                told = true;
                tracing::warn!(
                    "replication peer {name} is {address}, on another machine: it is not dialled, \
                     because this node cannot be reached from there; give it an address with \
                     `bind`, or with `advertise`"
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

/// Has the former members of this node dialled for as long as it looks for them.
pub(super) async fn seek_former(driver: &Driver) {
    loop {
        for address in driver.addresses.former() {
            driver.links.suggest(address);
        }
        sleep(LOOK_UP_INTERVAL).await;
    }
}

/// The addresses behind `host:port`; none when nobody knows.
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

/// Returns `true` if a lookup has failed because there is no such name, or no address behind it.
///
/// The standard library gives the reason as text only: that of `gai_strerror` on Unix, where it is
/// never translated because no Rust program sets the locale by itself. A text that is not known
/// counts as a failure of the name server, which is the careful choice.
fn is_nowhere(name: &str, error: &io::Error) -> bool {
    // WSAHOST_NOT_FOUND and WSANO_DATA; Unix has no error numbers like these.
    if matches!(error.raw_os_error(), Some(11001 | 11004)) {
        return true;
    }
    // RFC 6761, section 6.4: there never is such a name, whatever a name server says.
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    if host.trim_end_matches('.').ends_with(".invalid") {
        return true;
    }
    let text = error.to_string();
    NOWHERE.iter().any(|reason| text.ends_with(reason))
}

/// A name that does not resolve, and when that was logged.
#[derive(Debug)]
struct Failing {
    since: Instant,
    logged: Option<Instant>,
}

impl Failing {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            logged: None,
        }
    }

    /// Logs a name that stays without an address: soon, and each minute.
    fn report(&mut self, name: &str, lookup: &Lookup) {
        let cause = match lookup {
            Lookup::Addresses(_) => return *self = Self::begin(),
            Lookup::Nowhere => "there is no such name, or no address behind it",
            Lookup::Failure => "the name server fails or does not answer",
        };
        let due = self.logged.is_none_or(|at| at.elapsed() >= LOG_AGAIN_AFTER);
        if self.since.elapsed() >= FAILING_FOR && due {
            self.logged = Some(Instant::now());
            tracing::warn!(peer = %name, cause, "the name of a replication peer does not resolve");
        }
    }
}

/// What `gai_strerror` says of a name that does not exist, or has no address: glibc, musl, Apple
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

/// The pause after which names are looked up again, and new addresses among them dialled.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(1);
/// The same while this node looks for others for the first time.
const LOOKING_INTERVAL: Duration = Duration::from_millis(300);
/// A name server that takes longer has not answered.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a name that does not resolve is not worth a line in the log, and how often it is after.
const FAILING_FOR: Duration = Duration::from_secs(5);
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How many addresses of one name count: as many as a cluster of memory copies has members, and
/// some that are on their way in or out.
const ADDRESSES_MAX: usize = 64;
