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

mod pending;
mod preconditions;
mod rejected;
mod rotations;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Ack;
use crate::session::{Record, Root, Timestamp, Version};

use super::cluster_view::ClusterView;
use super::delta::Delta;
use super::entry::Entry;
use super::floors::Floors;
use super::message::{KeyedEntry, Message, OpId, Operation, Update, UpdateStatus};
use super::peer_table::{PeerIndex, PeerSet};
use super::placement::Member;
use super::reads::{INTERNAL, Reads, Wanted};
use super::rebase::{rebase_fragment, rebase_record};
use super::table::Table;
use super::writes::{NewWrite, Writes};

pub(crate) use pending::Call;
use pending::{PendingUpdates, Which};
use preconditions::{check_preconditions, is_behind};
use rejected::Refusals;
use rotations::Rotations;

/// Atomic updates that this node has asked for, and those that it orders.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    /// Updates requested by local callers.
    asked: PendingUpdates,
    /// Updates that this node orders, by session. The first of each queue is in progress.
    jobs: BTreeMap<Root, VecDeque<QueuedUpdate>>,
    /// The session of each write that replicates an update.
    writing: BTreeMap<u64, Root>,
    /// The session of each read that an update waits for.
    reads: BTreeMap<OpId, Root>,
    last_read: OpId,
    /// Rejections sent to other members.
    rejected: Refusals,
    /// Rotations that this node has ordered.
    rotations: Rotations,
}

/// An update that this node orders.
#[derive(Debug)]
struct QueuedUpdate {
    /// The member that asks; `None` for a local caller.
    asker: Option<PeerIndex>,
    update: Update,
    /// The entries that all holders merge, once decided.
    copies: Arc<[KeyedEntry]>,
    /// The session before the update. Kept because the table may forget it meanwhile.
    current: Option<Arc<Record>>,
    /// Whether the session had expired when its turn came. A deletion is still carried out then: an
    /// access may be under way to another holder and would make the session live again.
    ran_out: bool,
}

/// State that the owner needs besides its own queues.
#[derive(Debug)]
pub(crate) struct Ctx<'a> {
    pub(crate) cluster: &'a mut ClusterView,
    pub(crate) writes: &'a mut Writes,
    pub(crate) reads: &'a mut Reads,
    pub(crate) floors: &'a mut Floors,
    pub(crate) table: &'a Table,
}

impl Updates {
    /// Sends the changes to the owner, which applies them if the expected attribute is unchanged.
    pub(crate) fn begin(&mut self, now: Timestamp, call: Call<'_>, tools: &mut Ctx<'_>) {
        if let Some(update) = self.asked.begin(now, call, tools.cluster) {
            self.order(now, None, update, tools);
        }
    }

    /// Handles an update that a member or a local caller sends to this node as the owner.
    pub(crate) fn order(
        &mut self,
        now: Timestamp,
        asker: Option<PeerIndex>,
        update: Update,
        tools: &mut Ctx<'_>,
    ) {
        let cluster = &*tools.cluster;
        let key = update.key;
        let queue = self.jobs.get(&key);
        let waiting = queue.map_or(0, VecDeque::len);
        let known = |job: &QueuedUpdate| job.asker == asker && job.update.op == update.op;
        if queue.is_some_and(|queue| queue.iter().any(known)) {
            return;
        }
        let mine = cluster.owner(update.key.slot()) == Member::Me;
        // A joining node may order before it serves: it asks the other members before it decides,
        // and does not have to be complete.
        let invited = || cluster.is_stable() && cluster.peers.iter().any(|(_, peer)| peer.ready);
        let orders = cluster.ready || invited();
        // In another view another member may be the owner: two owners could both apply an update
        // with the same expectation.
        if !mine || !orders || update.view != cluster.view || waiting >= QUEUE_MAX {
            self.answer(now, asker, update.op, UpdateStatus::Retry, None, tools);
            return;
        }
        let job = QueuedUpdate {
            asker,
            update,
            copies: Arc::default(),
            current: None,
            ran_out: false,
        };
        self.jobs.entry(key).or_default().push_back(job);
        if waiting == 0 {
            self.start(now, key, tools);
        }
    }

