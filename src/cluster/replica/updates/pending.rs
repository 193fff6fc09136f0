//! What this node's callers wait for: changes that somebody else may have to order.
//!
//! A question goes to the session's owner, and again under the same stamp when the owner has
//! changed, its link is new, or it could not decide. It ends with a verdict, or as of unknown outcome when the caller's
//! time is up or this node leaves. It does not order anything: what this node owns itself is given
//! back to [`Updates`](super::Updates).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::session::{Changes, Root, Stamp, Timestamp, access_version};

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::entry::{Delta, Entry};
use crate::cluster::replica::event::Reply;
use crate::cluster::replica::message::{
    KeyedEntry, Message, OpId, Operation, Update, UpdateStatus,
};
use crate::cluster::replica::placement::Member;
use crate::cluster::replica::roster::{PeerIndex, PeerSet};
use crate::cluster::replica::table::Table;

/// A call whose change the session's owner is to order.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) op: OpId,
    pub(crate) key: Root,
    /// The highest clock that the caller has seen in the session.
    pub(crate) seen: u64,
    pub(crate) changes: &'a Changes,
    pub(crate) order: Operation,
}

/// Updates that local callers wait for.
#[derive(Debug, Default)]
pub(super) struct PendingUpdates {
    open: BTreeMap<OpId, Open>,
    /// The clock of the last stamp that named an attempt: no two attempts share one.
    clock: u64,
}

#[derive(Debug)]
struct Open {
    update: Update,
    size: usize,
    /// The owner in whose budget it counts.
    charged: Option<PeerIndex>,
    begun_at: Timestamp,
    /// When the owner answered that it cannot decide yet.
    postponed_at: Option<Timestamp>,
}

impl PendingUpdates {
    /// Asks the owner; gives the update back when that is this node.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        call: Call<'_>,
        standing: &mut ClusterView,
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
        if let Operation::Create(record) = &mut order {
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
            rotation: changes.rotation(),
            fragment: Arc::new(Delta {
                registers,
                max_inactive: changes.max_inactive().map(|idle| (stamp, idle.into())),
                accessed_at: now,
                access: access_version(now, standing.me.writer()),
                credential: None,
                updates: vec![stamp],
            }),
            order,
        };
        let mut open = Open {
            size: 0,
            charged: None,
            update,
            begun_at: now,
            postponed_at: None,
        };
        let mine = open.ask(now, standing);
        self.open.insert(op, open);
        mine
    }

    /// Asks again; gives back what this node owns now.
    pub(super) fn repeat(
        &mut self,
        now: Timestamp,
        which: Which,
        standing: &mut ClusterView,
    ) -> Vec<Update> {
        let mut mine = Vec::new();
        for open in self.open.values_mut() {
            let again = match which {
                Which::All => {
                    // The budgets begin anew with the view.
                    open.charged = None;
                    true
                }
                Which::OwnedBy(peer) => open.charged == Some(peer),
                Which::Postponed => open
                    .postponed_at
                    .is_some_and(|at| now.since(at) >= POSTPONED_FOR),
            };
            if again {
                open.update.retry = true;
                mine.extend(open.ask(now, standing));
            }
        }
        mine
    }

    pub(super) fn is_open(&self, op: OpId) -> bool {
        self.open.contains_key(&op)
    }

    /// A verdict, with the session where this node does not hold it.
    pub(super) fn answered(
        &mut self,
        now: Timestamp,
        from: Member,
        (op, verdict, copy): (OpId, UpdateStatus, Option<KeyedEntry>),
        standing: &mut ClusterView,
        table: &Table,
    ) {
        let Some(open) = self.open.get_mut(&op) else {
            return;
        };
        let applied = verdict == UpdateStatus::Applied;
        // Who has become the owner since has been asked, and may apply it.
        let owner = standing.owner(open.update.key.slot());
        if verdict == UpdateStatus::Retry {
            open.postponed_at = Some(now);
            return;
        }
        if !applied && from != owner {
            return;
        }
        let copy = copy.or_else(|| open.update.outcome(now, table));
        open.discharge(standing);
        self.open.remove(&op);
        let reply = match copy.map(|copy| copy.entry) {
            // It was applied, also when the session has run out since.
            Some(Entry::Live(record)) if applied || record.is_live(now) => {
                Reply::Updated(verdict, Some(record))
            }
            // It was applied to what others have.
            Some(Entry::Delta(_)) | None if applied => Reply::Indeterminate,
            _ => Reply::Updated(verdict, None),
        };
        standing.reply(op, reply);
    }

    /// Gives up what has taken longer than `timeout`.
    pub(super) fn give_up(
        &mut self,
        now: Timestamp,
        timeout: Duration,
        standing: &mut ClusterView,
    ) -> bool {
        let before = self.open.len();
        self.open.retain(|op, open| {
            let waited = now.since(open.begun_at);
            let is_moving = open
                .charged
                .is_some_and(|owner| standing.flow.is_moving(now, owner));
            let late = waited >= timeout && !(is_moving && waited < MOVING_MAX);
            if late {
                open.discharge(standing);
                standing.reply(*op, Reply::Indeterminate);
            }
            !late
        });
        self.open.len() < before
    }

    /// Gives up everything.
    pub(super) fn abort(&mut self, standing: &mut ClusterView) {
        for op in std::mem::take(&mut self.open).into_keys() {
            standing.reply(op, Reply::Indeterminate);
        }
    }

    /// The owners whose verdict was asked for a while ago.
    pub(super) fn overdue(
        &self,
        now: Timestamp,
        after: Duration,
        standing: &ClusterView,
    ) -> PeerSet {
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
    fn ask(&mut self, now: Timestamp, standing: &mut ClusterView) -> Option<Update> {
        self.postponed_at = None;
        self.update.view = standing.view;
        // The fragment's access time is on this node's clock, like `sent_at`.
        self.update.sent_at = now;
        match standing.owner(self.update.key.slot()) {
            Member::Me => Some(self.update.clone()),
            Member::Peer(peer) => {
                let message = Message::Update(self.update.clone());
                if self.charged != Some(peer) {
                    self.discharge(standing);
                    self.size = message.size();
                    standing.budget.charge(peer, self.size);
                    self.charged = Some(peer);
                }
                standing.send(peer, message);
                None
            }
        }
    }

    fn discharge(&mut self, standing: &ClusterView) {
        if let Some(owner) = self.charged.take() {
            standing.budget.release(owner, self.size);
        }
    }
}

/// Which questions are asked again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    /// All: the view has changed.
    All,
    /// Those to this owner: its link is new, or it has come into this view.
    OwnedBy(PeerIndex),
    /// Those that the owner could not decide.
    Postponed,
}

/// How long after an owner could not decide it is asked again.
const POSTPONED_FOR: Duration = Duration::from_millis(100);

/// How long a caller waits at most while a large question or answer moves.
const MOVING_MAX: Duration = Duration::from_secs(60);

/// Updates that a local caller waits for before new ones are refused.
const ASKED_MAX: usize = 16_384;
