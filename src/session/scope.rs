//! [`Scope`]: the part of a cluster that a list or a subscription covers.

/// The part of a cluster that a [list](crate::SessionStore::list) of sessions or a subscription to
/// [events](crate::SessionStore::events) covers.
///
/// A memory store and a Redis store return the same list with either scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The sessions that this node owns, or the events that it reports: the lists of all nodes
    /// together have each session once, and subscribers on all nodes receive each event once in
    /// total.
    Node,
    /// Those of all nodes.
    Cluster,
}
