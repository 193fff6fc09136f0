//! Shared cluster state: local identity, peers, current view and synchronization progress.
//!
//! It also holds the queue of outgoing messages, replies and events. All parts of the replica read
//! it and send through it; only the [`Engine`](super::engine::Engine) changes the view.
//!
//! A *view* is a set of members, with their leaving flags, and an epoch. Each member computes views
//! on its own; two members agree when both have announced the same epoch and the same hash of
//! members. The epoch only grows, so a view never repeats. Without it, a set of members that comes
//! back (after a canceled drain, for example) would make acknowledgements and votes of the earlier
//! period count again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::copies::Copies;
use crate::session::Timestamp;

use crate::cluster::replica::Settings;
use crate::cluster::replica::budget::Budget;
use crate::cluster::replica::event::{Notification, Output, Reply};
use crate::cluster::replica::events::listeners::Listeners;
use crate::cluster::replica::flow::Flow;
use crate::cluster::replica::message::{Lane, Message, OpId, UpdateStatus, ViewId};
use crate::cluster::replica::node::Node;
use crate::cluster::replica::op_id::is_internal;
use crate::cluster::replica::peer_table::{PEERS_MAX, PeerIndex, PeerSet, PeerTable};
use crate::cluster::replica::placement::{Holders, MemberRef, Placement, members_hash};
use crate::cluster::replica::protocol_rules::ProtocolRules;

/// State of one node in its cluster.
#[derive(Debug)]
pub(crate) struct ClusterView {
    /// The time of the input that is being handled.
    pub(crate) now: Timestamp,
    /// Messages in flight to peers.
    pub(crate) flow: Flow,
    /// Bytes of changes that peers have not acknowledged.
    pub(crate) budget: Arc<Budget>,
    pub(crate) me: Node,
    pub(crate) peers: PeerTable,
    pub(crate) view: ViewId,
    /// The highest epoch that a member has announced, and the highest announced for this set of
    /// members.
    announced_epoch: u64,
    same_set_epoch: u64,
    /// The holders of each slot in this view.
    pub(crate) placement: Arc<Placement>,
    /// Peers with which this node has compared itself since this view began.
    pub(crate) done: PeerSet,
    /// Whether this node serves sessions.
    pub(crate) ready: bool,
    /// Whether it is draining: it holds no slots, and remains a source of the sessions that it has.
    pub(crate) leaving: bool,
    /// Whether it has left the cluster for good.
    pub(crate) left: bool,
    /// When it began to join.
    pub(crate) joining_since: Timestamp,
    copies: Copies,
    /// Minimum number of copies of an acknowledged write.
    pub(crate) min_copies: usize,
    pub(crate) rules: ProtocolRules,
    /// Times of the latest member losses without orderly leave since the cluster was last settled.
    pub(crate) losses: VecDeque<Timestamp>,
    /// While joining: until when an unknown session may be one that was lost.
    pub(crate) loss_window_until: Timestamp,
    /// Until when an unknown session may be at a node that does not answer.
    pub(crate) silence_until: Timestamp,
    /// How long after a loss an unknown session may be a lost one.
    pub(crate) loss_grace: Duration,
    /// The members that subscribe to events, and the subscribers here.
    pub(crate) listeners: Listeners,
    /// Calls answered with an unknown outcome.
    pub(crate) indeterminate: u64,
    out: Vec<Output>,
}

impl ClusterView {
    pub(crate) fn new(now: Timestamp, settings: &Settings) -> Self {
        let (me, rules) = (settings.me.clone(), settings.rules);
        let (copies, min_copies) = (settings.copies, usize::from(settings.min_copies));
        let peers = PeerTable::default();
        Self {
            now,
            flow: Flow::new(rules.windows()),
            budget: Arc::new(Budget::new()),
            view: ViewId {
                epoch: 1,
                members: members_hash(&me, false, &peers),
            },
            announced_epoch: 0,
            same_set_epoch: 0,
            placement: Arc::new(Placement::new(copies, &me, false, &peers)),
            me,
            peers,
            done: PeerSet::default(),
            ready: false,
            leaving: false,
            left: false,
            joining_since: now,
            copies,
            min_copies: if rules.min_copies() { min_copies } else { 0 },
            rules,
            losses: VecDeque::new(),
            loss_window_until: Timestamp::default(),
            silence_until: Timestamp::default(),
            loss_grace: settings.requirements.loss_grace,
            listeners: Listeners::default(),
            indeterminate: 0,
            out: Vec::new(),
        }
    }