    /// Evaluates the first update of a session, and the following ones while none has to wait. If
    /// other members may have a later state of the session, they are asked first.
    fn start(&mut self, now: Timestamp, key: Root, tools: &mut Ctx<'_>) {
        while let Some(job) = self.jobs.get(&key).and_then(VecDeque::front) {
            let doubtful = tools.table.is_doubtful(now, &job.update.key)
                || is_behind(&job.update, tools.table);
            if !tools.cluster.is_complete() || doubtful {
                self.last_read += 1;
                let op = self.last_read | INTERNAL;
                self.reads.insert(op, key);
                let Ctx { cluster, reads, .. } = tools;
                let wanted = Wanted { key, secret: None };
                return reads.begin(now, cluster, op, wanted, doubtful);
            }
            if !self.evaluate(now, key, tools) {
                return;
            }
        }
    }

    /// Handles a completed read: everything that other members have of the session is merged here.
    /// Returns `true` if this node made the read itself.
    pub(crate) fn read_done(&mut self, now: Timestamp, op: OpId, tools: &mut Ctx<'_>) -> bool {
        if let Some(key) = self.reads.remove(&op)
            && self.evaluate(now, key, tools)
        {
            self.start(now, key, tools);
        }
        op & INTERNAL != 0
    }

    /// Called when all other holders have merged this write: applies it here.
    pub(crate) fn written(&mut self, now: Timestamp, seq: u64, tools: &mut Ctx<'_>) {
        if let Some(key) = self.writing.remove(&seq) {
            self.apply(now, key, tools);
            self.start(now, key, tools);
        }
    }

    /// Decides the first update of a session. Returns `true` if the update is finished.
    fn evaluate(&mut self, now: Timestamp, key: Root, tools: &mut Ctx<'_>) -> bool {
        let Some(job) = self.jobs.get_mut(&key).and_then(VecDeque::front_mut) else {
            return false;
        };
        let certain = tools.cluster.uncertain_until() <= now;
        if !tools.cluster.rules.expectations {
            job.update.expect = None;
        }
        let refused = self.rejected.of(job.update.fragment.updates.first());
        let judged = check_preconditions(now, &job.update, certain, tools.table);
        // A rejection is binding, unless another owner has applied the update in between.
        match judged.and_then(|current| refused.map_or(Ok(current), Err)) {
            Ok(current) => {
                let (cluster, rotations) = (&*tools.cluster, &mut self.rotations);
                job.copies = job.update.copies(now, &current, cluster, rotations);
                job.ran_out = !current.is_live(now);
                job.current = Some(current);
            }
            // The owner that applied it may have failed before every holder had it: replicate it
            // again.
            Err(UpdateStatus::Applied) => job.copies = job.update.known(now, tools.table),
            // An earlier deletion may be under way to the other holders, too.
            Err(UpdateStatus::Gone)
                if job.update.order == Operation::Delete && tools.table.is_dead(&key) =>
            {
                job.copies = job.update.known(now, tools.table);
                job.ran_out = true;
            }
            Err(verdict) => {
                let conflict = verdict == UpdateStatus::Conflict;
                let copy = conflict
                    .then(|| job.update.outcome(now, tools.table))
                    .flatten();
                self.finish(now, key, verdict, copy, tools);
                return true;
            }
        }
        let Ctx {
            cluster, writes, ..
        } = tools;
        let copies = job.copies.clone();
        // The session may have expired since the first attempt; then there is nothing to replicate.
        let write = NewWrite {
            op: None,
            ack: Ack::All,
            min_copies: match job.update.order {
                Operation::Delete => 0,
                Operation::Create(_) | Operation::Update => cluster.min_copies,
            },
            strict: true,
            copies,
        };
        let write = (!write.copies.is_empty())
            .then(|| writes.begin(now, cluster, write))
            .flatten();
        match write {
            Some((seq, _)) => {
                self.writing.insert(seq, key);
                false
            }
            None => {
                self.apply(now, key, tools);
                true
            }
        }
    }

