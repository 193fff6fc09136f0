//! Anti-entropy: comparison with other members, and hand-over of sessions.
//!
//! Joining, leaving, healing and the periodic check all use one mechanism. This node sends the
//! digests of its slots to a member, the member names the slots in which it has something else, and
//! this node pulls the differences, slot by slot. It compares itself with one member after the
//! other, so what came from the first is not transferred again by the second. After the last member
//! this node is *complete*: it has everything that any member had when that member came into this
//! view.
//!
//! Only the slots that this node holds are compared. Sessions in other slots stay here as a source
//! for their holders. They do not change any more, and are dropped once every member of the view is
//! complete, because each holder has compared itself with this node by then. Dropping them earlier
//! would lose the last copy if the new holder had not pulled it yet.
//!
//! The node that lacks something asks, so the receiver sets the pace, with at most [`PULLS_MAX`]
//! requests open. Requests and responses pass through the windows of [`Flow`](super::flow::Flow)
//! and are not repeated on a timer. When the link to or from the source is new, or the source comes
//! into this view, the comparison starts over; what was already pulled stays.
//!
//! A member that comes and goes is a holder like any other. It changes the view each time, which
//! costs a comparison of digests and at most [`PULLS_MAX`] repeated requests; a hand-over to
//! another member goes on where it was. If it held no slots for a while, the sessions of a pair
//! would be on one node for that time. A member that others cannot reach is quarantined, which
//! gives them seconds without a change.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::session::{Root, Timestamp};

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::message::{KeyedEntry, KnownEntry, Message, SlotEntries, ViewId};
use crate::cluster::replica::peer_table::PeerIndex;
use crate::cluster::replica::placement::MemberRef;
use crate::cluster::replica::table::EntryTable;

/// The comparison that this node has under way, if any.
#[derive(Debug, Default)]
pub(crate) struct AntiEntropy {
    current: Option<Comparison>,
    /// Numbers comparisons, to recognize responses to an earlier one.
    round: u64,
    last_check: Timestamp,
    last_checked: PeerIndex,
}

#[derive(Debug)]
struct Comparison {
    source: PeerIndex,
    /// `None` until the source has named its differing slots.
    todo: Option<VecDeque<u16>>,
    /// Slots requested, and the key after which each request continues.
    pulls: BTreeMap<u16, Option<Root>>,
}

impl AntiEntropy {
    /// Called when a new view is installed: abandons the current comparison. What the source sent
    /// in the previous view does not show that this node has everything of the new one.
    pub(crate) fn install(&mut self) {
        self.current = None;
    }

    /// Starts a comparison with the next member if none is under way.
    pub(crate) fn advance(
        &mut self,
        now: Timestamp,
        cluster: &mut ClusterView,
        table: &EntryTable,
    ) {
        if self.current.is_none()
            && let Some(source) = self.next_source(now, cluster)
        {
            self.last_check = now;
            self.begin(source, cluster, table);
        }
    }

    /// Called when requests to `source` or its responses may be lost: compares with it from the
    /// start.
    pub(crate) fn restart(
        &mut self,
        source: PeerIndex,
        cluster: &mut ClusterView,
        table: &EntryTable,
    ) {
        if self.current.as_ref().is_some_and(|c| c.source == source) {
            self.begin(source, cluster, table);
        }
    }

    fn begin(&mut self, source: PeerIndex, cluster: &mut ClusterView, table: &EntryTable) {
        self.round += 1;
        self.current = Some(Comparison {
            source,
            todo: None,
            pulls: BTreeMap::new(),
        });
        let message = Message::Digests {
            view: cluster.view,
            round: self.round,
            digests: table.digests(|slot| cluster.is_local(slot)),
        };
        cluster.send(source, message);
    }

    /// Handles the list of slots in which a member has something else.
    pub(crate) fn differ(
        &mut self,
        from: PeerIndex,
        round: u64,
        slots: Vec<u16>,
        cluster: &mut ClusterView,
        table: &EntryTable,
    ) {
        if let Some(comparison) = self.answer_from(from, round)
            && comparison.todo.is_none()
        {
            comparison.todo = Some(slots.into());
            self.pull(cluster, table);
        }
    }

