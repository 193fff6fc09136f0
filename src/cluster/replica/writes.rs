//! Writes that other holders have not all acknowledged yet.
//!
//! A write is sent to every holder and again until each has acknowledged it *in this node's current
//! view*: an acknowledgement says that the holder had merged the write while it had the same idea
//! of who is in. So when this node tells a client that its write is safe, every member of the view
//! has it, and whoever joins later will compare itself with members that do. After a change of the
//! view all open writes are sent and counted anew.
//!
//! It does not decide what is written, and does not touch the table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Ack;
use crate::session::Timestamp;

use super::event::Reply;
use super::message::{Copy, Message, OpId, ViewId, Write};
use super::placement::{PeerIndex, PeerSet};
use super::standing::Standing;

/// Writes under way, by number.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    open: BTreeMap<u64, Open>,
    last: u64,
    /// Writes whose time ran out before enough holders had them.
    pub(crate) indeterminate: u64,
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
    /// Holders that have not acknowledged it in this view.
    waiting: PeerSet,
    begun_at: Timestamp,
    sent_at: Timestamp,
}

impl Open {
    /// Whether enough of `holders` peers have it to answer.
    fn is_safe(&self, holders: usize) -> bool {
        match self.ack {
            Ack::All => self.waiting.is_empty(),
            Ack::Local => true,
            Ack::Copies(n) => {
                let have = 1 + holders - self.waiting.len();
                have >= usize::from(n.get()).min(1 + holders)
            }
        }
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
    /// Sends copies to all holders. `None`: this node is the only one, nothing is open; otherwise
    /// the write's number and whether its caller need not wait.
    pub(crate) fn begin(
        &mut self,
        now: Timestamp,
        standing: &mut Standing,
        op: Option<OpId>,
        ack: Ack,
        strict: bool,
        copies: Arc<[Copy]>,
    ) -> Option<(u64, bool)> {
        let holders = standing.peers();
        if holders.is_empty() {
            return None;
        }
        self.last += 1;
        let mut open = Open {
            op,
            ack,
            strict,
            copies,
            waiting: holders,
            begun_at: now,
            sent_at: now,
        };
        open.send(now, self.last, holders, standing);
        let safe = open.is_safe(holders.len());
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
        if view != standing.view {
            return None;
        }
        let open = self.open.get_mut(&seq)?;
        open.waiting.remove(peer);
        if open.is_safe(standing.peers().len())
            && let Some(op) = open.op.take()
        {
            standing.reply(op, Reply::Written);
        }
        if !open.waiting.is_empty() {
            return None;
        }
        let strict = open.strict;
        self.open.remove(&seq);
        strict.then_some(seq)
    }

    /// The view has changed: everything is sent and counted anew. Atomic updates are given up;
    /// their owner says so to those who asked.
    pub(crate) fn install(&mut self, now: Timestamp, standing: &mut Standing) {
        let holders = standing.peers();
        self.open.retain(|_, open| !open.strict);
        for (seq, open) in &mut self.open {
            open.waiting = holders;
            open.send(now, *seq, holders, standing);
            if open.is_safe(holders.len())
                && let Some(op) = open.op.take()
            {
                standing.reply(op, Reply::Written);
            }
        }
        if holders.is_empty() {
            self.open.clear();
        }
    }

    /// Sends again what has waited for long, and tells callers whose time has run out.
    pub(crate) fn tick(&mut self, now: Timestamp, timeout: Duration, standing: &mut Standing) {
        for (seq, open) in &mut self.open {
            if now.since(open.begun_at) >= timeout
                && let Some(op) = open.op.take()
            {
                self.indeterminate += 1;
                standing.reply(op, Reply::Indeterminate);
            }
            if now.since(open.sent_at) >= RESEND_AFTER {
                open.send(now, *seq, open.waiting, standing);
            }
        }
        let kept = |open: &Open| open.strict || now.since(open.begun_at) < KEEP;
        self.open.retain(|_, open| kept(open));
    }

    /// A link to `peer` is new: what was sent over the old one may be lost.
    pub(crate) fn link_up(&mut self, now: Timestamp, peer: PeerIndex, standing: &mut Standing) {
        let mut only = PeerSet::default();
        only.insert(peer);
        for (seq, open) in &mut self.open {
            if open.waiting.contains(peer) {
                open.send(now, *seq, only, standing);
            }
        }
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

/// Open writes before new ones are refused: a second's worth at the rate that a node sustains.
const WRITES_MAX: usize = 65_536;

/// A write is sent again when nothing was heard for this long. Links do not lose messages while
/// they are up, so this only bridges a link that broke unnoticed.
const RESEND_AFTER: Duration = Duration::from_millis(500);

/// How long a write that its caller no longer waits for is offered to a holder that does not answer
/// and is not declared down either; after that the comparison of digests makes up for it.
const KEEP: Duration = Duration::from_secs(60);
