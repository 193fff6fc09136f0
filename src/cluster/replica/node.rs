//! Who a member of the cluster is.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::session::Writer;

/// One life of one node: where it listens, which life this is, and what people call it.
///
/// A restarted or rejoined node is a new identity with a larger generation. That an identity was
/// declared down is final; only a new life comes back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Where the other members reach it.
    pub(crate) address: SocketAddr,
    /// Which life this is; larger is later.
    pub(crate) generation: u64,
    /// Its route.
    pub(crate) name: Arc<str>,
}

impl Node {
    /// The same node in its next life.
    pub(crate) fn reborn(&self) -> Self {
        Self {
            generation: self.generation.saturating_add(1),
            ..self.clone()
        }
    }

    /// A number that tells this life from others, the same on every member.
    pub(crate) fn fingerprint(&self) -> u64 {
        let text = format!("{}#{}", self.address, self.generation);
        xxh3_64(text.as_bytes())
    }

    /// What the slots that it holds follow from: the same in every life.
    pub(crate) fn seed(&self) -> u64 {
        xxh3_64(self.name.as_bytes())
    }

    /// The number under which this life writes.
    pub(crate) fn writer(&self) -> Writer {
        (self.fingerprint() >> 32) as Writer
    }
}

impl foca::Identity for Node {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        Some(self.reborn())
    }

    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}#{}", self.name, self.address, self.generation)
    }
}

/// The latest generation that a node may have: half the range, in milliseconds far beyond any
/// clock. A later life can always follow.
pub(crate) const GENERATION_MAX: u64 = u64::MAX >> 1;

/// The latest generation above which a node renews itself: one that a faulty peer names leaves room
/// for any number of later ones.
pub(crate) const SEEN_MAX: u64 = GENERATION_MAX >> 1;
