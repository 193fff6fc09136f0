//! How a node is described, and started.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng};
use tokio::net::{TcpListener, lookup_host};

use crate::clock;
use crate::store::ReplicatedStore;

use super::door::Door;
use super::driver::{Driver, Surroundings};
use super::link::{Links, last_generation};
use super::replica::node::Node;
use super::replica::{Replica, Settings};
use super::start_error::{StartError, StartErrorKind};
use super::wire::{Hello, NODE_NAME_MAX, is_node_name};
use super::{Ack, Cluster, Copies};

/// Describes a node of a replicated store, and starts it.
///
/// ```no_run
/// use distributable::ReplicatedStore;
///
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let store = ReplicatedStore::builder("node1")
///     .bind("127.0.0.1:4000")
///     .peer("127.0.0.1:4001")
///     .start()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a node starts with `start`"]
pub struct ReplicatedStoreBuilder {
    name: String,
    bind: Option<String>,
    advertise: Option<String>,
    peers: Vec<String>,
    cluster_name: String,
    copies: Copies,
    ack: Ack,
    ack_timeout: Duration,
    min_copies: u8,
    max_sessions: usize,
    max_bytes: usize,
}

impl ReplicatedStoreBuilder {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            bind: None,
            advertise: None,
            peers: Vec::new(),
            cluster_name: CLUSTER_NAME.to_owned(),
            copies: Copies::All,
            ack: Ack::All,
            ack_timeout: ACK_TIMEOUT,
            min_copies: 1,
            max_sessions: MAX_SESSIONS,
            max_bytes: MAX_BYTES,
        }
    }

    /// Where to listen for the other nodes, as `host:port`; port 0 takes any free one.
    ///
    /// Defaults to the first free port of 127.0.0.1:4000 to 4100, as Tomcat's receiver does.
    /// Links between nodes carry no proof of identity yet, so the address must be a loopback one.
    pub fn bind(mut self, address: impl Into<String>) -> Self {
        self.bind = Some(address.into());
        self
    }

    /// Where the other nodes reach this one, as `host:port`, if that is not where it listens.
    ///
    /// Defaults to the address that it listens on. Must be a loopback address, as for
    /// [`bind`](Self::bind).
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// Where another node may be found, as `host:port`; call it once for each. Names are resolved
    /// again and again, and every address that they stand for is tried for ever.
    ///
    /// One that is in the cluster is enough to find the others. This node's own address does no
    /// harm, so that all nodes may be given the same list.
    pub fn peer(mut self, address: impl Into<String>) -> Self {
        self.peers.push(address.into());
        self
    }

    /// The name of the cluster: nodes with another one are refused.
    ///
    /// Defaults to `distributable`. Set it where two applications share machines.
    pub fn cluster_name(mut self, name: impl Into<String>) -> Self {
        self.cluster_name = name.into();
        self
    }

    /// How many nodes keep a session. Defaults to [`Copies::All`].
    pub const fn copies(mut self, copies: Copies) -> Self {
        self.copies = copies;
        self
    }

    /// When a write counts as acknowledged. Defaults to [`Ack::All`], because a response that has
    /// left should never turn out to be forgotten.
    pub const fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// How long a write waits for its acknowledgements. Past that its outcome is
    /// [`Indeterminate`](crate::StoreErrorKind::Indeterminate).
    ///
    /// Defaults to 5 seconds: more than it takes to find out that a node has died.
    pub const fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.ack_timeout = timeout;
        self
    }

    /// How many nodes, this one included, must be there to keep a write; with fewer, writes are
    /// refused.
    ///
    /// Defaults to 1, so that the last node goes on alone. 2 refuses what one death could lose.
    pub const fn min_copies(mut self, nodes: u8) -> Self {
        self.min_copies = nodes;
        self
    }

    /// How many sessions the node takes, tombstones included. At the limit creating one is refused
    /// with [`StoreErrorKind::Full`](crate::StoreErrorKind::Full). Defaults to 1,000,000.
    pub const fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// How many bytes of sessions the node takes: names and values, and what it costs to keep them.
    /// At the limit creating a session and making one larger are refused with
    /// [`StoreErrorKind::Full`](crate::StoreErrorKind::Full); reading and ending are not. Defaults
    /// to 1 GiB.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Starts the node: it listens when this returns, and goes on finding the others by itself.
    /// [`ready`](ReplicatedStore::ready) waits until it serves sessions.
    ///
    /// Must be called within a tokio runtime, whose tasks carry the node from then on.
    ///
    /// # Errors
    ///
    /// When the description makes no sense, or the address cannot be listened on. The message says
    /// what to do.
    pub async fn start(self) -> Result<ReplicatedStore, StartError> {
        self.start_after(|_| ()).await
    }

    /// Starts the node with what an earlier life of it held. Says for how many sessions there was no
    /// room.
    #[cfg(all(feature = "snapshot", unix))]
    pub(crate) async fn start_with(
        self,
        copies: Vec<super::Copy>,
    ) -> Result<(ReplicatedStore, usize), StartError> {
        let mut refused = 0;
        let fill = |replica: &Replica| refused = replica.restore(clock::now(), copies);
        let store = self.start_after(fill).await?;
        Ok((store, refused))
    }

    /// Starts the node after `fill` has put into it what it is to have when it meets the others.
    async fn start_after(self, fill: impl FnOnce(&Replica)) -> Result<ReplicatedStore, StartError> {
        self.check()?;
        let listener = self.listen().await?;
        let bound = listener
            .local_addr()
            .map_err(|error| StartError::listen("no local address").because(error))?;
        let advertised = match &self.advertise {
            Some(advertise) => resolve(advertise).await?,
            None => bound,
        };
        let mut random = StdRng::try_from_rng(&mut SysRng).map_err(|error| {
            let what = "the operating system has no random numbers to give".to_owned();
            StartError::new(StartErrorKind::Unsupported, what).because(io::Error::other(error))
        })?;
        let process = random.next_u64();
        let me = self.identity(advertised, process).await;
        let replica = Replica::new(
            clock::now(),
            Settings {
                me: me.clone(),
                ack: self.ack,
                min_copies: self.min_copies,
                max_sessions: self.max_sessions,
                max_bytes: self.max_bytes,
                ack_timeout: self.ack_timeout,
                alone_after: ALONE_AFTER,
                seed: random.next_u64(),
            },
        );
        fill(&replica);
        let (links, undialled) = Links::new([bound, advertised]);
        let driver = Driver::new(
            replica,
            links,
            me,
            Door::new(self.cluster_name, process),
            self.ack,
            random,
        );
        let surroundings = Surroundings {
            listener,
            peers: self.peers.into(),
            undialled,
        };
        Ok(ReplicatedStore::new(Cluster::run(
            driver,
            surroundings,
            bound,
        )))
    }

    /// Who this node is in this life, which must be later than any that the others have seen.
    async fn identity(&self, address: SocketAddr, process: u64) -> Node {
        let unborn = Node {
            address,
            generation: 0,
            name: self.name.as_str().into(),
        };
        let hello = Hello::new(&self.cluster_name, unborn.clone(), process);
        let last = last_generation(&self.peers, &hello).await;
        Node {
            generation: clock::now().as_millis().max(last + 1),
            ..unborn
        }
    }

    fn check(&self) -> Result<(), StartError> {
        let invalid = |what: String| Err(StartError::new(StartErrorKind::Invalid, what));
        if !is_node_name(&self.name) {
            return invalid(format!(
                "{:?} is no name for a node: use 1 to {NODE_NAME_MAX} letters, digits and underscores",
                self.name
            ));
        }
        if self.cluster_name.is_empty() || self.cluster_name.len() > CLUSTER_NAME_MAX {
            return invalid(format!(
                "the name of a cluster is 1 to {CLUSTER_NAME_MAX} bytes long"
            ));
        }
        if self.peers.len() > PEERS_MAX {
            return invalid(format!("more than {PEERS_MAX} peers are given"));
        }
        for peer in &self.peers {
            check_peer(peer)?;
        }
        if let Copies::Count(_) = self.copies {
            return Err(StartError::new(
                StartErrorKind::Unsupported,
                "a number of copies is not built yet: use `Copies::All`".to_owned(),
            ));
        }
        Ok(())
    }

    async fn listen(&self) -> Result<TcpListener, StartError> {
        let Some(bind) = &self.bind else {
            return listen_on_free_port().await;
        };
        let address = resolve(bind).await?;
        TcpListener::bind(address).await.map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse => "the port is taken: choose another, or stop who has it",
                _ => "cannot listen there",
            };
            StartError::new(StartErrorKind::Listen, format!("{address}: {advice}")).because(error)
        })
    }
}

