//! Floors of sessions: removed attributes are forgotten once every holder has seen their removal.
//!
//! A removed attribute leaves a mark in the [`Record`]; without it, an older copy would restore the
//! attribute. When a session has too many marks, its owner raises the record's floor, which drops
//! the older half of them. A write at or below the floor of an absent attribute counts as removed,
//! so the floor may only be raised where no such write of *another* attribute is missing on any
//! node:
//!
//! 1. The owner proposes a floor, the version of one of the marks, with a hash of the names and
//!    versions that it has at or below it. A holder agrees if it has the same ones, and has no
//!    write of its own at or below the floor that another holder may lack. Because it has the mark
//!    as well, everything that it writes from then on has a version above the floor.
//! 2. When all holders have agreed in the view of the proposal, and the owner's hash is unchanged,
//!    the owner raises the floor here and on all holders, by a write that counts in this view only.
//!    A node that becomes a holder later has not agreed, and receives the floor with the session.
//!
//! One step is not enough: a holder that raised its floor immediately would drop what another one
//! had written before it received the proposal. The hash alone is not enough either: where a later
//! write of the same attribute has replaced one that is under way, the hash does not show the
//! earlier write, which would be dropped before the later one arrives. A holder therefore also
//! checks its own open writes. After the agreement neither the order in which holders raise their
//! floors matters, nor whether all of them do before the view changes: none of them writes below
//! the floor any more, and merging remains associative, commutative and idempotent with floors.
//!
//! Changes from members that do not hold the session take their versions from those members. The
//! owner, which orders them, assigns a new version if theirs is not later than the last removal
//! that it has, dropped or not: a holder may have a floor that the owner of a new view has not
//! merged yet.
//!
//! While members are missing that did not leave in order, marks are kept, since a missing member
//! may have writes of its own. If they take more than [`MARKS_BYTES_MAX`] the floor is raised
//! anyway, and what the other side loses by it is counted as discarded. The index of a user may
//! have [`INDEX_MARKS_BYTES_MAX`]: a session lost from it could not be ended together with the
//! user's other sessions, but an index without a limit could not be sent to other nodes any more.
//!
//! A failed proposal changes nothing: the owner proposes again when there are more marks, or after
//! [`AGAIN_AFTER`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::ack::Ack;
use crate::session::{Record, Root, Timestamp, Version};

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::delta::Delta;
use crate::cluster::replica::digest::content_below;
use crate::cluster::replica::entry::{Entry, marks_bytes};
use crate::cluster::replica::message::{KeyedEntry, Message, OpId, Proposal, Vote};
use crate::cluster::replica::peer_table::{PeerIndex, PeerSet};
use crate::cluster::replica::placement::MemberRef;
use crate::cluster::replica::table::EntryTable;
use crate::cluster::replica::writes::{NewWrite, Writes};

/// Floors that this node proposes, as the owner of sessions.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    ballots: BTreeMap<Root, Ballot>,
    /// Sessions with too many marks and no open proposal.
    due: BTreeMap<Root, Due>,
    /// Numbers the proposals.
    last: OpId,
}

/// An open proposal and the holders that have not voted.
#[derive(Debug)]
struct Ballot {
    proposal: Proposal,
    waiting: PeerSet,
    begun_at: Timestamp,
}

/// When to propose again: at this time, or with this many marks.
#[derive(Debug)]
struct Due {
    at: Timestamp,
    marks: usize,
}

impl Floors {
    /// Called when these changes were merged here: proposes a floor for sessions with too many
    /// marks.
    pub(crate) fn merged(
        &mut self,
        now: Timestamp,
        entries: &[KeyedEntry],
        cluster: &mut ClusterView,
        writes: &mut Writes,
        table: &EntryTable,
    ) {
        for keyed in entries.iter().filter(|keyed| has_marks(&keyed.entry)) {
            self.review(now, keyed.key, cluster, writes, table);
        }
    }

