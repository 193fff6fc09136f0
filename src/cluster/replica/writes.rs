//! Writes that other holders have not all acknowledged yet.
//!
//! A write is sent to every holder once, and counts as acknowledged by a holder only *in this
//! node's current view*: an acknowledgement states that the holder had merged the write while it
//! had the same members in mind, and so the same holders. A client is answered once all holders
//! have acknowledged, every member has announced this view, and there are enough whole copies: no
//! node serves reads based on an outdated placement, and a node that becomes a holder later
//! compares itself with members that have the write.
//!
//! Nothing is repeated on a timer, since links do not lose messages while they are up. A write is
//! sent again
//!
//! - when the link to the holder is new;
//! - when the holder has refused it, and is in this node's view now;
//! - when the holder announces this node's view, has not acknowledged the write, and nothing of it
//!   is under way. A holder repeats its acknowledgements before each announcement ([`Merged`]), so
//!   what it does not name it does not have. A change of the view so costs no bytes of sessions.
//!
//! It does not decide what is written, and does not touch the table. How much may be open is
//! limited by the [`Budget`](super::budget::Budget), before a write begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Ack;
use crate::session::{Register, Root, Stamp, Timestamp};

use super::entry::Entry;
use super::event::Reply;
use super::message::{Copy, FIXED, Message, OpId, ViewId, Write};
use super::roster::{PeerIndex, PeerSet};
use super::standing::Standing;

/// Writes under way, by number.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    open: BTreeMap<u64, Open>,
    last: u64,
}

/// A write that is about to begin.
#[derive(Debug)]
pub(crate) struct NewWrite {
    /// The call to answer.
    pub(crate) op: Option<OpId>,
    /// When to answer it.
    pub(crate) ack: Ack,
    /// How many copies there must be to answer it.
    pub(crate) min_copies: usize,
    /// Whether only holders in the same view merge it: an atomic update.
    pub(crate) strict: bool,
    pub(crate) copies: Arc<[Copy]>,
}

#[derive(Debug)]
struct Open {
    write: NewWrite,
    size: usize,
    /// All holders in this view but this node, and whether this node is one.
    holders: PeerSet,
    mine: bool,
    /// Holders that have not acknowledged it in this view.
    waiting: PeerSet,
    /// Peers to which it was sent, and which have not refused it.
    sent: PeerSet,
    begun_at: Timestamp,
}

impl Open {
    /// Returns `true` if enough holders have it to answer, where `stable` is `true` if all members
    /// are in the same view.
    fn is_safe(&self, stable: bool, standing: &Standing) -> bool {
        let acknowledged = self.holders.without(self.waiting);
        let enough = match self.write.ack {
            Ack::All => self.is_everywhere(stable),
            Ack::Local => return true,
            Ack::Copies(n) => {
                let most = usize::from(self.mine) + self.holders.len();
                let have = usize::from(self.mine) + acknowledged.len();
                have >= usize::from(n.get()).min(most)
            }
        };
        enough && (self.write.min_copies <= 1 || self.copies(acknowledged, standing))
    }

    /// Returns `true` if there are as many copies as asked for. A holder that has not caught up may
    /// have the change and not the session, which would be lost with the others.
    fn copies(&self, acknowledged: PeerSet, standing: &Standing) -> bool {
        let whole = acknowledged
            .iter()
            .filter(|peer| standing.has_caught_up(*peer))
            .count();
        usize::from(self.mine && standing.is_complete()) + whole >= self.write.min_copies
    }

    fn is_everywhere(&self, stable: bool) -> bool {
        stable && self.waiting.is_empty()
    }

    /// Returns `true` if nothing has to be done for it any more.
    fn is_done(&self, stable: bool, standing: &Standing) -> bool {
        let answered =
            self.write.op.is_none() && (!self.write.strict || self.is_safe(stable, standing));
        self.is_everywhere(stable) && answered
    }

    /// Finds the holders of the current view.
    fn place(&mut self, standing: &Standing) {
        let slot = self.write.copies.first().map_or(0, |copy| copy.key.slot());
        let holders = standing.holders(slot);
        self.holders = holders.peers;
        self.mine = holders.me;
        self.waiting = holders.peers;
        for peer in self.waiting.iter() {
            standing.budget.charge(peer, self.size);
        }
    }

    fn send(&mut self, seq: u64, oldest: u64, to: PeerSet, standing: &mut Standing) {
        for peer in to.iter() {
            self.sent.insert(peer);
            let write = Write {
                seq,
                oldest,
                view: standing.view,
                strict: self.write.strict,
                sent_at: self.begun_at,
                copies: self.write.copies.clone(),
            };
            standing.send(peer, Message::Write(write));
        }
    }

