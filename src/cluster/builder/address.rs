//! Listening and advertised addresses of a node.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use tokio::net::{TcpListener, UdpSocket, lookup_host};

use crate::cluster::builder::ReplicatedStoreBuilder;
use crate::cluster::transport::is_loopback;
use crate::error::{SetupError, SetupErrorKind};

impl ReplicatedStoreBuilder {
    pub(super) async fn listen(&self, secure: bool) -> Result<TcpListener, SetupError> {
        let Some(bind) = &self.bind else {
            return listen_on_free_port().await;
        };
        let address = resolve(bind).await?;
        check_reach(address, bind, secure)?;
        TcpListener::bind(address).await.map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "the port is taken: choose another one, or stop the process that uses it"
                }
                io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
                _ => "cannot listen there",
            };
            SetupError::new(SetupErrorKind::Listen, format!("{address}: {advice}"))
                .with_source(error)
        })
    }

    /// Returns the address at which other nodes reach this node, which listens on `bound`.
    pub(super) async fn advertised(
        &self,
        bound: SocketAddr,
        secure: bool,
    ) -> Result<SocketAddr, SetupError> {
        let advertised = match &self.advertise {
            Some(advertise) => {
                let address = resolve(advertise).await?;
                check_reach(address, advertise, secure)?;
                address
            }
            None if bound.ip().is_unspecified() => self.route(bound).await?,
            None => bound,
        };
        if advertised.ip().is_unspecified() || advertised.port() == 0 {
            return invalid(format!(
                "{advertised} cannot be dialed: `advertise` an address and a port"
            ));
        }
        if is_loopback(&advertised) && !is_loopback(&bound) {
            return invalid(format!(
                "this node listens on {bound} for other machines, which cannot reach it at the \
                 loopback address {advertised}: `advertise` an address at which they reach it"
            ));
        }
        for peer in &self.peers {
            let elsewhere = peer.parse().is_ok_and(|peer| !is_loopback(&peer));
            if is_loopback(&advertised) && elsewhere {
                return invalid(format!(
                    "the peer {peer} is on another machine and cannot reach this node at \
                     {advertised}: `bind` to an address of this machine, such as 0.0.0.0:4000"
                ));
            }
        }
        Ok(advertised)
    }

    /// Returns the address that this machine uses toward the first reachable peer, or toward the
    /// multicast group.
    async fn route(&self, bound: SocketAddr) -> Result<SocketAddr, SetupError> {
        let mut remotes = Vec::new();
        for peer in &self.peers {
            remotes.extend(lookup_host(peer).await.into_iter().flatten());
        }
        remotes.extend(self.multicast.map(|multicast| multicast.probe_address()));
        for remote in remotes {
            if let Ok(ip) = local_ip(remote).await
                && !is_loopback(&(ip, 0).into())
            {
                let advertised = SocketAddr::new(ip, bound.port());
                tracing::info!(address = %advertised, "chose the address to advertise");
                return Ok(advertised);
            }
        }
        invalid(format!(
            "this node listens on all addresses of this machine ({bound}): `advertise` the one at \
             which other nodes reach it, or `bind` to that one"
        ))
    }
}

/// Returns the local address of a route. Nothing is sent.
async fn local_ip(remote: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(remote).await?;
    Ok(socket.local_addr()?.ip())
}

async fn listen_on_free_port() -> Result<TcpListener, SetupError> {
    for port in PORTS {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                let what = format!("cannot listen on 127.0.0.1:{port}");
                return Err(SetupError::new(SetupErrorKind::Listen, what).with_source(error));
            }
        }
    }
    let (first, last) = (PORTS.start(), PORTS.end());
    Err(SetupError::new(
        SetupErrorKind::Listen,
        format!("every port of 127.0.0.1:{first} to {last} is taken: give one with `bind`"),
    ))
}

/// Returns the one address that `host:port` stands for.
async fn resolve(text: &str) -> Result<SocketAddr, SetupError> {
    let resolved = lookup_host(text).await.map_err(|error| {
        let what = format!("{text:?} is not an address: write `host:port`");
        SetupError::new(SetupErrorKind::Node, what).with_source(error)
    })?;
    let mut found: Vec<_> = resolved.collect();
    // A name may have an IPv6 and an IPv4 address; `localhost` usually means the latter.
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().map_or_else(
        || invalid(format!("{text:?} does not resolve to an address")),
        Ok,
    )
}

/// Checks a peer. Names are resolved later and repeatedly; a literal address is checked now.
pub(super) fn check_peer(peer: &str, secure: bool) -> Result<(), SetupError> {
    match peer.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0) => {}
        _ => {
            return invalid(format!(
                "{peer:?} is not the address of a peer: write `host:port`"
            ));
        }
    }
    match peer.parse() {
        Ok(address) => check_reach(address, peer, secure),
        Err(_) => Ok(()),
    }
}

/// Rejects an address that other machines can reach, unless links are authenticated: any process
/// that reaches the port of a node without a secret can join the cluster.
fn check_reach(address: SocketAddr, text: &str, secure: bool) -> Result<(), SetupError> {
    if secure || is_loopback(&address) {
        return Ok(());
    }
    Err(SetupError::new(
        SetupErrorKind::NotLoopback,
        format!(
            "{text:?} can be reached from other machines, which requires a secret: make one with \
             `openssl rand -hex 32 > secret`, and give all nodes \
             `.secret(Secret::from_file(\"secret\")?)`; or use a loopback address such as \
             127.0.0.1:4000"
        ),
    ))
}

pub(super) fn invalid<T>(what: impl Into<Cow<'static, str>>) -> Result<T, SetupError> {
    Err(SetupError::new(SetupErrorKind::Node, what))
}

/// The ports to try.
const PORTS: RangeInclusive<u16> = 4000..=4100;
