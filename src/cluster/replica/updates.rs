//! Atomic updates: read, compute, write, with nothing in between.
//!
//! The asker computes the new value and names the write that it has read. The session's *owner*,
//! the first in the order of rendezvous hashing, takes one update of a session at a time: it checks
//! the expectation, has every other holder merge the result *in its own view*, and only then
//! applies it here and says so. A holder in another view refuses, and a change of the view makes
//! the owner give up; so two owners can never both succeed unless the members disagree for longer
//! than failure detection takes. The asker then asks the new owner, under the same stamp: one that
//! was applied after all is recognised, because a session remembers the stamps of its last updates.
//!
//! A refusal counts as well: a change or a birth of which an asker has heard that it was refused is
//! not applied later ([`refusals`]), and an asker takes a refusal from the present owner only. An end
//! that was refused may be tried again: what is wanted gone may always go.
//!
//! A member that does not hold a session has all its changes ordered in this way, births and ends
//! included: the owner knows whether the session is still there, and sends back what it has become.

mod asked;
mod judgement;
mod refusals;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Ack;
use crate::session::{Record, Root, Stamp, Timestamp};

use super::entry::{Entry, Fragment, rebase_fragment, rebase_record};
use super::floors::Floors;
use super::message::{Copy, Message, OpId, Order, Update, Verdict};
use super::placement::Member;
use super::reads::{INTERNAL, Reads, Wanted};
use super::roster::{PeerIndex, PeerSet};
use super::standing::Standing;
use super::table::Table;
use super::writes::{NewWrite, Writes};

pub(crate) use asked::Call;
use asked::{Asked, Which};
use judgement::{is_behind, judge};
use refusals::Refusals;

/// Atomic updates under way, asked by this node and ordered by it.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    /// What this node has asked for.
    asked: Asked,
    /// What this node orders, by session. The first of each queue is under way.
    jobs: BTreeMap<Root, VecDeque<Job>>,
    /// Which session a write of this node's own orders belongs to.
    writing: BTreeMap<u64, Root>,
    /// Numbers the reads that jobs wait for.
    reads: BTreeMap<OpId, Root>,
    last_read: OpId,
    /// What this node has refused to others.
    refusals: Refusals,
}

/// An update that this node orders.
#[derive(Debug)]
struct Job {
    /// `None`: a local caller.
    asker: Option<PeerIndex>,
    update: Update,
    /// What all holders are to merge, once that is decided.
    copies: Arc<[Copy]>,
    /// The session that it is applied to: it may be swept here meanwhile.
    current: Option<Arc<Record>>,
    /// Whether that had run out when its turn came. It is buried all the same, when it is to end:
    /// word of a use may be under way to somebody.
    ran_out: bool,
}

/// What an owner needs besides its own queues.
#[derive(Debug)]
pub(crate) struct Tools<'a> {
    pub(crate) standing: &'a mut Standing,
    pub(crate) writes: &'a mut Writes,
    pub(crate) reads: &'a mut Reads,
    pub(crate) floors: &'a mut Floors,
    pub(crate) table: &'a Table,
}

impl Updates {
    /// Asks the owner to apply the changes, if the attribute that they expect was not written since.
    pub(crate) fn begin(&mut self, now: Timestamp, call: Call<'_>, tools: &mut Tools<'_>) {
        if let Some(update) = self.asked.begin(now, call, tools.standing) {
            self.order(now, None, update, tools);
        }
    }

