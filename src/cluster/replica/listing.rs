//! Lists of the sessions of the whole cluster, where no node holds all of them.
//!
//! A list is in the order of slots, and the owner of a slot lists its sessions. For a page, a node
//! asks every other owner for the next sessions that it owns, in parallel. An owner looks at a
//! bounded number of slots, and responds with what it found and the place that it has come to. The
//! page has everything up to the nearest of these places, so each session appears in it once.
//!
//! Like a read, a request counts only in the view in which it was sent, since that decides who owns
//! a slot, and only members that are complete in it are asked: they have everything that the
//! members of the view had. After a change of the view the requests are sent again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::StoreErrorKind;
use crate::session::{ListPart, Root, SLOTS, Scope, SessionPage, Timestamp};

use crate::cluster::replica::Replica;
use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::event::{Progress, Reply};
use crate::cluster::replica::message::{
    LIST_KINDS, ListRequest, ListResponse, Message, OpId, ViewId,
};
use crate::cluster::replica::peer_table::{PeerIndex, PeerSet};
use crate::cluster::replica::placement::MemberRef;
use crate::cluster::replica::rebase::rebased;

/// Requests for lists in flight.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    open: BTreeMap<OpId, InFlightList>,
}

#[derive(Debug)]
struct InFlightList {
    after: Option<Root>,
    limit: usize,
    /// Owners that are asked when they are complete in this view.
    due: PeerSet,
    /// Owners that have not answered in this view.
    waiting: PeerSet,
    /// The answers in this view.
    parts: Vec<ListPart>,
    begun_at: Timestamp,
}

impl InFlightList {
    /// Determines the owners to ask in this view, and discards the answers of an earlier one.
    fn place(&mut self, cluster: &ClusterView) {
        // Those that have answered are asked again: a slot may have moved to one of them from an
        // owner that has not, and its sessions would be in none of the parts.
        self.due = cluster.placement.owners();
        self.waiting = PeerSet::default();
        self.parts.clear();
    }

    /// Asks the owners that have become complete.
    fn ask_complete(&mut self, op: OpId, cluster: &mut ClusterView) {
        for peer in self.due.iter() {
            if cluster.has_caught_up(peer) {
                self.due.remove(peer);
                self.waiting.insert(peer);
                self.ask(op, peer, cluster);
            }
        }
    }

    fn ask(&self, op: OpId, peer: PeerIndex, cluster: &mut ClusterView) {
        let request = ListRequest {
            view: cluster.view,
            op,
            after: self.after,
            limit: self.share(cluster),
        };
        cluster.send(peer, Message::ListSlots(request));
    }

    /// How many sessions to request of each owner: twice as many as it has to contribute if all own
    /// the same number of sessions, so that one with fewer does not shorten the page.
    fn share(&self, cluster: &ClusterView) -> u16 {
        let owners = cluster.placement.owners().len() + 1;
        let share = (2 * self.limit).div_ceil(owners) + SPARE;
        share.min(self.limit).min(RESPONSE_MAX) as u16
    }

    /// Returns `true` if an owner to be asked is of a version that does not answer.
    fn is_unsupported(&self, cluster: &ClusterView) -> bool {
        let is_known = |peer| {
            let peer = cluster.peers.get(peer);
            peer.is_none_or(|peer| peer.kinds >= LIST_KINDS)
        };
        let mut complete = self.due.iter().filter(|peer| cluster.has_caught_up(*peer));
        complete.any(|peer| !is_known(peer))
    }

    const fn is_finished(&self) -> bool {
        self.due.union(self.waiting).is_empty()
    }
}

impl Lists {
    /// Starts to ask the other owners for the sessions after this place.
    pub(crate) fn begin(
        &mut self,
        now: Timestamp,
        cluster: &mut ClusterView,
        op: OpId,
        after: Option<Root>,
        limit: usize,
    ) {
        if self.open.len() >= LISTS_MAX {
            return cluster.reply(op, Reply::Unavailable);
        }
        let mut open = InFlightList {
            after,
            limit: limit.clamp(1, SessionPage::LIMIT_MAX),
            due: PeerSet::default(),
            waiting: PeerSet::default(),
            parts: Vec::new(),
            begun_at: now,
        };
        open.place(cluster);
        self.open.insert(op, open);
        self.advance(cluster);
    }

