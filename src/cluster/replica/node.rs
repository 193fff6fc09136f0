//! Identities of nodes.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::session::WriterId;

/// One incarnation of a node: its address, its incarnation number and its name.
///
/// A node that restarts or rejoins is a new identity with a larger `incarnation`. That an identity
/// was declared down is final; the node can only return as another incarnation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Node {
    /// The address at which the other members reach it.
    pub(crate) address: SocketAddr,
    /// The incarnation number; larger is later.
    pub(crate) incarnation: u64,
    /// The name, which is its route.
    pub(crate) name: Arc<str>,
}

impl Node {
    /// Returns the next incarnation of the node.
    pub(crate) fn next_incarnation(&self) -> Self {
        Self {
            incarnation: self.incarnation.saturating_add(1),
            ..self.clone()
        }
    }

    /// Returns a hash of this incarnation, equal on all members.
    pub(crate) fn fingerprint(&self) -> u64 {
        let text = format!("{}#{}", self.address, self.incarnation);
        xxh3_64(text.as_bytes())
    }

    /// Returns the hash that determines its slots, equal in all incarnations.
    pub(crate) fn seed(&self) -> u64 {
        xxh3_64(self.name.as_bytes())
    }

    /// Returns the writer id of this incarnation.
    pub(crate) fn writer(&self) -> WriterId {
        // It depends on the incarnation: a node whose clock was set back while it was down would
        // otherwise use a version a second time, for another value.
        (self.fingerprint() >> 32) as WriterId
    }
}

impl foca::Identity for Node {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        Some(self.next_incarnation())
    }

    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.incarnation > adversary.incarnation
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}#{}", self.name, self.address, self.incarnation)
    }
}

/// The latest incarnation number that a node may have: half the range, far beyond any clock in
/// milliseconds, so that a later incarnation is always possible.
pub(crate) const INCARNATION_MAX: u64 = u64::MAX >> 1;

/// The latest incarnation number above which a node renews itself. A number named by a faulty peer
/// still leaves room for later ones.
pub(crate) const SEEN_MAX: u64 = INCARNATION_MAX >> 1;
