//! Reads that this node cannot answer from its own memory.
//!
//! The members to ask depend on the state of this node:
//!
//! - A holder that is not complete asks every member that it has not yet compared itself with,
//!   merges the responses, and then answers. Answering earlier could miss an acknowledged write.
//! - A holder where the session has expired asks the other holders first, also while it remembers
//!   the key of an expired session that it has forgotten: they may have received a later access.
//! - A holder asked with a secret other than its session's asks the owner, which has every
//!   rotation.
//! - A member that does not hold the session asks the owner, or all members while the owner is not
//!   complete, and keeps nothing of the responses. If the owner has no live session, the read
//!   is repeated at all holders (`ask_all`), since one may have a later access.
//!
//! A response counts once, and only in the view in which the request was sent. After a change of
//! the view the requests are sent again, since other members may hold the session now.
//!
//! This module does not merge: the caller does that before it passes a response in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::session::{Root, SecretHash, Timestamp};

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::event::Reply;
use crate::cluster::replica::message::{Message, OpId};
use crate::cluster::replica::op_id::is_internal;
use crate::cluster::replica::peer_table::{PeerIndex, PeerSet};
use crate::cluster::replica::placement::MemberRef;

/// A session to read, and the secret that the request presents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) key: Root,
    pub(crate) secret: Option<SecretHash>,
}

/// Reads in flight.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    open: BTreeMap<OpId, InFlightRead>,
    /// Reads that a response has completed.
    complete: Vec<OpId>,
    /// The members that this node had compared itself with when all reads were last checked.
    compared: PeerSet,
    /// Requests that a member did not accept because too many wait there. They are made again.
    refused: BTreeSet<(OpId, PeerIndex)>,
    /// Whether all reads have to be checked because the view has changed.
    changed: bool,
}

#[derive(Debug)]
struct InFlightRead {
    wanted: Wanted,
    /// Whether this node holds the session, so that responses are merged into its table.
    mine: bool,
    /// Whether to ask all other holders, even those that this node has compared itself with.
    ask_all: bool,
    /// Members that have not answered in this view.
    waiting: PeerSet,
    /// The merged responses, if this node does not hold the session.
    found: Option<Entry>,
    begun_at: Timestamp,
}

/// A read for which all required responses have arrived.
#[derive(Debug)]
pub(crate) struct FinishedRead {
    pub(crate) op: OpId,
    pub(crate) wanted: Wanted,
    /// Whether the result is in the table; otherwise it is in `found`.
    pub(crate) mine: bool,
    /// Whether all members that may have the session were asked.
    pub(crate) ask_all: bool,
    pub(crate) found: Option<Entry>,
}

impl InFlightRead {
    fn new(now: Timestamp, wanted: Wanted, ask_all: bool) -> Self {
        Self {
            wanted,
            mine: true,
            ask_all,
            waiting: PeerSet::default(),
            found: None,
            begun_at: now,
        }
    }

    /// Determines the members to ask in this view, and asks them.
    fn place(&mut self, op: OpId, cluster: &mut ClusterView) {
        let slot = self.wanted.key.slot();
        self.mine = cluster.is_local(slot);
        self.found = None;
        self.waiting = match cluster.owner(slot) {
            // A source is asked although it holds nothing in this view: it may have been the only
            // holder that has recorded the last access.
            _ if self.mine && self.ask_all => cluster.holders(slot).peers.union(cluster.sources()),
            // The owner decides whether the secret is current, if this node has another one.
            MemberRef::Peer(owner) if self.mine && self.wanted.secret.is_some() => {
                cluster.sources().union(PeerSet::of(owner))
            }
            _ if self.mine => cluster.sources(),
            MemberRef::Peer(owner)
                if !self.ask_all && cluster.has_caught_up(owner)
                    || !cluster.rules.union_reads() =>
            {
                PeerSet::of(owner)
            }
            // Only when all members are complete are the holders enough: until then any other
            // member may be the last one that has the session.
            _ if self.ask_all && cluster.is_settled() => cluster.holders(slot).peers,
            MemberRef::Peer(_) | MemberRef::Me => cluster.peers(),
        };
        self.ask(op, self.waiting, cluster);
    }

    fn ask(&self, op: OpId, peers: PeerSet, cluster: &mut ClusterView) {
        for peer in peers.iter() {
            let view = cluster.view;
            let Wanted { key, secret } = self.wanted;
            let question = Message::Get {
                view,
                op,
                key,
                secret,
            };
            cluster.send(peer, question);
        }
    }

    fn is_finished(&self, cluster: &ClusterView) -> bool {
        if self.mine && !self.ask_all {
            let confirms = match cluster.owner(self.wanted.key.slot()) {
                MemberRef::Peer(owner) if self.wanted.secret.is_some() => PeerSet::of(owner),
                MemberRef::Peer(_) | MemberRef::Me => PeerSet::default(),
            };
            // A member that this node has compared itself with meanwhile need not answer any more:
            // everything that it had is in the table.
            let needed = cluster.sources().union(confirms);
            self.waiting.and(needed).is_empty()
        } else {
            // A comparison is not enough: an access that a member has recorded since may have been
            // lost on its way here.
            self.waiting.is_empty()
        }
    }
}

