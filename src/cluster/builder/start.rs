//! Start of a node: from a configuration that is checked to tasks that run.

use std::io;
use std::net::SocketAddr;

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng};

use crate::clock;
use crate::error::{SetupError, SetupErrorKind};
use crate::store::replicated::ReplicatedStore;

use crate::cluster::admission::Admission;
use crate::cluster::builder::ReplicatedStoreBuilder;
use crate::cluster::builder::address::{check_peer, invalid};
use crate::cluster::copies::Copies;
use crate::cluster::discovery::{Beacon, Discovery, JoinedGroup, join};
use crate::cluster::driver::Driver;
use crate::cluster::handle::ClusterHandle;
use crate::cluster::outlook::Addresses;
use crate::cluster::replica::node::Node;
use crate::cluster::replica::protocol_rules::ProtocolRules;
use crate::cluster::replica::{Replica, Requirements, Settings};
use crate::cluster::runtime::Endpoints;
use crate::cluster::transport::{Links, Security, is_loopback, last_incarnation};
use crate::cluster::wire::{Hello, NODE_NAME_MAX, is_node_name};

impl ReplicatedStoreBuilder {
    /// Starts the node. It listens when this returns, and finds the other nodes in the background;
    /// [`ready`](ReplicatedStore::ready) waits until it serves sessions.
    ///
    /// Must be awaited within a tokio runtime, on which the tasks of the node run.
    ///
    /// # Errors
    ///
    /// If the configuration is invalid, the address cannot be bound or can be reached from other
    /// machines without a secret, a multicast group cannot be joined, or the operating system has
    /// no random numbers. The message says what to do.
    ///
    /// # Panics
    ///
    /// Panics if called outside a tokio runtime.
    pub async fn start(self) -> Result<ReplicatedStore, SetupError> {
        self.start_after(|_| ()).await
    }

    /// Starts the node with the sessions of an earlier incarnation. Returns the number of sessions
    /// for which there was no room. If members have survived that incarnation, the sessions are
    /// imported only when one of them is met.
    #[cfg(all(feature = "snapshot", unix))]
    pub(crate) async fn start_with(
        self,
        copies: Vec<crate::cluster::KeyedEntry>,
        survivors: Vec<crate::cluster::SurvivingMember>,
    ) -> Result<(ReplicatedStore, usize), SetupError> {
        let mut refused = 0;
        let fill = |replica: &Replica| {
            if survivors.is_empty() {
                refused = replica.restore(clock::now(), copies);
            } else {
                replica.hold(clock::now(), copies, survivors);
            }
        };
        let store = self.start_after(fill).await?;
        Ok((store, refused))
    }

    /// Starts the node after `fill` has imported sessions into the replica.
    async fn start_after(self, fill: impl FnOnce(&Replica)) -> Result<ReplicatedStore, SetupError> {
        let security = self.security()?;
        let secure = security.is_some();
        self.check(secure)?;
        let listener = self.listen(secure).await?;
        let bound = listener.local_addr().map_err(|error| {
            SetupError::new(SetupErrorKind::Listen, "no local address").with_source(error)
        })?;
        let advertised = self.advertised(bound, secure).await?;
        self.check_name(advertised)?;
        let multicast = self.group(bound, advertised)?;
        let mut random = StdRng::try_from_rng(&mut SysRng).map_err(|error| {
            let what = "the operating system has no random numbers";
            SetupError::new(SetupErrorKind::Unsupported, what).with_source(io::Error::other(error))
        })?;
        let process = random.next_u64();
        let me = self.identity(advertised, process, &security).await;
        let settings = self.settings(me.clone(), random.next_u64());
        let replica = Replica::new(clock::now(), settings);
        fill(&replica);
        tracing::info!(
            node = %self.name,
            cluster = self.name_of_cluster(),
            address = %advertised,
            secret = secure,
            copies = ?self.copies,
            ack = ?self.ack,
            version = env!("CARGO_PKG_VERSION"),
            "starting a replicated node"
        );
        let (links, dial_requests) = Links::new(bound, advertised, security);
        let driver = Driver::new(
            replica,
            links,
            me,
            Admission::new(self.name_of_cluster().to_owned(), process, self.copies),
            Addresses::new(&self.peers),
            random,
        );
        let endpoints = Endpoints {
            listener,
            discovery: Discovery {
                names: self.peers.into(),
                multicast,
            },
            dial_requests,
        };
        Ok(ReplicatedStore::new(ClusterHandle::run(
            driver,
            endpoints,
            bound,
            self.copies,
            self.drain_timeout,
        )))
    }