    /// Installs the view of the current members. Returns `true` if it is a new one.
    ///
    /// If the set of members has changed, the new epoch is above this node's own and at least the
    /// highest announced one. If only the epoch differs, an announced epoch of the same set is
    /// adopted as it is: raising it as well would make two members raise each other's epochs
    /// without end.
    pub(crate) fn install(&mut self) -> bool {
        let members = members_hash(&self.me, self.leaving, &self.peers);
        let epoch = if members != self.view.members {
            let next = self.announced_epoch.max(self.view.epoch.saturating_add(1));
            if self.rules.epochs() {
                next
            } else {
                self.view.epoch
            }
        } else if self.same_set_epoch > self.view.epoch {
            self.same_set_epoch
        } else {
            return false;
        };
        self.view = ViewId { epoch, members };
        self.same_set_epoch = 0;
        // The new owner of a slot may never have had a session that expires while it moves: the
        // former one reports that.
        self.note_former_placement();
        self.placement = Arc::new(Placement::new(
            self.copies,
            &self.me,
            self.leaving,
            &self.peers,
        ));
        // The comparisons so far cover the slots of the former view. If they counted for this one,
        // a slot that this node has just received would look complete, and reads would miss its
        // sessions.
        self.done = PeerSet::default();
        self.budget.clear();
        true
    }

    /// Records the view that a member has announced. Returns `false` if its epoch is so far ahead
    /// that only a faulty member can have announced it.
    pub(crate) fn note_epoch(&mut self, view: ViewId) -> bool {
        let ViewId { epoch, members } = view;
        if !self.rules.epochs() {
            return true;
        }
        if epoch > self.view.epoch.saturating_add(EPOCH_STEP_MAX) {
            return false;
        }
        self.announced_epoch = self.announced_epoch.max(epoch);
        if members == self.view.members {
            let raised = u64::from(!self.rules.adopted_epochs());
            self.same_set_epoch = self.same_set_epoch.max(epoch.saturating_add(raised));
        }
        true
    }

    /// Returns `true` if a member has announced a later epoch of the same set of members.
    pub(crate) const fn is_behind(&self) -> bool {
        self.same_set_epoch > self.view.epoch
    }

    /// Records the loss of a member and its memory. If it `served` and this node has not compared
    /// itself with it yet, it may have had sessions that no other member has.
    pub(crate) fn lost(&mut self, now: Timestamp, peer: PeerIndex, served: bool) {
        if served && !self.ready && !self.done.contains(peer) {
            self.loss_window_until = now.plus(self.loss_grace);
        }
        if self.losses.len() == LOSSES_MAX {
            self.losses.pop_front();
        }
        self.losses.push_back(now);
    }

    /// Takes a loss back: the member had left in order.
    pub(crate) fn not_lost(&mut self, lost_at: Timestamp) {
        if let Some(index) = self.losses.iter().position(|at| *at == lost_at) {
            self.losses.remove(index);
        }
    }

    /// Called when all members are complete. Clears the losses, unless as many members as keep a
    /// session were lost before: their sessions may have had no other copy.
    pub(crate) fn recovered(&mut self, now: Timestamp) {
        if self.losses_until() <= now {
            self.losses.clear();
        }
    }

    /// Returns until when a session that no member has may be a lost one. As many members as keep a
    /// session have failed, so answering that it does not exist could log out a user wrongly.
    pub(crate) fn uncertain_until(&self) -> Timestamp {
        self.losses_until()
            .max(self.silence_until)
            .max(self.loss_window_until)
    }

    fn losses_until(&self) -> Timestamp {
        let copies = self.placement.wanted();
        // With `Copies::All` every member has every session: none is lost while this node remains.
        let many = copies.is_some_and(|copies| self.losses.len() >= copies);
        let lost_at = self.losses.back().filter(|_| many);
        let grace = self.loss_grace;
        lost_at.map(|at| at.plus(grace)).unwrap_or_default()
    }

    /// Returns how much longer an unknown session may be a lost one, from this node's own
    /// observations. What other members have announced is not passed on, or two nodes would extend
    /// each other's windows without end.
    pub(crate) fn loss_window(&self, now: Timestamp) -> Duration {
        self.losses_until().max(self.silence_until).since(now)
    }

    /// Handles the loss window that a member has announced. A node that already serves ignores it:
    /// it has made its own observations, whereas a joining node may itself be one of the lost
    /// members.
    pub(crate) fn handle_loss_window(&mut self, now: Timestamp, loss_window: Duration) {
        if !self.ready {
            // No longer than after a loss of its own: a faulty member could keep this node
            // uncertain without end.
            let until = now.plus(loss_window.min(self.loss_grace));
            self.loss_window_until = self.loss_window_until.max(until);
        }
    }

    /// Returns `true` if a caller that has waited for these members since `begun_at` is to be
    /// answered: after `timeout`, or after [`MOVING_MAX`] while a large message to or from each of
    /// them makes progress, because a large session on a slow link may take longer.
    pub(crate) fn is_late(&self, begun_at: Timestamp, timeout: Duration, waiting: PeerSet) -> bool {
        let waited = self.now.since(begun_at);
        let moves = |peer| self.flow.is_moving(self.now, peer);
        // `all` holds for no members as well: a write that waits only for the views of other
        // members would keep its caller for `MOVING_MAX`.
        let is_moving = || !waiting.is_empty() && waiting.iter().all(moves);
        waited >= timeout && !(waited < MOVING_MAX && is_moving())
    }

