//! Post-processing of every input: installs a new view, advances the comparison, completes reads,
//! and decides whether to serve.

use std::sync::Arc;

use crate::session::{Loaded, Timestamp};

use crate::cluster::replica::engine::Engine;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::event::{DownCause, Notification, Reply};
use crate::cluster::replica::membership::MembershipOutput;
use crate::cluster::replica::message::Message;
use crate::cluster::replica::node::Node;
use crate::cluster::replica::op_id::{is_backfill, is_revocation};
use crate::cluster::replica::peer_table::{PEERS_MAX, Peer};
use crate::cluster::replica::reads::{FinishedRead, Wanted};
use crate::cluster::replica::table::EntryTable;

impl Engine {
    /// Performs everything that follows from the input that was handled.
    pub(super) fn process(&mut self, now: Timestamp, table: &EntryTable) {
        if self.cluster.left {
            return;
        }
        self.adopt_members(now, table);
        // Writes are also reviewed when a member begins to serve. Until then no caller is answered:
        // this node may have been declared down, and be alone with a write.
        let stable = self.cluster.is_stable() && self.cluster.is_served();
        // A holder that has become complete counts as a copy from now on.
        let has_copies_more = self.cluster.min_copies > 1 && {
            let caught_up = self.cluster.caught_up();
            std::mem::replace(&mut self.caught_up, caught_up) != caught_up
        };
        if stable && !self.stable || has_copies_more {
            let written = self.writes.review(&mut self.cluster);
            let (updates, mut context) = self.ordering(table);
            for seq in written {
                updates.written(now, seq, &mut context);
            }
        }
        self.stable = stable;
        self.report_copying(now);
        self.anti_entropy.advance(now, &mut self.cluster, table);
        self.finish_reads(now, table);
        self.lists.advance(&mut self.cluster);
        self.try_become_ready(now);
        #[cfg(all(feature = "snapshot", unix))]
        if self.cluster.is_complete() {
            self.withheld.compared();
        }
        if self.cluster.is_settled() {
            self.cluster.recovered(now);
            // Until all members are complete, writes from the other side still arrive, and those
            // that the merge discards have to be counted.
            if std::mem::take(&mut self.all_returned) {
                self.departed.clear();
                table.end_partition();
            }
        }
        let cluster = &self.cluster;
        let announced = (cluster.view, cluster.is_complete(), cluster.ready);
        if self.last_announced != announced {
            self.last_announced = announced;
            self.announce_to_all(now);
        }
    }

    /// Reports that all copies exist again after a change of the members.
    fn report_copying(&mut self, now: Timestamp) {
        if let Some(since) = self.copying_since
            && self.cluster.is_settled()
            && !self.cluster.placement.lacks_members()
        {
            self.copying_since = None;
            let elapsed = now.since(since);
            self.cluster.notify(Notification::CopyingEnds { elapsed });
        }
    }

    /// Performs the actions that the membership protocol requests.
    pub(super) fn handle_membership(&mut self, now: Timestamp) {
        while let Some(output) = self.membership.next_output() {
            match output {
                MembershipOutput::Send(to, packet) => {
                    self.cluster.send_to(to, Message::Swim(packet))
                }
                MembershipOutput::Wake(after, timer) => {
                    self.timers_set += 1;
                    self.timers
                        .insert((now.plus(after), self.timers_set), timer);
                }
                MembershipOutput::Rejoin(node) => self.declared_down(now, node),
            }
        }
    }

    /// Installs the view of the current members, if it is a new one.
    pub(super) fn adopt_members(&mut self, now: Timestamp, table: &EntryTable) {
        self.handle_membership(now);
        if self.membership.take_changed() {
            self.update_peers(now, table);
        } else if !self.view_dirty {
            return;
        }
        self.view_dirty = false;
        if !self.cluster.install() {
            return;
        }
        self.stable = false;
        if self.cluster.ready && self.copying_since.is_none() {
            self.copying_since = Some(now);
            self.cluster.notify(Notification::CopyingBegins);
        }
        // Before the announcement, which repeats acknowledgements: one for a slot that this node
        // does not hold any more would confirm a copy that it is about to drop.
        self.merged.install(&self.cluster);
        self.anti_entropy.install();
        // The members must receive the view before the messages that belong to it, or they refuse
        // them.
        self.announce_to_all(now);
        self.writes.install(&mut self.cluster);
        self.ask_those_ahead(now);
        self.reads.install(&mut self.cluster);
        self.lists.install(&mut self.cluster);
        // Their reads have ended with the view. The writes that wait for them are not acknowledged,
        // so their writers send them again.
        self.backfills.clear();
        self.revocations.install(now);
        // After the writes and the reads: updates that begin again have some of their own, which
        // would end there, and the updates would keep their turns until the next view.
        let (updates, mut context) = self.ordering(table);
        updates.install(now, &mut context);
        self.floors.install(now, &self.cluster, table);
    }

