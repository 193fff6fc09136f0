//! Lookup of the addresses behind a configured `host:port`.

use std::io;
use std::net::SocketAddr;

use tokio::net::lookup_host;

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Addresses(Vec<SocketAddr>),
    /// The name does not exist, or has no address.
    NotFound,
    /// The name server fails or does not answer in time.
    Failure,
}

impl Lookup {
    /// Returns the addresses; none if the lookup has failed.
    pub(crate) fn into_addresses(self) -> Vec<SocketAddr> {
        match self {
            Self::Addresses(addresses) => addresses,
            Self::NotFound | Self::Failure => Vec::new(),
        }
    }
}

/// Returns the addresses behind `host:port`; none if the lookup fails.
pub(super) async fn resolve(name: &str) -> Vec<SocketAddr> {
    look_up(name).await.into_addresses()
}

/// Looks up the addresses behind `host:port`.
pub(crate) async fn look_up(name: &str) -> Lookup {
    if let Ok(address) = name.parse() {
        return Lookup::Addresses(vec![address]);
    }
    match lookup_host(name).await {
        Ok(found) => {
            let found: Vec<_> = found.take(ADDRESSES_MAX).collect();
            if found.is_empty() {
                Lookup::NotFound
            } else {
                Lookup::Addresses(found)
            }
        }
        Err(error) if is_not_found(name, &error) => Lookup::NotFound,
        Err(_) => Lookup::Failure,
    }
}

/// Returns `true` if a lookup has failed because the name does not exist or has no address.
///
/// The standard library gives the reason as text only: that of `gai_strerror` on Unix, where it is
/// never translated because no Rust program sets the locale by itself. An unknown text counts as a
/// failure of the name server, which is the cautious choice.
fn is_not_found(name: &str, error: &io::Error) -> bool {
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
    NOT_FOUND.iter().any(|reason| text.ends_with(reason))
}

/// The texts of `gai_strerror` for a name that does not exist or has no address: glibc, musl, Apple
/// and the BSDs, Android.
const NOT_FOUND: [&str; 8] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
    "nodename nor servname provided, or not known",
    "hostname nor servname provided, or not known",
    "No address associated with nodename",
    "no address associated with name",
];

/// Most addresses used per name: as many as a cluster has members.
const ADDRESSES_MAX: usize = 64;
