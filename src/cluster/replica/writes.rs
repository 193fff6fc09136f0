//! Writes that some holders have not acknowledged yet.
//!
//! A write is sent to every holder once. An acknowledgement counts only *in this node's current
//! view*: it states that the holder had merged the write while it had the same members, and
//! therefore computed the same holders. The caller is answered when all holders have acknowledged,
//! every member has announced this view, and there are enough whole copies. Then no node serves
//! reads based on an outdated placement, and a node that becomes a holder later compares itself
//! with members that have the write.
//!
//! A node that does not serve, in a view without a member that serves, answers no caller: it
//! was declared down, and the members that continue are not in its view.
//!
//! No write is repeated on a timer, since a link does not lose messages while it is up. A holder
//! that is late is asked for its view, and its announcement shows what it lacks. A write is sent
//! again
//!
//! - when the link to the holder is new;
//! - when the holder has refused it and is in this node's view now;
//! - when the holder announces this node's view, has not acknowledged the write, and the write is
//!   not under way to it. A holder repeats its acknowledgements before each announcement
//!   ([`MergedWrites`]), so it lacks every write that it does not name. A change of the view
//!   therefore sends almost nothing again: only ordered writes, and those of sessions that a holder
//!   is requesting from others.
//!
//! This module does not decide what is written and does not touch the table. The number of open
//! bytes is limited by the [`Budget`](super::budget::Budget) before a write begins.
//!
//! [`MergedWrites`]: super::merged_writes::MergedWrites

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::ack::Ack;
use crate::session::{AttributeEntry, Root, Timestamp, Version};

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::event::Reply;
use crate::cluster::replica::message::{FIXED, KeyedEntry, Message, OpId, ViewId, Write};
use crate::cluster::replica::peer_table::{PeerIndex, PeerSet};

/// Writes in flight, by sequence number.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    open: BTreeMap<u64, InFlightWrite>,
    last: u64,
}

/// A write that is about to begin.
#[derive(Debug)]
pub(crate) struct NewWrite {
    /// The call to answer.
    pub(crate) op: Option<OpId>,
    /// When to answer it.
    pub(crate) ack: Ack,
    /// Minimum number of whole copies before the call is answered.
    pub(crate) min_copies: usize,
    /// Whether only holders in the same view merge it, as required for an atomic update.
    pub(crate) strict: bool,
    pub(crate) entries: Arc<[KeyedEntry]>,
}

#[derive(Debug)]
struct InFlightWrite {
    write: NewWrite,
    size: usize,
    /// The holders in this view other than this node, and whether this node is one.
    holders: PeerSet,
    mine: bool,
    /// Holders that have not acknowledged it in this view.
    waiting: PeerSet,
    /// Peers to which it was sent and that have not refused it.
    sent: PeerSet,
    begun_at: Timestamp,
}

impl InFlightWrite {
    /// Returns `true` if enough holders have the write to answer the caller. `stable` is `true` if
    /// all members are in the same view.
    fn is_safe(&self, stable: bool, cluster: &ClusterView) -> bool {
        let acknowledged = self.holders.without(self.waiting);
        // A node that was declared down is alone in its new incarnation at first. It would answer
        // that all holders have a write, or a deletion, that only its own memory has.
        let is_served = cluster.is_served();
        let enough = match self.write.ack {
            Ack::Local => return true,
            _ if !is_served => return false,
            // Without `stable`, a member with an older view could answer a read as a holder that is
            // not one any more, and return a value from before this write.
            Ack::All => self.is_everywhere(stable),
            Ack::Copies(n) => {
                // With fewer holders than `n`, all of them are enough: otherwise no write would be
                // answered while nodes are missing. `min_copies` is what refuses then.
                let most = usize::from(self.mine) + self.holders.len();
                let have = usize::from(self.mine) + acknowledged.len();
                have >= usize::from(n.get()).min(most)
            }
        };
        enough && (self.write.min_copies <= 1 || self.has_enough_copies(acknowledged, cluster))
    }

    /// Returns `true` if there are at least `min_copies` copies. A holder that is not complete does
    /// not count: it may have the delta without the session, which would be lost with the other
    /// holders.
    fn has_enough_copies(&self, acknowledged: PeerSet, cluster: &ClusterView) -> bool {
        let whole = acknowledged
            .iter()
            .filter(|peer| cluster.has_caught_up(*peer))
            .count();
        usize::from(self.mine && cluster.is_complete()) + whole >= self.write.min_copies
    }

    fn is_everywhere(&self, stable: bool) -> bool {
        stable && self.waiting.is_empty()
    }

    /// Returns `true` if the write needs no further work and can be removed.
    fn is_done(&self, stable: bool, cluster: &ClusterView) -> bool {
        // An atomic update has no caller here: its removal is what answers it. Without the check it
        // would be answered with fewer than `min_copies` copies.
        let answered =
            self.write.op.is_none() && (!self.write.strict || self.is_safe(stable, cluster));
        self.is_everywhere(stable) && answered
    }

