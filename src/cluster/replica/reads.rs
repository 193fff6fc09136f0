//! Reads that this node cannot answer from its own memory.
//!
//! A holder that does not know yet whether it has everything that the members of its view had asks
//! all those that it has not finished with, merges what they have, and answers then. A member that
//! does not hold the session asks its owner, or everybody while the owner has not caught up, and
//! keeps nothing of the answer. A holder for whom a session has run out asks the other holders
//! before it says so, and also for as long as it remembers the name of one that it has forgotten:
//! they may have heard of a later access. Where a request presents another secret than the one of the
//! session here, the session's owner is asked: it has every rotation. An answer counts once, and only in the view in which the
//! question was asked; after a change of the view the question is asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::session::{Root, SecretHash, Timestamp};

use super::entry::Entry;
use super::event::Reply;
use super::message::{Message, OpId, ViewId};
use super::placement::Member;
use super::roster::{PeerIndex, PeerSet};
use super::standing::Standing;

/// What is read: a session, for a request that presents this secret.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) key: Root,
    pub(crate) secret: Option<SecretHash>,
}

/// Reads under way.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    open: BTreeMap<OpId, Open>,
    /// Reads that have become complete by an answer.
    complete: Vec<OpId>,
    /// The members that this node had caught up with when all reads were looked at.
    looked_at: PeerSet,
    /// Whether all reads have to be looked at: the view has changed.
    changed: bool,
}

#[derive(Debug)]
struct Open {
    wanted: Wanted,
    /// Whether this node holds the session, so that answers are merged into its table.
    mine: bool,
    /// Whether to ask all other holders, whoever has caught up.
    wide: bool,
    /// Members that have not answered in this view.
    waiting: PeerSet,
    /// What others have, where this node keeps nothing of it.
    found: Option<Entry>,
    begun_at: Timestamp,
}

/// A read that everybody who has to has answered.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) op: OpId,
    pub(crate) wanted: Wanted,
    /// Whether everything is in the table; otherwise it is in `found`.
    pub(crate) mine: bool,
    /// Whether everybody who may know was asked.
    pub(crate) wide: bool,
    pub(crate) found: Option<Entry>,
}

impl Open {
    fn new(now: Timestamp, wanted: Wanted, wide: bool) -> Self {
        Self {
            wanted,
            mine: true,
            wide,
            waiting: PeerSet::default(),
            found: None,
            begun_at: now,
        }
    }

    /// Finds the members to ask in this view, and asks them.
    fn place(&mut self, op: OpId, standing: &mut Standing) {
        let slot = self.wanted.key.slot();
        self.mine = standing.is_mine(slot);
        self.found = None;
        self.waiting = match standing.owner(slot) {
            _ if self.mine && self.wide => standing.holders(slot).peers.union(standing.sources()),
            // The owner confirms what the secret is, if this is not its own.
            Member::Peer(owner) if self.mine && self.wanted.secret.is_some() => {
                standing.sources().union(PeerSet::of(owner))
            }
            _ if self.mine => standing.sources(),
            Member::Peer(owner)
                if !self.wide && standing.has_caught_up(owner) || !standing.rules.union_reads =>
            {
                PeerSet::of(owner)
            }
            _ if self.wide && standing.is_settled() => standing.holders(slot).peers,
            Member::Peer(_) | Member::Me => standing.peers(),
        };
        self.ask(op, self.waiting, standing);
    }

    fn ask(&self, op: OpId, peers: PeerSet, standing: &mut Standing) {
        for peer in peers.iter() {
            let view = standing.view;
            let Wanted { key, secret } = self.wanted;
            let question = Message::Fetch {
                view,
                op,
                key,
                secret,
            };
            standing.send(peer, question);
        }
    }

    fn is_finished(&self, standing: &Standing) -> bool {
        if self.mine && !self.wide {
            let confirms = match standing.owner(self.wanted.key.slot()) {
                Member::Peer(owner) if self.wanted.secret.is_some() => PeerSet::of(owner),
                Member::Peer(_) | Member::Me => PeerSet::default(),
            };
            let needed = standing.sources().union(confirms);
            self.waiting.and(needed).is_empty()
        } else {
            self.waiting.is_empty()
        }
    }
}

impl Reads {
    /// Asks those who may know.
    pub(crate) fn begin(
        &mut self,
        now: Timestamp,
        standing: &mut Standing,
        op: OpId,
        wanted: Wanted,
        wide: bool,
    ) {
        let mut open = Open::new(now, wanted, wide);
        open.place(op, standing);
        if open.is_finished(standing) {
            self.complete.push(op);
        }
        self.open.insert(op, open);
    }