    /// Asks the owners that have become complete, and answers the calls for which all have
    /// responded.
    pub(crate) fn advance(&mut self, cluster: &mut ClusterView) {
        self.open.retain(|op, open| {
            // It would skip a request of a kind that it does not know, and the call would wait for
            // its timeout.
            if open.is_unsupported(cluster) {
                cluster.reply(*op, Reply::Unsupported);
                return false;
            }
            open.ask_complete(*op, cluster);
            // This node adds what it owns when the call is answered, and may lack sessions before
            // it is complete.
            let is_finished = open.is_finished() && cluster.is_complete();
            if is_finished {
                let part = ListPart::merged(std::mem::take(&mut open.parts), open.limit);
                cluster.reply(*op, Reply::Listed(cluster.view, part));
            }
            !is_finished
        });
    }

    /// Handles a response, if it is one that was requested in this view.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        from: PeerIndex,
        response: ListResponse,
        cluster: &mut ClusterView,
    ) {
        let ListResponse {
            view,
            op,
            sent_at,
            mut part,
        } = response;
        let Some(open) = self.open.get_mut(&op) else {
            return;
        };
        if view != cluster.view || !open.waiting.contains(from) {
            return;
        }
        let is_after = |key: &Root| open.after.is_none_or(|after| key.place() > after.place());
        // A faulty member: with this place the list would never end.
        if part.through.is_some_and(|through| !is_after(&through)) {
            return self.fail(op, cluster);
        }
        let is_covered = |key: &Root| {
            let through = part.through;
            is_after(key) && through.is_none_or(|through| key.place() <= through.place())
        };
        // Sessions of other slots, from a faulty member, are ignored.
        let is_its = |key: &Root| cluster.owner(key.slot()) == MemberRef::Peer(from);
        part.sessions
            .retain(|info| !info.key.is_index() && is_covered(&info.key) && is_its(&info.key));
        for info in &mut part.sessions {
            let times = [
                &mut info.created_at,
                &mut info.last_accessed_at,
                &mut info.expires_at,
                &mut info.absolute_deadline,
            ];
            for time in times {
                *time = rebased(*time, sent_at, now);
            }
        }
        open.waiting.remove(from);
        open.parts.push(part);
        self.advance(cluster);
    }

    /// Handles a member that does not answer this request.
    pub(crate) fn refused(&mut self, peer: PeerIndex, op: OpId, cluster: &mut ClusterView) {
        let open = self.open.get(&op);
        if open.is_some_and(|open| open.waiting.contains(peer)) {
            self.fail(op, cluster);
        }
    }

    fn fail(&mut self, op: OpId, cluster: &mut ClusterView) {
        self.open.remove(&op);
        cluster.reply(op, Reply::Unavailable);
    }

    /// Called when requests to `peer` or its responses may be lost: asks it again.
    pub(crate) fn ask_again(&self, peer: PeerIndex, cluster: &mut ClusterView) {
        for (op, open) in &self.open {
            if open.waiting.contains(peer) {
                open.ask(*op, peer, cluster);
            }
        }
    }

    /// Called when a new view is installed: discards earlier responses and asks again.
    pub(crate) fn install(&mut self, cluster: &mut ClusterView) {
        for open in self.open.values_mut() {
            open.place(cluster);
        }
        self.advance(cluster);
    }

    /// Fails the calls that have taken longer than `timeout`. Returns `true` if there were any.
    pub(crate) fn tick(
        &mut self,
        now: Timestamp,
        timeout: Duration,
        cluster: &mut ClusterView,
    ) -> bool {
        let before = self.open.len();
        self.open.retain(|op, open| {
            let is_late = now.since(open.begun_at) >= timeout;
            if is_late {
                cluster.reply(*op, Reply::Unavailable);
            }
            !is_late
        });
        self.open.len() < before
    }

    pub(crate) fn is_open(&self, op: OpId) -> bool {
        self.open.contains_key(&op)
    }

    /// Fails all calls: this node does not serve any more.
    pub(crate) fn abort(&mut self, cluster: &mut ClusterView) {
        for op in std::mem::take(&mut self.open).into_keys() {
            cluster.reply(op, Reply::Unavailable);
        }
    }

    /// Returns the members with an unanswered request older than [`OVERDUE_AFTER`].
    pub(crate) fn overdue(&self, now: Timestamp) -> PeerSet {
        let is_overdue = |open: &&InFlightList| now.since(open.begun_at) >= OVERDUE_AFTER;
        let overdue = self.open.values().filter(is_overdue);
        overdue.fold(PeerSet::default(), |all, open| all.union(open.waiting))
    }
}

