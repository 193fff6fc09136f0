//! Writes that other holders have not all acknowledged yet.
//!
//! A write is sent to every holder and again until each has acknowledged it *in this node's current
//! view*: an acknowledgement says that the holder had merged the write while it had the same idea
//! of who is in, and so of who holds the session. A client is told that its write is safe once that
//! is so and every member has said that it is in this view: then nobody answers any more from what
//! it held in an earlier one, and whoever becomes a holder later will compare itself with members
//! that have the write. After a change of the view all open writes are sent and counted anew.
//!
//! It does not decide what is written, and does not touch the table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Ack;
use crate::session::Timestamp;

use super::event::Reply;
use super::message::{Copy, Message, OpId, ViewId, Write};
use super::roster::{PeerIndex, PeerSet};
use super::standing::Standing;

/// Writes under way, by number.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    open: BTreeMap<u64, Open>,
    last: u64,
}

#[derive(Debug)]
struct Open {
    /// Whom to answer, until that has been done.
    op: Option<OpId>,
    /// When to answer.
    ack: Ack,
    /// An atomic update: merged only by holders that are in the same view.
    strict: bool,
    copies: Arc<[Copy]>,
    /// All holders in this view but this node, and whether this node is one.
    holders: PeerSet,
    mine: bool,
    /// Holders that have not acknowledged it in this view.
    waiting: PeerSet,
    begun_at: Timestamp,
    sent_at: Timestamp,
}

impl Open {
    /// Whether enough holders have it to answer, when `stable` says whether all members are in the
    /// same view.
    fn is_safe(&self, stable: bool) -> bool {
        match self.ack {
            Ack::All => self.is_everywhere(stable),
            Ack::Local => true,
            Ack::Copies(n) => {
                let here = usize::from(self.mine);
                let have = here + self.holders.len() - self.waiting.len();
                have >= usize::from(n.get()).min(here + self.holders.len())
            }
        }
    }

    fn is_everywhere(&self, stable: bool) -> bool {
        stable && self.waiting.is_empty()
    }

    fn place(&mut self, standing: &Standing) {
        let slot = self.copies.first().map_or(0, |copy| copy.key.slot());
        let holders = standing.holders(slot);
        self.holders = holders.peers;
        self.mine = holders.me;
        self.waiting = holders.peers;
    }

    fn send(&mut self, now: Timestamp, seq: u64, to: PeerSet, standing: &mut Standing) {
        self.sent_at = now;
        for peer in to.iter() {
            let write = Write {
                seq,
                view: standing.view,
                strict: self.strict,
                sent_at: now,
                copies: self.copies.clone(),
            };
            standing.send(peer, Message::Write(write));
        }
    }
}

impl Writes {
    /// Sends copies to all holders. `None`: nothing has to be waited for and nothing is open;
    /// otherwise the write's number and whether its caller need not wait.
    pub(crate) fn begin(
        &mut self,
        now: Timestamp,
        standing: &mut Standing,
        op: Option<OpId>,
        ack: Ack,
        strict: bool,
        copies: Arc<[Copy]>,
    ) -> Option<(u64, bool)> {
        let mut open = Open {
            op,
            ack,
            strict,
            copies,
            holders: PeerSet::default(),
            mine: false,
            waiting: PeerSet::default(),
            begun_at: now,
            sent_at: now,
        };
        open.place(standing);
        let stable = is_stable(standing);
        if open.is_everywhere(stable) {
            return None;
        }
        self.last += 1;
        open.send(now, self.last, open.waiting, standing);
        let safe = open.is_safe(stable);
        if safe {
            open.op = None;
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
        open.waiting.remove(peer);
        self.finish(seq, standing)
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
        if open.is_safe(stable)
            && let Some(op) = open.op.take()
        {
            standing.reply(op, Reply::Written);
        }
        if !open.is_everywhere(stable) {
            return None;
        }
        let strict = open.strict;
        self.open.remove(&seq);
        strict.then_some(seq)
    }

    /// The view has changed: everything is sent and counted anew. Atomic updates are given up;
    /// their owner says so to those who asked.
    pub(crate) fn install(&mut self, now: Timestamp, standing: &mut Standing) {
        self.open.retain(|_, open| !open.strict);
        for (seq, open) in &mut self.open {
            open.place(standing);
            open.send(now, *seq, open.waiting, standing);
        }
        self.review(standing);
    }

    /// Sends again what has waited for long, and tells callers whose time has run out.
    pub(crate) fn tick(&mut self, now: Timestamp, timeout: Duration, standing: &mut Standing) {
        for (seq, open) in &mut self.open {
            if now.since(open.begun_at) >= timeout
                && let Some(op) = open.op.take()
            {
                standing.reply(op, Reply::Indeterminate);
            }
            if now.since(open.sent_at) >= RESEND_AFTER {
                open.send(now, *seq, open.waiting, standing);
            }
        }
        let kept = |open: &Open| open.strict || now.since(open.begun_at) < KEEP;
        self.open.retain(|_, open| kept(open));
    }

    /// Sends `peer` what it has not acknowledged: its link is new, and what was sent over the old
    /// one may be lost; or it has come into this node's view, and acknowledges only now.
    pub(crate) fn send_again(&mut self, now: Timestamp, peer: PeerIndex, standing: &mut Standing) {
        let only = PeerSet::of(peer);
        for (seq, open) in &mut self.open {
            if open.waiting.contains(peer) {
                open.send(now, *seq, only, standing);
            }
        }
    }

    /// Gives up waiting: this node leaves.
    pub(crate) fn abort(&mut self, standing: &mut Standing) {
        for open in self.open.values_mut() {
            if let Some(op) = open.op.take() {
                standing.reply(op, Reply::Indeterminate);
            }
        }
    }

    /// Who has not acknowledged what was begun a while ago.
    pub(crate) fn overdue(&self, now: Timestamp) -> PeerSet {
        let late = |open: &&Open| now.since(open.begun_at) >= RESEND_AFTER;
        let late = self.open.values().take_while(late);
        late.fold(PeerSet::default(), |all, open| all.union(open.waiting))
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

    /// Whether no more writes should begin.
    pub(crate) fn is_full(&self) -> bool {
        self.open.len() >= WRITES_MAX
    }
}

fn is_stable(standing: &Standing) -> bool {
    standing.is_stable() || !standing.rules.view_barrier
}

/// Open writes before new ones are refused: a second's worth at the rate that a node sustains.
const WRITES_MAX: usize = 65_536;

/// A write is sent again when nothing was heard for this long. Links do not lose messages while
/// they are up, so this only bridges a link that broke unnoticed.
const RESEND_AFTER: Duration = Duration::from_millis(500);

/// How long a write that its caller no longer waits for is offered to a holder that does not answer
/// and is not declared down either; after that the comparison of digests makes up for it.
const KEEP: Duration = Duration::from_secs(60);
