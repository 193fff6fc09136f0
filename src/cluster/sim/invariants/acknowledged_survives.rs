use crate::session::Record;

use super::super::oracle::{Known, Life};

/// What was acknowledged before a read began, the read sees, through whatever node: P1 and P2.
///
/// While no node is wrongly cut off; in a partition it holds again after the heal.
pub(crate) fn acknowledged_survives(known: &Known, read: Option<&Record>, place: &str) {
    if known.life != Life::Live {
        return;
    }
    let Some(record) = read else {
        panic!("a live session is gone, read {place}");
    };
    for (name, acked) in &known.acked {
        let stamp = record.stamp(name);
        assert!(
            stamp >= Some(*acked),
            "{name}: {acked:?} was acknowledged, but {stamp:?} was read {place}"
        );
    }
}
