//! Atomic updates: read, compute and write without another write in between.
//!
//! The caller's node (the *asker*) computes the new value and names the version that it has read.
//! The session's *owner*, the first in the order of rendezvous hashing, handles one update of a
//! session at a time: it checks the preconditions, has every other holder merge the result *in its
//! own view*, and only then applies the result itself and answers. A holder in another view
//! refuses, and a change of the view makes the owner abandon the update. So two owners can both
//! succeed only if the members disagree for longer than failure detection takes. After a change of
//! the view the asker repeats the update at the new owner, under the same version. The new owner
//! recognizes an update that was applied after all, because a session remembers the versions of its
//! last updates.
//!
//! A rejection is binding: a change or a creation that was rejected is not applied later
//! ([`rejected`]), and an asker accepts a rejection from the current owner only. A rejected
//! deletion may be tried again, because a deletion is always allowed.
//!
//! A member that does not hold a session sends all its changes to the owner, creations and
//! deletions included: the owner knows whether the session still exists, and returns its new state.

mod effect;
mod ordering;
mod pending;
mod preconditions;
mod rejected;
mod rotations;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::session::{Record, Root, Timestamp};

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::floors::Floors;
use crate::cluster::replica::message::{OpId, Operation};
use crate::cluster::replica::op_id::is_internal;
use crate::cluster::replica::peer_table::{PeerIndex, PeerSet};
use crate::cluster::replica::reads::Reads;
use crate::cluster::replica::table::EntryTable;
use crate::cluster::replica::writes::Writes;

use ordering::QueuedUpdate;
use pending::{PendingUpdates, Which};
pub(crate) use pending::{UpdateAnswer, UpdateCall};
use rejected::RejectedUpdates;
use rotations::Rotations;

/// Atomic updates that this node has requested, and those that it orders.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    /// Updates requested by local callers.
    pending: PendingUpdates,
    /// Updates that this node orders, by session. The first of each queue is in progress.
    queues: BTreeMap<Root, VecDeque<QueuedUpdate>>,
    /// The bytes of these updates.
    queued_bytes: usize,
    /// The session of each write that replicates an update.
    writing: BTreeMap<u64, Root>,
    /// The session of each read that an update waits for.
    reads: BTreeMap<OpId, Root>,
    last_read: OpId,
    /// Rejections sent to other members.
    rejected: RejectedUpdates,
    /// Rotations that this node has ordered.
    rotations: Rotations,
}

/// State that the owner needs besides its own queues.
#[derive(Debug)]
pub(crate) struct UpdateContext<'a> {
    pub(crate) cluster: &'a mut ClusterView,
    pub(crate) writes: &'a mut Writes,
    pub(crate) reads: &'a mut Reads,
    pub(crate) floors: &'a mut Floors,
    pub(crate) table: &'a EntryTable,
}

impl Updates {
    /// Sends the changes to the owner, which applies them if the expected attribute is unchanged.
    pub(crate) fn begin(
        &mut self,
        now: Timestamp,
        call: UpdateCall<'_>,
        context: &mut UpdateContext<'_>,
    ) {
        if let Some(update) = self.pending.begin(now, call, context.cluster) {
            self.order(now, None, update, context);
        }
    }

    /// Handles a completed read: everything that other members have of the session is merged here.
    /// Returns `true` if this node made the read itself.
    pub(crate) fn read_done(
        &mut self,
        now: Timestamp,
        op: OpId,
        context: &mut UpdateContext<'_>,
    ) -> bool {
        if let Some(key) = self.reads.remove(&op)
            && self.evaluate(now, key, context)
        {
            self.start(now, key, context);
        }
        is_internal(op)
    }

    /// Called when all other holders have merged this write: applies it here.
    pub(crate) fn written(&mut self, now: Timestamp, seq: u64, context: &mut UpdateContext<'_>) {
        if let Some(key) = self.writing.remove(&seq) {
            self.apply(now, key, context);
            self.start(now, key, context);
        }
    }

    /// Handles the answer to an update of a local caller.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        answer: UpdateAnswer,
        cluster: &mut ClusterView,
        table: &EntryTable,
    ) {
        self.pending.answered(now, answer, cluster, table);
    }

    /// Returns the session that an update in progress changes, as it was when its turn came.
    pub(crate) fn changing(&self, key: &Root) -> Option<&Arc<Record>> {
        let queued = self.queues.get(key)?.front()?;
        // For a creation, `current` is the new session. A read must not return it yet: the view may
        // change, and the next owner reject it.
        let changes = queued.update.order == Operation::Update;
        queued.current.as_ref().filter(|_| changes)
    }

    /// Called when a new view is installed: abandons what is in progress, and asks the new owner.
    pub(crate) fn install(&mut self, now: Timestamp, context: &mut UpdateContext<'_>) {
        // Rejections and rotations stay: this node may be the owner in this view, too. Without them
        // it would apply what it has rejected, or give a rotation a second version, which is a fork
        // if a lost holder has merged the first one and the id is rotated again there.
        self.queues.clear();
        self.queued_bytes = 0;
        self.writing.clear();
        self.reads.clear();
        self.repeat(now, Which::All, context);
    }

    /// Repeats updates that the owner could not decide, and gives up those that have timed out.
    /// Returns `true` if there were any of the latter.
    pub(crate) fn tick(
        &mut self,
        now: Timestamp,
        timeout: Duration,
        context: &mut UpdateContext<'_>,
    ) -> bool {
        let late = self.pending.expire(timeout, context.cluster);
        self.rejected.forget(now, timeout);
        self.rotations.forget(now, timeout);
        self.repeat(now, Which::Postponed, context);
        late
    }

    /// Called when updates sent to `owner` or its answers may be lost: sends them again.
    pub(crate) fn ask_again(
        &mut self,
        now: Timestamp,
        owner: PeerIndex,
        context: &mut UpdateContext<'_>,
    ) {
        self.repeat(now, Which::OwnedBy(owner), context);
    }

    fn repeat(&mut self, now: Timestamp, which: Which, context: &mut UpdateContext<'_>) {
        for update in self.pending.repeat(now, which, context.cluster) {
            self.order(now, None, update, context);
        }
    }

    /// Returns the bytes of the updates that this node orders.
    #[cfg(test)]
    pub(crate) const fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Returns `true` if a local caller still waits for this update.
    pub(crate) fn is_open(&self, op: OpId) -> bool {
        self.pending.is_open(op)
    }

    /// Gives up all updates: this node leaves.
    pub(crate) fn abort(&mut self, cluster: &mut ClusterView) {
        self.pending.abort(cluster);
    }

    /// Returns the owners with an undecided update older than [`OVERDUE_AFTER`].
    pub(crate) fn overdue(&self, now: Timestamp, cluster: &ClusterView) -> PeerSet {
        self.pending.overdue(now, OVERDUE_AFTER, cluster)
    }

    /// Returns the number of updates that local callers wait for.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.pending.is_full()
    }
}

/// An owner that has not decided for this long is asked for its view.
const OVERDUE_AFTER: Duration = Duration::from_millis(200);