impl Replica {
    /// Starts to list the sessions after this place: those that this node owns, or those of the
    /// whole cluster. What the other owners have is the reply; [`list_owned`](Self::list_owned)
    /// completes it.
    pub(crate) fn list(
        &self,
        now: Timestamp,
        op: OpId,
        scope: Scope,
        after: Option<Root>,
        limit: usize,
    ) -> Progress<ListPart> {
        let published = self.published();
        if !published.ready || !published.complete {
            return Progress::Rejected(StoreErrorKind::NotReady);
        }
        // A page without the sessions of nodes that do not answer would pass for the whole list.
        if published.uncertain_until > now {
            return Progress::Rejected(StoreErrorKind::Unavailable);
        }
        let placement = &published.placement;
        let holds_all = || (0..SLOTS).all(|slot| placement.is_local(slot));
        let whole = scope == Scope::Cluster;
        if whole && !holds_all() {
            self.engine().list(now, op, after, limit);
            return Progress::Pending(ListPart::default());
        }
        let is_wanted = |slot| whole || placement.owner(slot) == MemberRef::Me;
        let part = self.table.list(now, after, SLOTS, limit, is_wanted);
        // Sessions may have been handed over meanwhile.
        if self.is_current(&published) {
            Progress::Ready(part)
        } else {
            Progress::Rejected(StoreErrorKind::NotReady)
        }
    }

    /// Adds the sessions that this node owns to those of the other owners.
    pub(crate) fn list_owned(
        &self,
        now: Timestamp,
        after: Option<Root>,
        limit: usize,
        view: ViewId,
        others: ListPart,
    ) -> Result<ListPart, StoreErrorKind> {
        let published = self.published();
        // A node that was just excluded is alone in its view.
        if !published.ready {
            return Err(StoreErrorKind::NotReady);
        }
        if published.uncertain_until > now {
            return Err(StoreErrorKind::Unavailable);
        }
        let first = after.map_or(0, |after| after.slot());
        let last = others.through.map_or(SLOTS, |through| through.slot());
        let slots = last.saturating_sub(first) + 1;
        let is_wanted = |slot| published.placement.owner(slot) == MemberRef::Me;
        let mine = self.table.list(now, after, slots, limit, is_wanted);
        // The other parts are of `view`. If this node has given a slot away since, its sessions are
        // in none of the parts.
        let is_current =
            published.view == view && published.complete && self.is_current(&published);
        if is_current {
            Ok(ListPart::merged([mine, others], limit))
        } else {
            Err(StoreErrorKind::NotReady)
        }
    }
}

/// Most open requests for lists of one node; further ones are refused.
const LISTS_MAX: usize = 256;

/// Most sessions in a response: with this many it is not a large message.
pub(super) const RESPONSE_MAX: usize = 512;

/// Sessions that an owner is asked for in addition.
const SPARE: usize = 16;

/// A member with a request unanswered for this long is asked for its view.
const OVERDUE_AFTER: Duration = Duration::from_millis(200);