    /// A member does not answer: it has too many questions to answer already.
    pub(crate) fn refused(&mut self, peer: PeerIndex, op: OpId, standing: &mut Standing) {
        let is_waiting = |open: &Open| open.waiting.contains(peer);
        if op & INTERNAL == 0 && self.open.get(&op).is_some_and(is_waiting) {
            self.open.remove(&op);
            standing.reply(op, Reply::Unavailable);
        }
    }

    /// Questions to a member, or its answers, may be lost: asks it again.
    pub(crate) fn ask_again(&self, peer: PeerIndex, standing: &mut Standing) {
        for (op, open) in &self.open {
            if open.waiting.contains(peer) {
                open.ask(*op, PeerSet::of(peer), standing);
            }
        }
    }

    pub(crate) fn is_open(&self, op: OpId) -> bool {
        self.open.contains_key(&op)
    }

    /// Returns `true` if a member's answer is still waited for.
    pub(crate) fn waits_for(
        &self,
        peer: PeerIndex,
        (view, op): (ViewId, OpId),
        current: ViewId,
    ) -> bool {
        let open = self.open.get(&op);
        view == current && open.is_some_and(|open| open.waiting.contains(peer))
    }

    /// A member has answered. What it has is merged already, if this node holds the session.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        peer: PeerIndex,
        op: OpId,
        entry: Option<Entry>,
        standing: &Standing,
    ) {
        if let Some(open) = self.open.get_mut(&op) {
            open.waiting.remove(peer);
            if !open.mine {
                Entry::join(now, &mut open.found, entry);
            }
            if open.is_finished(standing) {
                self.complete.push(op);
            }
        }
    }

    /// The view has changed: earlier answers do not count any more.
    pub(crate) fn install(&mut self, standing: &mut Standing) {
        // The internal ones are begun again by the updates that need them.
        self.open.retain(|op, _| op & INTERNAL == 0);
        self.complete.clear();
        self.changed = true;
        for (op, open) in &mut self.open {
            open.place(*op, standing);
        }
    }

    /// Gives up what has taken too long: longer than `timeout`, unless a large answer moves.
    /// Returns `true` if there was any.
    pub(crate) fn tick(
        &mut self,
        now: Timestamp,
        timeout: Duration,
        standing: &mut Standing,
    ) -> bool {
        let late = |op: OpId, open: &Open| {
            let waited = now.since(open.begun_at);
            let moves = |peer| standing.flow.is_moving(now, peer);
            let is_moving = !open.waiting.is_empty() && open.waiting.iter().all(moves);
            op & INTERNAL == 0 && waited >= timeout && !(is_moving && waited < MOVING_MAX)
        };
        let expired = self.open.iter().filter(|(op, open)| late(**op, open));
        let expired: Vec<_> = expired.map(|(op, _)| *op).collect();
        for op in &expired {
            self.open.remove(op);
            standing.reply(*op, Reply::Unavailable);
        }
        !expired.is_empty()
    }

    /// Takes out the reads that everybody who has to has answered.
    pub(crate) fn finished(&mut self, standing: &Standing) -> Vec<Finished> {
        let looked_at = std::mem::replace(&mut self.looked_at, standing.done);
        let mut done = std::mem::take(&mut self.complete);
        if std::mem::take(&mut self.changed) || looked_at != standing.done {
            let finished = |(op, open): (&OpId, &Open)| open.is_finished(standing).then_some(*op);
            done = self.open.iter().filter_map(finished).collect();
        }
        let take = |op: OpId| {
            let open = self.open.remove(&op)?;
            Some(Finished {
                op,
                wanted: open.wanted,
                mine: open.mine,
                wide: open.wide,
                found: open.found,
            })
        };
        done.into_iter().filter_map(take).collect()
    }

    /// Gives up all reads: this node does not serve any more.
    pub(crate) fn abort(&mut self, standing: &mut Standing) {
        for op in std::mem::take(&mut self.open).into_keys() {
            if op & INTERNAL == 0 {
                standing.reply(op, Reply::Unavailable);
            }
        }
    }

    /// The members that have not answered what was asked a while ago.
    pub(crate) fn overdue(&self, now: Timestamp) -> PeerSet {
        let late = |open: &&Open| now.since(open.begun_at) >= OVERDUE_AFTER;
        let late = self.open.values().filter(late);
        late.fold(PeerSet::default(), |all, open| all.union(open.waiting))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open.len() >= READS_MAX
    }
}

/// Reads under way before new ones are refused.
const READS_MAX: usize = 16_384;

/// Marks the reads that this node does for itself, as the owner of a session: nobody is told when
/// they take long, and they end with the view at the latest.
pub(crate) const INTERNAL: OpId = 1 << 63;

/// A member that has not answered a question for this long is asked for its view.
const OVERDUE_AFTER: Duration = Duration::from_millis(200);

/// How long a caller waits at most while a large answer moves.
const MOVING_MAX: Duration = Duration::from_secs(60);