    /// Returns `true` if its caller has waited for too long: for `timeout`, or longer while a large
    /// write moves.
    fn is_late(&self, now: Timestamp, timeout: Duration, standing: &Standing) -> bool {
        let moves = |peer| standing.flow.is_moving(now, peer);
        let is_moving = !self.waiting.is_empty() && self.waiting.iter().all(moves);
        let waited = now.since(self.begun_at);
        waited >= timeout && !(is_moving && waited < MOVING_MAX)
    }
}

impl Writes {
    /// Sends copies to all holders. `None`: nothing has to be waited for and nothing is open;
    /// otherwise the write's number and whether its caller need not wait.
    pub(crate) fn begin(
        &mut self,
        now: Timestamp,
        standing: &mut Standing,
        write: NewWrite,
    ) -> Option<(u64, bool)> {
        let size = FIXED + write.copies.iter().map(Copy::size).sum::<usize>();
        let mut open = Open {
            write,
            size,
            holders: PeerSet::default(),
            mine: false,
            waiting: PeerSet::default(),
            sent: PeerSet::default(),
            begun_at: now,
        };
        open.place(standing);
        let stable = is_stable(standing);
        let safe = open.is_safe(stable, standing);
        if safe && open.is_everywhere(stable) {
            return None;
        }
        self.last += 1;
        open.send(self.last, self.oldest(), open.waiting, standing);
        if safe {
            open.write.op = None;
        }
        self.open.insert(self.last, open);
        Some((self.last, safe))
    }

    /// A holder has merged a write. Gives the number of an atomic update that all holders have now.
    pub(crate) fn acknowledged(
        &mut self,
        standing: &mut Standing,
        peer: PeerIndex,
        view: ViewId,
        seq: u64,
    ) -> Option<u64> {
        if view != standing.view && standing.rules.view_barrier {
            return None;
        }
        let open = self.open.get_mut(&seq)?;
        if open.waiting.contains(peer) {
            open.waiting.remove(peer);
            standing.budget.release(peer, open.size);
        }
        self.finish(seq, standing)
    }

    /// A holder has not merged a write. It is sent again once the holder is in this node's view.
    pub(crate) fn refused(&mut self, standing: &mut Standing, peer: PeerIndex, seq: u64) {
        let oldest = self.oldest();
        if let Some(open) = self.open.get_mut(&seq)
            && open.waiting.contains(peer)
        {
            open.sent.remove(peer);
            if standing.agrees(peer) {
                open.send(seq, oldest, PeerSet::of(peer), standing);
            }
        }
    }

    /// Holders or their views have changed: whatever is safe now is answered. Gives the numbers of
    /// atomic updates that all holders have.
    pub(crate) fn review(&mut self, standing: &mut Standing) -> Vec<u64> {
        let all: Vec<_> = self.open.keys().copied().collect();
        all.into_iter()
            .filter_map(|seq| self.finish(seq, standing))
            .collect()
    }

    fn finish(&mut self, seq: u64, standing: &mut Standing) -> Option<u64> {
        let open = self.open.get_mut(&seq)?;
        let stable = is_stable(standing);
        if open.is_safe(stable, standing)
            && let Some(op) = open.write.op.take()
        {
            standing.reply(op, Reply::Written);
        }
        if !open.is_done(stable, standing) {
            return None;
        }
        let strict = open.write.strict;
        self.open.remove(&seq);
        strict.then_some(seq)
    }

    /// The view has changed: acknowledgements are counted anew, and new holders get what is open.
    /// Atomic updates are given up; their owner informs those who asked.
    pub(crate) fn install(&mut self, standing: &mut Standing) {
        self.open.retain(|_, open| !open.write.strict);
        let oldest = self.oldest();
        for (seq, open) in &mut self.open {
            open.place(standing);
            let new = open.waiting.without(open.sent);
            open.send(*seq, oldest, new, standing);
        }
        self.review(standing);
    }

    /// A member has gone, and its place may be taken by another one.
    pub(crate) fn forget(&mut self, peer: PeerIndex) {
        for open in self.open.values_mut() {
            open.sent.remove(peer);
        }
    }

    /// Answers callers whose time is over.
    pub(crate) fn tick(&mut self, now: Timestamp, timeout: Duration, standing: &mut Standing) {
        let mut late = false;
        for open in self.open.values_mut() {
            if now.since(open.begun_at) < timeout {
                // The others have begun later.
                break;
            }
            if open.write.op.is_some()
                && open.is_late(now, timeout, standing)
                && let Some(op) = open.write.op.take()
            {
                standing.reply(op, Reply::Indeterminate);
                late = true;
            }
        }
        if late {
            self.review(standing);
        }
    }

    /// The link to `peer` is new, and what was sent over the old one may be lost: sends what it
    /// has not acknowledged.
    pub(crate) fn send_again(&mut self, peer: PeerIndex, standing: &mut Standing) {
        let oldest = self.oldest();
        for (seq, open) in &mut self.open {
            if open.waiting.contains(peer) {
                open.send(*seq, oldest, PeerSet::of(peer), standing);
            }
        }
    }

