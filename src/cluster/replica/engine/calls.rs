//! Calls of this node's request tasks that involve other members.

use std::sync::Arc;

use crate::session::{Root, Timestamp};

use crate::cluster::ack::Ack;
use crate::cluster::replica::engine::Engine;
use crate::cluster::replica::event::Reply;
use crate::cluster::replica::message::{KeyedEntry, Message, OpId};
use crate::cluster::replica::reads::Wanted;
use crate::cluster::replica::table::EntryTable;
use crate::cluster::replica::updates::UpdateCall;
use crate::cluster::replica::writes::NewWrite;

impl Engine {
    /// Replicates a session that was changed here. Returns `true` if the caller has to wait.
    pub(crate) fn write(
        &mut self,
        now: Timestamp,
        op: OpId,
        ack: Ack,
        min_copies: usize,
        entries: &Arc<[KeyedEntry]>,
        table: &EntryTable,
    ) -> bool {
        self.cluster.now = now;
        if self.cluster.left {
            // The change is in this node's table, and no other node receives it.
            self.cluster.reply(op, Reply::Indeterminate);
            return true;
        }
        let write = NewWrite {
            op: Some(op),
            ack,
            min_copies,
            strict: false,
            entries: entries.clone(),
        };
        let begun = self.writes.begin(now, &mut self.cluster, write);
        self.review_marks(now, entries, table);
        begun.is_some_and(|(_, safe)| !safe)
    }

    /// Reads a session that is not here, is incomplete here, or has expired here but perhaps not
    /// where it was accessed last.
    pub(crate) fn read(&mut self, now: Timestamp, op: OpId, wanted: Wanted, table: &EntryTable) {
        self.cluster.now = now;
        let may_be_stale = table.may_be_stale(now, &wanted.key);
        if self.cluster.left || self.reads.is_full() {
            self.cluster.reply(op, Reply::Unavailable);
        } else {
            self.reads
                .begin(now, &mut self.cluster, op, wanted, may_be_stale);
            self.finish_reads(now, table);
        }
    }

    /// Starts a change that the session's owner orders.
    pub(crate) fn update(&mut self, now: Timestamp, call: UpdateCall<'_>, table: &EntryTable) {
        self.cluster.now = now;
        if self.cluster.left || self.updates.is_full() {
            self.cluster.reply(call.op, Reply::Unavailable);
            return;
        }
        let (updates, mut context) = self.ordering(table);
        updates.begin(now, call, &mut context);
        // If no other node holds the session, no response has to be waited for.
        self.finish_reads(now, table);
    }

    /// Replicates an access; `access` is its version.
    pub(crate) fn touch(&mut self, now: Timestamp, key: Root, access: u64) {
        self.cluster.now = now;
        for peer in self.cluster.holders(key.slot()).peers.iter() {
            let message = Message::Touch {
                sent_at: now,
                key,
                accessed_at: now,
                access,
            };
            self.cluster.send(peer, message);
        }
    }
}
