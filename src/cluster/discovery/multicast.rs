//! Discovery by multicast.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::cluster::discovery::beacon::{BEACON, Beacon};
use crate::cluster::driver::Driver;
use crate::cluster::transport::is_loopback;

/// A multicast group in which nodes of one network find each other.
///
/// Every node announces its address to the group twice a second, in 59 bytes that are signed with
/// the cluster's secret, and dials the addresses that other nodes announce. Announcements are never
/// answered; they only name addresses to dial, and the nodes there have to authenticate.
///
/// Defaults to the group and the port that Tomcat uses, 228.0.0.4:45564, and to the network of the
/// node's address. The group is an IPv4 group; the announced addresses may be IPv6. Many clouds do
/// not support multicast: use [`peer`](crate::store::ReplicatedStoreBuilder::peer) there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it is handed to `ReplicatedStoreBuilder::multicast`"]
pub struct Multicast {
    group: Ipv4Addr,
    port: u16,
    interface: Option<Ipv4Addr>,
}

impl Multicast {
    /// Sets the group's address, from 224.0.0.0 to 239.255.255.255. Defaults to 228.0.0.4.
    pub const fn group(mut self, group: Ipv4Addr) -> Self {
        self.group = group;
        self
    }

    /// Sets the group's port. Defaults to 45564.
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the network to use, by the address of this machine in it.
    ///
    /// Defaults to the address on which the node listens, or at which other nodes reach it, if it
    /// is one of this machine, and otherwise to the operating system's choice.
    pub const fn interface(mut self, interface: Ipv4Addr) -> Self {
        self.interface = Some(interface);
        self
    }

    /// Returns an address in the network that is used.
    pub(crate) fn probe_address(&self) -> SocketAddr {
        (self.interface.unwrap_or(self.group), self.port).into()
    }

    /// Returns the reason why this cannot work for a node that other nodes reach at `advertised`,
    /// if any.
    pub(crate) fn problem(&self, advertised: SocketAddr, signed: bool) -> Option<&'static str> {
        let leaves = self.interface.is_some_and(|ip| !ip.is_loopback());
        if !self.group.is_multicast() || self.port == 0 {
            Some("multicast needs a group from 224.0.0.0 to 239.255.255.255 and a port")
        } else if is_loopback(&advertised) && leaves {
            Some(
                "a node that only its own machine can reach must not be announced to other ones: \
                 `bind` or `advertise` another address, or leave out the interface",
            )
        } else if !is_loopback(&advertised) && !signed {
            Some("multicast between machines requires a `secret`, which signs announcements")
        } else {
            None
        }
    }
}

impl Default for Multicast {
    fn default() -> Self {
        Self {
            group: Ipv4Addr::new(228, 0, 0, 4),
            port: 45564,
            interface: None,
        }
    }
}

/// A multicast group that this node has joined.
#[derive(Debug)]
pub(crate) struct JoinedGroup {
    socket: UdpSocket,
    to: SocketAddrV4,
    beacon: Beacon,
    /// The address at which other nodes reach this node.
    advertised: SocketAddr,
}

/// Joins a group, for a node that listens on `bound` and that other nodes reach at `advertised`.
///
/// # Errors
///
/// If the operating system refuses it.
pub(crate) fn join(
    multicast: Multicast,
    bound: SocketAddr,
    advertised: SocketAddr,
    beacon: Beacon,
) -> io::Result<JoinedGroup> {
    let to = SocketAddrV4::new(multicast.group, multicast.port);
    let likely = match multicast.interface {
        Some(interface) => vec![interface],
        None if is_loopback(&advertised) => vec![Ipv4Addr::LOCALHOST],
        None => {
            let own = |ip: IpAddr| match ip.to_canonical() {
                IpAddr::V4(ip) if !ip.is_unspecified() && !ip.is_loopback() => Some(ip),
                IpAddr::V4(_) | IpAddr::V6(_) => None,
            };
            [bound.ip(), advertised.ip()]
                .into_iter()
                .filter_map(own)
                .chain([Ipv4Addr::UNSPECIFIED])
                .collect()
        }
    };
    let mut joined = Err(io::ErrorKind::AddrNotAvailable.into());
    for interface in likely {
        joined = open(to, interface);
        if joined.is_ok() {
            break;
        }
    }
    Ok(JoinedGroup {
        socket: joined?,
        to,
        beacon,
        advertised,
    })
}

fn open(to: SocketAddrV4, interface: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Other nodes on this machine, or Tomcat, may use the same port.
    socket.set_reuse_address(true)?;
    // Receives only what is sent to the group, where the system supports that.
    let at = if cfg!(windows) {
        Ipv4Addr::UNSPECIFIED
    } else {
        *to.ip()
    };
    socket.bind(&SocketAddrV4::new(at, to.port()).into())?;
    socket.join_multicast_v4(to.ip(), &interface)?;
    socket.set_multicast_if_v4(&interface)?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// Announces this node's address to the group, and has the addresses of other nodes dialed.
pub(super) async fn run(driver: &Driver, group: JoinedGroup) {
    let announce = async {
        let beacon = group.beacon.sign(group.advertised);
        let mut round = interval(BEACON_INTERVAL);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            round.tick().await;
            let sent = group.socket.send_to(&beacon, group.to).await;
            if let Err(error) = &sent
                && !failing
            {
                tracing::warn!(
                    address = %group.to,
                    cause = %error,
                    "announcing this node by multicast has failed"
                );
            }
            failing = sent.is_err();
        }
    };
    let listen = async {
        // One byte more than a beacon, to detect longer datagrams.
        let mut bytes = [0; BEACON + 1];
        loop {
            let pause = Instant::now() + WINDOW;
            for _ in 0..WINDOW_MAX {
                // Errors concern single datagrams, or are as frequent as those: both count.
                let received = group.socket.recv(&mut bytes).await;
                let announced = received
                    .ok()
                    .and_then(|length| group.beacon.check(&bytes[..length]));
                if let Some(address) = announced
                    && is_loopback(&address) == is_loopback(&group.advertised)
                {
                    driver.links.add_candidate(address);
                }
            }
            // The operating system drops the excess, at a lower cost.
            sleep_until(pause).await;
        }
    };
    tokio::join!(announce, listen);
}

/// Interval between announcements, like Tomcat's.
const BEACON_INTERVAL: Duration = Duration::from_millis(500);
/// Datagrams processed per window of time: a hundred nodes send twenty, and a thousand take a few
/// milliseconds.
const WINDOW_MAX: usize = 1000;
const WINDOW: Duration = Duration::from_millis(100);