    /// Determines the holders in the current view and waits for all of them again.
    fn place(&mut self, cluster: &ClusterView) {
        let slot = self
            .write
            .entries
            .first()
            .map_or(0, |keyed| keyed.key.slot());
        let holders = cluster.holders(slot);
        self.holders = holders.peers;
        self.mine = holders.me;
        self.waiting = holders.peers;
        for peer in self.waiting.iter() {
            cluster.budget.charge(peer, self.size);
        }
    }

    fn send(&mut self, seq: u64, oldest: u64, to: PeerSet, cluster: &mut ClusterView) {
        for peer in to.iter() {
            self.sent.insert(peer);
            let write = Write {
                seq,
                behind: seq.saturating_sub(oldest),
                view: cluster.view,
                strict: self.write.strict,
                sent_at: self.begun_at,
                entries: self.write.entries.clone(),
            };
            cluster.send(peer, Message::Write(write));
        }
    }
}

impl Writes {
    /// Sends copies to all holders. Returns `None` if nothing has to be waited for and nothing
    /// stays open; otherwise the sequence number, and `true` if the caller need not wait.
    pub(crate) fn begin(
        &mut self,
        now: Timestamp,
        cluster: &mut ClusterView,
        write: NewWrite,
    ) -> Option<(u64, bool)> {
        let size = FIXED + write.entries.iter().map(KeyedEntry::size).sum::<usize>();
        let mut open = InFlightWrite {
            write,
            size,
            holders: PeerSet::default(),
            mine: false,
            waiting: PeerSet::default(),
            sent: PeerSet::default(),
            begun_at: now,
        };
        open.place(cluster);
        let stable = is_stable(cluster);
        let safe = open.is_safe(stable, cluster);
        if safe && open.is_everywhere(stable) {
            return None;
        }
        self.last += 1;
        open.send(self.last, self.oldest(), open.waiting, cluster);
        // The caller need not wait, but the write stays open: if it is lost with a broken link, it
        // is sent again.
        if safe {
            open.write.op = None;
        }
        self.open.insert(self.last, open);
        Some((self.last, safe))
    }

    /// Records the acknowledgement of a holder. Returns the sequence number if this completes an
    /// atomic update.
    pub(crate) fn acknowledged(
        &mut self,
        cluster: &mut ClusterView,
        peer: PeerIndex,
        view: ViewId,
        seq: u64,
    ) -> Option<u64> {
        // The holder had other members, and may have computed other holders: counting this would
        // confirm a write that the holders of this view do not all have.
        if view != cluster.view && cluster.rules.view_barrier() {
            return None;
        }
        let open = self.open.get_mut(&seq)?;
        // Holders repeat their acknowledgements. If one released its bytes twice, the peer could
        // owe more than its budget.
        if open.waiting.contains(peer) {
            open.waiting.remove(peer);
            cluster.budget.release(peer, open.size);
        }
        self.finish(seq, cluster)
    }

    /// Records that a holder has refused a write. It is sent again once the holder is in this
    /// node's view.
    pub(crate) fn refused(&mut self, cluster: &mut ClusterView, peer: PeerIndex, seq: u64) {
        let oldest = self.oldest();
        if let Some(open) = self.open.get_mut(&seq)
            && open.waiting.contains(peer)
        {
            open.sent.remove(peer);
            // A holder in another view would refuse it again and again, as fast as the link allows.
            // It gets the write when it announces this view.
            if cluster.agrees(peer) {
                open.send(seq, oldest, PeerSet::of(peer), cluster);
            }
        }
    }

    /// Called when holders or their views have changed: answers every write that is safe now.
    /// Returns the sequence numbers of completed atomic updates.
    pub(crate) fn review(&mut self, cluster: &mut ClusterView) -> Vec<u64> {
        let all: Vec<_> = self.open.keys().copied().collect();
        all.into_iter()
            .filter_map(|seq| self.finish(seq, cluster))
            .collect()
    }

    fn finish(&mut self, seq: u64, cluster: &mut ClusterView) -> Option<u64> {
        let open = self.open.get_mut(&seq)?;
        let stable = is_stable(cluster);
        if open.is_safe(stable, cluster)
            && let Some(op) = open.write.op.take()
        {
            cluster.reply(op, Reply::Written);
        }
        if !open.is_done(stable, cluster) {
            return None;
        }
        let strict = open.write.strict;
        self.open.remove(&seq);
        strict.then_some(seq)
    }

