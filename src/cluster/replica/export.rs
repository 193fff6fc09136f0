//! Export of the sessions at a node, and their import before the node joins.

use std::net::SocketAddr;

use crate::session::Timestamp;

use crate::cluster::replica::Replica;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::KeyedEntry;
use crate::cluster::replica::table::EntryTable;
use crate::cluster::replica::withheld::{SurvivingMember, WithheldSessions, WithheldState};

impl Replica {
    /// Returns the entries of a slot that are still in effect. Deltas without their session are
    /// left out: the members that have the rest of the session have them too.
    pub(crate) fn export(&self, now: Timestamp, slot: usize) -> Vec<KeyedEntry> {
        let (mut entries, _) = self.table.unknown(now, slot as u16, None, &[], usize::MAX);
        entries.retain(|keyed| !matches!(keyed.entry, Entry::Delta(_)));
        entries
    }

    /// Imports the sessions of an earlier incarnation, as if it had never stopped; a later state at
    /// a member wins. Must be called before the node meets any member. Returns the number of
    /// sessions for which there was no room.
    pub(crate) fn restore(&self, now: Timestamp, entries: Vec<KeyedEntry>) -> usize {
        self.table.restore(now, entries)
    }

    /// Like [`restore`](Self::restore), for an earlier incarnation that these members have
    /// survived: imports the sessions when one of them is met.
    pub(crate) fn hold(
        &self,
        now: Timestamp,
        entries: Vec<KeyedEntry>,
        survivors: Vec<SurvivingMember>,
    ) {
        self.engine().withheld = WithheldSessions::new(now, entries, survivors);
    }

    /// Returns the state of the sessions passed to [`hold`](Self::hold).
    pub(crate) fn withheld_state(&self) -> WithheldState {
        self.engine().withheld.state()
    }

    /// Returns the members that stay if this node leaves now, or stayed when it left, including
    /// those from before a pause that this node has not met again.
    pub(crate) fn survivors(&self) -> Vec<SurvivingMember> {
        let engine = self.engine();
        let peers = engine.cluster.peers.iter().map(|(_, peer)| peer);
        let here = peers
            .filter(|peer| !peer.departed)
            .map(|peer| SurvivingMember {
                name: peer.node.name.to_string(),
                incarnation: peer.node.incarnation,
                leaving: peer.leaving,
            });
        let lost = |address: &SocketAddr| SurvivingMember {
            name: address.to_string(),
            incarnation: 0,
            leaving: false,
        };
        let former = engine.readiness.before_pause().map(lost);
        here.chain(former).collect()
    }
}

impl EntryTable {
    /// Imports exported entries. Returns the number of sessions for which there was no room.
    pub(super) fn restore(&self, now: Timestamp, entries: Vec<KeyedEntry>) -> usize {
        let mut refused = 0;
        for keyed in entries {
            match &keyed.entry {
                Entry::Live(record) if self.is_full(keyed.entry.weight()) => {
                    refused += usize::from(!record.is_index());
                }
                // A tombstone is imported even if the table is full: without it, an older copy at
                // another member would bring the deleted session back.
                _ => self.merge(now, &keyed),
            }
        }
        refused
    }
}
