//! Absence of effects of rejected updates.

use crate::cluster::replica::message::OpId;
use crate::cluster::sim::oracle::Model;

/// An atomic update whose client was informed that another write came first is not in the session:
/// P4. Called with the update that wrote the counter that was read.
pub(crate) fn rejected_changes_nothing(model: &Model, written_by: OpId, place: &str) {
    assert!(
        !model.rejected_updates.contains(&written_by),
        "the atomic update {written_by} was rejected, but it was read {place}"
    );
}