    fn settings(&self, me: Node, seed: u64) -> Settings {
        Settings {
            me,
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
            seed,
            rules: ProtocolRules::ALL,
        }
    }

    /// Returns the identity of this incarnation, which must be later than all that other nodes have
    /// seen.
    async fn identity(&self, address: SocketAddr, process: u64, security: &Security) -> Node {
        let unborn = Node {
            address,
            incarnation: 0,
            name: self.name.as_str().into(),
        };
        let hello = Hello::new(self.name_of_cluster(), unborn.clone(), process, self.copies);
        let last = last_incarnation(security, &self.peers, &hello).await;
        Node {
            incarnation: clock::now().as_millis().max(last.saturating_add(1)),
            ..unborn
        }
    }

    /// Returns the protection of the links.
    fn security(&self) -> Result<Security, SetupError> {
        if let Some(own) = &self.own {
            return Ok(own.clone());
        }
        Security::from_secrets(&self.secrets, self.name_of_cluster()).map_err(|error| {
            let what = "TLS does not work on this system";
            SetupError::new(SetupErrorKind::Unsupported, what).with_source(error)
        })
    }

    /// Joins the multicast group, if one is configured.
    fn group(
        &self,
        bound: SocketAddr,
        advertised: SocketAddr,
    ) -> Result<Option<JoinedGroup>, SetupError> {
        let Some(multicast) = self.multicast else {
            return Ok(None);
        };
        if let Some(problem) = multicast.problem(advertised, !self.secrets.is_empty()) {
            return invalid(problem);
        }
        let beacon = Beacon::new(&self.secrets, self.name_of_cluster());
        let group = join(multicast, bound, advertised, beacon);
        group.map(Some).map_err(|error| {
            let what = "cannot join the multicast group: set the `interface` to use, or the other \
                        nodes with `peer`";
            SetupError::new(SetupErrorKind::Listen, what).with_source(error)
        })
    }

    fn name_of_cluster(&self) -> &str {
        self.cluster_name.as_deref().unwrap_or(CLUSTER_NAME)
    }

    /// Rejects a missing cluster name: nodes of two applications without one would form one
    /// cluster.
    fn check_name(&self, advertised: SocketAddr) -> Result<(), SetupError> {
        let looks = !self.peers.is_empty() || self.multicast.is_some();
        if self.cluster_name.is_some() || is_loopback(&advertised) || !looks {
            return Ok(());
        }
        let what = "a node that looks for peers on other machines requires a cluster name, so that \
                    it joins no other application's cluster: give all nodes of this application \
                    the same `.cluster_name(\"my-application\")`";
        Err(SetupError::new(SetupErrorKind::ClusterName, what))
    }

    fn check(&self, secure: bool) -> Result<(), SetupError> {
        if !is_node_name(&self.name) {
            return invalid(format!(
                "{:?} is not a valid node name: use 1 to {NODE_NAME_MAX} letters, digits and underscores",
                self.name
            ));
        }
        if self.name_of_cluster().is_empty() || self.name_of_cluster().len() > CLUSTER_NAME_MAX {
            return invalid(format!(
                "the cluster name must be 1 to {CLUSTER_NAME_MAX} bytes long"
            ));
        }
        if self.peers.len() > PEERS_MAX {
            return invalid(format!("more than {PEERS_MAX} peers are configured"));
        }
        for peer in &self.peers {
            check_peer(peer, secure)?;
        }
        match self.copies {
            // No write could be acknowledged.
            Copies::Count(copies) if self.min_copies > copies.get() => Err(SetupError::new(
                SetupErrorKind::Copies,
                format!(
                    "min_copies({}) is more than {copies} copies",
                    self.min_copies
                ),
            )),
            _ => Ok(()),
        }
    }
}

const CLUSTER_NAME: &str = "distributable";

/// Keeps a handshake within one small frame.
const CLUSTER_NAME_MAX: usize = 64;

/// Each of them is dialed for as long as the node runs; a cluster has a handful.
const PEERS_MAX: usize = 128;
