//! Uniqueness of atomic updates.

use crate::cluster::sim::oracle::Model;

/// No two acknowledged atomic updates have the same result: P4.
pub(crate) fn update_is_new(model: &mut Model, result: u64) {
    assert!(
        model.counts.insert(result),
        "two atomic updates of {} have the result {result}",
        model.key
    );
}

/// Every acknowledged atomic update counts once, an indeterminate one at most once: P4.
pub(crate) fn updates_count_once(model: &Model, counter: u64) {
    let acked = model.counts.len() as u64;
    let most = acked + model.indeterminate_updates;
    assert!(
        (acked..=most).contains(&counter),
        "{acked} updates of {} were acknowledged and {} are indeterminate, but it counts {counter}",
        model.key,
        model.indeterminate_updates
    );
}