    /// A member, or a local caller, asks this node as the owner.
    pub(crate) fn order(
        &mut self,
        now: Timestamp,
        asker: Option<PeerIndex>,
        update: Update,
        tools: &mut Tools<'_>,
    ) {
        let standing = &*tools.standing;
        let key = update.key;
        let queue = self.jobs.get(&key);
        let waiting = queue.map_or(0, VecDeque::len);
        let known = |job: &Job| job.asker == asker && job.update.op == update.op;
        if queue.is_some_and(|queue| queue.iter().any(known)) {
            return;
        }
        let mine = standing.owner(update.key.slot()) == Member::Me;
        // A newcomer looks around before it decides, and need not have everything yet.
        let invited = || standing.is_stable() && standing.roster.iter().any(|(_, peer)| peer.ready);
        let orders = standing.ready || invited();
        if !mine || !orders || update.view != standing.view || waiting >= QUEUE_MAX {
            self.answer(now, asker, update.op, Verdict::Again, None, tools);
            return;
        }
        let job = Job {
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

    /// Takes up the first update of a session, and the next when that needs no waiting. What its
    /// turn has come to may need a look at other members first.
    fn start(&mut self, now: Timestamp, key: Root, tools: &mut Tools<'_>) {
        while let Some(job) = self.jobs.get(&key).and_then(VecDeque::front) {
            let doubtful = tools.table.is_doubtful(now, &job.update.key)
                || is_behind(&job.update, tools.table);
            if !tools.standing.is_complete() || doubtful {
                self.last_read += 1;
                let op = self.last_read | INTERNAL;
                self.reads.insert(op, key);
                let Tools {
                    standing, reads, ..
                } = tools;
                let wanted = Wanted { key, secret: None };
                return reads.begin(now, standing, op, wanted, doubtful);
            }
            if !self.evaluate(now, key, tools) {
                return;
            }
        }
    }

    /// Everything that others have of a session is merged here. Returns `true` if the read was one
    /// of the owner's own.
    pub(crate) fn read_done(&mut self, now: Timestamp, op: OpId, tools: &mut Tools<'_>) -> bool {
        if let Some(key) = self.reads.remove(&op)
            && self.evaluate(now, key, tools)
        {
            self.start(now, key, tools);
        }
        op & INTERNAL != 0
    }

    /// All other holders have merged this write: it is applied here now.
    pub(crate) fn written(&mut self, now: Timestamp, seq: u64, tools: &mut Tools<'_>) {
        if let Some(key) = self.writing.remove(&seq) {
            self.apply(now, key, tools);
            self.start(now, key, tools);
        }
    }

    /// Decides on the first update of a session. Returns `true` if it has ended.
    fn evaluate(&mut self, now: Timestamp, key: Root, tools: &mut Tools<'_>) -> bool {
        let Some(job) = self.jobs.get_mut(&key).and_then(VecDeque::front_mut) else {
            return false;
        };
        let certain = tools.standing.uncertain_until() <= now;
        if !tools.standing.rules.expectations {
            job.update.expect = None;
        }
        let refused = self.refusals.of(job.update.fragment.updates.first());
        let judged = judge(now, &job.update, certain, tools.table);
        // What was refused stays refused, unless another owner has applied it in between.
        match judged.and_then(|current| refused.map_or(Ok(current), Err)) {
            Ok(current) => {
                job.copies = job.update.copies(now, &current, tools.standing);
                job.ran_out = !current.is_live(now);
                job.current = Some(current);
            }
            // Who applied it may have died before everybody had it.
            Err(Verdict::Applied) => job.copies = job.update.known(now, tools.table),
            Err(verdict) => {
                let conflict = verdict == Verdict::Conflict;
                let copy = conflict
                    .then(|| job.update.outcome(now, tools.table))
                    .flatten();
                self.finish(now, key, verdict, copy, tools);
                return true;
            }
        }
        let Tools {
            standing, writes, ..
        } = tools;
        let copies = job.copies.clone();
        // What was applied before may have run out since: then there is nothing to hand on.
        let write = NewWrite {
            op: None,
            ack: Ack::All,
            min_copies: match job.update.order {
                Order::End => 0,
                Order::Create(_) | Order::Change => standing.min_copies,
            },
            strict: true,
            copies,
        };
        let write = (!write.copies.is_empty())
            .then(|| writes.begin(now, standing, write))
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

    fn apply(&mut self, now: Timestamp, key: Root, tools: &mut Tools<'_>) {
        if let Some(job) = self.jobs.get(&key).and_then(VecDeque::front) {
            if let Some(current) = &job.current
                && tools.table.is_partial_or_absent(&job.update.key)
            {
                let mut record = Record::clone(current);
                if job.update.order == Order::Change {
                    // It has run out meanwhile, unless this counts as a use. The fragment has no
                    // credential, so it cannot fork.
                    let _ = job.update.fragment.apply(&mut record);
                }
                let copy = Copy {
                    key: job.update.key,
                    entry: Entry::Live(record.into()),
                };
                tools.table.merge(now, &copy);
            }
            for copy in job.copies.iter() {
                tools.table.merge(now, copy);
            }
            let copies = job.copies.clone();
            // Whoever holds the whole session has merged it as well.
            let holds = |peer| {
                let slot = job.update.key.slot();
                tools.standing.placement.holds(slot, Member::Peer(peer))
                    && tools.standing.has_caught_up(peer)
            };
            let copy = match job.asker {
                Some(peer) if holds(peer) => None,
                Some(_) | None => job.update.outcome(now, tools.table),
            };
            let verdict = match job.update.order {
                Order::End if job.ran_out => Verdict::Gone,
                Order::Create(_) | Order::Change | Order::End => Verdict::Applied,
            };
            self.finish(now, key, verdict, copy, tools);
            let (standing, writes) = (&mut *tools.standing, &mut *tools.writes);
            tools
                .floors
                .merged(now, &copies, standing, writes, tools.table);
        }
    }

    fn finish(
        &mut self,
        now: Timestamp,
        key: Root,
        verdict: Verdict,
        copy: Option<Copy>,
        tools: &mut Tools<'_>,
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
                Verdict::Conflict
                    | Verdict::Superseded
                    | Verdict::Gone
                    | Verdict::Full
                    | Verdict::TooLarge
            );
            // A local caller hears of it at once; and what is wanted gone may always go.
            if refused
                && job.asker.is_some()
                && job.update.order != Order::End
                && let Some(attempt) = job.update.fragment.updates.first()
            {
                self.refusals.note(now, *attempt, verdict);
            }
            self.answer(now, job.asker, job.update.op, verdict, copy, tools);
        }
    }

    fn answer(
        &mut self,
        now: Timestamp,
        asker: Option<PeerIndex>,
        op: OpId,
        verdict: Verdict,
        copy: Option<Copy>,
        tools: &mut Tools<'_>,
    ) {
        match asker {
            Some(peer) => {
                let message = Message::Updated {
                    op,
                    sent_at: now,
                    verdict,
                    copy,
                };
                tools.standing.send(peer, message);
            }
            None => {
                let answer = (op, verdict, copy);
                self.asked
                    .answered(now, Member::Me, answer, tools.standing, tools.table);
            }
        }
    }

    /// A verdict on an update that a local caller waits for, with the session where this node does
    /// not hold it.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        from: Member,
        answer: (OpId, Verdict, Option<Copy>),
        standing: &mut Standing,
        table: &Table,
    ) {
        self.asked.answered(now, from, answer, standing, table);
    }

