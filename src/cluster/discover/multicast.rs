//! Nodes that tell everybody on their network where they are.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::beacon::{BEACON, Beacon};
use crate::cluster::driver::Driver;
use crate::cluster::link::is_loopback;

/// Where nodes that are in one network find each other without being told: a multicast group.
///
/// Every node tells the group twice a second where it is, in 59 bytes that the cluster's secret
/// signs, and dials whoever else does. Nothing is ever answered, and a beacon only names somebody to
/// dial, who then has to prove itself.
///
/// Defaults to the group and the port that Tomcat uses, 228.0.0.4:45564, and to the network to which
/// the node's address belongs. The group is one of IPv4; what it names may be of IPv6. Many clouds
/// carry no multicast: use
/// [`dns`](super::super::ReplicatedStoreBuilder::dns) there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it is handed to `ReplicatedStoreBuilder::multicast`"]
pub struct Multicast {
    group: Ipv4Addr,
    port: u16,
    interface: Option<Ipv4Addr>,
}

impl Multicast {
    /// The group's address, from 224.0.0.0 to 239.255.255.255. Defaults to 228.0.0.4.
    pub const fn group(mut self, group: Ipv4Addr) -> Self {
        self.group = group;
        self
    }

    /// The group's port. Defaults to 45564.
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The address of this machine in the network to use.
    ///
    /// Defaults to the address at which the node listens, or at which others reach it, if it is
    /// one of this machine, and otherwise to what the operating system says.
    pub const fn interface(mut self, interface: Ipv4Addr) -> Self {
        self.interface = Some(interface);
        self
    }

    /// Somebody in the network that is used.
    pub(crate) fn towards(&self) -> SocketAddr {
        (self.interface.unwrap_or(self.group), self.port).into()
    }

    /// Why this cannot work for a node that others reach at `advertised`, if so.
    pub(crate) fn objection(&self, advertised: SocketAddr, signed: bool) -> Option<&'static str> {
        let leaves = self.interface.is_some_and(|ip| !ip.is_loopback());
        if !self.group.is_multicast() || self.port == 0 {
            Some("multicast needs a group from 224.0.0.0 to 239.255.255.255 and a port")
        } else if is_loopback(&advertised) && leaves {
            Some(
                "other machines must not be told of a node that only its own machine can reach: \
                 `bind` or `advertise` another address, or leave out the interface",
            )
        } else if !is_loopback(&advertised) && !signed {
            Some("multicast between machines needs a `secret` that signs what is said")
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
pub(crate) struct Group {
    socket: UdpSocket,
    to: SocketAddrV4,
    beacon: Beacon,
    /// Where the others reach this node.
    advertised: SocketAddr,
}

/// Joins a group, as a node that listens at `bound` and that others reach at `advertised`.
///
/// # Errors
///
/// When the operating system does not let it.
pub(crate) fn join(
    multicast: Multicast,
    bound: SocketAddr,
    advertised: SocketAddr,
    beacon: Beacon,
) -> io::Result<Group> {
    let to = SocketAddrV4::new(multicast.group, multicast.port);
    let likely = match multicast.interface {
        Some(interface) => vec![interface],
        None if is_loopback(&advertised) => vec![Ipv4Addr::LOCALHOST],
        None => {
            let ours = [bound.ip(), advertised.ip()];
            let ours = ours.into_iter().filter_map(|ip| match ip.to_canonical() {
                IpAddr::V4(ip) if !ip.is_unspecified() && !ip.is_loopback() => Some(ip),
                IpAddr::V4(_) | IpAddr::V6(_) => None,
            });
            ours.chain([Ipv4Addr::UNSPECIFIED]).collect()
        }
    };
    let mut joined = Err(io::ErrorKind::AddrNotAvailable.into());
    for interface in likely {
        joined = open(to, interface);
        if joined.is_ok() {
            break;
        }
    }
    Ok(Group {
        socket: joined?,
        to,
        beacon,
        advertised,
    })
}

fn open(to: SocketAddrV4, interface: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Other nodes on this machine listen too, and so may Tomcat.
    socket.set_reuse_address(true)?;
    // Where it is possible, only what is sent to the group is let in.
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

/// Tells the group where this node is, and has those dialled that tell the same of themselves.
pub(super) async fn meet(driver: &Driver, group: Group) {
    let tell = async {
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
                let to = group.to;
                tracing::warn!("the other nodes cannot be told by multicast to {to}: {error}");
            }
            failing = sent.is_err();
        }
    };
    let hear = async {
        // One more than a beacon, to see what is longer.
        let mut bytes = [0; BEACON + 1];
        loop {
            let pause = Instant::now() + WINDOW;
            for _ in 0..WINDOW_MAX {
                // Errors are about single datagrams, or as frequent as those: both count.
                let heard = group.socket.recv(&mut bytes).await;
                let said = heard
                    .ok()
                    .and_then(|length| group.beacon.check(&bytes[..length]));
                if let Some(address) = said
                    && is_loopback(&address) == is_loopback(&group.advertised)
                {
                    driver.links.suggest(address);
                }
            }
            // What comes too fast is dropped by the operating system, which is cheaper.
            sleep_until(pause).await;
        }
    };
    tokio::join!(tell, hear);
}

/// How often a node says where it is, as Tomcat's do.
const BEACON_INTERVAL: Duration = Duration::from_millis(500);
/// How many datagrams are looked at in how much time: a hundred nodes send twenty in it, looking at
/// a thousand takes a few milliseconds.
const WINDOW_MAX: usize = 1000;
const WINDOW: Duration = Duration::from_millis(100);
