//! Survival of acknowledged writes.

use crate::session::Record;

use crate::cluster::sim::invariants::reads_never_go_back;
use crate::cluster::sim::oracle::KnownResults;

/// Acknowledged writes still exist after all faults: P1.
pub(crate) fn acknowledged_survives(known: &KnownResults, read: Option<&Record>, place: &str) {
    reads_never_go_back(known, read, place);
}