    /// The session that a change is under way of, as it was when its turn came.
    pub(crate) fn changing(&self, key: &Root) -> Option<&Arc<Record>> {
        let job = self.jobs.get(key)?.front()?;
        let changes = job.update.order == Order::Change;
        job.current.as_ref().filter(|_| changes)
    }

    /// The view has changed: what is under way is given up, and asked of the new owner.
    pub(crate) fn install(&mut self, now: Timestamp, tools: &mut Tools<'_>) {
        self.jobs.clear();
        self.writing.clear();
        self.reads.clear();
        self.repeat(now, Which::All, tools);
    }

    /// Asks again what could not be decided, and gives up what has taken too long. Returns `true`
    /// if something was given up.
    pub(crate) fn tick(
        &mut self,
        now: Timestamp,
        timeout: Duration,
        tools: &mut Tools<'_>,
    ) -> bool {
        let late = self.asked.give_up(now, timeout, tools.standing);
        self.refusals.forget(now, timeout);
        self.repeat(now, Which::Postponed, tools);
        late
    }

    /// Questions to an owner, or its answers, may be lost: asks it again.
    pub(crate) fn ask_again(&mut self, now: Timestamp, owner: PeerIndex, tools: &mut Tools<'_>) {
        self.repeat(now, Which::OwnedBy(owner), tools);
    }

