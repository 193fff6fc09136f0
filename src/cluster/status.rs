//! What operators see of a node.

use std::net::SocketAddr;
use std::time::Duration;

use super::Copies;

/// How a replicated store is doing, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// Whether this node serves sessions.
    pub ready: bool,
    /// Whether this node has everything of what it keeps that the other members had when the members
    /// last changed.
    pub complete: bool,
    /// Whether all members have the same idea of who is in. While they have not, writes wait.
    pub stable: bool,
    /// Everybody in the cluster, this node first.
    pub members: Vec<Member>,
    /// How many nodes keep a session.
    pub copies: Copies,
    /// Live sessions of which this node has a copy.
    pub sessions: usize,
    /// Ended sessions that are remembered, so that no late copy revives them.
    pub tombstones: usize,
    /// What sessions and tombstones are counted with against
    /// [`max_bytes`](super::ReplicatedStoreBuilder::max_bytes).
    pub bytes: usize,
    /// Whether this node holds more than its `max_sessions` or `max_bytes`: it keeps copies for other
    /// nodes whatever its limits, and creates no sessions until it is within them again.
    pub over_limit: bool,
    /// Merges that have made a session larger than
    /// [`max_session_bytes`](super::ReplicatedStoreBuilder::max_session_bytes): nodes that did not
    /// know of each other's writes had each added what was within the limit. Such a session is
    /// kept, and may only shrink.
    pub oversized_merges: u64,
    /// Sessions with fewer copies than asked for.
    pub under_replicated: usize,
    /// Writes that were acknowledged by fewer nodes than asked for, because fewer were alive.
    pub degraded_acks: u64,
    /// Writes whose outcome callers were told is unknown: time ran out, this node left, or too much
    /// had happened since they were first asked for.
    pub indeterminate: u64,
    /// Writes of attributes that were discarded because the other side of a partition had written the
    /// same attribute without knowing of it, and won. Each node counts what it merged itself; with
    /// more than 65,536 sessions changed while the partition lasted it is a lower bound.
    pub discarded_writes: u64,
    /// Connections to the replication port that were turned away: not our protocol, without the
    /// secret, another cluster, too slow, or malformed.
    pub rejected_connections: u64,
    /// Sessions that were created through this node since it was started.
    pub created: u64,
    /// Sessions that were ended through this node since it was started.
    pub deleted: u64,
    /// Sessions that this node owned when they expired, since it was started.
    pub expired: u64,
    /// Nodes that reject this one, or that it rejects. A row goes within ten seconds after its
    /// cause.
    pub refused: Vec<RefusedNode>,
}

/// A node that is not accepted by another one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedNode {
    /// Where it is reached; its machine alone where it has not said more.
    pub address: String,
    /// What to change.
    pub reason: String,
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its name, which is the route in the cookies that it issues.
    pub route: String,
    /// Where the other nodes reach it.
    pub address: SocketAddr,
    /// How far it is.
    pub state: MemberState,
    /// How long this node has known it.
    pub age: Duration,
    /// Changes that were sent to it and are not acknowledged.
    pub lag: usize,
}

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberState {
    /// It is in, but does not have all sessions yet.
    Joining,
    /// It serves sessions.
    Ready,
    /// It is on its way out.
    Leaving,
}

/// What [`drain`](crate::ReplicatedStore::drain) could prove before the node left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Whether it is proved that nothing is lost with this node: for every session that it had, all
    /// nodes that are to keep it from now on have said that they do. `false` with sessions when no
    /// node stays.
    pub handed_over: bool,
    /// Live sessions here when the node was told to go.
    pub sessions: usize,
    /// Changes that nobody had acknowledged when the node left.
    pub unacknowledged: usize,
    /// Other members when the node left.
    pub remaining: usize,
    /// Whether no node stays: there was no other member, or all others were on their way out.
    pub last: bool,
    /// How long it took.
    pub took: Duration,
}
