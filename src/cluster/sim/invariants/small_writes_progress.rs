//! Progress of small writes while nothing disturbs the cluster.

use crate::cluster::sim::client::ClientRequest;

/// While no fault lasts and all links carry at least 1 MB/s, small writes of small sessions are
/// acknowledged within two seconds. Called for one that was not.
pub(crate) fn small_writes_progress(request: &ClientRequest, now: u64) {
    panic!(
        "a small write at node{} was not acknowledged after {} us at {now} us: {request:?}",
        request.node,
        now - request.small_write_at.unwrap_or(now)
    );
}

/// In that time hardly any of them is refused.
pub(crate) fn refusals_are_rare(refused: u64, all: u64) {
    assert!(
        refused * 100 <= all + 100,
        "{refused} of {all} small writes were refused although nothing was wrong"
    );
}
