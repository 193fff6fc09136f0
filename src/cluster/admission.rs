//! Admission control for inbound connections: which nodes are accepted, and how rejections are
//! reported.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock;
use crate::sync::lock;

use crate::cluster::copies::Copies;
use crate::cluster::rejections::Rejections;
use crate::cluster::replica::node::Node;
use crate::cluster::replica::{MemberStatus, PEERS_MAX};
use crate::cluster::throttle::Throttle;
use crate::cluster::transport::is_loopback;
use crate::cluster::wire::{Hello, RefusalReason, Rival};

/// The admission state of a node.
#[derive(Debug)]
pub(super) struct Admission {
    /// The name of the cluster.
    cluster: String,
    /// Distinguishes this process from other ones.
    process: u64,
    copies: Copies,
    /// The number of connections that have completed the handshake.
    established: Arc<AtomicUsize>,
    /// Nodes that were recently rejected.
    pub(super) rejections: Rejections,
    /// Machines with other connections that were recently rejected.
    rejected_machines: Rejections,
    rejected: AtomicU64,
    /// For events that unauthenticated peers can cause at any rate.
    log: Mutex<Throttle>,
}

impl Admission {
    pub(super) fn new(cluster: String, process: u64, copies: Copies) -> Self {
        Self {
            cluster,
            process,
            copies,
            established: Arc::default(),
            rejections: Rejections::default(),
            rejected_machines: Rejections::default(),
            rejected: AtomicU64::new(0),
            log: Mutex::new(Throttle::new(LOG_INTERVAL)),
        }
    }

    /// Returns this process's handshake as `me`.
    pub(super) fn hello(&self, me: Node) -> Hello {
        Hello::new(&self.cluster, me, self.process, self.copies)
    }

    /// Returns the reason to refuse a node, if any. `members` are the other live members.
    pub(super) fn refusal<'a>(
        &self,
        hello: &Hello,
        me: &Node,
        members: impl Iterator<Item = &'a Node> + Clone,
    ) -> Option<RefusalReason> {
        let refusal = self.find_refusal(hello, me, members);
        match refusal {
            None => self.rejections.forget(&hello.node.address.to_string()),
            Some(RefusalReason::Myself) => {}
            Some(refusal) => self.record_refusal(&hello.node, me, refusal),
        }
        refusal
    }

    fn find_refusal<'a>(
        &self,
        hello: &Hello,
        me: &Node,
        members: impl Iterator<Item = &'a Node> + Clone,
    ) -> Option<RefusalReason> {
        if hello.cluster != self.cluster {
            Some(RefusalReason::Cluster)
        } else if hello.process == self.process {
            Some(RefusalReason::Myself)
        } else if hello.common_protocol().is_none() {
            Some(RefusalReason::Protocol)
        } else if !hello.keeps(self.copies) {
            Some(RefusalReason::Copies)
        } else if let Some(refusal) = refusal_for(&hello.node, me, members) {
            Some(refusal)
        } else if self.established.load(Relaxed) >= ESTABLISHED_MAX {
            Some(RefusalReason::Busy)
        } else {
            None
        }
    }

    /// Records a refused node, and logs it from time to time.
    pub(super) fn record_refusal(&self, node: &Node, me: &Node, refusal: RefusalReason) {
        let Node { address, name, .. } = node;
        let due = |reason| {
            let now = clock::now();
            self.rejections.note(now, address.to_string(), reason)
        };
        if !due(refusal.reason()) {
            return;
        }
        match refusal {
            RefusalReason::Copies => tracing::error!(
                node = %name,
                %address,
                "refused a node with another number of copies: `copies` must be the same on all \
                 nodes, and may only be changed while all of them are stopped"
            ),
            RefusalReason::Unreachable => tracing::error!(
                node = %name,
                %address,
                advertised = %me.address,
                "refused a node: only one of these addresses can be reached from other machines"
            ),
            RefusalReason::Name => tracing::error!(
                node = %name,
                %address,
                "refused a node with the name or the address of another one; give each node a name \
                 of its own"
            ),
            RefusalReason::Full => tracing::error!(
                node = %name,
                %address,
                "refused a node: the cluster has the maximum number of members"
            ),
            RefusalReason::Cluster
            | RefusalReason::Protocol
            | RefusalReason::Busy
            | RefusalReason::Secret => {
                tracing::warn!(node = %name, %address, cause = refusal.reason(), "refused a node");
            }
            RefusalReason::Myself => {}
        }
    }

    /// Counts a connection as established until the returned value is dropped.
    pub(super) fn admit(&self) -> ConnectionPermit {
        self.established.fetch_add(1, Relaxed);
        ConnectionPermit(self.established.clone())
    }

    /// Records a connection that was rejected before its handshake was complete.
    pub(super) fn reject_connection(&self, remote: SocketAddr, cause: &str) {
        let rejected = self.count_rejected();
        if self.is_to_be_logged(remote, cause) {
            log_rejected(remote, cause, rejected);
        }
    }

    /// Records a connection rejected by, or from, a node with another secret or none.
    pub(super) fn reject_untrusted(&self, remote: SocketAddr, cause: &str) {
        let rejected = self.count_rejected();
        let reason = RefusalReason::Secret.reason();
        self.rejections.note(clock::now(), machine(remote), reason);
        if self.is_to_be_logged(remote, cause) {
            log_rejected(remote, cause, rejected);
        }
    }

    /// Records a connection from `peer` that was closed because of an error in what it carried.
    pub(super) fn reject_link(
        &self,
        remote: SocketAddr,
        peer: &Node,
        cause: &str,
        error: &dyn fmt::Debug,
    ) {
        let rejected = self.count_rejected();
        if self.is_to_be_logged(remote, &format!("{peer:?} {cause} {error:?}")) {
            tracing::warn!(
                peer = %peer.name,
                address = %remote,
                cause,
                ?error,
                rejected,
                "a connection to the replication port was rejected"
            );
        }
    }

    fn count_rejected(&self) -> u64 {
        1 + self.rejected.fetch_add(1, Relaxed)
    }

    /// Returns `true` if a connection that was rejected for this reason is to be logged.
    fn is_to_be_logged(&self, remote: SocketAddr, reason: &str) -> bool {
        let machines = &self.rejected_machines;
        machines.note(clock::now(), machine(remote), reason) && self.may_log()
    }

    /// Returns the number of rejected connections.
    pub(super) fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    /// Returns `true` if an event that unauthenticated peers can cause at any rate may be logged
    /// now.
    pub(super) fn may_log(&self) -> bool {
        lock(&self.log).is_due(clock::now())
    }
}