    fn apply(&mut self, now: Timestamp, key: Root, tools: &mut Ctx<'_>) {
        if let Some(job) = self.jobs.get(&key).and_then(VecDeque::front) {
            if let Some(current) = &job.current
                && tools.table.is_partial_or_absent(&job.update.key)
            {
                let mut record = Record::clone(current);
                if job.update.order == Operation::Update {
                    // Expired meanwhile, unless the update counts as an access. The delta has no
                    // credential, so it cannot fork.
                    let _ = job.update.fragment.apply(&mut record);
                }
                let copy = KeyedEntry {
                    key: job.update.key,
                    entry: Entry::Live(record.into()),
                };
                tools.table.merge(now, &copy);
            }
            // Applied here last: a read at this node must not return an update that a holder may
            // still refuse.
            for copy in job.copies.iter() {
                tools.table.merge(now, copy);
            }
            let copies = job.copies.clone();
            // A complete holder has merged the session itself.
            let holds = |peer| {
                let slot = job.update.key.slot();
                tools.cluster.placement.holds(slot, Member::Peer(peer))
                    && tools.cluster.has_caught_up(peer)
            };
            let copy = match job.asker {
                Some(peer) if holds(peer) => None,
                Some(_) | None => job.update.outcome(now, tools.table),
            };
            let verdict = match job.update.order {
                Operation::Delete if job.ran_out => UpdateStatus::Gone,
                Operation::Create(_) | Operation::Update | Operation::Delete => {
                    UpdateStatus::Applied
                }
            };
            if let (Some(asker), Some(before)) = (job.asker, &job.current)
                && verdict == UpdateStatus::Applied
            {
                let (key, order) = (job.update.key, &job.update.order);
                tools
                    .cluster
                    .witness_order(asker, key, order, &copies, Some(before));
            }
            self.finish(now, key, verdict, copy, tools);
            let (cluster, writes) = (&mut *tools.cluster, &mut *tools.writes);
            tools
                .floors
                .merged(now, &copies, cluster, writes, tools.table);
        }
    }

    fn finish(
        &mut self,
        now: Timestamp,
        key: Root,
        verdict: UpdateStatus,
        copy: Option<KeyedEntry>,
        tools: &mut Ctx<'_>,
    ) {
        let Some(queue) = self.jobs.get_mut(&key) else {
            return;
        };
        let job = queue.pop_front();
        if queue.is_empty() {
            self.jobs.remove(&key);
        }
        if let Some(job) = job {
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
                && job.asker.is_some()
                && job.update.order != Operation::Delete
                && let Some(attempt) = job.update.fragment.updates.first()
            {
                self.rejected.note(now, *attempt, verdict);
            }
            self.answer(now, job.asker, job.update.op, verdict, copy, tools);
        }
    }

    fn answer(
        &mut self,
        now: Timestamp,
        asker: Option<PeerIndex>,
        op: OpId,
        verdict: UpdateStatus,
        copy: Option<KeyedEntry>,
        tools: &mut Ctx<'_>,
    ) {
        match asker {
            Some(peer) => {
                let message = Message::Updated {
                    op,
                    sent_at: now,
                    verdict,
                    copy,
                };
                tools.cluster.send(peer, message);
            }
            None => {
                let answer = (op, verdict, copy);
                self.asked
                    .answered(now, Member::Me, answer, tools.cluster, tools.table);
            }
        }
    }

