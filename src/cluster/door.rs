//! Who may come in, and what becomes of everybody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::clock;

use super::Copies;
use super::link::is_loopback;
use super::replica::node::Node;
use super::wire::{Hello, Refusal};

/// What a node knows of connections that others make.
#[derive(Debug)]
pub(super) struct Door {
    /// The name of the cluster.
    cluster: String,
    /// Tells this process from others.
    process: u64,
    copies: Copies,
    /// Connections whose other end has introduced itself.
    introduced: Arc<AtomicUsize>,
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
            rejected: AtomicU64::new(0),
            complained_at: AtomicU64::new(0),
        }
    }

    /// How this process introduces itself as `me`.
    pub(super) fn hello(&self, me: Node) -> Hello {
        Hello::new(&self.cluster, me, self.process, self.copies)
    }

    /// Why this one may not come in. `members` are the other living nodes.
    pub(super) fn objection<'a>(
        &self,
        hello: &Hello,
        me: &Node,
        members: impl Iterator<Item = &'a Node>,
    ) -> Option<Refusal> {
        if hello.cluster != self.cluster {
            Some(Refusal::Cluster)
        } else if hello.process == self.process {
            Some(Refusal::Myself)
        } else if hello.common_protocol().is_none() {
            Some(Refusal::Protocol)
        } else if !hello.keeps(self.copies) {
            if self.may_complain() {
                tracing::error!(
                    "{} at {} keeps another number of copies and is refused: `copies` must be the \
                     same on all nodes, and changes only while all of them are stopped",
                    hello.node.name,
                    hello.node.address
                );
            }
            Some(Refusal::Copies)
        } else if is_loopback(&hello.node.address) != is_loopback(&me.address) {
            if self.may_complain() {
                tracing::error!(
                    "{} is refused: it is to be reached at {} and this node at {}, and only one of \
                     these addresses can be reached from other machines",
                    hello.node.name,
                    hello.node.address,
                    me.address
                );
            }
            Some(Refusal::Unreachable)
        } else if is_double(&hello.node, me, members) {
            if self.may_complain() {
                tracing::error!(
                    "a second node is called {}, or is at its address: the one at {} is refused; \
                     give each node a name of its own",
                    hello.node.name,
                    hello.node.address
                );
            }
            Some(Refusal::Name)
        } else if self.introduced.load(Relaxed) >= INTRODUCED_MAX {
            Some(Refusal::Busy)
        } else {
            None
        }
    }

    /// Counts a connection as introduced, until what is returned is dropped.
    pub(super) fn enter(&self) -> Introduced {
        self.introduced.fetch_add(1, Relaxed);
        Introduced(self.introduced.clone())
    }

    /// A connection was turned away.
    pub(super) fn reject(&self, remote: SocketAddr, why: &str) {
        let rejected = 1 + self.rejected.fetch_add(1, Relaxed);
        if self.may_complain() {
            tracing::warn!(
                "replication port: a connection from {remote} {why} ({rejected} turned away so far)"
            );
        }
    }

    /// Connections that were turned away so far.
    pub(super) fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    /// Whether something that strangers can cause any number of times may be logged now.
    pub(super) fn may_complain(&self) -> bool {
        let now = clock::now().as_millis();
        let last = self.complained_at.load(Relaxed);
        let due = now.saturating_sub(last) >= COMPLAINT_INTERVAL.as_millis() as u64;
        let complained_at = &self.complained_at;
        let first = || complained_at.compare_exchange(last, now, Relaxed, Relaxed);
        due && first().is_ok()
    }
}

/// A connection that counts as introduced.
#[derive(Debug)]
pub(super) struct Introduced(Arc<AtomicUsize>);

impl Drop for Introduced {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Whether a living node has its name at another address, or this one is at its address.
fn is_double<'a>(node: &Node, me: &Node, mut members: impl Iterator<Item = &'a Node>) -> bool {
    let has_name = |other: &Node| other.name == node.name && other.address != node.address;
    me.address == node.address || has_name(me) || members.any(has_name)
}

/// How many connections that have introduced themselves are kept: two to each of as many members
/// as memory copies can have.
const INTRODUCED_MAX: usize = 512;
/// The pause between two complaints about strangers.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);
