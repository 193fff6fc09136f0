//! Ordering of updates at the session's owner: one update of a session at a time.
//!
//! An update is decided, then merged by all other holders, then applied here. The next one of the
//! session begins only after that.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::session::{Record, Root, Timestamp};

use crate::cluster::ack::Ack;
use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::{
    KeyedEntry, Message, OpId, Operation, UpdateRequest, UpdateResponse, UpdateStatus,
};
use crate::cluster::replica::op_id::INTERNAL;
use crate::cluster::replica::peer_table::PeerIndex;
use crate::cluster::replica::placement::MemberRef;
use crate::cluster::replica::reads::Wanted;
use crate::cluster::replica::updates::preconditions::{check_preconditions, is_behind};
use crate::cluster::replica::updates::{UpdateAnswer, UpdateContext, Updates};
use crate::cluster::replica::writes::NewWrite;

/// An update that this node orders.
#[derive(Debug)]
pub(super) struct QueuedUpdate {
    /// The member that asks; `None` for a local caller.
    asker: Option<PeerIndex>,
    pub(super) update: UpdateRequest,
    /// The entries that all holders merge, once decided.
    entries: Arc<[KeyedEntry]>,
    /// The session before the update. Kept because the table may forget it meanwhile.
    pub(super) current: Option<Arc<Record>>,
    /// Whether the session had expired when its turn came. A deletion is still carried out then: an
    /// access may be under way to another holder and would make the session live again.
    expired: bool,
}

impl Updates {
    /// Handles an update that a member or a local caller sends to this node as the owner.
    pub(crate) fn order(
        &mut self,
        now: Timestamp,
        asker: Option<PeerIndex>,
        update: UpdateRequest,
        context: &mut UpdateContext<'_>,
    ) {
        let cluster = &*context.cluster;
        let key = update.key;
        let queue = self.queues.get(&key);
        let waiting = queue.map_or(0, VecDeque::len);
        let known = |queued: &QueuedUpdate| queued.asker == asker && queued.update.op == update.op;
        // Sent again over a new link. It waits for its turn already; queued twice, it would take
        // the room of another update.
        if queue.is_some_and(|queue| queue.iter().any(known)) {
            return;
        }
        let mine = cluster.owner(update.key.slot()) == MemberRef::Me;
        // A joining node may order before it serves: it asks the other members before it decides,
        // and does not have to be complete.
        let invited = || cluster.is_stable() && cluster.peers.iter().any(|(_, peer)| peer.ready);
        let orders = cluster.ready || invited();
        // In another view another member may be the owner: two owners could both apply an update
        // with the same expectation.
        let is_current = mine && orders && update.view == cluster.view;
        if !is_current || waiting >= QUEUE_MAX || !self.admits(asker, &update, cluster) {
            self.answer(now, asker, update.op, UpdateStatus::Retry, None, context);
            return;
        }
        self.queued_bytes += update.size();
        let queued = QueuedUpdate {
            asker,
            update,
            entries: Arc::default(),
            current: None,
            expired: false,
        };
        self.queues.entry(key).or_default().push_back(queued);
        if waiting == 0 {
            self.start(now, key, context);
        }
    }

    /// Returns `true` if there is room for an update: in the queues here, and in the budgets of the
    /// holders that will merge it. The budgets of the member that asks do not limit it: that member
    /// does not send it to the holders, and gives up long before a slow one has it. A deletion is
    /// always admitted.
    fn admits(
        &self,
        asker: Option<PeerIndex>,
        update: &UpdateRequest,
        cluster: &ClusterView,
    ) -> bool {
        if update.order == Operation::Delete {
            return true;
        }
        let size = update.size();
        let is_free = self.queued_bytes == 0 || self.queued_bytes + size <= QUEUED_BYTES_MAX;
        // A local caller's changes were checked before.
        let owed = || {
            cluster
                .budget
                .admits(cluster.holders(update.key.slot()).peers, size)
        };
        is_free && (asker.is_none() || owed())
    }