    /// Requests another announcement from members that were in this view earlier: they acknowledged
    /// what they have before this node could count it.
    fn ask_those_ahead(&mut self, now: Timestamp) {
        let waiting = self.writes.waiting();
        let ahead = waiting.iter().filter(|peer| self.cluster.agrees(*peer));
        for peer in ahead.collect::<Vec<_>>() {
            let mine = self.view_message(now, true);
            self.cluster.send(peer, Message::View(mine));
        }
    }

    /// Records a member that was removed while others are missing, or is missing itself.
    fn note_removed(&mut self, now: Timestamp, node: &Node, departed: bool, is_partitioned: bool) {
        if !is_partitioned {
            return;
        }
        let name = node.name.clone();
        if departed {
            self.note_departed(name);
        } else if self.missing.len() < PEERS_MAX {
            self.missing.insert(name, (node.incarnation, now));
        }
    }

    /// Records a member that has left in order while others are missing.
    pub(super) fn note_departed(&mut self, name: Arc<str>) {
        if self.departed.len() < PEERS_MAX {
            self.departed.insert(name);
        }
    }

    /// Records a member that was added: one that was missing, or another one in its place.
    fn note_added(&mut self, node: &Node) {
        if self.missing.remove(&node.name).is_none() && !self.departed.remove(&node.name) {
            // A new name takes the place of a missing one. A failed node that is replaced under
            // another name would otherwise be missing for good, and marks of removed attributes be
            // kept.
            self.missing.pop_first();
        }
        self.all_returned = self.missing.is_empty();
    }

    /// Removes the members that have gone, and adds new ones.
    pub(super) fn update_peers(&mut self, now: Timestamp, table: &EntryTable) {
        let here = self.quarantined_until.is_none() && self.excluded.is_none();
        let known = self
            .membership
            .members()
            .filter(|_| here)
            .cloned()
            .collect();
        let members = self.select_members(now, known);
        let peers = &self.cluster.peers;
        let gone: Vec<_> = peers
            .iter()
            .filter(|(_, peer)| !members.contains(&peer.node))
            .map(|(index, peer)| {
                let is_later =
                    |node: &&Node| node.name == peer.node.name || node.address == peer.node.address;
                let cause = match peer.down {
                    Some(cause) => cause,
                    None if members.iter().any(|node| is_later(&node)) => DownCause::Restarted,
                    // Its `Leave` reached another member first, which reported it as down.
                    None if peer.leaving => DownCause::Left,
                    None => DownCause::Reported,
                };
                (index, peer.node.clone(), peer.departed, peer.ready, cause)
            })
            .collect();
        if gone.iter().any(|(_, _, departed, ..)| !departed) {
            let is_gone = |peer: &Peer| gone.iter().any(|(_, node, ..)| *node == peer.node);
            let peers = self.cluster.peers.iter().map(|(_, peer)| peer);
            let stay = peers.filter(|peer| !is_gone(peer));
            let writers = stay.map(|peer| peer.node.writer());
            table.begin_partition(writers.chain([self.cluster.me.writer()]));
            self.all_returned = false;
        }
        for (index, node, departed, served, cause) in gone {
            self.note_removed(now, &node, departed, table.is_partitioned());
            // The index may be given to another member. What was sent to this one, or acknowledged
            // by it, must not count for that one.
            self.cluster.peers.remove(index);
            self.cluster.flow.forget(index);
            self.cluster.stop_listening(index);
            self.cluster.reporter_gone(index, departed, table);
            self.writes.forget(index);
            self.merged.forget(index);
            if !departed {
                self.cluster.lost(now, index, served);
            }
            self.cluster
                .notify(Notification::MemberDown { node, cause });
        }
        // After the others have gone: in a full cluster, the next incarnation of a member takes the
        // place of the former one.
        for node in members {
            if self.cluster.peers.find(&node).is_none() && self.cluster.peers.add(node.clone()) {
                self.note_added(&node);
                self.cluster.notify(Notification::MemberUp(node));
            }
        }
        #[cfg(all(feature = "snapshot", unix))]
        self.withheld.meet(
            now,
            self.cluster.ready,
            &self.cluster.peers.iter().map(|(_, peer)| &peer.node),
            table,
        );
    }

