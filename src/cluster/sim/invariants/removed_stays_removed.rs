//! Finality of removed attributes.

use crate::session::Record;

use crate::cluster::sim::oracle::{KnownResults, Life, Model};

/// An attribute whose removal was acknowledged does not come back, and one that was set remains,
/// however many others are removed meanwhile: W-02.
pub(crate) fn removed_stays_removed(
    known: &KnownResults,
    model: &Model,
    read: Option<&Record>,
    place: &str,
) {
    let Some(record) = read.filter(|_| known.life == Life::Live) else {
        return;
    };
    for (name, left) in known.pool.certain(&model.pool) {
        let found = record.get(&name);
        assert!(
            found == left,
            "{name}: {left:?} was acknowledged, but {found:?} was read, with the floor {:?}, {place}",
            record.floor()
        );
    }
}
