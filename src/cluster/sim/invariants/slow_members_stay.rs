//! Membership of slow members.

/// A healthy but slow member is not removed. Called when a node has removed another one in a run in
/// which all nodes run and all links work.
pub(crate) fn slow_members_stay(node: usize, removed: usize, now: u64) {
    panic!("node{node} has removed node{removed}, which is only slow, after {now} us");
}