    /// Evaluates the first update of a session, and the following ones while none has to wait. If
    /// other members may have a later state of the session, they are asked first.
    pub(super) fn start(&mut self, now: Timestamp, key: Root, context: &mut UpdateContext<'_>) {
        while let Some(queued) = self.queues.get(&key).and_then(VecDeque::front) {
            let may_be_stale = context.table.may_be_stale(now, &queued.update.key)
                || is_behind(&queued.update, context.table);
            // The expectation of an update is compared with what is here. Without a write that was
            // acknowledged in an earlier view, one that holds would be rejected, and one that does
            // not hold any more would be applied.
            if !context.cluster.is_complete() || may_be_stale {
                self.last_read += 1;
                let op = self.last_read | INTERNAL;
                self.reads.insert(op, key);
                let UpdateContext { cluster, reads, .. } = context;
                let wanted = Wanted { key, secret: None };
                return reads.begin(now, cluster, op, wanted, may_be_stale);
            }
            if !self.evaluate(now, key, context) {
                return;
            }
        }
    }

    /// Decides the first update of a session. Returns `true` if the update is finished.
    pub(super) fn evaluate(
        &mut self,
        now: Timestamp,
        key: Root,
        context: &mut UpdateContext<'_>,
    ) -> bool {
        let Some(queued) = self.queues.get_mut(&key).and_then(VecDeque::front_mut) else {
            return false;
        };
        let certain = context.cluster.uncertain_until() <= now;
        if !context.cluster.rules.expectations() {
            queued.update.expect = None;
        }
        let refused = self.rejected.of(queued.update.delta.updates.first());
        let checked = check_preconditions(now, &queued.update, certain, context.table);
        // A rejection is binding, unless another owner has applied the update in between.
        match checked.and_then(|current| refused.map_or(Ok(current), Err)) {
            Ok(current) => {
                let (cluster, rotations) = (&*context.cluster, &mut self.rotations);
                queued.entries = queued.update.entries(now, &current, cluster, rotations);
                queued.expired = !current.is_live(now);
                queued.current = Some(current);
            }
            // The owner that applied it may have failed before every holder had it: replicate it
            // again.
            Err(UpdateStatus::Applied) => queued.entries = queued.update.known(now, context.table),
            // An earlier deletion may be under way to the other holders, too.
            Err(UpdateStatus::Gone)
                if queued.update.order == Operation::Delete && context.table.has_ended(&key) =>
            {
                queued.entries = queued.update.known(now, context.table);
                queued.expired = true;
            }
            Err(verdict) => {
                let conflict = verdict == UpdateStatus::Conflict;
                let keyed = conflict
                    .then(|| queued.update.outcome(now, context.table))
                    .flatten();
                self.finish(now, key, verdict, keyed, context);
                return true;
            }
        }
        let UpdateContext {
            cluster, writes, ..
        } = context;
        let entries = queued.entries.clone();
        // The session may have expired since the first attempt; then there is nothing to replicate.
        let write = NewWrite {
            op: None,
            ack: Ack::All,
            // With too few nodes a logout would fail otherwise, and the session stay valid.
            min_copies: match queued.update.order {
                Operation::Delete => 0,
                Operation::Create(_) | Operation::Update => cluster.min_copies,
            },
            strict: true,
            entries,
        };
        if !write.entries.is_empty()
            && let Some((seq, _)) = writes.begin(now, cluster, write)
        {
            self.writing.insert(seq, key);
            return false;
        }
        self.apply(now, key, context);
        true
    }