impl Reads {
    /// Sends requests to the members that may have the session.
    pub(crate) fn begin(
        &mut self,
        now: Timestamp,
        cluster: &mut ClusterView,
        op: OpId,
        wanted: Wanted,
        ask_all: bool,
    ) {
        let mut open = InFlightRead::new(now, wanted, ask_all);
        open.place(op, cluster);
        if open.is_finished(cluster) {
            self.complete.push(op);
        }
        self.open.insert(op, open);
    }

    /// Handles a member that does not answer because too many requests wait there. A caller is
    /// answered; a read of this node itself, which has no timeout, is tried again.
    pub(crate) fn refused(&mut self, peer: PeerIndex, op: OpId, cluster: &mut ClusterView) {
        let is_waiting = |open: &InFlightRead| open.waiting.contains(peer);
        if !self.open.get(&op).is_some_and(is_waiting) {
            return;
        }
        if is_internal(op) {
            self.refused.insert((op, peer));
            return;
        }
        self.open.remove(&op);
        cluster.reply(op, Reply::Unavailable);
    }

    /// Called when requests to `peer` or its responses may be lost: asks it again.
    pub(crate) fn ask_again(&self, peer: PeerIndex, cluster: &mut ClusterView) {
        for (op, open) in &self.open {
            if open.waiting.contains(peer) {
                open.ask(*op, PeerSet::of(peer), cluster);
            }
        }
    }

    pub(crate) fn is_open(&self, op: OpId) -> bool {
        self.open.contains_key(&op)
    }

    /// Returns `true` if the read waits for an answer of this member.
    pub(crate) fn waits_for(&self, peer: PeerIndex, op: OpId) -> bool {
        let open = self.open.get(&op);
        open.is_some_and(|open| open.waiting.contains(peer))
    }

    /// Handles a response. If this node holds the session, the caller has already merged the
    /// response.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        peer: PeerIndex,
        op: OpId,
        entry: Option<Entry>,
        cluster: &ClusterView,
    ) {
        if let Some(open) = self.open.get_mut(&op) {
            open.waiting.remove(peer);
            if !open.mine {
                Entry::join(now, &mut open.found, entry);
            }
            if open.is_finished(cluster) {
                self.complete.push(op);
            }
        }
    }

    /// Called when a new view is installed: discards earlier responses and asks again.
    pub(crate) fn install(&mut self, cluster: &mut ClusterView) {
        // Updates begin their internal reads again themselves.
        self.open.retain(|op, _| !is_internal(*op));
        self.complete.clear();
        self.refused.clear();
        self.changed = true;
        for (op, open) in &mut self.open {
            open.place(*op, cluster);
        }
    }

    /// Makes refused requests again, and fails the reads that have taken longer than `timeout`,
    /// except while a large response makes progress. Returns `true` if there were any.
    pub(crate) fn tick(&mut self, timeout: Duration, cluster: &mut ClusterView) -> bool {
        for (op, peer) in std::mem::take(&mut self.refused) {
            if let Some(open) = self.open.get(&op)
                && open.waiting.contains(peer)
            {
                open.ask(op, PeerSet::of(peer), cluster);
            }
        }
        let is_late = |open: &InFlightRead| cluster.is_late(open.begun_at, timeout, open.waiting);
        let expired: Vec<_> = self
            .open
            .iter()
            .filter(|(op, open)| !is_internal(**op) && is_late(open))
            .map(|(op, _)| *op)
            .collect();
        for op in &expired {
            self.open.remove(op);
            cluster.reply(*op, Reply::Unavailable);
        }
        !expired.is_empty()
    }

    /// Removes and returns the reads for which all required responses have arrived.
    pub(crate) fn finished(&mut self, cluster: &ClusterView) -> Vec<FinishedRead> {
        let compared = std::mem::replace(&mut self.compared, cluster.done);
        let mut done = std::mem::take(&mut self.complete);
        // Not at every message: with ten thousand open reads, each response would take more than a
        // tenth of a millisecond.
        if std::mem::take(&mut self.changed) || compared != cluster.done {
            let finished =
                |(op, open): (&OpId, &InFlightRead)| open.is_finished(cluster).then_some(*op);
            done = self.open.iter().filter_map(finished).collect();
        }
        let take = |op: OpId| {
            let open = self.open.remove(&op)?;
            Some(FinishedRead {
                op,
                wanted: open.wanted,
                mine: open.mine,
                ask_all: open.ask_all,
                found: open.found,
            })
        };
        done.into_iter().filter_map(take).collect()
    }

    /// Fails all reads: this node does not serve any more.
    pub(crate) fn abort(&mut self, cluster: &mut ClusterView) {
        for op in std::mem::take(&mut self.open).into_keys() {
            if !is_internal(op) {
                cluster.reply(op, Reply::Unavailable);
            }
        }
    }

    /// Returns the members with an unanswered request older than [`OVERDUE_AFTER`].
    pub(crate) fn overdue(&self, now: Timestamp) -> PeerSet {
        let is_overdue = |open: &&InFlightRead| now.since(open.begun_at) >= OVERDUE_AFTER;
        let overdue = self.open.values().filter(is_overdue);
        overdue.fold(PeerSet::default(), |all, open| all.union(open.waiting))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open.len() >= READS_MAX
    }
}

/// Most open reads; further ones are refused.
const READS_MAX: usize = 16_384;

/// A member with a request unanswered for this long is asked for its view.
const OVERDUE_AFTER: Duration = Duration::from_millis(200);
