use super::super::client::Request;

/// An acknowledged write has at least `min_copies` live copies when it is acknowledged.
pub(crate) fn enough_copies(copies: usize, min_copies: u8, request: &Request, now: u64) {
    assert!(
        copies >= usize::from(min_copies),
        "a write was acknowledged with {copies} copies instead of {min_copies} at node{} after \
         {now} us ({})",
        request.node,
        request.key
    );
}
