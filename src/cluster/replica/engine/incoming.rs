//! Entries received from members: merged, acknowledged, and backfilled where a part is missing.

use crate::session::{Root, Timestamp};

use crate::cluster::replica::engine::Engine;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::{KeyedEntry, Message, Write};
use crate::cluster::replica::op_id::BACKFILL;
use crate::cluster::replica::peer_table::PeerIndex;
use crate::cluster::replica::reads::Wanted;
use crate::cluster::replica::table::EntryTable;

impl Engine {
    /// Merges entries of a slot that another node has sent.
    pub(super) fn merge_entries(
        &mut self,
        now: Timestamp,
        sent_at: Timestamp,
        entries: &mut [KeyedEntry],
        table: &EntryTable,
    ) {
        for keyed in entries.iter_mut() {
            keyed.entry.rebase(sent_at, now);
            // Nothing is added to slots of other holders: this node drops those because each holder
            // has compared itself with it in this view.
            if self.cluster.is_local(keyed.key.slot()) {
                table.merge(now, keyed);
            }
        }
        self.review_marks(now, entries, table);
    }

    pub(super) fn handle_write(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        write: &Write,
        table: &EntryTable,
    ) {
        let view = self.cluster.view;
        // The owner abandons its updates when its view changes, and the next owner may apply
        // others: merging a late one would apply two updates with the same expectation.
        if write.strict && write.view != view && self.cluster.rules.strict_views() {
            self.cluster.send(
                from,
                Message::Nack {
                    view,
                    seq: write.seq,
                },
            );
            return;
        }
        let slot = write.entries.first().map_or(0, |keyed| keyed.key.slot());
        // The writer computes the holders from another view. Acknowledging would count a copy that
        // this node is about to drop.
        if !self.cluster.is_local(slot) {
            let seq = write.seq;
            self.cluster.send(from, Message::Nack { view, seq });
            return self.announce(now, from);
        }
        // All entries of a write are in one slot; entries of other slots from a faulty member are
        // ignored.
        let same = |keyed: &&KeyedEntry| keyed.key.slot() == slot;
        for keyed in write.entries.iter().filter(same) {
            let mut keyed = keyed.clone();
            keyed.entry.rebase(write.sent_at, now);
            self.cluster.witness(from, write.view, &keyed, table);
            table.merge(now, &keyed);
        }
        // A node that is not complete gets the rest with its comparison, and does not count for
        // `min_copies` until then.
        if self.cluster.is_complete() && self.backfill_rest(now, from, write, table) {
            return;
        }
        // Not before: acknowledgements of noted writes are repeated, and one that waits for the
        // rest of its session has none yet.
        self.merged.note(from, write, slot);
        let seqs = vec![write.seq];
        self.cluster.send(from, Message::Ack { view, seqs });
        self.review_marks(now, &write.entries, table);
    }

    /// Returns this node's state of a session. A session that this node, as the owner, is changing
    /// may have expired in the table meanwhile.
    pub(super) fn known(
        &self,
        now: Timestamp,
        key: Root,
        table: &EntryTable,
    ) -> Option<KeyedEntry> {
        let mut entry = table.keyed_entry(now, &key).map(|keyed| keyed.entry);
        if table.is_delta_only_or_absent(&key) {
            let current = self.updates.changing(&key).cloned();
            Entry::join(now, &mut entry, current.map(Entry::Live));
        }
        entry.map(|entry| KeyedEntry { key, entry })
    }

    /// Handles changes of a session that is not here although this node is complete: it had expired
    /// here while it was accessed elsewhere. Returns `true` if the session is requested from the
    /// other holders. The write is acknowledged only when all have answered: a holder with changes
    /// alone would keep nothing if the other holders failed.
    fn backfill_rest(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        write: &Write,
        table: &EntryTable,
    ) -> bool {
        let partial = |keyed: &&KeyedEntry| table.is_delta_only(&keyed.key);
        let Some(keyed) = write.entries.iter().find(partial) else {
            return false;
        };
        self.backfill(now, keyed.key, Some((from, write.seq)));
        true
    }

    /// Requests a session from all other holders, unless that is in progress, and merges the
    /// responses; then `write` is acknowledged. With too many reads in progress nothing is
    /// requested: writes are sent again, and a later access tries again.
    pub(super) fn backfill(&mut self, now: Timestamp, key: Root, write: Option<(PeerIndex, u64)>) {
        if let Some(writes) = self.backfills.get_mut(&key) {
            writes.extend(write);
        } else if !self.reads.is_full() {
            self.last_backfill += 1;
            let op = BACKFILL | self.last_backfill;
            self.backfills.insert(key, write.into_iter().collect());
            let wanted = Wanted { key, secret: None };
            self.reads.begin(now, &mut self.cluster, op, wanted, true);
        }
    }

    /// Merges an entry from another node if this node holds the session, and returns it.
    pub(super) fn merge_entry(
        &self,
        now: Timestamp,
        sent_at: Timestamp,
        keyed: Option<KeyedEntry>,
        table: &EntryTable,
    ) -> Option<KeyedEntry> {
        let mut keyed = keyed?;
        keyed.entry.rebase(sent_at, now);
        if self.cluster.is_local(keyed.key.slot()) {
            table.merge_found(now, &keyed);
        }
        Some(keyed)
    }
}
