//! Configuration of a node of a replicated store.

mod address;
mod start;
#[cfg(feature = "rustls")]
mod tls;

use std::time::Duration;

use crate::cluster::ack::Ack;
use crate::cluster::copies::Copies;
use crate::cluster::discovery::Multicast;
use crate::cluster::secret::Secret;
use crate::cluster::transport::Security;

/// Configures and starts a node of a replicated store.
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
    /// `None` if not configured.
    cluster_name: Option<String>,
    secrets: Vec<Secret>,
    /// The application's own TLS configuration, used instead of the secrets.
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

    /// Sets the address on which this node listens for other nodes, as `host:port`. Port 0 selects
    /// a free port; 0.0.0.0 and `[::]` stand for all addresses of the machine.
    ///
    /// Defaults to the first free port of 127.0.0.1:4000 to 4100, like Tomcat's receiver. An
    /// address that other machines can reach requires a [`secret`](Self::secret).
    pub fn bind(mut self, address: impl Into<String>) -> Self {
        self.bind = Some(address.into());
        self
    }

    /// Sets the address at which other nodes reach this one, as `host:port`, if it differs from the
    /// one that it listens on.
    ///
    /// Defaults to the address that it listens on. If that stands for all addresses of the machine,
    /// it defaults to the one that the machine uses toward the first [`peer`](Self::peer) that has
    /// an address when the node starts, or toward the [`multicast`](Self::multicast) group; without
    /// either it must be set. Either all nodes of a cluster have loopback addresses, or none.
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// Adds an address at which other nodes may be, as `host:port`. Names are resolved every
    /// second, and all their addresses are dialed, for as long as the node runs.
    ///
    /// One node of the cluster is enough to find the other ones. This node's own address is
    /// ignored, so all nodes may have the same list.
    ///
    /// The name of a headless service of Kubernetes stands for the addresses of all its pods. There
    /// [`bind`](Self::bind) to 0.0.0.0 and [`advertise`](Self::advertise) the address of the pod.
    pub fn peer(mut self, address: impl Into<String>) -> Self {
        self.peers.push(address.into());
        self
    }

    /// Enables discovery by multicast.
    ///
    /// Between machines it requires a [`secret`](Self::secret), which signs the announcements.
    pub const fn multicast(mut self, multicast: Multicast) -> Self {
        self.multicast = Some(multicast);
        self
    }

    /// Sets the name of the cluster. Nodes with another cluster name are refused.
    ///
    /// Defaults to `distributable` for nodes on one machine. It is required for nodes that other
    /// machines reach and that have a [`peer`](Self::peer) or [`multicast`](Self::multicast), so
    /// that two applications never become one cluster by accident.
    pub fn cluster_name(mut self, name: impl Into<String>) -> Self {
        self.cluster_name = Some(name.into());
        self
    }

    /// Adds the secret that authenticates the nodes of the cluster to each other and encrypts their
    /// links: TLS 1.3 without certificates. All nodes of a cluster have the same secret.
    ///
    /// Can be called several times: the first secret is the one that this node presents, and all of
    /// them are accepted. The [guide](crate::guide::clustering) explains how a secret is replaced
    /// without downtime.
    ///
    /// Defaults to none, which is only accepted for loopback addresses. Any process on that machine
    /// can then join.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Sets how many nodes keep each session. Nodes with different settings refuse each other, so
    /// it can only be changed while all of them are stopped.
    ///
    /// Defaults to [`Copies::All`], which suits a handful of nodes. From four nodes on,
    /// [`Copies::count(2)?`](Copies::count) keeps memory and traffic constant when nodes are added.
    pub const fn copies(mut self, copies: Copies) -> Self {
        self.copies = copies;
        self
    }

    /// Sets when a write counts as acknowledged. Defaults to [`Ack::All`], so that no write is lost
    /// after its response was sent. Deletions, atomic updates, rotations, and changes through a
    /// node that does not hold the session wait for all holders in any case.
    pub const fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// Sets how long a write waits for its acknowledgements. After that its outcome is
    /// [`Indeterminate`](crate::StoreErrorKind::Indeterminate).
    ///
    /// It waits longer, up to 60 seconds in all, while a message of more than 64 KiB to or from
    /// every member that it still waits for makes progress: a large session on a slow link does not
    /// fail.
    ///
    /// Defaults to 5 seconds, more than it takes to detect that a node has failed.
    pub const fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.ack_timeout = timeout;
        self
    }

    /// Sets how many nodes, including this one, must have the whole session before a write is
    /// acknowledged. It does not apply to deletions.
    ///
    /// - With fewer nodes in the cluster, a write fails at once as
    ///   [`Unavailable`](crate::StoreErrorKind::Unavailable).
    /// - While some of the nodes are still joining, a write waits for them, and is
    ///   [`Indeterminate`](crate::StoreErrorKind::Indeterminate) after
    ///   [`ack_timeout`](Self::ack_timeout).
    ///
    /// Defaults to 1, so that the last node continues alone. With [`Ack::All`], 2 refuses writes
    /// that the failure of one node could lose. Use 2 with three nodes or more: with two, all
    /// writes but deletions fail while one of them restarts. With [`Ack::Local`], only the number
    /// of nodes counts. More than [`copies`](Self::copies) is an error when the node starts.
    pub const fn min_copies(mut self, nodes: u8) -> Self {
        self.min_copies = nodes;
        self
    }

    /// Sets the usual number of nodes. A node that starts waits until it has found this many,
    /// including itself, but no longer than [`join_timeout`](Self::join_timeout). If it has found
    /// fewer, and none of them serves yet, an unknown session is an error for
    /// [`loss_grace`](Self::loss_grace).
    ///
    /// So nodes that start together join before any of them serves, even if they find each other by
    /// [`multicast`](Self::multicast) or by a name that does not resolve to all of them yet.
    /// Defaults to 1: a node waits only for the configured addresses.
    pub const fn expect_nodes(mut self, nodes: usize) -> Self {
        self.expect_nodes = nodes;
        self
    }

    /// Sets how long a node that starts waits for nodes that may have sessions, while no serving
    /// node has accepted it.
    ///
    /// It waits if a configured address does not answer, or a name server fails. After that it
    /// serves, but an unknown session is an error for
    /// [`loss_grace`](Self::loss_grace). It does not wait for addresses that refuse connections or
    /// names that do not exist: after two seconds it serves alone. It waits without limit while a
    /// node of the cluster rejects it; see
    /// [`status().refused`](crate::store::ClusterStatus::refused) for the reason.
    ///
    /// Defaults to 10 seconds: a machine that is up answers within one.
    pub const fn join_timeout(mut self, timeout: Duration) -> Self {
        self.join_timeout = timeout;
        self
    }

    /// Sets how long an unknown session is an error ([`Unavailable`]) rather than absent when it
    /// may be a lost one: after as many nodes as keep a session have failed, and when a node serves
    /// although some address does not answer.
    ///
    /// An absent session logs its user out; an error does not. Defaults to 60 seconds: nodes that
    /// were cut off or restarted are usually back by then.
    ///
    /// [`Unavailable`]: crate::StoreErrorKind::Unavailable
    pub const fn loss_grace(mut self, grace: Duration) -> Self {
        self.loss_grace = grace;
        self
    }

    /// Sets how long [`drain`](crate::ReplicatedStore::drain) waits until the other nodes have all
    /// sessions of this one. After that the node leaves anyway, and its report states that.
    ///
    /// Defaults to 10 seconds, well within the grace period of common orchestrators (30 seconds in
    /// Kubernetes). Raise both for gigabytes of sessions.
    pub const fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Sets the maximum number of sessions. At the limit, creating one fails with
    /// [`StoreErrorKind::Full`](crate::StoreErrorKind::Full). Tombstones count toward
    /// [`max_bytes`](Self::max_bytes) only. Defaults to 1,000,000.
    pub const fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Sets the maximum bytes of sessions: names, values and overhead. At the limit, creating or
    /// enlarging a session fails with [`StoreErrorKind::Full`](crate::StoreErrorKind::Full);
    /// reading and deleting do not. Defaults to 1 GiB.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the maximum size of one session, in bytes of names and values. A write that exceeds it
    /// fails with [`StoreErrorKind::TooLarge`](crate::StoreErrorKind::TooLarge). The session layer
    /// has [limits](crate::Limits) of its own, which it checks against the session that a request
    /// has loaded; this limit includes what other requests have written meanwhile.
    ///
    /// Defaults to slightly more than 16 MiB, so that everything that the session layer accepts by
    /// default is stored.
    pub const fn max_session_bytes(mut self, bytes: usize) -> Self {
        self.max_session_bytes = bytes;
        self
    }
}

/// More than it takes to detect that a holder has failed, so that one failure does not make the
/// outcome of a write unknown.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// A machine that is up answers within a second; a busy one, or one that is starting, may take
/// longer.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Nodes that were cut off or restarted are usually back by then.
const LOSS_GRACE: Duration = Duration::from_secs(60);
/// Enough for gigabytes over a local network, and well within the usual grace periods.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_SESSIONS: usize = 1_000_000;
const MAX_BYTES: usize = 1 << 30;
/// The session layer's limit, and room for the names of removed attributes.
const MAX_SESSION_BYTES: usize = (16 << 20) + (256 << 10);