    /// `peer` has announced this node's view, after acknowledging all that it has: sends what it
    /// lacks, unless that is under way.
    pub(crate) fn send_missing(&mut self, peer: PeerIndex, standing: &mut Standing) {
        let oldest = self.oldest();
        let lacks = |open: &Open| open.waiting.contains(peer);
        if !self.open.values().any(lacks) {
            return;
        }
        let under_way = standing.flow.writes_under_way(peer);
        for (seq, open) in &mut self.open {
            if lacks(open) && !under_way.contains(seq) {
                open.send(*seq, oldest, PeerSet::of(peer), standing);
            }
        }
    }

    /// Gives up waiting: this node leaves.
    pub(crate) fn abort(&mut self, standing: &mut Standing) {
        for open in self.open.values_mut() {
            if let Some(op) = open.write.op.take() {
                standing.reply(op, Reply::Indeterminate);
            }
        }
    }

    /// The holders that have not acknowledged what was begun a while ago.
    pub(crate) fn overdue(&self, now: Timestamp) -> PeerSet {
        let late = |open: &&Open| now.since(open.begun_at) >= OVERDUE_AFTER;
        let late = self.open.values().take_while(late);
        late.fold(PeerSet::default(), |all, open| all.union(open.waiting))
    }

    /// The members that some write waits for.
    pub(crate) fn waiting(&self) -> PeerSet {
        let open = self.open.values();
        open.fold(PeerSet::default(), |all, open| all.union(open.waiting))
    }

    /// Returns `true` if some holder has not acknowledged a write of this session with a stamp at or
    /// below `floor`.
    pub(crate) fn has_open(&self, key: &Root, floor: Stamp) -> bool {
        let is_below = |r: &Register| r.stamp <= floor && !r.is_floor();
        let has_below = |copy: &Copy| match &copy.entry {
            _ if copy.key != *key => false,
            Entry::Live(record) => record.registers().iter().any(is_below),
            Entry::Fragment(fragment) => fragment.registers.iter().any(is_below),
            Entry::Expired(_) | Entry::Dead { .. } => false,
        };
        self.open
            .values()
            .any(|open| open.write.copies.iter().any(has_below))
    }

    /// How many writes some holder has not acknowledged yet.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many of them `peer` has not acknowledged.
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

fn is_stable(standing: &Standing) -> bool {
    standing.is_stable() || !standing.rules.view_barrier
}

/// Writes of other members that this node has merged as a holder and that may still be open there.
///
/// A holder repeats these acknowledgements when its view has changed or its link is new, so that
/// the writer need not send the bytes again.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// By writer: the slots of its writes, by number.
    writers: BTreeMap<PeerIndex, BTreeMap<u64, u16>>,
}

impl Merged {
    /// A write was merged and is acknowledged.
    pub(crate) fn note(&mut self, writer: PeerIndex, write: &Write, slot: usize) {
        let numbers = self.writers.entry(writer).or_default();
        while numbers
            .first_key_value()
            .is_some_and(|(seq, _)| *seq < write.oldest || numbers.len() >= MERGED_MAX)
        {
            numbers.pop_first();
        }
        if !write.strict {
            numbers.insert(write.seq, slot as u16);
        }
    }

    /// The view has changed: what this node does not hold any more it may not confirm later.
    pub(crate) fn install(&mut self, standing: &Standing) {
        for numbers in self.writers.values_mut() {
            numbers.retain(|_, slot| standing.is_mine(usize::from(*slot)));
        }
    }

    /// A member has gone.
    pub(crate) fn forget(&mut self, writer: PeerIndex) {
        self.writers.remove(&writer);
    }

    /// Acknowledges everything to a writer once more, in the current view.
    pub(crate) fn acknowledge(&self, writer: PeerIndex, standing: &mut Standing) {
        let Some(numbers) = self.writers.get(&writer) else {
            return;
        };
        let seqs: Vec<_> = numbers.keys().copied().collect();
        for seqs in seqs.chunks(ACKS_MAX) {
            let message = Message::Ack {
                view: standing.view,
                seqs: seqs.to_vec(),
            };
            standing.send(writer, message);
        }
    }
}

/// A holder that has not acknowledged a write for this long is asked for its view.
const OVERDUE_AFTER: Duration = Duration::from_millis(500);

/// How long a caller waits at most while its large write moves.
const MOVING_MAX: Duration = Duration::from_secs(60);

/// Writes of one member that are remembered: more than its budget lets it have open.
const MERGED_MAX: usize = 65_536;

/// Acknowledgements in one message.
const ACKS_MAX: usize = 4_096;