    pub(super) fn try_become_ready(&mut self, now: Timestamp) {
        let cluster = &mut self.cluster;
        if cluster.ready || self.quarantined_until.is_some() || self.excluded.is_some() {
            return;
        }
        if let Some(knowledge) = self.readiness.decide(now, cluster) {
            self.readiness.serve(now, knowledge, cluster);
            let loss_window = cluster.silence_until.since(now);
            cluster.notify(Notification::Ready { loss_window });
        }
    }

    /// Stops serving until this node has joined in its new incarnation.
    pub(super) fn rejoin(&mut self, now: Timestamp, me: Node) {
        self.cluster.me = me.clone();
        self.cluster.ready = false;
        self.cluster.joining_since = now;
        self.cluster.notify(Notification::Rejoining(me));
        // Alone in its new incarnation, this node would answer reads from its own memory, although
        // the members may have continued. Writes and updates stay open: their callers are answered
        // when this node has joined and the holders have them.
        self.reads.abort(&mut self.cluster);
        self.lists.abort(&mut self.cluster);
        self.backfills.clear();
    }

    pub(super) fn finish_reads(&mut self, now: Timestamp, table: &EntryTable) {
        // A completed read may start another one that needs no response.
        loop {
            let finished = self.reads.finished(&self.cluster);
            if finished.is_empty() {
                return;
            }
            for finished in finished {
                self.finish_read(now, finished, table);
            }
        }
    }

    fn finish_read(&mut self, now: Timestamp, finished: FinishedRead, table: &EntryTable) {
        if is_backfill(finished.op) {
            // The session is here now, unless it has expired everywhere.
            let view = self.cluster.view;
            for (writer, seq) in self
                .backfills
                .remove(&finished.wanted.key)
                .unwrap_or_default()
            {
                let seqs = vec![seq];
                self.cluster.send(writer, Message::Ack { view, seqs });
            }
            return;
        }
        if is_revocation(finished.op) {
            return self.finish_revocation(now, finished, table);
        }
        let (updates, mut context) = self.ordering(table);
        if !updates.read_done(now, finished.op, &mut context) {
            self.answer_read(now, finished, table);
        }
    }

    pub(super) fn answer_read(
        &mut self,
        now: Timestamp,
        finished: FinishedRead,
        table: &EntryTable,
    ) {
        let FinishedRead {
            op,
            wanted,
            mine,
            ask_all,
            found,
        } = finished;
        let Wanted { key, secret } = wanted;
        let mut entry = table.keyed_entry(now, &key).map(|keyed| keyed.entry);
        if !mine {
            Entry::join(now, &mut entry, found);
        }
        if mine && ask_all && entry.is_none() {
            table.forget_expired(&key);
        }
        let loaded = entry
            .as_ref()
            .and_then(|entry| entry.loaded(now, secret.as_ref()));
        if !mine && !ask_all && loaded.is_none() {
            // Its owner may not have every access.
            return self.reads.begin(now, &mut self.cluster, op, wanted, true);
        }
        // A whole session that is not live has expired, and all holders have confirmed that.
        // Changes alone leave open whether the rest of the session was lost.
        let known = matches!(entry, Some(Entry::Live(_) | Entry::Expired(_)));
        let certain = known || self.cluster.uncertain_until() <= now;
        let absent = || certain.then_some(Loaded::Absent);
        let reply = loaded
            .or_else(absent)
            .map_or(Reply::Uncertain, Reply::Found);
        self.cluster.reply(op, reply);
    }

    /// Drops the sessions of slots that this node does not hold. Each of their holders has compared
    /// itself with this node, and nothing was added to them here since this view began.
    pub(super) fn drop_others(&self, table: &EntryTable) {
        if self.cluster.is_settled() || !self.cluster.rules.confirmed_drop() {
            let placement = &self.cluster.placement;
            table.retain(|slot| placement.is_local(slot));
        }
    }
}
