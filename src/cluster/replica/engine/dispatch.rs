//! Dispatch of messages received from peers.
//!
//! A message counts only if its sender is a member: one that was declared down may have missed
//! deletions. Whether it must also be of this node's view depends on its kind: acknowledgements,
//! votes, comparisons and atomic updates must, since they rely on the holders of one view. Other
//! entries are merged in any view, if this node holds their slot.

use std::sync::Arc;

use crate::session::{Root, Timestamp};

use crate::cluster::replica::anti_entropy::{answer_compare, answer_pull};
use crate::cluster::replica::delta::Delta;
use crate::cluster::replica::engine::Engine;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::floors::vote;
use crate::cluster::replica::flow::Deferred;
use crate::cluster::replica::message::{
    GetReply, KeyedEntry, Message, Proposal, SlotEntries, UpdateRequest, UpdateResponse, ViewId,
    Vote,
};
use crate::cluster::replica::node::Node;
use crate::cluster::replica::peer_table::PeerIndex;
use crate::cluster::replica::placement::MemberRef;
use crate::cluster::replica::table::EntryTable;
use crate::cluster::replica::updates::UpdateAnswer;

impl Engine {
    pub(super) fn handle_message(
        &mut self,
        now: Timestamp,
        from: Node,
        message: Message,
        table: &EntryTable,
    ) {
        let peer = self.cluster.peers.find(&from);
        self.record_contact(now, &from, peer);
        let message = match message {
            // A node that was cut off for long has declared the healthy members down, and its
            // packets would make them leave. A view shows it that it is down itself.
            Message::Swim(_) if self.membership.is_down(&from) => {
                let mine = Message::View(self.view_message(now, false));
                return self.cluster.send_to(from, mine);
            }
            Message::Swim(packet) => return self.membership.packet(&packet),
            Message::View(view) => return self.handle_view(now, from, view, table),
            Message::Leave => return self.handle_leave(from),
            message => message,
        };
        // A node that is not a member may have been declared down: its messages do not count.
        if let Some(peer) = peer {
            self.handle_peer(now, peer, message, table);
        } else if let Message::Write(write) = message {
            let view = self.cluster.view;
            let refusal = Message::Nack {
                view,
                seq: write.seq,
            };
            self.cluster.send_to(from, refusal);
        }
    }

    /// Handles a message of a member.
    pub(super) fn handle_peer(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        message: Message,
        table: &EntryTable,
    ) {
        match message {
            Message::Write(write) => self.handle_write(now, from, &write, table),
            Message::Ack { view, seqs } => self.handle_ack(now, from, view, seqs, table),
            Message::Nack { seq, .. } => self.handle_nack(now, from, seq),
            Message::Busy { op } => self.handle_busy(from, op),
            Message::Touch {
                sent_at,
                key,
                accessed_at,
                access,
            } => {
                let accessed_at = now.minus(sent_at.since(accessed_at));
                self.handle_touch(now, key, accessed_at, access, table);
            }
            request
            @ (Message::Digests { .. } | Message::PullSlot { .. } | Message::Get { .. }) => {
                self.handle_request(now, from, request, table)
            }
            Message::Propose(proposal) => self.handle_propose(from, &proposal, table),
            Message::Vote(vote) => self.handle_vote(now, from, vote, table),
            Message::Listen { wanted, after } => {
                self.cluster.handle_listen(now, from, wanted, after);
            }
            Message::Listens(began) => self.cluster.handle_listens(from, began),
            Message::Reason(reason) => self.cluster.handle_reason(from, reason),
            Message::Happened(happened) => self.cluster.handle_event(now, from, happened),
            other => self.handle_reply(now, from, other, table),
        }
    }

    /// Handles an update, or the response to a request of this node.
    fn handle_reply(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        message: Message,
        table: &EntryTable,
    ) {
        match message {
            Message::DigestDiff { view, round, slots } if view == self.cluster.view => {
                self.anti_entropy
                    .differ(from, round, slots, &mut self.cluster, table);
            }
            Message::SlotEntries(response) => {
                self.handle_slot_entries(now, from, response, table);
            }
            Message::GetReply(reply) => self.handle_get_reply(now, from, reply, table),
            Message::Update(update) => self.handle_update(now, from, update, table),
            Message::Updated(answer) => self.handle_updated(now, from, answer, table),
            other => self.handle_listing(now, from, other, table),
        }
    }

    fn handle_nack(&mut self, now: Timestamp, from: PeerIndex, seq: u64) {
        self.writes.refused(&mut self.cluster, from, seq);
        // The peer is in another view: send it this node's.
        self.announce(now, from);
    }

    fn handle_propose(&mut self, from: PeerIndex, proposal: &Proposal, table: &EntryTable) {
        let vote = vote(from, proposal, &self.cluster, &self.writes, table);
        self.cluster.send(from, Message::Vote(vote));
    }