async fn listen_on_free_port() -> Result<TcpListener, StartError> {
    for port in PORTS {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                let what = format!("cannot listen on 127.0.0.1:{port}");
                return Err(StartError::listen(&what).because(error));
            }
        }
    }
    let (first, last) = (PORTS.start(), PORTS.end());
    Err(StartError::listen(&format!(
        "every port of 127.0.0.1:{first} to {last} is taken: give one with `bind`"
    )))
}

/// The one address that `host:port` stands for here.
async fn resolve(text: &str) -> Result<SocketAddr, StartError> {
    let found = lookup_host(text).await.map_err(|error| {
        let what = format!("{text:?} is no address: write `host:port`");
        StartError::new(StartErrorKind::Invalid, what).because(error)
    })?;
    let mut found: Vec<_> = found.collect();
    // A name may stand for an IPv6 and an IPv4 address; people mean the latter by `localhost`.
    found.sort_by_key(SocketAddr::is_ipv6);
    let Some(address) = found.first() else {
        let what = format!("{text:?} stands for no address");
        return Err(StartError::new(StartErrorKind::Invalid, what));
    };
    check_loopback(address.ip(), text)?;
    Ok(*address)
}

/// Names are looked up later and again; a literal address can be judged now.
fn check_peer(peer: &str) -> Result<(), StartError> {
    let invalid = |what: String| Err(StartError::new(StartErrorKind::Invalid, what));
    match peer.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0) => {}
        _ => return invalid(format!("{peer:?} is no peer: write `host:port`")),
    }
    match peer.parse::<SocketAddr>() {
        Ok(address) => check_loopback(address.ip(), peer),
        Err(_) => Ok(()),
    }
}

fn check_loopback(ip: IpAddr, text: &str) -> Result<(), StartError> {
    if ip.is_loopback() {
        return Ok(());
    }
    Err(StartError::new(
        StartErrorKind::NotLoopback,
        format!(
            "{text:?} can be reached from other machines, and links between nodes prove no identity \
             yet: use a loopback address such as 127.0.0.1:4000"
        ),
    ))
}

/// Where to look for a free port.
const PORTS: RangeInclusive<u16> = 4000..=4100;
const CLUSTER_NAME: &str = "distributable";
/// Keeps the introduction of a node within one small frame.
const CLUSTER_NAME_MAX: usize = 64;
/// Each is dialled for ever; a cluster of memory copies has a handful.
const PEERS_MAX: usize = 128;
/// More than it takes to find out that a holder has died, so that its death alone does not make a
/// write's outcome unknown.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node that finds nobody waits before it serves alone: several attempts at each peer.
const ALONE_AFTER: Duration = Duration::from_secs(2);
const MAX_SESSIONS: usize = 1_000_000;
const MAX_BYTES: usize = 1 << 30;
