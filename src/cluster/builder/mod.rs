//! How a node is described, and started.

mod address;
#[cfg(feature = "rustls")]
mod tls;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng};

use crate::clock;
use crate::store::ReplicatedStore;

use super::discover::{Beacon, Discovery, Group, Multicast, join};
use super::door::Door;
use super::driver::{Driver, Endpoints};
use super::link::{Links, Security, is_loopback, last_generation};
use super::outlook::Addresses;
use super::replica::node::Node;
use super::replica::rules::Rules;
use super::replica::{Replica, Requirements, Settings};
use super::secret::Secret;
use super::start_error::{StartError, StartErrorKind};
use super::wire::{Hello, NODE_NAME_MAX, is_node_name};
use super::{Ack, Cluster, Copies};

use self::address::{check_peer, invalid};

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
    multicast: Option<Multicast>,
    /// None, if none was given.
    cluster_name: Option<String>,
    secrets: Vec<Secret>,
    /// What protects links instead of the secrets.
    own: Option<Security>,
    copies: Copies,
    ack: Ack,
    ack_timeout: Duration,
    min_copies: u8,
    expect_nodes: usize,
    join_timeout: Duration,
    loss_grace: Duration,
    drain_timeout: Duration,
    max_sessions: usize,
    max_bytes: usize,
    max_session_bytes: usize,
}

