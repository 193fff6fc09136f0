//! How a node catches up, after joining, after a heal and for ever.
//!
//! One mechanism serves joining, leaving, healing and the perpetual check: this node sends a digest
//! of each of its slots to a member, the member names the slots in which it has something else, and
//! this node pulls what it lacks of those, slot by slot. One member after the other: what came from
//! the first need not come from the second. When all members of a view are done with, this node is
//! *complete*: it has everything that any of them had when it came into that view.
//!
//! All of this is about the slots that this node holds. What it still has of others is a source for
//! their holders and nothing else: it does not change any more, and is forgotten once every member
//! of a view is complete, because then each holder has compared itself with this node.
//!
//! The node that lacks something asks, so the pace is the receiver's, and at most [`PULLS_MAX`]
//! questions are open. Questions and answers pass through the windows of
//! [`Flow`](super::flow::Flow) and are not repeated on a timer; when the link to or from the source
//! is new, or the source comes into this view, the comparison begins anew. What was pulled stays.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::session::{Root, Timestamp};

use super::cluster_view::ClusterView;
use super::message::{KeyedEntry, Known, Message, ViewId};
use super::placement::Member;
use super::roster::PeerIndex;
use super::table::Table;

/// The comparison that this node has under way, if any.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    current: Option<Comparison>,
    /// Numbers comparisons, so that late answers are told from current ones.
    round: u64,
    last_check: Timestamp,
    last_checked: PeerIndex,
}

#[derive(Debug)]
struct Comparison {
    source: PeerIndex,
    /// `None` until the source has named its differing slots.
    todo: Option<VecDeque<u16>>,
    /// Slots asked for, and from which key on.
    pulls: BTreeMap<u16, Option<Root>>,
}

impl Repair {
    /// The view has changed: start over.
    pub(crate) fn install(&mut self) {
        self.current = None;
    }

    /// Goes on: begins with the next member when none is under way.
    pub(crate) fn advance(&mut self, now: Timestamp, standing: &mut ClusterView, table: &Table) {
        if self.current.is_none()
            && let Some(source) = self.next_source(now, standing)
        {
            self.last_check = now;
            self.begin(source, standing, table);
        }
    }

    /// Questions to a source, or its answers, may be lost: compares with it anew.
    pub(crate) fn restart(&mut self, source: PeerIndex, standing: &mut ClusterView, table: &Table) {
        if self.current.as_ref().is_some_and(|c| c.source == source) {
            self.begin(source, standing, table);
        }
    }

    fn begin(&mut self, source: PeerIndex, standing: &mut ClusterView, table: &Table) {
        self.round += 1;
        self.current = Some(Comparison {
            source,
            todo: None,
            pulls: BTreeMap::new(),
        });
        let message = Message::Digests {
            view: standing.view,
            round: self.round,
            digests: table.digests(|slot| standing.is_mine(slot)),
        };
        standing.send(source, message);
    }

    /// A member has named the slots in which it has something else.
    pub(crate) fn differ(
        &mut self,
        from: PeerIndex,
        round: u64,
        slots: Vec<u16>,
        standing: &mut ClusterView,
        table: &Table,
    ) {
        if let Some(comparison) = self.answer_from(from, round)
            && comparison.todo.is_none()
        {
            comparison.todo = Some(slots.into());
            self.pull(standing, table);
        }
    }

    /// Copies that were asked for have been merged.
    pub(crate) fn pushed(
        &mut self,
        from: PeerIndex,
        (round, slot): (u64, u16),
        last: Option<Root>,
        standing: &mut ClusterView,
        table: &Table,
    ) {
        let Some(comparison) = self.answer_from(from, round) else {
            return;
        };
        let Some(after) = comparison.pulls.get(&slot) else {
            return;
        };
        match last {
            // A repeated answer to an earlier question: the current one is still open.
            Some(last) if after.is_some_and(|after| last <= after) => return,
            Some(last) => {
                comparison.pulls.insert(slot, Some(last));
                let source = comparison.source;
                self.ask(source, slot, Some(last), standing, table);
            }
            None => {
                comparison.pulls.remove(&slot);
            }
        }
        self.pull(standing, table);
    }

