//! Equality of the holders of each slot.

use std::collections::BTreeMap;

use crate::cluster::copies::Copies;
use crate::cluster::replica::Replica;

/// After the faults have stopped, exactly the holders of a slot have its sessions, all of them in
/// the same state: P10.
pub(crate) fn holders_agree<'a>(
    replicas: impl Iterator<Item = &'a Replica>,
    copies: Copies,
) -> bool {
    let mut slots: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    let mut nodes = 0;
    for replica in replicas {
        nodes += 1;
        for (slot, digest) in replica.digests() {
            slots.entry(slot).or_default().push(digest);
        }
    }
    let holders = match copies {
        Copies::All => nodes,
        Copies::Count(copies) => nodes.min(copies.get().into()),
    };
    let agree = |digests: &Vec<u64>| {
        digests.len() == holders && digests.iter().all(|digest| *digest == digests[0])
    };
    slots.values().all(agree)
}
