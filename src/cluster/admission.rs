//! Admission control for inbound connections: which nodes are accepted, and how rejections are
//! reported.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::clock;

use super::copies::Copies;
use super::rejections::Rejections;
use super::replica::node::Node;
use super::replica::{MemberStatus, PEERS_MAX};
use super::transport::is_loopback;
use super::wire::{Hello, Refusal, Rival};

/// The admission state of a node.
#[derive(Debug)]
pub(super) struct Door {
    /// The name of the cluster.
    cluster: String,
    /// Distinguishes this process from other ones.
    process: u64,
    copies: Copies,
    /// The number of connections that have completed the handshake.
    introduced: Arc<AtomicUsize>,
    /// Nodes that were recently rejected.
    pub(super) rejections: Rejections,
    /// Machines with other connections that were recently rejected.
    strangers: Rejections,
    rejected: AtomicU64,
    complained_at: AtomicU64,
}

impl Door {
    pub(super) fn new(cluster: String, process: u64, copies: Copies) -> Self {
        Self {
            cluster,
            process,
            copies,
            introduced: Arc::default(),
            rejections: Rejections::default(),
            strangers: Rejections::default(),
            rejected: AtomicU64::new(0),
            complained_at: AtomicU64::new(0),
        }
    }

    /// Returns this process's handshake as `me`.
    pub(super) fn hello(&self, me: Node) -> Hello {
        Hello::new(&self.cluster, me, self.process, self.copies)
    }

    /// Returns the reason to refuse a node, if any. `members` are the other live members.
    pub(super) fn objection<'a>(
        &self,
        hello: &Hello,
        me: &Node,
        members: impl Iterator<Item = &'a Node> + Clone,
    ) -> Option<Refusal> {
        let refusal = self.find_objection(hello, me, members);
        match refusal {
            None => self.rejections.forget(&hello.node.address.to_string()),
            Some(Refusal::Myself) => {}
            Some(refusal) => self.refuse(&hello.node, me, refusal),
        }
        refusal
    }

    fn find_objection<'a>(
        &self,
        hello: &Hello,
        me: &Node,
        members: impl Iterator<Item = &'a Node> + Clone,
    ) -> Option<Refusal> {
        if hello.cluster != self.cluster {
            Some(Refusal::Cluster)
        } else if hello.process == self.process {
            Some(Refusal::Myself)
        } else if hello.common_protocol().is_none() {
            Some(Refusal::Protocol)
        } else if !hello.keeps(self.copies) {
            Some(Refusal::Copies)
        } else if let Some(refusal) = objection_to(&hello.node, me, members) {
            Some(refusal)
        } else if self.introduced.load(Relaxed) >= INTRODUCED_MAX {
            Some(Refusal::Busy)
        } else {
            None
        }
    }

    /// Records a refused node, and logs it from time to time.
    pub(super) fn refuse(&self, node: &Node, me: &Node, refusal: Refusal) {
        let Node { address, name, .. } = node;
        let due = |reason| {
            let now = clock::now();
            self.rejections.note(now, address.to_string(), reason)
        };
        if !due(refusal.reason()) {
            return;
        }
        match refusal {
            Refusal::Copies => tracing::error!(
                node = %name,
                %address,
                "refused a node with another number of copies: `copies` must be the same on all \
                 nodes, and may only be changed while all of them are stopped"
            ),
            Refusal::Unreachable => tracing::error!(
                node = %name,
                %address,
                advertised = %me.address,
                "refused a node: only one of these addresses can be reached from other machines"
            ),
            Refusal::Name => tracing::error!(
                node = %name,
                %address,
                "refused a node with the name or the address of another one; give each node a name \
                 of its own"
            ),
            Refusal::Full => tracing::error!(
                node = %name,
                %address,
                "refused a node: the cluster has the maximum number of members"
            ),
            Refusal::Cluster | Refusal::Protocol | Refusal::Busy | Refusal::Secret => {
                tracing::warn!(node = %name, %address, cause = refusal.reason(), "refused a node");
            }
            Refusal::Myself => {}
        }
    }

    /// Counts a connection as established until the returned value is dropped.
    pub(super) fn enter(&self) -> Introduced {
        self.introduced.fetch_add(1, Relaxed);
        Introduced(self.introduced.clone())
    }

    /// Records a rejected connection.
    pub(super) fn reject(&self, remote: SocketAddr, why: &str) {
        let rejected = 1 + self.rejected.fetch_add(1, Relaxed);
        let machine = remote.ip().to_canonical().to_string();
        if self.strangers.note(clock::now(), machine, why) {
            self.report(remote, why, rejected);
        }
    }

    /// Records a connection rejected by, or from, a node with another secret or none.
    pub(super) fn distrust(&self, remote: SocketAddr, why: &str) {
        let rejected = 1 + self.rejected.fetch_add(1, Relaxed);
        let machine = remote.ip().to_canonical().to_string();
        let reason = Refusal::Secret.reason();
        self.rejections.note(clock::now(), machine.clone(), reason);
        if self.strangers.note(clock::now(), machine, why) {
            self.report(remote, why, rejected);
        }
    }

    fn report(&self, remote: SocketAddr, why: &str, rejected: u64) {
        if self.may_complain() {
            tracing::warn!(
                address = %remote,
                cause = %why,
                rejected,
                "a connection to the replication port was rejected"
            );
        }
    }

    /// Returns the number of rejected connections.
    pub(super) fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    /// Returns `true` if an event that unauthenticated peers can cause at any rate may be logged
    /// now.
    pub(super) fn may_complain(&self) -> bool {
        let now = clock::now().as_millis();
        let last = self.complained_at.load(Relaxed);
        let due = now.saturating_sub(last) >= COMPLAINT_INTERVAL.as_millis() as u64;
        let complained_at = &self.complained_at;
        let first = || complained_at.compare_exchange(last, now, Relaxed, Relaxed);
        due && first().is_ok()
    }
}

/// A connection that counts as established.
#[derive(Debug)]
pub(super) struct Introduced(Arc<AtomicUsize>);

impl Drop for Introduced {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Returns the reason why there is no place for a node of this cluster.
pub(super) fn objection_to<'a>(
    node: &Node,
    me: &Node,
    members: impl Iterator<Item = &'a Node> + Clone,
) -> Option<Refusal> {
    if is_loopback(&node.address) != is_loopback(&me.address) {
        Some(Refusal::Unreachable)
    } else if is_double(node, me, members.clone()) {
        Some(Refusal::Name)
    } else if is_full(node, members) {
        Some(Refusal::Full)
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
const INTRODUCED_MAX: usize = 512;
/// Minimum time between two log lines about unauthenticated connections.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u16) -> Node {
        Node {
            address: ([127, 0, 0, 1], 4000 + number).into(),
            generation: 1,
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
    fn a_sixty_fifth_node_is_refused_at_the_door() {
        let members: Vec<_> = (1..=63).map(node).collect();
        let objection = |new: &Node| objection_to(new, &node(0), members.iter());
        assert_eq!(objection(&node(64)), Some(Refusal::Full));
        // A node that returns takes its own place.
        let mut again = node(63);
        again.generation = 2;
        assert_eq!(objection(&again), None);
        let few = objection_to(&node(64), &node(0), members[1..].iter());
        assert_eq!(few, None);
    }
}