impl ReplicatedStoreBuilder {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            bind: None,
            advertise: None,
            peers: Vec::new(),
            multicast: None,
            cluster_name: None,
            secrets: Vec::new(),
            own: None,
            copies: Copies::All,
            ack: Ack::All,
            ack_timeout: ACK_TIMEOUT,
            min_copies: 1,
            expect_nodes: 1,
            join_timeout: JOIN_TIMEOUT,
            loss_grace: LOSS_GRACE,
            drain_timeout: DRAIN_TIMEOUT,
            max_sessions: MAX_SESSIONS,
            max_bytes: MAX_BYTES,
            max_session_bytes: MAX_SESSION_BYTES,
        }
    }

    /// Where to listen for the other nodes, as `host:port`; port 0 takes any free one, 0.0.0.0 and
    /// `[::]` all addresses of the machine.
    ///
    /// Defaults to the first free port of 127.0.0.1:4000 to 4100, as Tomcat's receiver does. An
    /// address that other machines can reach needs a [`secret`](Self::secret).
    pub fn bind(mut self, address: impl Into<String>) -> Self {
        self.bind = Some(address.into());
        self
    }

    /// Where the other nodes reach this one, as `host:port`, if that is not where it listens.
    ///
    /// Defaults to the address that it listens on. If these are all addresses of the machine, to
    /// the one that the machine uses towards the first [`peer`](Self::peer) that has an address
    /// when the node starts, or towards the [`multicast`](Self::multicast) group; without either it
    /// must be given. Either all nodes of a cluster are reached at loopback addresses, or none.
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

    /// A name behind which the other nodes are, as `host:port`: all addresses that a name server
    /// has for it are tried, for ever, and it is asked again every second. A headless service of
    /// Kubernetes is such a name; [`bind`](Self::bind) to the address of the pod there.
    ///
    /// This node may be among them. A name of the same kind may be given to [`peer`](Self::peer).
    pub fn dns(self, name: impl Into<String>) -> Self {
        self.peer(name)
    }

    /// Finds the other nodes by multicast, and lets them find this one.
    ///
    /// Between machines what is sent must be signed by a [`secret`](Self::secret).
    pub const fn multicast(mut self, multicast: Multicast) -> Self {
        self.multicast = Some(multicast);
        self
    }

    /// The name of the cluster: nodes with another one are refused.
    ///
    /// Defaults to `distributable` for nodes on one machine. Nodes that other machines reach must
    /// be given one if they have a [`peer`](Self::peer), a [`dns`](Self::dns) name or
    /// [`multicast`](Self::multicast), so that two applications never become one cluster by
    /// accident.
    pub fn cluster_name(mut self, name: impl Into<String>) -> Self {
        self.cluster_name = Some(name.into());
        self
    }

    /// What proves that a node belongs to the cluster, and encrypts what nodes tell each other: TLS
    /// 1.3, without any certificate. The nodes of a cluster have the same secret.
    ///
    /// Call it several times to accept several: the first is the one that this node shows. So a
    /// secret is changed without stopping anything: every node is restarted with the old and the
    /// new one, then with the new and the old one, then with the new one alone.
    ///
    /// Defaults to none, which does for nodes on one machine. Anybody on that machine can then
    /// join.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// How many nodes keep a session. Nodes of one cluster that do not say the same refuse each
    /// other: it is changed while all of them are stopped.
    ///
    /// Defaults to [`Copies::All`], which is right for a handful of nodes; from four on,
    /// `Copies::Count(NonZeroU8::new(2).expect("not zero"))` keeps memory and traffic where they
    /// are when nodes are added.
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

    /// How many nodes, this one included, must be there that could keep sessions; with fewer,
    /// writes other than ends are refused as [`Unavailable`](crate::StoreErrorKind::Unavailable).
    ///
    /// Defaults to 1, so that the last node goes on alone. 2 refuses what one death could lose,
    /// with [`Ack::All`] and at least two copies.
    pub const fn min_copies(mut self, nodes: u8) -> Self {
        self.min_copies = nodes;
        self
    }

    /// How many nodes the cluster has as a rule. A node that starts waits until it has seen as
    /// many, this one included, but no longer than [`join_timeout`](Self::join_timeout); if there
    /// were fewer, and none of them serves yet, an unknown session is an error for
    /// [`loss_grace`](Self::loss_grace).
    ///
    /// So nodes that start together come together before any of them serves, also where they find
    /// each other by [`multicast`](Self::multicast) or by a name that does not stand for all of
    /// them yet. Defaults to 1: to wait for nothing but the addresses that are given.
    pub const fn expect_nodes(mut self, nodes: usize) -> Self {
        self.expect_nodes = nodes;
        self
    }

    /// How long a node that starts waits for other nodes that may have sessions, while no node that
    /// serves has accepted it.
    ///
    /// It waits if an address that was given does not answer, or a name server fails. After that it
    /// serves, but a session that it does not know is an error for
    /// [`loss_grace`](Self::loss_grace). It does not wait for addresses that refuse connections and
    /// names that do not exist: after two seconds of that it serves alone. And it waits without end
    /// while a node of the cluster rejects it
    /// ([`status().refused`](crate::store::ClusterStatus::refused) says why).
    ///
    /// Defaults to 10 seconds: a machine that is there answers within one.
    pub const fn join_timeout(mut self, timeout: Duration) -> Self {
        self.join_timeout = timeout;
        self
    }

    /// How long a session that no node has is an error ([`Unavailable`]) rather than absent, when
    /// it may be one that was lost: after as many nodes as keep a session have vanished, and when a
    /// node serves although some address does not answer.
    ///
    /// An absent session logs its user out; an error does not. Defaults to 60 seconds: nodes that
    /// were cut off, or are restarted, are back by then.
    ///
    /// [`Unavailable`]: crate::StoreErrorKind::Unavailable
    pub const fn loss_grace(mut self, grace: Duration) -> Self {
        self.loss_grace = grace;
        self
    }

    /// How long [`drain`](ReplicatedStore::drain) waits until the other nodes have everything that
    /// is here. Past that the node leaves all the same, and its report says so.
    ///
    /// Defaults to 10 seconds: whoever kills a node after a grace period leaves it time to say
    /// good-bye (Kubernetes gives 30). Raise both for gigabytes of sessions.
    pub const fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// How many sessions the node takes. At the limit creating one is refused with
    /// [`StoreErrorKind::Full`](crate::StoreErrorKind::Full). Tombstones count in
    /// [`max_bytes`](Self::max_bytes) only. Defaults to 1,000,000.
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

    /// How large one session may become, in bytes of names and values. A write that makes it larger
    /// is refused with [`StoreErrorKind::TooLarge`](crate::StoreErrorKind::TooLarge). The session
    /// layer has [limits](crate::Limits) of its own, which it checks against the session that a
    /// request has loaded; this one also counts what other requests have written meanwhile.
    ///
    /// Defaults to 16 MiB and a little more, so that whatever the session layer lets through by
    /// default is stored.
    pub const fn max_session_bytes(mut self, bytes: usize) -> Self {
        self.max_session_bytes = bytes;
        self
    }

    /// Starts the node: it listens when this returns, and goes on finding the others by itself.
    /// [`ready`](ReplicatedStore::ready) waits until it serves sessions.
    ///
    /// Must be awaited within a tokio runtime, whose tasks carry the node from then on.
    ///
    /// # Errors
    ///
    /// When the description makes no sense, the address cannot be listened on or is reachable from
    /// other machines without a secret, a multicast group cannot be joined, or the operating system
    /// has no random numbers to give. The message says what to do.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start(self) -> Result<ReplicatedStore, StartError> {
        self.start_after(|_| ()).await
    }

    /// Starts the node with what an earlier life of it held. Returns for how many sessions there was
    /// no room. If members have survived that life, it is taken back only when one of them is met.
    #[cfg(all(feature = "snapshot", unix))]
    pub(crate) async fn start_with(
        self,
        copies: Vec<super::KeyedEntry>,
        survivors: Vec<super::Survivor>,
    ) -> Result<(ReplicatedStore, usize), StartError> {
        let mut refused = 0;
        let fill = |replica: &Replica| match survivors.is_empty() {
            true => refused = replica.restore(clock::now(), copies),
            false => replica.hold(clock::now(), copies, survivors),
        };
        let store = self.start_after(fill).await?;
        Ok((store, refused))
    }

    /// Starts the node after `fill` has put into it what it is to have when it meets the others.
    async fn start_after(self, fill: impl FnOnce(&Replica)) -> Result<ReplicatedStore, StartError> {
        let security = self.security()?;
        let secure = security.is_some();
        self.check(secure)?;
        let listener = self.listen(secure).await?;
        let bound = listener
            .local_addr()
            .map_err(|error| StartError::listen("no local address").because(error))?;
        let advertised = self.advertised(bound, secure).await?;
        self.check_name(advertised)?;
        let multicast = self.group(bound, advertised)?;
        let mut random = StdRng::try_from_rng(&mut SysRng).map_err(|error| {
            let what = "the operating system has no random numbers to give".to_owned();
            StartError::new(StartErrorKind::Unsupported, what).because(io::Error::other(error))
        })?;
        let process = random.next_u64();
        let me = self.identity(advertised, process, &security).await;
        let replica = Replica::new(
            clock::now(),
            Settings {
                me: me.clone(),
                copies: self.copies,
                ack: self.ack,
                min_copies: self.min_copies,
                max_sessions: self.max_sessions,
                max_bytes: self.max_bytes,
                max_session_bytes: self.max_session_bytes,
                ack_timeout: self.ack_timeout,
                requirements: Requirements {
                    expect_nodes: self.expect_nodes,
                    join_timeout: self.join_timeout,
                    loss_grace: self.loss_grace,
                    ..Requirements::default()
                },
                seed: random.next_u64(),
                rules: Rules::ALL,
            },
        );
        fill(&replica);
        let (links, undialled) = Links::new(bound, advertised, security);
        let driver = Driver::new(
            replica,
            links,
            me,
            Door::new(self.name_of_cluster().to_owned(), process, self.copies),
            Addresses::new(&self.peers),
            random,
        );
        let surroundings = Endpoints {
            listener,
            discovery: Discovery {
                names: self.peers.into(),
                multicast,
            },
            undialled,
        };
        Ok(ReplicatedStore::new(Cluster::run(
            driver,
            surroundings,
            bound,
            (self.copies, self.drain_timeout),
        )))
    }

    /// Who this node is in this life, which must be later than any that the others have seen.
    async fn identity(&self, address: SocketAddr, process: u64, security: &Security) -> Node {
        let unborn = Node {
            address,
            generation: 0,
            name: self.name.as_str().into(),
        };
        let hello = Hello::new(self.name_of_cluster(), unborn.clone(), process, self.copies);
        let last = last_generation(security, &self.peers, &hello).await;
        Node {
            generation: clock::now().as_millis().max(last.saturating_add(1)),
            ..unborn
        }
    }

    /// What links are protected with.
    fn security(&self) -> Result<Security, StartError> {
        if let Some(own) = &self.own {
            return Ok(own.clone());
        }
        Security::from_secrets(&self.secrets, self.name_of_cluster()).map_err(|error| {
            let what = "TLS does not work here".to_owned();
            StartError::new(StartErrorKind::Unsupported, what).because(error)
        })
    }

    /// The multicast group, if there is to be one.
    fn group(
        &self,
        bound: SocketAddr,
        advertised: SocketAddr,
    ) -> Result<Option<Group>, StartError> {
        let Some(multicast) = self.multicast else {
            return Ok(None);
        };
        if let Some(objection) = multicast.objection(advertised, !self.secrets.is_empty()) {
            return invalid(objection.to_owned());
        }
        let beacon = Beacon::new(&self.secrets, self.name_of_cluster());
        let group = join(multicast, bound, advertised, beacon);
        group.map(Some).map_err(|error| {
            let what = "cannot join the multicast group: give the `interface` to use, or the other \
                        nodes with `peer` or `dns`";
            StartError::listen(what).because(error)
        })
    }

    fn name_of_cluster(&self) -> &str {
        self.cluster_name.as_deref().unwrap_or(CLUSTER_NAME)
    }

    /// Nodes of two applications that have no name of a cluster would become one.
    fn check_name(&self, advertised: SocketAddr) -> Result<(), StartError> {
        let looks = !self.peers.is_empty() || self.multicast.is_some();
        if self.cluster_name.is_some() || is_loopback(&advertised) || !looks {
            return Ok(());
        }
        let what = "a node that looks for others on other machines needs the name of its cluster, \
                    so that it joins no other application's: give all nodes of this application \
                    the same `.cluster_name(\"my-application\")`";
        Err(StartError::new(
            StartErrorKind::ClusterName,
            what.to_owned(),
        ))
    }

    fn check(&self, secure: bool) -> Result<(), StartError> {
        if !is_node_name(&self.name) {
            return invalid(format!(
                "{:?} is no name for a node: use 1 to {NODE_NAME_MAX} letters, digits and underscores",
                self.name
            ));
        }
        if self.name_of_cluster().is_empty() || self.name_of_cluster().len() > CLUSTER_NAME_MAX {
            return invalid(format!(
                "the name of a cluster is 1 to {CLUSTER_NAME_MAX} bytes long"
            ));
        }
        if self.peers.len() > PEERS_MAX {
            return invalid(format!("more than {PEERS_MAX} peers are given"));
        }
        for peer in &self.peers {
            check_peer(peer, secure)?;
        }
        Ok(())
    }
}

const CLUSTER_NAME: &str = "distributable";
/// Keeps the introduction of a node within one small frame.
const CLUSTER_NAME_MAX: usize = 64;
/// Each is dialled for ever; a cluster of memory copies has a handful.
const PEERS_MAX: usize = 128;
/// More than it takes to find out that a holder has died, so that its death alone does not make a
/// write's outcome unknown.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// A machine that is there answers within a second; a busy one, or one that is about to start, may
/// take some.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Nodes that were cut off, or are restarted, are back by then.
const LOSS_GRACE: Duration = Duration::from_secs(60);
/// Gigabytes over a local network, and well within the grace period of those who kill.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_SESSIONS: usize = 1_000_000;
const MAX_BYTES: usize = 1 << 30;
/// What the session layer lets a session have, and room for the names of removed attributes.
const MAX_SESSION_BYTES: usize = (16 << 20) + (256 << 10);
