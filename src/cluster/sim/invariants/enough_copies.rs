//! The minimum number of copies of an acknowledged write.

use crate::cluster::sim::client::ClientRequest;

/// A write is acknowledged only with at least `min_copies` copies on nodes that are alive from the
/// point of view of the acknowledging node.
pub(crate) fn enough_copies(copies: usize, min_copies: u8, request: &ClientRequest, now: u64) {
    assert!(
        copies >= usize::from(min_copies),
        "a write was acknowledged with {copies} copies instead of {min_copies} at node{} after \
         {now} us ({})",
        request.node,
        request.key
    );
}
