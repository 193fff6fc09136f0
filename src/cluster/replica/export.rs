//! Taking what a node holds out of it, and putting it back before the node joins.

use crate::session::Timestamp;

use super::Replica;
use super::entry::Entry;
use super::message::Copy;

impl Replica {
    /// What is in a slot and still means something. Parts of sessions that have not arrived whole
    /// are left out: whoever has the rest has them too.
    pub(crate) fn export(&self, now: Timestamp, slot: usize) -> Vec<Copy> {
        let (mut copies, _) = self.table.unknown(now, slot as u16, None, &[], usize::MAX);
        copies.retain(|copy| !matches!(copy.entry, Entry::Fragment(_)));
        copies
    }

    /// Takes back what an earlier life of this node held, as if it had never been away: members that
    /// know better win. Must come before the node meets any. Gives the number of sessions for which
    /// there was no room.
    pub(crate) fn restore(&self, now: Timestamp, copies: Vec<Copy>) -> usize {
        let mut refused = 0;
        for copy in copies {
            let is_live = matches!(copy.entry, Entry::Live(_));
            if is_live && self.table.is_full(copy.entry.weight()) {
                refused += 1;
            } else {
                self.table.merge(now, &copy);
            }
        }
        refused
    }
}
