use crate::session::Record;

use super::super::oracle::Known;
use super::reads_never_go_back;

/// Acknowledged writes still exist after all faults: P1.
pub(crate) fn acknowledged_survives(known: &Known, read: Option<&Record>, place: &str) {
    reads_never_go_back(known, read, place);
}
