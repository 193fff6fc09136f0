//! Finality of logouts and rotations.

use crate::session::Record;

use crate::cluster::sim::oracle::{KnownResults, Life};

/// After an acknowledged logout or rotation the old id is invalid on every node, permanently: P3.
pub(crate) fn ended_stays_ended(known: &KnownResults, read: Option<&Record>, place: &str) {
    let alive = known.life == Life::Ended && read.is_some();
    assert!(!alive, "an ended session is alive, read {place}");
}
