//! The numbers of operations: those of callers, and those that a node starts itself.
//!
//! The driver numbers the calls of its callers. The upper bits mark what a node starts itself. Such
//! an operation answers no call; if it is a read, it has no timeout and ends with the view at the
//! latest.

/// Identifies a call among the calls in progress at a node.
pub(crate) type OpId = u64;

/// Marks what a node starts itself; without a further mark, the reads of a session's owner.
pub(crate) const INTERNAL: OpId = 1 << 63;

/// Marks the requests for the rest of a session of which a change has arrived.
pub(crate) const BACKFILL: OpId = INTERNAL | 1 << 62;

/// Marks the deletions of sessions whose user's sessions were ended on the other side of a
/// partition.
pub(crate) const REVOCATION: OpId = INTERNAL | 1 << 61;

/// Returns `true` if the node has started the operation itself.
pub(crate) const fn is_internal(op: OpId) -> bool {
    op & INTERNAL == INTERNAL
}

/// Returns `true` if the operation requests the rest of a session.
pub(crate) const fn is_backfill(op: OpId) -> bool {
    op & BACKFILL == BACKFILL
}

/// Returns `true` if the operation deletes a session because all sessions of its user were ended.
pub(crate) const fn is_revocation(op: OpId) -> bool {
    op & REVOCATION == REVOCATION
}
