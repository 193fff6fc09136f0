//! Dispatch of messages received from peers.
//!
//! A message counts only if its sender is a member: one that was declared down may have missed
//! deletions. Whether it must also be of this node's view depends on its kind: acknowledgements,
//! votes, comparisons and atomic updates must, since they rely on the holders of one view. Other
//! entries are merged in any view, if this node holds their slot.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::session::{Root, Timestamp};

use super::{Engine, LOOK};
use crate::cluster::replica::entry::{Delta, Entry};
use crate::cluster::replica::event::DownCause;
use crate::cluster::replica::floors::vote;
use crate::cluster::replica::flow::Deferred;
use crate::cluster::replica::message::{KeyedEntry, Message, View, Write};
use crate::cluster::replica::node::Node;
use crate::cluster::replica::peer_table::PeerIndex;
use crate::cluster::replica::placement::Member;
use crate::cluster::replica::reads::{INTERNAL, Wanted};
use crate::cluster::replica::repair::{answer_compare, answer_pull};
use crate::cluster::replica::table::Table;

impl Engine {
    pub(super) fn handle_message(
        &mut self,
        now: Timestamp,
        from: Node,
        message: Message,
        table: &Table,
    ) {
        let peer = self.cluster.peers.find(&from);
        self.record_contact(now, &from, peer);
        let message = match message {
            // A node that was cut off for long has declared the healthy members down, and its
            // packets would make them leave. A view shows it that it is down itself.
            Message::Swim(_) if self.membership.is_down(&from) => {
                let mine = Message::View(self.introduction(now, false));
                return self.cluster.send_to(from, mine);
            }
            Message::Swim(packet) => return self.membership.packet(&packet),
            Message::View(view) => return self.handle_view(now, from, view, table),
            Message::Leave => return self.handle_bye(from),
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

    pub(super) fn handle_peer(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        message: Message,
        table: &Table,
    ) {
        let current = self.cluster.view;
        match message {
            Message::Swim(_) | Message::View(_) | Message::Leave => {}
            Message::Write(write) => self.handle_write(now, from, &write, table),
            Message::Ack { view, seqs } => {
                for seq in seqs {
                    let done = self.writes.acknowledged(&mut self.cluster, from, view, seq);
                    if let Some(seq) = done {
                        let (updates, mut tools) = self.ordering(table);
                        updates.written(now, seq, &mut tools);
                    }
                }
            }
            Message::Nack { seq, .. } => {
                self.writes.refused(&mut self.cluster, from, seq);
                // The peer is in another view: send it this node's.
                self.announce(now, from);
            }
            Message::Busy { op } => self.reads.refused(from, op, &mut self.cluster),
            Message::Touch {
                sent_at,
                key,
                accessed_at,
                access,
            } => {
                let accessed_at = now.minus(sent_at.since(accessed_at));
                let known = table.handle_touch(&key, accessed_at, access);
                if known || !self.cluster.is_mine(key.slot()) {
                    return;
                }
                if !self.cluster.is_complete() {
                    // The session is being transferred here, in its state before the access.
                    let entry = Entry::Delta(Arc::new(Delta::of_access(accessed_at, access)));
                    table.merge(now, &KeyedEntry { key, entry });
                } else if table.is_absent(&key) {
                    // It has expired here, and is live elsewhere.
                    self.look_for(now, key, None);
                }
            }
            question @ (Message::Digests { .. }
            | Message::PullSlot { .. }
            | Message::Get { .. }) => {
                let is_small = match &question {
                    Message::Get { key, .. } => table.is_small(key),
                    _ => false,
                };
                match self.cluster.flow.defer(from, question, is_small) {
                    Deferred::AnswerNow(question) => self.answer(now, from, question, table),
                    Deferred::Waits => {}
                    Deferred::Refused(Message::Get { op, .. }) => {
                        self.cluster.send(from, Message::Busy { op });
                    }
                    Deferred::Refused(_) => {}
                }
            }
            Message::DigestDiff { view, round, slots } if view == current => {
                self.repair
                    .differ(from, round, slots, &mut self.cluster, table);
            }
            Message::SlotEntries {
                view,
                round,
                slot,
                sent_at,
                mut copies,
                more,
            } => {
                for copy in &mut copies {
                    copy.entry.rebase(sent_at, now);
                    if self.cluster.is_mine(copy.key.slot()) {
                        table.merge(now, copy);
                    }
                }
                self.review_marks(now, &copies, table);
                if view == current {
                    let last = copies.last().filter(|_| more).map(|copy| copy.key);
                    let place = (round, slot);
                    self.repair
                        .pushed(from, place, last, &mut self.cluster, table);
                }
            }
            Message::GetReply {
                view,
                op,
                sent_at,
                copy,
            } => {
                // A late response may be older than what was forgotten here meanwhile.
                if self.reads.waits_for(from, (view, op), current) {
                    let copy = self.merge_entry(now, sent_at, copy, table);
                    let entry = copy.map(|copy| copy.entry);
                    self.reads.answered(now, from, op, entry, &self.cluster);
                }
            }
            Message::Update(mut update) => {
                update.rebase(now);
                let (updates, mut tools) = self.ordering(table);
                updates.order(now, Some(from), update, &mut tools);
            }
            Message::Updated {
                op,
                sent_at,
                verdict,
                copy,
            } => {
                let copy = self.merge_entry(now, sent_at, copy, table);
                // If this node holds the session, its table may have a later state by now.
                let foreign = copy.filter(|copy| !self.cluster.is_mine(copy.key.slot()));
                let (from, answer) = (Member::Peer(from), (op, verdict, foreign));
                self.updates
                    .answered(now, from, answer, &mut self.cluster, table);
            }
            Message::Propose(proposal) => {
                let vote = vote(from, &proposal, &self.cluster, &self.writes, table);
                self.cluster.send(from, vote);
            }
            Message::Vote {
                view,
                op,
                key,
                agrees,
            } => {
                let (cluster, writes) = (&mut self.cluster, &mut self.writes);
                let vote = (view, op, key, agrees);
                self.floors.voted(now, from, vote, cluster, writes, table);
            }
            Message::Listen { wanted } => self.cluster.handle_listen(now, from, wanted),
            Message::Happened(happened) => self.cluster.handle_event(now, from, happened),
            Message::DigestDiff { .. } => {}
        }
    }

    /// Answers a request of a member.
    pub(super) fn answer(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        question: Message,
        table: &Table,
    ) {
        let current = self.cluster.view;
        let answer = match question {
            Message::Digests {
                view,
                round,
                digests,
            } if view == current => {
                answer_compare((view, round), from, &digests, &self.cluster, table)
            }
            Message::PullSlot {
                view,
                round,
                slot,
                after,
                known,
            } if view == current => answer_pull(now, (view, round), slot, after, &known, table),
            Message::Get {
                op, key, secret, ..
            } => {
                let copy = self.known(now, key, table);
                Message::GetReply {
                    view: current,
                    op,
                    sent_at: now,
                    copy: copy.map(|copy| KeyedEntry {
                        entry: copy.entry.shown_to(now, secret.as_ref()),
                        ..copy
                    }),
                }
            }
            // The request belongs to another view, and is repeated when the views agree.
            _ => return self.announce(now, from),
        };
        self.cluster.send(from, answer);
    }

    pub(super) fn handle_write(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        write: &Write,
        table: &Table,
    ) {
        let view = self.cluster.view;
        // The owner abandons its updates when its view changes, and the next owner may apply
        // others: merging a late one would apply two updates with the same expectation.
        if write.strict && write.view != view && self.cluster.rules.strict_views {
            self.cluster.send(
                from,
                Message::Nack {
                    view,
                    seq: write.seq,
                },
            );
            return;
        }
        let slot = write.copies.first().map_or(0, |copy| copy.key.slot());
        // The writer computes the holders from another view. Acknowledging would count a copy that
        // this node is about to drop.
        if !self.cluster.is_mine(slot) {
            let seq = write.seq;
            self.cluster.send(from, Message::Nack { view, seq });
            return self.announce(now, from);
        }
        // All entries of a write are in one slot; entries of other slots from a faulty member are
        // ignored.
        let same = |copy: &&KeyedEntry| copy.key.slot() == slot;
        for copy in write.copies.iter().filter(same) {
            let mut copy = copy.clone();
            copy.entry.rebase(write.sent_at, now);
            table.merge(now, &copy);
        }
        if self.cluster.is_complete() && self.look_for_the_rest(now, from, write, table) {
            return;
        }
        self.merged.note(from, write, slot);
        let seqs = vec![write.seq];
        self.cluster.send(from, Message::Ack { view, seqs });
        self.review_marks(now, &write.copies, table);
    }

    /// Returns this node's state of a session. A session that this node, as the owner, is changing
    /// may have expired in the table meanwhile.
    fn known(&self, now: Timestamp, key: Root, table: &Table) -> Option<KeyedEntry> {
        let mut entry = table.copy(now, &key).map(|copy| copy.entry);
        if table.is_partial_or_absent(&key) {
            let current = self.updates.changing(&key).cloned();
            Entry::join(now, &mut entry, current.map(Entry::Live));
        }
        entry.map(|entry| KeyedEntry { key, entry })
    }

    /// Handles changes of a session that is not here although this node is complete: it had expired
    /// here while it was accessed elsewhere. Returns `true` if the session is requested from the
    /// other holders. The write is acknowledged only when all have answered: a holder with changes
    /// alone would keep nothing if the other holders failed.
    fn look_for_the_rest(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        write: &Write,
        table: &Table,
    ) -> bool {
        let partial = |copy: &&KeyedEntry| table.is_partial(&copy.key);
        let Some(copy) = write.copies.iter().find(partial) else {
            return false;
        };
        self.look_for(now, copy.key, Some((from, write.seq)));
        true
    }

    /// Requests a session from all other holders, unless that is in progress, and merges the
    /// responses; then `write` is acknowledged. With too many reads in progress nothing is
    /// requested: writes are sent again, and a later access tries again.
    fn look_for(&mut self, now: Timestamp, key: Root, write: Option<(PeerIndex, u64)>) {
        if let Some(writes) = self.looking.get_mut(&key) {
            writes.extend(write);
        } else if !self.reads.is_full() {
            self.looks += 1;
            let op = INTERNAL | LOOK | self.looks;
            self.looking.insert(key, write.into_iter().collect());
            let wanted = Wanted { key, secret: None };
            self.reads.begin(now, &mut self.cluster, op, wanted, true);
        }
    }

    pub(super) fn handle_view(
        &mut self,
        now: Timestamp,
        from: Node,
        mut view: View,
        table: &Table,
    ) {
        if self.membership.is_down(&from) && !self.yields_to(&from, &view) {
            // It was cut off and has not been informed: it finds its own identity among the removed
            // ones. The members that it has declared down meanwhile are the healthy ones.
            let mine = Message::View(self.introduction(now, false));
            self.cluster.send_to(from, mine);
            return;
        }
        if self.outlives(now, &view.removed) {
            return;
        }
        self.membership
            .down(std::mem::take(&mut view.removed).into_iter());
        self.membership.alive(
            std::mem::take(&mut view.members)
                .into_iter()
                .chain([from.clone()]),
        );
        // The sender may be new here: its announcement must not be lost.
        self.adopt_members(now, table);
        if let Some(index) = self.cluster.peers.find(&from) {
            self.handle_standing(now, index, &view, table);
        }
    }

    /// Returns `true` if this node yields to one that it has declared down and that has declared
    /// this one down. The larger side of a partition continues as it is, and the nodes of the other
    /// side join it in new incarnations; of two sides of equal size the one with the lowest address
    /// continues. Both sides decide alike, so that not all nodes leave at the same time.
    fn yields_to(&self, from: &Node, view: &View) -> bool {
        let me = &self.cluster.me;
        if !view.removed.contains(me) {
            return false;
        }
        let peers = self.cluster.peers.iter().map(|(_, peer)| peer.node.address);
        let ours: Vec<_> = peers.chain([me.address]).collect();
        let theirs = view.members.iter().map(|node| node.address);
        let theirs: Vec<_> = theirs.chain([from.address]).collect();
        let lowest = |side: &[SocketAddr]| side.iter().min().copied();
        let rank = |side: &[SocketAddr]| (side.len(), std::cmp::Reverse(lowest(side)));
        rank(&theirs) > rank(&ours)
    }

    /// Records the progress that a member has announced.
    pub(super) fn handle_standing(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        view: &View,
        table: &Table,
    ) {
        let known = self.cluster.peers.get(from).map(|peer| peer.number);
        if known.is_some_and(|number| view.number > number) && !self.cluster.note_epoch(view.view) {
            return;
        }
        let is_behind = self.cluster.is_behind();
        let Some(peer) = self.cluster.peers.get_mut(from) else {
            return;
        };
        if view.number > peer.number {
            let came = peer.view != Some(view.view);
            self.regrouped |= peer.leaving != view.leaving || is_behind;
            if peer.number == 0 && view.ready && view.doubt.is_zero() {
                // It has served without this node, and has everything that exists.
                self.cluster.silence_until = Timestamp::default();
            }
            peer.number = view.number;
            peer.view = Some(view.view);
            peer.complete = view.complete;
            peer.ready = view.ready;
            peer.certain = view.doubt.is_zero();
            peer.leaving = view.leaving;
            self.cluster.handle_doubt(now, view.doubt);
            self.adopt_members(now, table);
            if came && self.cluster.agrees(from) {
                self.ask_again(now, from, table);
            }
        }
        if self.cluster.agrees(from) {
            self.writes.send_missing(from, &mut self.cluster);
        }
        if view.ask {
            self.announce(now, from);
        }
    }

    pub(super) fn handle_bye(&mut self, from: Node) {
        let known = self.cluster.peers.find(&from);
        if let Some(peer) = known.and_then(|peer| self.cluster.peers.get_mut(peer)) {
            peer.parted = true;
            peer.down = Some(DownCause::Left);
        }
        self.membership.down([from].into_iter());
    }

    /// Merges an entry from another node if this node holds the session, and returns it.
    pub(super) fn merge_entry(
        &self,
        now: Timestamp,
        sent_at: Timestamp,
        copy: Option<KeyedEntry>,
        table: &Table,
    ) -> Option<KeyedEntry> {
        let mut copy = copy?;
        copy.entry.rebase(sent_at, now);
        if self.cluster.is_mine(copy.key.slot()) {
            table.merge(now, &copy);
        }
        Some(copy)
    }
}
