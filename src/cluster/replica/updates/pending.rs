//! Updates in flight: sent to the owner, repeated, answered or timed out.
//!
//! An update goes to the session's owner. It is sent again, under the same version, when the owner
//! has changed, its link is new, or it could not decide. It ends with the owner's verdict, or with
//! an unknown outcome on timeout or when this node leaves. This module orders nothing: an update
//! that this node owns is returned to [`Updates`](super::Updates).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::session::{
    Changes, EndReason, Root, SessionEventKind, Timestamp, Version, access_version,
};

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::delta::Delta;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::event::Reply;
use crate::cluster::replica::message::{
    KeyedEntry, Message, OpId, Operation, UpdateRequest, UpdateStatus,
};
use crate::cluster::replica::op_id::is_revocation;
use crate::cluster::replica::peer_table::{PeerIndex, PeerSet};
use crate::cluster::replica::placement::MemberRef;
use crate::cluster::replica::table::EntryTable;

/// A change that the session's owner orders.
#[derive(Debug)]
pub(crate) struct UpdateCall<'a> {
    pub(crate) op: OpId,
    pub(crate) key: Root,
    /// The highest clock in the session that the caller has seen.
    pub(crate) seen: u64,
    pub(crate) changes: &'a Changes,
    pub(crate) order: Operation,
}

/// The answer to an update.
#[derive(Debug)]
pub(crate) struct UpdateAnswer {
    /// The member that has answered.
    pub(crate) from: MemberRef,
    pub(crate) op: OpId,
    pub(crate) verdict: UpdateStatus,
    /// The session after the update, if this node does not hold it.
    pub(crate) entry: Option<KeyedEntry>,
}

/// Updates that local callers wait for.
#[derive(Debug, Default)]
pub(super) struct PendingUpdates {
    open: BTreeMap<OpId, InFlightUpdate>,
    /// The clock of the last version that named an attempt: no two attempts share one.
    clock: u64,
}

#[derive(Debug)]
struct InFlightUpdate {
    update: UpdateRequest,
    size: usize,
    /// The owner whose budget it is charged to.
    charged: Option<PeerIndex>,
    begun_at: Timestamp,
    /// When the owner answered that it cannot decide yet.
    postponed_at: Option<Timestamp>,
}