    /// Returns all members except this node.
    pub(crate) fn peers(&self) -> PeerSet {
        self.peers.all()
    }

    /// Returns the peers that may have sessions that are not here yet.
    pub(crate) fn sources(&self) -> PeerSet {
        self.peers().without(self.done)
    }

    /// Returns `true` if this node has everything that the members of this view had.
    pub(crate) fn is_complete(&self) -> bool {
        self.sources().is_empty()
    }

    /// Returns `true` if every member has announced this view.
    pub(crate) fn is_stable(&self) -> bool {
        self.peers
            .iter()
            .all(|(_, peer)| peer.view == Some(self.view))
    }

    /// Returns `true` if a member has announced this view.
    pub(crate) fn agrees(&self, peer: PeerIndex) -> bool {
        let peer = self.peers.get(peer);
        peer.is_some_and(|peer| peer.view == Some(self.view))
    }

    /// Returns `true` if a member has announced this view and that it is complete in it.
    pub(crate) fn has_caught_up(&self, peer: PeerIndex) -> bool {
        let peer = self.peers.get(peer);
        peer.is_some_and(|peer| peer.view == Some(self.view) && peer.complete)
    }

    /// Returns the members that are complete in this view. This node has the index after the last
    /// peer.
    pub(crate) fn caught_up(&self) -> PeerSet {
        let mut all = PeerSet::default();
        for peer in self.peers().iter().filter(|peer| self.has_caught_up(*peer)) {
            all.insert(peer);
        }
        if self.is_complete() {
            all.insert(PEERS_MAX);
        }
        all
    }

    /// Returns `true` if this node and all members are complete in this view.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_complete() && self.peers().iter().all(|peer| self.has_caught_up(peer))
    }

    /// Returns `true` if this node or another member serves sessions.
    pub(crate) fn is_served(&self) -> bool {
        self.ready || self.peers.iter().any(|(_, peer)| peer.ready)
    }

    /// Returns the holders of a slot.
    pub(crate) fn holders(&self, slot: usize) -> Holders {
        self.placement.holders(slot)
    }

    pub(crate) fn is_local(&self, slot: usize) -> bool {
        self.placement.is_local(slot)
    }

    /// Returns the owner of a slot: the member that orders the changes that need an order.
    pub(crate) fn owner(&self, slot: usize) -> MemberRef {
        self.placement.owner(slot)
    }

    /// Sends a message to a peer: a control message now, a data message when its window has room.
    pub(crate) fn send(&mut self, to: PeerIndex, message: Message) {
        let Some(peer) = self.peers.get(to) else {
            return;
        };
        match message.lane() {
            Lane::Control => {
                let to = peer.node.clone();
                self.out.push(Output::Send { to, message });
            }
            Lane::Data => {
                self.flow.push(to, message);
                self.release(to);
            }
        }
    }

    /// Sends the waiting messages for which the peer's window has room.
    pub(crate) fn release(&mut self, peer: PeerIndex) {
        let Some(to) = self.peers.get(peer).map(|peer| &peer.node) else {
            return;
        };
        while let Some(message) = self.flow.next(self.now, peer) {
            let to = to.clone();
            self.out.push(Output::Send { to, message });
        }
    }

    pub(crate) fn send_to(&mut self, to: Node, message: Message) {
        self.out.push(Output::Send { to, message });
    }

    pub(crate) fn reply(&mut self, op: OpId, reply: Reply) {
        // Operations that this node started itself answer no call.
        if is_internal(op) {
            return;
        }
        let unknown = matches!(
            reply,
            Reply::Indeterminate | Reply::Updated(UpdateStatus::Indeterminate, _)
        );
        self.indeterminate += u64::from(unknown);
        self.out.push(Output::Reply { op, reply });
    }

    pub(crate) fn notify(&mut self, notification: Notification) {
        self.out.push(Output::Notification(notification));
    }

    pub(crate) fn output(&mut self, output: Output) {
        self.out.push(output);
    }

    pub(crate) fn drain(&mut self, outputs: &mut Vec<Output>) {
        outputs.append(&mut self.out);
    }
}

/// How far ahead an announced epoch may be. Each change of the members adds one, so no cluster gets
/// that far, and a faulty member cannot exhaust the range.
const EPOCH_STEP_MAX: u64 = 1 << 32;

/// Longest wait of a caller while large messages make progress.
const MOVING_MAX: Duration = Duration::from_secs(60);

/// Losses remembered: no more members can be lost at the same time.
const LOSSES_MAX: usize = PEERS_MAX;