    fn answer_from(&mut self, from: PeerIndex, round: u64) -> Option<&mut Comparison> {
        let current = round == self.round;
        self.current
            .as_mut()
            .filter(|comparison| current && comparison.source == from)
    }

    /// Members that serve come first: a joining node gets everything from one of them.
    fn next_source(&mut self, now: Timestamp, standing: &ClusterView) -> Option<PeerIndex> {
        let sources = standing.sources();
        let agrees = |index: &PeerIndex| {
            standing
                .roster
                .get(*index)
                .is_some_and(|peer| peer.view == Some(standing.view))
        };
        let serves =
            |index: &PeerIndex| standing.roster.get(*index).is_some_and(|peer| !peer.ready);
        if let Some(source) = sources.iter().filter(agrees).min_by_key(serves) {
            return Some(source);
        }
        if now.since(self.last_check) < CHECK_EVERY || !sources.is_empty() {
            return None;
        }
        let peers: Vec<_> = standing.peers().iter().collect();
        let next = peers
            .iter()
            .find(|peer| **peer > self.last_checked)
            .or_else(|| peers.first())?;
        self.last_checked = *next;
        Some(*next)
    }

    /// Keeps [`PULLS_MAX`] questions open; ends the comparison when there is nothing left to ask.
    fn pull(&mut self, standing: &mut ClusterView, table: &Table) {
        let Some(comparison) = &mut self.current else {
            return;
        };
        let Some(todo) = &mut comparison.todo else {
            return;
        };
        let source = comparison.source;
        let mut next = Vec::new();
        while comparison.pulls.len() < PULLS_MAX
            && let Some(slot) = todo.pop_front()
        {
            comparison.pulls.insert(slot, None);
            next.push(slot);
        }
        if comparison.pulls.is_empty() {
            self.current = None;
            standing.done.insert(source);
            return;
        }
        for slot in next {
            self.ask(source, slot, None, standing, table);
        }
    }

    fn ask(
        &self,
        source: PeerIndex,
        slot: u16,
        after: Option<Root>,
        standing: &mut ClusterView,
        table: &Table,
    ) {
        let message = Message::PullSlot {
            view: standing.view,
            round: self.round,
            slot,
            after,
            known: table.versions(slot, after),
        };
        standing.send(source, message);
    }
}

/// Answers a member that asks in which of its slots this node has something else.
pub(crate) fn answer_compare(
    (view, round): (ViewId, u64),
    asker: PeerIndex,
    digests: &[(u16, u64)],
    standing: &ClusterView,
    table: &Table,
) -> Message {
    let theirs = |slot| standing.placement.holds(slot, Member::Peer(asker));
    Message::DigestDiff {
        view,
        round,
        slots: table.differing(digests, theirs),
    }
}

/// Answers a member that asks for what it lacks of a slot.
pub(crate) fn answer_pull(
    now: Timestamp,
    (view, round): (ViewId, u64),
    slot: u16,
    after: Option<Root>,
    known: &[Known],
    table: &Table,
) -> Message {
    let (copies, more): (Vec<KeyedEntry>, bool) =
        table.unknown(now, slot, after, known, PUSH_BYTES);
    Message::SlotEntries {
        view,
        round,
        slot,
        sent_at: now,
        copies,
        more,
    }
}

/// Slots asked for at the same time. With [`PUSH_BYTES`] each they are all that a change, or its
/// acknowledgement, may find before it in the buffers of the network: a write at the node that gives
/// takes at most twice as long meanwhile (`benches/replication.rs`; 16 times as much here made it
/// take 20 times as long). Still 32 KB a round trip: a million sessions of 1 KB in some ten seconds.
const PULLS_MAX: usize = 4;

/// Sessions sent in one answer, in bytes; at least one session.
const PUSH_BYTES: usize = 8 * 1024;

/// How often a complete node compares itself with one of the others, as a safety net.
const CHECK_EVERY: Duration = Duration::from_secs(30);