    /// Called when a new view is installed: counts acknowledgements from zero and sends open writes
    /// to new holders. Atomic updates are abandoned; the callers ask the new owner.
    pub(crate) fn install(&mut self, cluster: &mut ClusterView) {
        // The former owner must not complete an update in this view: the new owner may apply
        // another one with the same expectation.
        self.open.retain(|_, open| !open.write.strict);
        let oldest = self.oldest();
        for (seq, open) in &mut self.open {
            open.place(cluster);
            let new = open.waiting.without(open.sent);
            open.send(*seq, oldest, new, cluster);
        }
        self.review(cluster);
    }

    /// Called when a member is removed. Its index may be given to another member.
    pub(crate) fn forget(&mut self, peer: PeerIndex) {
        for open in self.open.values_mut() {
            open.sent.remove(peer);
        }
    }

    /// Answers callers whose timeout has passed.
    pub(crate) fn tick(&mut self, now: Timestamp, timeout: Duration, cluster: &mut ClusterView) {
        let mut late = false;
        for open in self.open.values_mut() {
            if now.since(open.begun_at) < timeout {
                // The writes after this one began later.
                break;
            }
            if open.write.op.is_some()
                && cluster.is_late(open.begun_at, timeout, open.waiting)
                && let Some(op) = open.write.op.take()
            {
                cluster.reply(op, Reply::Indeterminate);
                late = true;
            }
        }
        // A write that all holders have, and that lacked whole copies, was open for its caller
        // only.
        if late {
            self.review(cluster);
        }
    }

    /// Called when the link to `peer` is new: sends again what `peer` has not acknowledged, since
    /// messages on the old link may be lost.
    pub(crate) fn send_again(&mut self, peer: PeerIndex, cluster: &mut ClusterView) {
        let oldest = self.oldest();
        for (seq, open) in &mut self.open {
            if open.waiting.contains(peer) {
                open.send(*seq, oldest, PeerSet::of(peer), cluster);
            }
        }
    }

    /// Called when `peer` has announced this node's view, after it has repeated its
    /// acknowledgements: sends the writes that it lacks and that are not under way to it.
    pub(crate) fn send_missing(&mut self, peer: PeerIndex, cluster: &mut ClusterView) {
        let oldest = self.oldest();
        let lacks = |open: &InFlightWrite| open.waiting.contains(peer);
        if !self.open.values().any(lacks) {
            return;
        }
        let under_way = cluster.flow.writes_under_way(peer);
        for (seq, open) in &mut self.open {
            if lacks(open) && !under_way.contains(seq) {
                open.send(*seq, oldest, PeerSet::of(peer), cluster);
            }
        }
    }

    /// Answers all callers with [`Reply::Indeterminate`]: this node leaves.
    pub(crate) fn abort(&mut self, cluster: &mut ClusterView) {
        for open in self.open.values_mut() {
            if let Some(op) = open.write.op.take() {
                cluster.reply(op, Reply::Indeterminate);
            }
        }
    }

    /// Returns the holders with an unacknowledged write older than [`OVERDUE_AFTER`].
    pub(crate) fn overdue(&self, now: Timestamp) -> PeerSet {
        let is_overdue = |open: &&InFlightWrite| now.since(open.begun_at) >= OVERDUE_AFTER;
        let overdue = self.open.values().take_while(is_overdue);
        overdue.fold(PeerSet::default(), |all, open| all.union(open.waiting))
    }

    /// Returns the members that open writes wait for.
    pub(crate) fn waiting(&self) -> PeerSet {
        let open = self.open.values();
        open.fold(PeerSet::default(), |all, open| all.union(open.waiting))
    }

    /// Returns `true` if some holder has not acknowledged a write of this session with a version at
    /// or below `floor`.
    pub(crate) fn has_open(&self, key: &Root, floor: Version) -> bool {
        // An earlier floor under way is no write that the next one could drop.
        let is_below = |r: &AttributeEntry| r.version <= floor && !r.is_floor();
        let has_below = |keyed: &KeyedEntry| match &keyed.entry {
            _ if keyed.key != *key => false,
            Entry::Live(record) => record.entries().iter().any(is_below),
            Entry::Delta(delta) => delta.entries.iter().any(is_below),
            Entry::Expired(_) | Entry::Tombstone { .. } => false,
        };
        self.open
            .values()
            .any(|open| open.write.entries.iter().any(has_below))
    }

    /// Returns the number of open writes.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Returns the number of open writes that `peer` has not acknowledged.
    pub(crate) fn lag(&self, peer: PeerIndex) -> usize {
        self.open
            .values()
            .filter(|open| open.waiting.contains(peer))
            .count()
    }

    fn oldest(&self) -> u64 {
        let first = self.open.keys().next();
        first.copied().unwrap_or(self.last)
    }
}

fn is_stable(cluster: &ClusterView) -> bool {
    cluster.is_stable() || !cluster.rules.view_barrier()
}

/// A holder with a write unacknowledged for this long is asked for its view.
const OVERDUE_AFTER: Duration = Duration::from_millis(500);