    /// Proposes a floor for a session that this node owns, if it has too many marks.
    fn review(
        &mut self,
        now: Timestamp,
        key: Root,
        cluster: &mut ClusterView,
        writes: &mut Writes,
        table: &EntryTable,
    ) {
        if cluster.owner(key.slot()) != MemberRef::Me || self.ballots.contains_key(&key) {
            return;
        }
        let record = table.record(&key);
        let marks = record.as_ref().map_or(0, |record| record.marks().count());
        let Some(record) = record.filter(|_| marks >= cluster.rules.marks()) else {
            self.due.remove(&key);
            return;
        };
        let is_early = |due: &Due| now < due.at && marks < due.marks;
        if self.due.get(&key).is_some_and(is_early) {
            return;
        }
        let more = cluster.rules.marks() / 2;
        if !is_time(&key, &record, cluster, table) || self.ballots.len() >= BALLOTS_MAX {
            return self.postpone(now.plus(CHECK_AFTER), key, marks + more);
        }
        let Some(floor) = next_floor(&record, marks - more) else {
            return;
        };
        self.last += 1;
        let proposal = Proposal {
            view: cluster.view,
            op: self.last,
            key,
            floor,
            content: content_below(floor, &key, &record),
        };
        if !may_agree(&record, &proposal, cluster, writes) {
            return self.postpone(now.plus(AGAIN_AFTER), key, marks + more);
        }
        let waiting = cluster.holders(key.slot()).peers;
        if waiting.is_empty() {
            return self.raise(now, &proposal, cluster, writes, table);
        }
        self.ballots.insert(
            key,
            Ballot {
                proposal,
                waiting,
                begun_at: now,
            },
        );
        for peer in waiting.iter() {
            cluster.send(peer, Message::Propose(proposal));
        }
    }

    /// Handles the vote of a holder.
    pub(crate) fn voted(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        vote: Vote,
        cluster: &mut ClusterView,
        writes: &mut Writes,
        table: &EntryTable,
    ) {
        let Vote { key, agrees, .. } = vote;
        // A late vote on an earlier proposal is about other content: its voter has not agreed to
        // this floor.
        let is_meant =
            |ballot: &&mut Ballot| ballot.proposal.op == vote.op && vote.view == cluster.view;
        let Some(ballot) = self.ballots.get_mut(&key).filter(is_meant) else {
            return;
        };
        ballot.waiting.remove(from);
        let proposal = ballot.proposal;
        if !agrees {
            self.abandon(now, key, cluster, table);
        } else if ballot.waiting.is_empty() {
            self.ballots.remove(&key);
            self.raise(now, &proposal, cluster, writes, table);
        }
    }

    /// Called when all holders agree: raises the floor here and on all holders.
    fn raise(
        &mut self,
        now: Timestamp,
        proposal: &Proposal,
        cluster: &mut ClusterView,
        writes: &mut Writes,
        table: &EntryTable,
    ) {
        let Proposal { key, floor, .. } = *proposal;
        let Some(record) = table.record(&key) else {
            return;
        };
        // A write that arrived since the proposal is not covered by the votes, and could be
        // dropped.
        if !has_content(&record, proposal, cluster) {
            return self.abandon(now, key, cluster, table);
        }
        self.due.remove(&key);
        let entry = Entry::Delta(Delta::of_floor(floor, &record).into());
        let keyed = KeyedEntry { key, entry };
        table.merge(now, &keyed);
        let write = NewWrite {
            op: None,
            ack: Ack::All,
            min_copies: 0,
            // A node that becomes a holder in a later view has not agreed.
            strict: true,
            entries: [keyed].into(),
        };
        writes.begin(now, cluster, write);
    }

    /// Ends a proposal without result.
    fn abandon(&mut self, now: Timestamp, key: Root, cluster: &ClusterView, table: &EntryTable) {
        self.ballots.remove(&key);
        let marks = table
            .record(&key)
            .map_or(0, |record| record.marks().count());
        let more = cluster.rules.marks() / 2;
        self.postpone(now.plus(AGAIN_AFTER), key, marks + more);
    }

    fn postpone(&mut self, at: Timestamp, key: Root, marks: usize) {
        if self.due.len() < DUE_MAX || self.due.contains_key(&key) {
            self.due.insert(key, Due { at, marks });
        }
    }

    /// Repeats proposals that are due, and gives up those that have timed out.
    pub(crate) fn tick(
        &mut self,
        now: Timestamp,
        cluster: &mut ClusterView,
        writes: &mut Writes,
        table: &EntryTable,
    ) {
        self.abandon_where(now, cluster, table, |ballot| {
            now.since(ballot.begun_at) >= VOTE_MAX
        });
        let is_due = |(key, due): (&Root, &Due)| (due.at <= now).then_some(*key);
        let due: Vec<_> = self.due.iter().filter_map(is_due).collect();
        for key in due {
            if cluster.owner(key.slot()) == MemberRef::Me {
                self.review(now, key, cluster, writes, table);
            } else {
                self.due.remove(&key);
            }
        }
    }

    /// Called when a new view is installed: gives up all proposals, whose voters may not be the
    /// holders any more.
    pub(crate) fn install(&mut self, now: Timestamp, cluster: &ClusterView, table: &EntryTable) {
        self.abandon_where(now, cluster, table, |_| true);
    }

