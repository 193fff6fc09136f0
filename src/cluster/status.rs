//! State of a replicated store for operators.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cluster::copies::Copies;

/// The state of a replicated store, from the point of view of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// Whether this node serves sessions.
    pub ready: bool,
    /// Whether this node has all sessions of its slots that the other members had when the members
    /// last changed.
    pub complete: bool,
    /// Whether all members agree on the members. While they do not, writes wait.
    pub stable: bool,
    /// All members of the cluster, this node first.
    pub members: Vec<Member>,
    /// The number of nodes that keep each session.
    pub copies: Copies,
    /// Live sessions of which this node has a copy.
    pub sessions: usize,
    /// Deleted sessions that are remembered, so that no late copy restores them.
    pub tombstones: usize,
    /// Bytes of sessions and tombstones, as counted for
    /// [`max_bytes`](super::ReplicatedStoreBuilder::max_bytes).
    pub bytes: usize,
    /// Whether this node exceeds its `max_sessions` or `max_bytes`: it keeps copies for other nodes
    /// regardless of its limits, and creates no sessions until it is within them again.
    pub over_limit: bool,
    /// Merges that have made a session larger than
    /// [`max_session_bytes`](super::ReplicatedStoreBuilder::max_session_bytes): concurrent writes
    /// on several nodes had each been within the limit. Such a session is kept, and may only
    /// shrink.
    pub oversized_merges: u64,
    /// Sessions with fewer copies than configured.
    pub under_replicated: usize,
    /// Writes acknowledged by fewer nodes than configured, because fewer were alive.
    pub degraded_acks: u64,
    /// Writes whose outcome is unknown to the caller: they timed out, this node left, or too much
    /// had happened since the first attempt.
    pub indeterminate: u64,
    /// Writes of attributes that were discarded because the other side of a partition had written
    /// the same attribute concurrently, and its write was later. Each node counts its own merges.
    /// With more than 65,536 sessions changed during the partition it is a lower bound.
    pub discarded_writes: u64,
    /// Connections to the replication port that were rejected: another protocol, no secret or
    /// another one, another cluster, too slow, or malformed.
    pub rejected_connections: u64,
    /// Sessions created through this node since it was started.
    pub created: u64,
    /// Sessions deleted through this node since it was started.
    pub deleted: u64,
    /// Sessions that this node owned when they expired, since it was started.
    pub expired: u64,
    /// Nodes that reject this one, or that it rejects. A row is removed within ten seconds after
    /// its cause.
    pub refused: Vec<RefusedNode>,
}

/// A node that is rejected by another one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedNode {
    /// Its address; only that of its machine if it has not identified itself.
    pub address: String,
    /// The reason, and what to change.
    pub reason: String,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its name, which is the route in the cookies that it issues.
    pub route: String,
    /// The address at which other nodes reach it.
    pub address: SocketAddr,
    /// Its state.
    pub state: MemberState,
    /// How long it has been a member, from the point of view of this node.
    pub age: Duration,
    /// Changes that were sent to it and are not acknowledged.
    pub lag: usize,
}

/// The state of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberState {
    /// It is a member, but does not serve yet.
    Joining,
    /// It serves sessions.
    Ready,
    /// It is draining.
    Leaving,
}

/// The result of [`drain`](crate::ReplicatedStore::drain).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Whether it is certain that nothing is lost with this node: for every session that it had,
    /// all nodes that hold it from now on have confirmed that they have it. `false` if there were
    /// sessions and no node stays.
    pub complete: bool,
    /// Live sessions at this node when draining began.
    pub sessions: usize,
    /// Changes that were not acknowledged when the node left.
    pub unacknowledged: usize,
    /// Other members when the node left.
    pub members_remaining: usize,
    /// Whether no node stays: there was no other member, or all others were leaving.
    pub last: bool,
    /// How long draining took.
    pub elapsed: Duration,
}