    pub(super) fn apply(&mut self, now: Timestamp, key: Root, context: &mut UpdateContext<'_>) {
        if let Some(queued) = self.queues.get(&key).and_then(VecDeque::front) {
            // The session may have expired here while the other holders merged the change. The
            // caller would be informed that it does not exist, although the change was applied and
            // counts as a use.
            if let Some(current) = &queued.current
                && context.table.is_delta_only_or_absent(&queued.update.key)
            {
                let mut record = Record::clone(current);
                if queued.update.order == Operation::Update {
                    // Expired meanwhile, unless the update counts as an access. The delta has no
                    // credential, so it cannot fork.
                    let _ = queued.update.delta.apply(&mut record);
                }
                let keyed = KeyedEntry {
                    key: queued.update.key,
                    entry: Entry::Live(record.into()),
                };
                context.table.merge(now, &keyed);
            }
            // Applied here last: a read at this node must not return an update that a holder may
            // still refuse.
            for keyed in queued.entries.iter() {
                context.table.merge(now, keyed);
            }
            let entries = queued.entries.clone();
            // A complete holder has merged the session itself.
            let holds = |peer| {
                let slot = queued.update.key.slot();
                context.cluster.placement.holds(slot, MemberRef::Peer(peer))
                    && context.cluster.has_caught_up(peer)
            };
            let keyed = match queued.asker {
                Some(peer) if holds(peer) => None,
                Some(_) | None => queued.update.outcome(now, context.table),
            };
            let verdict = match queued.update.order {
                Operation::Delete if queued.expired => UpdateStatus::Gone,
                Operation::Create(_) | Operation::Update | Operation::Delete => {
                    UpdateStatus::Applied
                }
            };
            if let (Some(asker), Some(before)) = (queued.asker, &queued.current)
                && verdict == UpdateStatus::Applied
            {
                let (key, order) = (queued.update.key, &queued.update.order);
                context
                    .cluster
                    .witness_order(asker, key, order, &entries, Some(before));
            }
            self.finish(now, key, verdict, keyed, context);
            let (cluster, writes) = (&mut *context.cluster, &mut *context.writes);
            context
                .floors
                .merged(now, &entries, cluster, writes, context.table);
        }
    }

    fn finish(
        &mut self,
        now: Timestamp,
        key: Root,
        verdict: UpdateStatus,
        keyed: Option<KeyedEntry>,
        context: &mut UpdateContext<'_>,
    ) {
        let Some(queue) = self.queues.get_mut(&key) else {
            return;
        };
        let queued = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&key);
        }
        if let Some(queued) = queued {
            self.queued_bytes -= queued.update.size();
            let refused = matches!(
                verdict,
                UpdateStatus::Conflict
                    | UpdateStatus::Superseded
                    | UpdateStatus::Gone
                    | UpdateStatus::Full
                    | UpdateStatus::TooLarge
            );
            // A local caller is answered immediately and does not repeat; a deletion is always
            // allowed.
            if refused
                && queued.asker.is_some()
                && queued.update.order != Operation::Delete
                && let Some(attempt) = queued.update.delta.updates.first()
            {
                self.rejected.note(now, *attempt, verdict);
            }
            self.answer(now, queued.asker, queued.update.op, verdict, keyed, context);
        }
    }

    fn answer(
        &mut self,
        now: Timestamp,
        asker: Option<PeerIndex>,
        op: OpId,
        verdict: UpdateStatus,
        keyed: Option<KeyedEntry>,
        context: &mut UpdateContext<'_>,
    ) {
        match asker {
            Some(peer) => {
                let size = keyed.as_ref().map_or(0, KeyedEntry::size);
                let (verdict, keyed) = if context.cluster.flow.admits_reply(peer, size) {
                    (verdict, keyed)
                } else {
                    // Too much waits for the member that asks: its caller gets no certain result.
                    (UpdateStatus::Indeterminate, None)
                };
                let message = Message::Updated(UpdateResponse {
                    op,
                    sent_at: now,
                    verdict,
                    entry: keyed,
                });
                context.cluster.send(peer, message);
            }
            None => {
                let answer = UpdateAnswer {
                    from: MemberRef::Me,
                    op,
                    verdict,
                    entry: keyed,
                };
                self.pending
                    .answered(now, answer, context.cluster, context.table);
            }
        }
    }
}

/// Updates of one session that may wait at its owner.
const QUEUE_MAX: usize = 1_024;

/// Bytes of updates that may wait at the owners of their sessions, one of them always.
const QUEUED_BYTES_MAX: usize = 64 << 20;