    /// Handles the owner's answer to an update of a local caller. It includes the session if this
    /// node does not hold it.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        from: Member,
        answer: (OpId, UpdateStatus, Option<KeyedEntry>),
        cluster: &mut ClusterView,
        table: &Table,
    ) {
        self.asked.answered(now, from, answer, cluster, table);
    }

    /// Returns the session that an update in progress changes, as it was when its turn came.
    pub(crate) fn changing(&self, key: &Root) -> Option<&Arc<Record>> {
        let job = self.jobs.get(key)?.front()?;
        let changes = job.update.order == Operation::Update;
        job.current.as_ref().filter(|_| changes)
    }

    /// Called when a new view is installed: abandons what is in progress, and asks the new owner.
    pub(crate) fn install(&mut self, now: Timestamp, tools: &mut Ctx<'_>) {
        self.jobs.clear();
        self.writing.clear();
        self.reads.clear();
        self.repeat(now, Which::All, tools);
    }

    /// Repeats updates that the owner could not decide, and gives up those that have timed out.
    /// Returns `true` if there were any of the latter.
    pub(crate) fn tick(&mut self, now: Timestamp, timeout: Duration, tools: &mut Ctx<'_>) -> bool {
        let late = self.asked.give_up(now, timeout, tools.cluster);
        self.rejected.forget(now, timeout);
        self.rotations.forget(now, timeout);
        self.repeat(now, Which::Postponed, tools);
        late
    }

    /// Called when updates sent to `owner` or its answers may be lost: sends them again.
    pub(crate) fn ask_again(&mut self, now: Timestamp, owner: PeerIndex, tools: &mut Ctx<'_>) {
        self.repeat(now, Which::OwnedBy(owner), tools);
    }

    fn repeat(&mut self, now: Timestamp, which: Which, tools: &mut Ctx<'_>) {
        for update in self.asked.repeat(now, which, tools.cluster) {
            self.order(now, None, update, tools);
        }
    }

    /// Returns `true` if a local caller still waits for this update.
    pub(crate) fn is_open(&self, op: OpId) -> bool {
        self.asked.is_open(op)
    }

    /// Gives up all updates: this node leaves.
    pub(crate) fn abort(&mut self, cluster: &mut ClusterView) {
        self.asked.abort(cluster);
    }

    /// Returns the owners with an undecided update older than [`OVERDUE_AFTER`].
    pub(crate) fn overdue(&self, now: Timestamp, cluster: &ClusterView) -> PeerSet {
        self.asked.overdue(now, OVERDUE_AFTER, cluster)
    }

    /// Returns the number of updates that local callers wait for.
    pub(crate) fn len(&self) -> usize {
        self.asked.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.asked.is_full()
    }
}

impl Update {
    /// Converts the times in it from the asker's clock to this node's.
    pub(crate) fn rebase(&mut self, now: Timestamp) {
        rebase_fragment(&mut self.fragment, self.sent_at, now);
        if let Operation::Create(record) = &mut self.order {
            rebase_record(record, self.sent_at, now);
        }
    }

    /// Returns the entries that all holders are to merge.
    fn copies(
        &self,
        now: Timestamp,
        current: &Arc<Record>,
        owner: &ClusterView,
        rotations: &mut Rotations,
    ) -> Arc<[KeyedEntry]> {
        let entry = match &self.order {
            Operation::Update => Entry::Delta(self.change(now, current, owner, rotations)),
            Operation::Create(_) => Entry::Live(current.clone()),
            Operation::Delete => Entry::tombstone(now, current),
        };
        let key = self.key;
        [KeyedEntry { key, entry }].into()
    }

    /// Returns the delta to apply: with the new credential if this is a rotation, and with new
    /// versions if the old ones are not later than a removal, because then the writes would count
    /// as removed. The version that names the attempt stays.
    fn change(
        &self,
        now: Timestamp,
        current: &Record,
        owner: &ClusterView,
        rotations: &mut Rotations,
    ) -> Arc<Delta> {
        let removal = current.last_removal();
        let entries = &self.fragment.entries;
        let is_old = entries.iter().any(|r| Some(r.version) <= removal) && owner.rules.restamping;
        if self.rotation.is_none() && !is_old {
            return self.fragment.clone();
        }
        let writer = owner.me.writer();
        let mut fragment = Delta::clone(&self.fragment);
        if let (Some(rotation), Some(attempt)) = (&self.rotation, self.fragment.updates.first()) {
            let which = (self.key, *attempt);
            fragment.credential = Some(rotations.order(now, which, rotation, current, writer));
        }
        if is_old {
            let version = Version::next(current.clock(), now, writer);
            for register in &mut fragment.entries {
                register.version = version;
            }
        }
        Arc::new(fragment)
    }

    /// Returns what is here of a session to which the update was applied before.
    fn known(&self, now: Timestamp, table: &Table) -> Arc<[KeyedEntry]> {
        table.copy(now, &self.key).into_iter().collect()
    }

    /// Returns the session after the update. It may have expired.
    fn outcome(&self, now: Timestamp, table: &Table) -> Option<KeyedEntry> {
        match table.record(&self.key) {
            Some(record) => Some(KeyedEntry {
                key: self.key,
                entry: Entry::Live(record),
            }),
            None => table.copy(now, &self.key),
        }
    }
}

/// Updates of one session that may wait at its owner.
const QUEUE_MAX: usize = 1_024;

/// An owner that has not decided for this long is asked for its view.
const OVERDUE_AFTER: Duration = Duration::from_millis(200);