    /// Handles entries that were pulled and have been merged. `last` is the last key if there are
    /// more.
    pub(crate) fn pulled(
        &mut self,
        from: PeerIndex,
        round: u64,
        slot: u16,
        last: Option<Root>,
        cluster: &mut ClusterView,
        table: &EntryTable,
    ) {
        let Some(comparison) = self.answer_from(from, round) else {
            return;
        };
        let Some(after) = comparison.pulls.get(&slot) else {
            return;
        };
        match last {
            // A repeated response to an earlier request: the current one is still open.
            Some(last) if after.is_some_and(|after| last <= after) => return,
            Some(last) => {
                comparison.pulls.insert(slot, Some(last));
                let source = comparison.source;
                self.ask(source, slot, Some(last), cluster, table);
            }
            None => {
                comparison.pulls.remove(&slot);
            }
        }
        self.pull(cluster, table);
    }

    fn answer_from(&mut self, from: PeerIndex, round: u64) -> Option<&mut Comparison> {
        let current = round == self.round;
        self.current
            .as_mut()
            .filter(|comparison| current && comparison.source == from)
    }

    /// Returns the next member to compare with. Members that serve come first: a joining node gets
    /// everything from one of them.
    fn next_source(&mut self, now: Timestamp, cluster: &ClusterView) -> Option<PeerIndex> {
        let sources = cluster.sources();
        // A member in another view does not answer. The comparison with it would keep this node
        // from comparing itself with those that do.
        let agrees = |index: &PeerIndex| {
            cluster
                .peers
                .get(*index)
                .is_some_and(|peer| peer.view == Some(cluster.view))
        };
        let waits = |index: &PeerIndex| cluster.peers.get(*index).is_some_and(|peer| !peer.ready);
        if let Some(source) = sources.iter().filter(agrees).min_by_key(waits) {
            return Some(source);
        }
        // There is one comparison at a time: a check now would hold up those that this node needs
        // to be complete.
        if now.since(self.last_check) < CHECK_EVERY || !sources.is_empty() {
            return None;
        }
        let peers: Vec<_> = cluster.peers().iter().collect();
        let next = peers
            .iter()
            .find(|peer| **peer > self.last_checked)
            .or_else(|| peers.first())?;
        self.last_checked = *next;
        Some(*next)
    }

    /// Keeps [`PULLS_MAX`] requests open, and ends the comparison when nothing is left to pull.
    fn pull(&mut self, cluster: &mut ClusterView, table: &EntryTable) {
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
            // From now on reads do not ask this member, so nothing that it had may be missing here.
            cluster.done.insert(source);
            return;
        }
        for slot in next {
            self.ask(source, slot, None, cluster, table);
        }
    }

    fn ask(
        &self,
        source: PeerIndex,
        slot: u16,
        after: Option<Root>,
        cluster: &mut ClusterView,
        table: &EntryTable,
    ) {
        let message = Message::PullSlot {
            view: cluster.view,
            round: self.round,
            slot,
            after,
            known: table.versions(slot, after),
        };
        cluster.send(source, message);
    }
}

/// Responds to a member that asks in which of its slots this node has something else.
pub(crate) fn answer_compare(
    view: ViewId,
    round: u64,
    asker: PeerIndex,
    digests: &[(u16, u64)],
    cluster: &ClusterView,
    table: &EntryTable,
) -> Message {
    // Only slots that the asker holds: it does not merge others, and would pull them again in every
    // comparison.
    let theirs = |slot| cluster.placement.holds(slot, MemberRef::Peer(asker));
    Message::DigestDiff {
        view,
        round,
        slots: table.differing(digests, theirs),
    }
}

/// Responds to a member that pulls what it lacks of a slot.
pub(crate) fn answer_pull(
    now: Timestamp,
    view: ViewId,
    round: u64,
    slot: u16,
    after: Option<Root>,
    known: &[KnownEntry],
    table: &EntryTable,
) -> Message {
    let (entries, more): (Vec<KeyedEntry>, bool) =
        table.unknown(now, slot, after, known, PUSH_BYTES);
    Message::SlotEntries(SlotEntries {
        view,
        round,
        slot,
        sent_at: now,
        entries,
        more,
    })
}

/// Slots requested at the same time. Together, with [`PUSH_BYTES`] each, they are all that a write
/// or an acknowledgement may queue behind in the network's buffers: a write at the source takes at
/// most twice as long meanwhile (`benches/replication/join.rs`; a value 16 times as large made it
/// take 20 times as long). This is still 32 KB per round trip: a million sessions of 1 KB in about
/// ten seconds.
const PULLS_MAX: usize = 4;

/// Bytes of sessions in one response. A response has at least one session.
const PUSH_BYTES: usize = 8 * 1024;

/// Interval at which a complete node compares itself with one other member, as a safety net.
const CHECK_EVERY: Duration = Duration::from_secs(30);
