//! Monotonicity of reads.

use crate::session::Record;

use crate::cluster::sim::oracle::{KnownResults, Life};

/// A read of a live session through any node returns the writes acknowledged before it began, and
/// nothing older: P2.
///
/// This holds while no node was falsely removed, and again after a partition.
pub(crate) fn reads_never_go_back(known: &KnownResults, read: Option<&Record>, place: &str) {
    if known.life != Life::Live {
        return;
    }
    let Some(record) = read else {
        panic!("a live session is gone, read {place}");
    };
    for (name, acked) in &known.acked {
        let version = record.version(name);
        assert!(
            version >= Some(*acked),
            "{name}: {acked:?} was acknowledged, but {version:?} was read {place}"
        );
    }
}
