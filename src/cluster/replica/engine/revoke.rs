//! The engine's part of revocation: the reads and deletions that it sends.

use crate::session::{EndReason, Timestamp};

use crate::cluster::replica::engine::Engine;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::Operation;
use crate::cluster::replica::reads::{FinishedRead, Wanted};
use crate::cluster::replica::table::EntryTable;
use crate::cluster::replica::updates::UpdateCall;

impl Engine {
    /// Reads the sessions whose user was ended on the other side of a partition, to delete them.
    pub(super) fn revoke(&mut self, now: Timestamp, table: &EntryTable) {
        for (op, key) in self.revocations.take_due(now, &self.cluster, table) {
            if self.reads.is_full() {
                self.revocations.read_done(op, None);
                continue;
            }
            let wanted = Wanted { key, secret: None };
            self.reads.begin(now, &mut self.cluster, op, wanted, true);
        }
    }

    /// Deletes such a session when it was read.
    pub(super) fn finish_revocation(
        &mut self,
        now: Timestamp,
        read: FinishedRead,
        table: &EntryTable,
    ) {
        let (op, key) = (read.op, read.wanted.key);
        let mut entry = table.keyed_entry(now, &key).map(|keyed| keyed.entry);
        Entry::join(now, &mut entry, read.found);
        if let Some(changes) = self.revocations.read_done(op, entry.as_ref()) {
            let call = UpdateCall {
                op,
                key,
                seen: 0,
                changes: &changes,
                order: Operation::Delete,
            };
            self.cluster.announce_reason(key, EndReason::User);
            self.update(now, call, table);
        }
    }
}
