//! Times in entries, converted from another node's clock to this node's.

use std::sync::Arc;

use crate::session::{Record, Timestamp};

use crate::cluster::replica::delta::Delta;
use crate::cluster::replica::entry::Entry;

impl Entry {
    /// Converts the times in it from another node's clock to this node's.
    pub(crate) fn rebase(&mut self, theirs: Timestamp, ours: Timestamp) {
        match self {
            Self::Live(record) => rebase_record(record, theirs, ours),
            Self::Delta(delta) => rebase_delta(delta, theirs, ours),
            Self::Expired(mark) => {
                mark.credential.rebase(|at| rebased(at, theirs, ours));
                mark.until = rebased(mark.until, theirs, ours);
            }
            Self::Tombstone { until } => *until = rebased(*until, theirs, ours),
        }
    }
}

/// Converts the times in a session from another node's clock to this node's.
pub(crate) fn rebase_record(record: &mut Arc<Record>, theirs: Timestamp, ours: Timestamp) {
    let record = Arc::make_mut(record);
    let lifetime = &mut record.lifetime;
    lifetime.created_at = rebased(lifetime.created_at, theirs, ours);
    lifetime.accessed_at = rebased(lifetime.accessed_at, theirs, ours);
    record.credential.rebase(|at| rebased(at, theirs, ours));
}

/// Converts the times in a delta from another node's clock to this node's.
pub(crate) fn rebase_delta(delta: &mut Arc<Delta>, theirs: Timestamp, ours: Timestamp) {
    let delta = Arc::make_mut(delta);
    delta.accessed_at = rebased(delta.accessed_at, theirs, ours);
    if let Some(credential) = &mut delta.credential {
        credential.rebase(|at| rebased(at, theirs, ours));
    }
}

/// Converts a time from another node's clock to this node's.
pub(crate) fn rebased(time: Timestamp, theirs: Timestamp, ours: Timestamp) -> Timestamp {
    if time == Timestamp::NEVER {
        time
    } else if time >= theirs {
        ours.plus(time.since(theirs))
    } else {
        ours.minus(theirs.since(time))
    }
}