impl PendingUpdates {
    /// Sends the update to the owner, or returns it if this node is the owner.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        call: UpdateCall<'_>,
        cluster: &mut ClusterView,
    ) -> Option<UpdateRequest> {
        let UpdateCall {
            op,
            key,
            seen,
            changes,
            mut order,
        } = call;
        // Each attempt needs a version of its own. An owner would treat a second attempt with the
        // same version as a repetition of the first, and return the first result.
        let version = Version::next(seen.max(self.clock), now, cluster.me.writer());
        self.clock = version.clock;
        let mut entries: Vec<_> = changes.entries(version).collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        // A creation that is sent again finds the session that it has made. Without the version in
        // it, it would be rejected in conflict with itself.
        if let Operation::Create(record) = &mut order {
            Arc::make_mut(record).note_update(version);
        }
        let update = UpdateRequest {
            view: cluster.view,
            op,
            key,
            retry: false,
            sent_at: now,
            expect: changes
                .required_version()
                .map(|(name, version)| (name.clone(), version)),
            rotation: changes.rotation(),
            delta: Arc::new(Delta {
                entries,
                idle_timeout: changes.idle_timeout().map(|idle| (version, idle.into())),
                accessed_at: now,
                access: if changes.is_access() {
                    access_version(now, cluster.me.writer())
                } else {
                    0
                },
                credential: None,
                updates: vec![version],
            }),
            order,
        };
        let mut open = InFlightUpdate {
            size: 0,
            charged: None,
            update,
            begun_at: now,
            postponed_at: None,
        };
        let mine = open.ask(now, cluster);
        self.open.insert(op, open);
        mine
    }

    /// Sends updates again; returns those that this node owns now.
    pub(super) fn repeat(
        &mut self,
        now: Timestamp,
        which: Which,
        cluster: &mut ClusterView,
    ) -> Vec<UpdateRequest> {
        let mut mine = Vec::new();
        for open in self.open.values_mut() {
            let again = match which {
                Which::All => {
                    // Budgets were cleared with the view.
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
                mine.extend(open.ask(now, cluster));
            }
        }
        mine
    }

    pub(super) fn is_open(&self, op: OpId) -> bool {
        self.open.contains_key(&op)
    }

    /// Handles the answer of an owner.
    pub(super) fn answered(
        &mut self,
        now: Timestamp,
        answer: UpdateAnswer,
        cluster: &mut ClusterView,
        table: &EntryTable,
    ) {
        let UpdateAnswer {
            from,
            op,
            verdict,
            entry,
        } = answer;
        let Some(open) = self.open.get_mut(&op) else {
            return;
        };
        let applied = verdict == UpdateStatus::Applied;
        // The current owner has been asked and may still apply it, so a former owner's rejection
        // does not count.
        let owner = cluster.owner(open.update.key.slot());
        if verdict == UpdateStatus::Retry {
            open.postponed_at = Some(now);
            return;
        }
        // That a former owner has applied it counts: all holders of its view have merged it.
        if !applied && from != owner {
            return;
        }
        let after = entry.or_else(|| open.update.outcome(now, table));
        open.discharge(cluster);
        let key = open.update.key;
        self.open.remove(&op);
        if applied && is_revocation(op) {
            let kind = SessionEventKind::Deleted(EndReason::User);
            cluster.happened(key, kind, None);
        }
        let reply = match after.map(|keyed| keyed.entry) {
            // It was applied, even if the session has expired since.
            Some(Entry::Live(record)) if applied || record.is_live(now) => {
                Reply::Updated(verdict, Some(record))
            }
            // It was applied, but the resulting session is not here.
            Some(Entry::Delta(_)) | None if applied => Reply::Indeterminate,
            _ => Reply::Updated(verdict, None),
        };
        cluster.reply(op, reply);
    }

    /// Fails updates that have taken longer than `timeout`, except while a large one makes
    /// progress.
    pub(super) fn expire(&mut self, timeout: Duration, cluster: &mut ClusterView) -> bool {
        let before = self.open.len();
        self.open.retain(|op, open| {
            let owner = open.charged.map(PeerSet::of).unwrap_or_default();
            let is_late = cluster.is_late(open.begun_at, timeout, owner);
            if is_late {
                open.discharge(cluster);
                cluster.reply(*op, Reply::Indeterminate);
            }
            !is_late
        });
        self.open.len() < before
    }

    /// Fails all updates.
    pub(super) fn abort(&mut self, cluster: &mut ClusterView) {
        for op in std::mem::take(&mut self.open).into_keys() {
            cluster.reply(op, Reply::Indeterminate);
        }
    }

    /// Returns the owners with an update undecided for at least `after`.
    pub(super) fn overdue(
        &self,
        now: Timestamp,
        after: Duration,
        cluster: &ClusterView,
    ) -> PeerSet {
        let is_overdue = |open: &&InFlightUpdate| now.since(open.begun_at) >= after;
        let mut owners = PeerSet::default();
        for open in self.open.values().filter(is_overdue) {
            if let MemberRef::Peer(owner) = cluster.owner(open.update.key.slot()) {
                owners.insert(owner);
            }
        }
        owners
    }

    /// Returns the number of updates that local callers wait for.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= PENDING_MAX
    }
}

impl InFlightUpdate {
    /// Sends the update to its owner, or returns it if this node is the owner.
    fn ask(&mut self, now: Timestamp, cluster: &mut ClusterView) -> Option<UpdateRequest> {
        self.postponed_at = None;
        self.update.view = cluster.view;
        // The access time in the delta is on this node's clock, like `sent_at`.
        self.update.sent_at = now;
        match cluster.owner(self.update.key.slot()) {
            MemberRef::Me => Some(self.update.clone()),
            MemberRef::Peer(peer) => {
                let message = Message::Update(self.update.clone());
                if self.charged != Some(peer) {
                    self.discharge(cluster);
                    self.size = message.size();
                    cluster.budget.charge(peer, self.size);
                    self.charged = Some(peer);
                }
                cluster.send(peer, message);
                None
            }
        }
    }

    fn discharge(&mut self, cluster: &ClusterView) {
        if let Some(owner) = self.charged.take() {
            cluster.budget.release(owner, self.size);
        }
    }
}

/// Selects the updates to send again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    /// All: the view has changed.
    All,
    /// Those sent to this owner: its link is new, or it has entered this view.
    OwnedBy(PeerIndex),
    /// Those that the owner could not decide.
    Postponed,
}

/// Delay before an owner that could not decide is asked again.
const POSTPONED_FOR: Duration = Duration::from_millis(100);

/// Most updates that local callers may wait for; further ones are refused.
const PENDING_MAX: usize = 16_384;
