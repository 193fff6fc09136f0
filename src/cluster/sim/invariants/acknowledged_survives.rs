use crate::session::Record;

use super::reads_never_go_back;
use crate::cluster::sim::oracle::Known;

/// Acknowledged writes still exist after all faults: P1.
pub(crate) fn acknowledged_survives(known: &Known, read: Option<&Record>, place: &str) {
    reads_never_go_back(known, read, place);
}