fn log_rejected(remote: SocketAddr, cause: &str, rejected: u64) {
    tracing::warn!(
        address = %remote,
        cause,
        rejected,
        "a connection to the replication port was rejected"
    );
}

/// Returns the machine of an address, as text.
fn machine(remote: SocketAddr) -> String {
    remote.ip().to_canonical().to_string()
}

/// A connection that counts as established.
#[derive(Debug)]
pub(super) struct ConnectionPermit(Arc<AtomicUsize>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Returns why this node must be refused, or `None` if it may join.
pub(super) fn refusal_for<'a>(
    node: &Node,
    me: &Node,
    members: impl Iterator<Item = &'a Node> + Clone,
) -> Option<RefusalReason> {
    if is_loopback(&node.address) != is_loopback(&me.address) {
        Some(RefusalReason::Unreachable)
    } else if is_double(node, me, members.clone()) {
        Some(RefusalReason::Name)
    } else if is_full(node, members) {
        Some(RefusalReason::Full)
    } else {
        None
    }
}

/// Returns the node that has this name: `me`, which serves or not, or one of its members.
pub(super) fn find_rival(
    name: &str,
    me: &Node,
    serves: bool,
    members: &[MemberStatus],
) -> Option<Rival> {
    let others = members.iter().map(|member| (&member.node, member.ready));
    let mut all = others.chain([(me, serves)]);
    let (node, is_ready) = all.find(|(node, _)| *node.name == *name)?;
    Some(Rival {
        node: node.clone(),
        // Members that serve will make it serve too.
        serves: is_ready || serves,
    })
}

/// Returns `true` if the cluster is full and the node replaces no member.
fn is_full<'a>(node: &Node, members: impl Iterator<Item = &'a Node> + Clone) -> bool {
    let mut others = members.clone();
    members.count() >= PEERS_MAX && !others.any(|member| member.address == node.address)
}

/// Returns `true` if a live node has the same name at another address, or `me` has the same
/// address.
fn is_double<'a>(node: &Node, me: &Node, mut members: impl Iterator<Item = &'a Node>) -> bool {
    let has_name = |other: &Node| other.name == node.name && other.address != node.address;
    me.address == node.address || has_name(me) || members.any(has_name)
}

/// Most established inbound connections: several for each possible member.
const ESTABLISHED_MAX: usize = 512;
/// Minimum time between two log lines about unauthenticated connections.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u16) -> Node {
        Node {
            address: ([127, 0, 0, 1], 4000 + number).into(),
            incarnation: 1,
            name: format!("node{number}").into(),
        }
    }

    /// A node older than such a rival would serve alone beside the members that serve.
    #[test]
    fn a_rival_that_joins_members_that_serve_counts_as_serving() {
        let joining = MemberStatus {
            node: node(2),
            agrees: true,
            complete: false,
            ready: false,
            leaving: false,
            lag: 0,
        };
        let rival = |serves| {
            let members = [joining.clone()];
            find_rival("node2", &node(1), serves, &members).map(|rival| rival.serves)
        };
        assert_eq!(rival(true), Some(true));
        assert_eq!(rival(false), Some(false));
        assert_eq!(find_rival("node3", &node(1), true, &[]), None);
    }

    #[test]
    fn a_sixty_fifth_node_is_refused_by_a_full_cluster() {
        let members: Vec<_> = (1..=63).map(node).collect();
        let refusal = |new: &Node| refusal_for(new, &node(0), members.iter());
        assert_eq!(refusal(&node(64)), Some(RefusalReason::Full));
        // A node that returns takes its own place.
        let mut again = node(63);
        again.incarnation = 2;
        assert_eq!(refusal(&again), None);
        let few = refusal_for(&node(64), &node(0), members[1..].iter());
        assert_eq!(few, None);
    }
}
