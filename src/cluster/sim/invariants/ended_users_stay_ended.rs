//! Finality of the end of all sessions of a user.

use crate::session::{Record, Root};

/// After a call that ends all sessions of a user was answered, every session whose login was
/// answered before the call began is invalid on every node, permanently: P3.
pub(crate) fn ended_users_stay_ended(read: Option<&Record>, key: Root, now: u64) {
    assert!(
        read.is_none(),
        "a session of an ended user is alive after {now} us ({key})"
    );
}