    /// Called when proposals to a member or its votes may be lost.
    pub(crate) fn relinked(
        &mut self,
        now: Timestamp,
        peer: PeerIndex,
        cluster: &ClusterView,
        table: &EntryTable,
    ) {
        self.abandon_where(now, cluster, table, |ballot| ballot.waiting.contains(peer));
    }

    fn abandon_where(
        &mut self,
        now: Timestamp,
        cluster: &ClusterView,
        table: &EntryTable,
        is_over: impl Fn(&Ballot) -> bool,
    ) {
        let ballots = self.ballots.iter();
        let over: Vec<_> = ballots
            .filter(|(_, ballot)| is_over(ballot))
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            self.abandon(now, key, cluster, table);
        }
    }
}

/// Returns this holder's vote on a proposal.
pub(crate) fn vote(
    from: PeerIndex,
    proposal: &Proposal,
    cluster: &ClusterView,
    writes: &Writes,
    table: &EntryTable,
) -> Vote {
    let Proposal { view, op, key, .. } = *proposal;
    let slot = key.slot();
    let agrees = view == cluster.view
        && cluster.is_local(slot)
        && cluster.owner(slot) == MemberRef::Peer(from)
        && (cluster.is_complete() || !cluster.rules.equal_floors())
        && table.record(&key).is_some_and(|record| {
            may_lose(&record, table) && may_agree(&record, proposal, cluster, writes)
        });
    Vote {
        view: cluster.view,
        op,
        key,
        agrees,
    }
}

/// Returns `true` if the view is stable, all holders of the session are complete, and no member is
/// missing that may have other writes.
fn is_time(key: &Root, record: &Record, cluster: &ClusterView, table: &EntryTable) -> bool {
    let mut holders = cluster.holders(key.slot()).peers.iter();
    cluster.ready
        && cluster.is_stable()
        && cluster.is_complete()
        && holders.all(|peer| cluster.has_caught_up(peer))
        && may_lose(record, table)
}

/// Returns `true` if no member is missing, or the marks take so many bytes that this is accepted.
fn may_lose(record: &Record, table: &EntryTable) -> bool {
    let max = if record.is_index() {
        INDEX_MARKS_BYTES_MAX
    } else {
        MARKS_BYTES_MAX
    };
    !table.is_partitioned() || marks_bytes(record) > max
}

/// Returns `true` if, as far as this node can determine, no write at or below the floor is missing
/// on any node.
fn may_agree(record: &Record, proposal: &Proposal, cluster: &ClusterView, writes: &Writes) -> bool {
    let is_under_way = || writes.has_open(&proposal.key, proposal.floor);
    has_content(record, proposal, cluster) && (!cluster.rules.equal_floors() || !is_under_way())
}

fn has_content(record: &Record, proposal: &Proposal, cluster: &ClusterView) -> bool {
    let content = content_below(proposal.floor, &proposal.key, record);
    content == proposal.content || !cluster.rules.equal_floors()
}

fn has_marks(entry: &Entry) -> bool {
    match entry {
        Entry::Live(record) => record.marks().next().is_some(),
        Entry::Delta(delta) => delta.entries.iter().any(|r| r.is_mark()),
        Entry::Expired(_) | Entry::Tombstone { .. } => false,
    }
}

/// Returns the version at or below which the `oldest` marks are.
fn next_floor(record: &Record, oldest: usize) -> Option<Version> {
    let mut versions: Vec<_> = record.marks().map(|mark| mark.version).collect();
    versions.sort_unstable();
    versions.get(oldest.checked_sub(1)?).copied()
}

/// Bytes that marks may take in a session while members are missing.
pub(crate) const MARKS_BYTES_MAX: usize = 8 << 10;

/// The same for the index of a user: some 15,000 logins and logouts. With the live sessions of a
/// user these are fewer attributes than other nodes accept.
pub(crate) const INDEX_MARKS_BYTES_MAX: usize = 2 << 20;

/// Delay after a failed proposal before the next one, unless there are many more marks by then.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Delay before checking again whether the members are in a state for a proposal.
const CHECK_AFTER: Duration = Duration::from_secs(1);

/// How long holders may take to vote. Later votes do not count.
const VOTE_MAX: Duration = Duration::from_secs(10);

/// Proposals open at the same time, of about 150 bytes each. Further sessions wait their turn.
const BALLOTS_MAX: usize = 1_024;

/// Sessions that wait for another proposal. Further ones wait for their next removal.
const DUE_MAX: usize = 4_096;