    fn handle_vote(&mut self, now: Timestamp, from: PeerIndex, vote: Vote, table: &EntryTable) {
        let (cluster, writes) = (&mut self.cluster, &mut self.writes);
        self.floors.voted(now, from, vote, cluster, writes, table);
    }

    fn handle_slot_entries(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        response: SlotEntries,
        table: &EntryTable,
    ) {
        let SlotEntries {
            view,
            round,
            slot,
            sent_at,
            mut entries,
            more,
        } = response;
        self.merge_entries(now, sent_at, &mut entries, table);
        if view == self.cluster.view {
            let last = entries.last().filter(|_| more).map(|keyed| keyed.key);
            self.anti_entropy
                .pulled(from, round, slot, last, &mut self.cluster, table);
        }
    }

    fn handle_get_reply(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        reply: GetReply,
        table: &EntryTable,
    ) {
        // A late response may be older than what was forgotten here meanwhile.
        if reply.view != self.cluster.view || !self.reads.waits_for(from, reply.op) {
            return;
        }
        let keyed = self.merge_entry(now, reply.sent_at, reply.entry, table);
        let entry = keyed.map(|keyed| keyed.entry);
        self.reads
            .answered(now, from, reply.op, entry, &self.cluster);
    }

    fn handle_update(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        mut update: UpdateRequest,
        table: &EntryTable,
    ) {
        update.rebase(now);
        let (updates, mut context) = self.ordering(table);
        updates.order(now, Some(from), update, &mut context);
    }

    fn handle_updated(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        answer: UpdateResponse,
        table: &EntryTable,
    ) {
        let keyed = self.merge_entry(now, answer.sent_at, answer.entry, table);
        let answer = UpdateAnswer {
            from: MemberRef::Peer(from),
            op: answer.op,
            verdict: answer.verdict,
            // If this node holds the session, its table may have a later state by now.
            entry: keyed.filter(|keyed| !self.cluster.is_local(keyed.key.slot())),
        };
        self.updates.answered(now, answer, &mut self.cluster, table);
    }

    fn handle_ack(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        view: ViewId,
        seqs: Vec<u64>,
        table: &EntryTable,
    ) {
        for seq in seqs {
            let done = self.writes.acknowledged(&mut self.cluster, from, view, seq);
            if let Some(seq) = done {
                let (updates, mut context) = self.ordering(table);
                updates.written(now, seq, &mut context);
            }
        }
    }

    fn handle_touch(
        &mut self,
        now: Timestamp,
        key: Root,
        accessed_at: Timestamp,
        access: u64,
        table: &EntryTable,
    ) {
        let known = table.handle_touch(&key, accessed_at, access);
        if known || !self.cluster.is_local(key.slot()) {
            return;
        }
        if !self.cluster.is_complete() {
            // The session is being transferred here, in its state before the access.
            let entry = Entry::Delta(Arc::new(Delta::of_access(accessed_at, access)));
            table.merge(now, &KeyedEntry { key, entry });
        } else if table.is_absent(&key) {
            // It has expired here, and is live elsewhere.
            self.backfill(now, key, None);
        }
    }

    /// Answers a request now, or when there is room for the response.
    fn handle_request(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        request: Message,
        table: &EntryTable,
    ) {
        let is_small = match &request {
            Message::Get { key, .. } => table.is_small(key),
            _ => false,
        };
        match self.cluster.flow.defer(from, request, is_small) {
            Deferred::AnswerNow(request) => self.answer(now, from, request, table),
            Deferred::Waits => {}
            Deferred::Refused(Message::Get { op, .. }) => {
                // Without a reply the caller would wait for its timeout, and a read of the node
                // itself for a new link or view.
                self.cluster.send(from, Message::Busy { op });
            }
            // Comparisons are never refused.
            Deferred::Refused(_) => {}
        }
    }

    /// Answers a request of a member.
    pub(super) fn answer(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        question: Message,
        table: &EntryTable,
    ) {
        let current = self.cluster.view;
        let answer = match question {
            Message::Digests {
                view,
                round,
                digests,
            } if view == current => {
                answer_compare(view, round, from, &digests, &self.cluster, table)
            }
            Message::PullSlot {
                view,
                round,
                slot,
                after,
                known,
            } if view == current => answer_pull(now, view, round, slot, after, &known, table),
            Message::Get {
                op, key, secret, ..
            } => {
                let keyed = self.known(now, key, table);
                Message::GetReply(GetReply {
                    view: current,
                    op,
                    sent_at: now,
                    // A root can be read in logs. Requests with a wrong secret must not transfer
                    // the whole session each time.
                    entry: keyed.map(|keyed| KeyedEntry {
                        entry: keyed.entry.shown_to(now, secret.as_ref()),
                        ..keyed
                    }),
                })
            }
            Message::ListSlots(request) if request.view == current => {
                self.list_part(now, &request, table)
            }
            // The request belongs to another view, and is repeated when the views agree.
            _ => return self.announce(now, from),
        };
        self.cluster.send(from, answer);
    }
}