    fn repeat(&mut self, now: Timestamp, which: Which, tools: &mut Tools<'_>) {
        for update in self.asked.repeat(now, which, tools.standing) {
            self.order(now, None, update, tools);
        }
    }

    /// Returns `true` if a local caller still waits for this one.
    pub(crate) fn is_open(&self, op: OpId) -> bool {
        self.asked.is_open(op)
    }

    /// Gives up everything: this node leaves.
    pub(crate) fn abort(&mut self, standing: &mut Standing) {
        self.asked.abort(standing);
    }

    /// The owners whose verdict was asked for a while ago.
    pub(crate) fn overdue(&self, now: Timestamp, standing: &Standing) -> PeerSet {
        self.asked.overdue(now, OVERDUE_AFTER, standing)
    }

    /// Updates that a local caller waits for.
    pub(crate) fn len(&self) -> usize {
        self.asked.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.asked.is_full()
    }
}

impl Update {
    /// Moves the points in time inside from the asker's clock to this node's.
    pub(crate) fn rebase(&mut self, now: Timestamp) {
        rebase_fragment(&mut self.fragment, self.sent_at, now);
        if let Order::Create(record) = &mut self.order {
            rebase_record(record, self.sent_at, now);
        }
    }

    /// What all holders are to merge.
    fn copies(&self, now: Timestamp, current: &Arc<Record>, owner: &Standing) -> Arc<[Copy]> {
        let entry = match &self.order {
            Order::Change => Entry::Fragment(self.change(now, current, owner)),
            Order::Create(_) => Entry::Live(current.clone()),
            Order::End => Entry::tombstone(now, current),
        };
        let key = self.key;
        [Copy { key, entry }].into()
    }

    /// The fragment, with the new credential that the owner gives the session in a rotation, and
    /// with new stamps if it could be taken for something that was removed before. The stamp that
    /// names the attempt stays.
    fn change(&self, now: Timestamp, current: &Record, owner: &Standing) -> Arc<Fragment> {
        let removal = current.last_removal();
        let registers = &self.fragment.registers;
        let is_old = registers.iter().any(|r| Some(r.stamp) <= removal) && owner.rules.restamping;
        if self.rotation.is_none() && !is_old {
            return self.fragment.clone();
        }
        let version = Stamp::after(current.clock(), now, owner.me.writer());
        let mut fragment = Fragment::clone(&self.fragment);
        if let Some(rotation) = self.rotation {
            let (secret, login) = (rotation.to, rotation.login);
            let credential = current.credential.rotated(secret, login, version, now);
            fragment.credential = Some(credential);
        }
        if is_old {
            for register in &mut fragment.registers {
                register.stamp = version;
            }
        }
        Arc::new(fragment)
    }

    /// What is here of a session to which it was applied before.
    fn known(&self, now: Timestamp, table: &Table) -> Arc<[Copy]> {
        table.copy(now, &self.key).into_iter().collect()
    }

    /// What the session has become here. It may have expired.
    fn outcome(&self, now: Timestamp, table: &Table) -> Option<Copy> {
        match table.record(&self.key) {
            Some(record) => Some(Copy {
                key: self.key,
                entry: Entry::Live(record),
            }),
            None => table.copy(now, &self.key),
        }
    }
}

/// Updates of one session that wait for their turn at its owner.
const QUEUE_MAX: usize = 1_024;

/// An owner that has not decided for this long is asked for its view.
const OVERDUE_AFTER: Duration = Duration::from_millis(200);
