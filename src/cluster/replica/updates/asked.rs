//! What this node's callers wait for: changes that somebody else may have to order.
//!
//! A question goes to the session's owner, and again when nothing was heard or the owner has
//! changed, under the same stamp. It ends with a verdict, or as of unknown outcome when the caller's
//! time is up or this node leaves. It does not order anything: what this node owns itself is given
//! back to [`Updates`](super::Updates).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::session::{Changes, SessionKey, Stamp, Timestamp};

use super::super::entry::{Entry, Fragment, Move};
use super::super::event::Reply;
use super::super::message::{Copy, Message, OpId, Order, Update, Verdict};
use super::super::placement::Member;
use super::super::roster::PeerSet;
use super::super::standing::Standing;
use super::super::table::Table;

/// A call whose change the session's owner is to order.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) op: OpId,
    pub(crate) key: SessionKey,
    /// The highest clock that the caller has seen in the session.
    pub(crate) seen: u64,
    pub(crate) changes: &'a Changes,
    pub(crate) order: Order,
}

/// Updates that local callers wait for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    open: BTreeMap<OpId, Open>,
    /// The clock of the last stamp that named an attempt: no two attempts share one.
    clock: u64,
}

#[derive(Debug)]
struct Open {
    update: Update,
    begun_at: Timestamp,
    asked_at: Timestamp,
}

impl Asked {
    /// Asks the owner; gives the update back when that is this node.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        call: Call<'_>,
        standing: &mut Standing,
    ) -> Option<Update> {
        let Call {
            op,
            key,
            seen,
            changes,
            mut order,
        } = call;
        let stamp = Stamp::after(seen.max(self.clock), now, standing.me.writer());
        self.clock = stamp.clock;
        let mut registers: Vec<_> = changes.registers(stamp).collect();
        registers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if let Order::Create(record) = &mut order {
            Arc::make_mut(record).note_update(stamp);
        }
        let update = Update {
            view: standing.view,
            op,
            key,
            retry: false,
            sent_at: now,
            expect: changes
                .expected()
                .map(|(name, stamp)| (name.clone(), stamp)),
            moves: changes.rotated_to().filter(|to| *to != key).map(|to| {
                let era = standing.era;
                Move { era, to }
            }),
            fragment: Arc::new(Fragment {
                registers,
                max_inactive: changes.max_inactive().map(|idle| (stamp, idle.into())),
                accessed_at: now,
                updates: vec![stamp],
            }),
            order,
        };
        let mut open = Open {
            update,
            begun_at: now,
            asked_at: now,
        };
        let mine = open.ask(now, standing);
        self.open.insert(op, open);
        mine
    }

    /// Asks again what nothing was heard of for `after`; gives back what this node owns now.
    pub(super) fn repeat(
        &mut self,
        now: Timestamp,
        after: Duration,
        standing: &mut Standing,
    ) -> Vec<Update> {
        let mut mine = Vec::new();
        for open in self.open.values_mut() {
            if now.since(open.asked_at) >= after {
                open.update.retry = true;
                mine.extend(open.ask(now, standing));
            }
        }
        mine
    }

    /// A verdict, with the session where this node does not hold it.
    pub(super) fn answered(
        &mut self,
        now: Timestamp,
        from: Member,
        (op, verdict, copy): (OpId, Verdict, Option<Copy>),
        standing: &mut Standing,
        table: &Table,
    ) {
        let Some(open) = self.open.get(&op) else {
            return;
        };
        let applied = verdict == Verdict::Applied;
        // Who has become the owner since has been asked, and may apply it.
        let owner = standing.owner(open.update.key.slot());
        if verdict == Verdict::Again || !applied && from != owner {
            return;
        }
        let copy = copy.or_else(|| open.update.outcome(now, table));
        self.open.remove(&op);
        let reply = match copy.map(|copy| copy.entry) {
            // It was applied, also when the session has run out since.
            Some(Entry::Live(record)) if applied || record.is_live(now) => {
                Reply::Updated(verdict, Some(record))
            }
            // It was applied to what others have, or the session has gone on from where it moved.
            Some(Entry::Fragment(_)) | None if applied => Reply::Indeterminate,
            Some(Entry::Dead(tombstone)) if applied && tombstone.moved.is_some() => {
                Reply::Indeterminate
            }
            _ => Reply::Updated(verdict, None),
        };
        standing.reply(op, reply);
    }

    /// Gives up what has taken longer than `timeout`.
    pub(super) fn give_up(&mut self, now: Timestamp, timeout: Duration, standing: &mut Standing) {
        self.open.retain(|op, open| {
            let late = now.since(open.begun_at) >= timeout;
            if late {
                standing.reply(*op, Reply::Indeterminate);
            }
            !late
        });
    }

    /// Gives up everything.
    pub(super) fn abort(&mut self, standing: &mut Standing) {
        for op in std::mem::take(&mut self.open).into_keys() {
            standing.reply(op, Reply::Indeterminate);
        }
    }

    /// Whose verdict was asked for a while ago.
    pub(super) fn overdue(&self, now: Timestamp, after: Duration, standing: &Standing) -> PeerSet {
        let late = self.open.values();
        let late = late.filter(|open| now.since(open.begun_at) >= after);
        let mut owners = PeerSet::default();
        for open in late {
            if let Member::Peer(owner) = standing.owner(open.update.key.slot()) {
                owners.insert(owner);
            }
        }
        owners
    }

    /// Updates that a local caller waits for.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= ASKED_MAX
    }
}

impl Open {
    /// Sends the update to its owner, or gives it back when that is this node.
    fn ask(&mut self, now: Timestamp, standing: &mut Standing) -> Option<Update> {
        self.asked_at = now;
        self.update.view = standing.view;
        // The fragment's access time is on this node's clock, like `sent_at`.
        self.update.sent_at = now;
        match standing.owner(self.update.key.slot()) {
            Member::Me => Some(self.update.clone()),
            Member::Peer(peer) => {
                standing.send(peer, Message::Update(self.update.clone()));
                None
            }
        }
    }
}

/// Updates that a local caller waits for before new ones are refused.
const ASKED_MAX: usize = 16_384;
