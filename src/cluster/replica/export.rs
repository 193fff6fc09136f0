//! Taking what a node holds out of it, and putting it back before the node joins.

use std::net::SocketAddr;

use crate::session::Timestamp;

use super::Replica;
use super::entry::Entry;
use super::held::{Held, HeldState, Survivor};
use super::message::KeyedEntry;
use super::table::Table;

impl Replica {
    /// What is in a slot and still means something. Parts of sessions that have not arrived whole
    /// are left out: whoever has the rest has them too.
    pub(crate) fn export(&self, now: Timestamp, slot: usize) -> Vec<KeyedEntry> {
        let (mut copies, _) = self.table.unknown(now, slot as u16, None, &[], usize::MAX);
        copies.retain(|copy| !matches!(copy.entry, Entry::Delta(_)));
        copies
    }

    /// Takes back what an earlier life of this node held, as if it had never been away: members that
    /// know better win. Must come before the node meets any. Gives the number of sessions for which
    /// there was no room.
    pub(crate) fn restore(&self, now: Timestamp, copies: Vec<KeyedEntry>) -> usize {
        self.table.restore(now, copies)
    }

    /// The same for an earlier life that these members have survived: takes it back when one of them
    /// is met.
    pub(crate) fn hold(&self, now: Timestamp, copies: Vec<KeyedEntry>, survivors: Vec<Survivor>) {
        self.control().held = Held::new(now, copies, survivors);
    }

    /// What has become of that.
    pub(crate) fn held(&self) -> HeldState {
        self.control().held.state()
    }

    /// The members that stay if this node leaves now, or stayed when it left; those from before a
    /// pause included, as long as this node has not met them again.
    pub(crate) fn survivors(&self) -> Vec<Survivor> {
        let control = self.control();
        let peers = control.standing.roster.iter().map(|(_, peer)| peer);
        let here = peers.filter(|peer| !peer.parted).map(|peer| Survivor {
            name: peer.node.name.to_string(),
            generation: peer.node.generation,
            leaving: peer.leaving,
        });
        let lost = |address: &SocketAddr| Survivor {
            name: address.to_string(),
            generation: 0,
            leaving: false,
        };
        let former = control.readiness.before_pause().map(lost);
        here.chain(former).collect()
    }
}

impl Table {
    /// Takes in what was exported. Gives the number of sessions for which there was no room.
    pub(super) fn restore(&self, now: Timestamp, copies: Vec<KeyedEntry>) -> usize {
        let mut refused = 0;
        for copy in copies {
            match &copy.entry {
                Entry::Live(record) if self.is_full(copy.entry.weight()) => {
                    refused += usize::from(!record.is_index());
                }
                _ => self.merge(now, &copy),
            }
        }
        refused
    }
}
