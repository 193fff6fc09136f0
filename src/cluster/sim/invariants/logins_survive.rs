//! Survival of logins that no call has ended.

use std::sync::Arc;

use crate::session::{Record, Root};

/// A login that no call of this user's end is concurrent with, or follows, is not ended.
pub(crate) fn logins_survive(found: Option<&Arc<Record>>, node: usize, key: Root) {
    assert!(
        found.is_some(),
        "a user's session is gone at node{node} although it was not ended ({key})"
    );
}
