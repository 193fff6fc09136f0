//! Where this node stands: who it is, who else is in, how far it has caught up.
//!
//! Every part of the replica looks here and speaks through here; only
//! [`Control`](super::control::Control) changes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Copies;
use crate::session::Timestamp;

use super::Settings;
use super::budget::Budget;
use super::event::{News, Output, Reply};
use super::flow::Flow;
use super::message::{Lane, Message, OpId, Verdict, ViewId};
use super::node::Node;
use super::placement::{Holders, Member, Placement, members_hash};
use super::reads::INTERNAL;
use super::roster::{PeerIndex, PeerSet, Roster};
use super::rules::Rules;

/// Where a node stands in its cluster.
#[derive(Debug)]
pub(crate) struct Standing {
    /// The time of the input that is being handled.
    pub(crate) now: Timestamp,
    /// What is in flight to the members.
    pub(crate) flow: Flow,
    /// What they have not acknowledged.
    pub(crate) budget: Arc<Budget>,
    pub(crate) me: Node,
    pub(crate) roster: Roster,
    pub(crate) view: ViewId,
    /// The highest epoch that a member has announced, and the highest one of this set of members.
    announced_epoch: u64,
    same_set_epoch: u64,
    /// Who holds what in this view.
    pub(crate) placement: Arc<Placement>,
    /// Peers all of whose sessions are here, as of this view.
    pub(crate) done: PeerSet,
    /// Whether this node serves sessions.
    pub(crate) ready: bool,
    /// Whether it is on its way out: it holds nothing, and is a source of what it has.
    pub(crate) leaving: bool,
    /// Whether it has left for good.
    pub(crate) left: bool,
    /// Since when it has been trying to join.
    pub(crate) joining_since: Timestamp,
    copies: Copies,
    /// How many copies there must be of an acknowledged write.
    pub(crate) min_copies: usize,
    pub(crate) rules: Rules,
    /// When members were lost without a good-bye since everybody had caught up, the latest ones.
    pub(crate) losses: VecDeque<Timestamp>,
    /// Until when a newcomer takes an unknown session for one that may have been lost.
    pub(crate) doubt_until: Timestamp,
    /// Until when a session that is not found may be at a node that does not answer.
    pub(crate) silence_until: Timestamp,
    /// How long an unknown session may be a lost one.
    pub(crate) loss_grace: Duration,
    /// Callers who were told that what became of their change is unknown.
    pub(crate) indeterminate: u64,
    out: Vec<Output>,
}

impl Standing {
    pub(crate) fn new(now: Timestamp, settings: &Settings) -> Self {
        let (me, rules) = (settings.me.clone(), settings.rules);
        let (copies, min_copies) = (settings.copies, usize::from(settings.min_copies));
        let roster = Roster::default();
        Self {
            now,
            flow: Flow::new(rules.windows),
            budget: Arc::new(Budget::new()),
            view: ViewId {
                epoch: 1,
                members: members_hash(&me, false, &roster),
            },
            announced_epoch: 0,
            same_set_epoch: 0,
            placement: Arc::new(Placement::new(copies, &me, false, &roster)),
            me,
            roster,
            done: PeerSet::default(),
            ready: false,
            leaving: false,
            left: false,
            joining_since: now,
            copies,
            min_copies: if rules.min_copies { min_copies } else { 0 },
            rules,
            losses: VecDeque::new(),
            doubt_until: Timestamp::default(),
            silence_until: Timestamp::default(),
            loss_grace: settings.requirements.loss_grace,
            indeterminate: 0,
            out: Vec::new(),
        }
    }

    /// Installs the view of the current members. Returns `true` if it is a new one.
    ///
    /// A change of the set begins an epoch above its own and every announced one. An announced
    /// epoch of the same set is adopted as it is: raising it as well would make two members raise
    /// each other's for ever.
    pub(crate) fn install(&mut self) -> bool {
        let members = members_hash(&self.me, self.leaving, &self.roster);
        let epoch = if members != self.view.members {
            let next = self.announced_epoch.max(self.view.epoch.saturating_add(1));
            if self.rules.epochs {
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
        self.placement = Arc::new(Placement::new(
            self.copies,
            &self.me,
            self.leaving,
            &self.roster,
        ));
        self.done = PeerSet::default();
        self.budget.clear();
        true
    }

    /// Takes note of the view that a member has announced. Returns `false` if its epoch is so high
    /// that only a faulty member can have announced it.
    pub(crate) fn note_epoch(&mut self, view: ViewId) -> bool {
        let ViewId { epoch, members } = view;
        if !self.rules.epochs {
            return true;
        }
        if epoch > self.view.epoch.saturating_add(EPOCH_STEP_MAX) {
            return false;
        }
        self.announced_epoch = self.announced_epoch.max(epoch);
        if members == self.view.members {
            let raised = u64::from(!self.rules.adopted_epochs);
            self.same_set_epoch = self.same_set_epoch.max(epoch.saturating_add(raised));
        }
        true
    }

    /// Returns `true` if a member has announced a later period of the same set of members.
    pub(crate) const fn is_behind(&self) -> bool {
        self.same_set_epoch > self.view.epoch
    }

    /// A member has vanished, and its memory with it. One that `served` may have had what nobody
    /// else had, if this node was about to get it.
    pub(crate) fn lost(&mut self, now: Timestamp, peer: PeerIndex, served: bool) {
        if served && !self.ready && !self.done.contains(peer) {
            self.doubt_until = now.plus(self.loss_grace);
        }
        if self.losses.len() == LOSSES_MAX {
            self.losses.pop_front();
        }
        self.losses.push_back(now);
    }

    /// Everybody has caught up. Unless as many members as keep a session were lost before they had,
    /// all that those had is on others.
    pub(crate) fn recovered(&mut self, now: Timestamp) {
        if self.losses_until() <= now {
            self.losses.clear();
        }
    }

    /// Until when a session that nobody has may be one that was lost: as many members as keep a
    /// session have vanished, so "there is none" would log out somebody who did nothing wrong.
    pub(crate) fn uncertain_until(&self) -> Timestamp {
        self.losses_until()
            .max(self.silence_until)
            .max(self.doubt_until)
    }

    fn losses_until(&self) -> Timestamp {
        let copies = self.placement.wanted();
        let many = copies.is_some_and(|copies| self.losses.len() >= copies);
        let lost_at = self.losses.back().filter(|_| many);
        let grace = self.loss_grace;
        lost_at.map(|at| at.plus(grace)).unwrap_or_default()
    }

    /// How much longer that is so, by what this node has seen itself: what it has heard it does not
    /// pass on, or two nodes would keep each other in doubt.
    pub(crate) fn doubt(&self, now: Timestamp) -> Duration {
        self.losses_until().max(self.silence_until).since(now)
    }

    /// A member has said for how much longer that is so. Who serves already has seen itself what
    /// there was to see; a newcomer may be one of the lost.
    pub(crate) fn hear_doubt(&mut self, now: Timestamp, doubt: Duration) {
        if !self.ready {
            let until = now.plus(doubt.min(self.loss_grace));
            self.doubt_until = self.doubt_until.max(until);
        }
    }

    /// All members but this node.
    pub(crate) fn peers(&self) -> PeerSet {
        self.roster.all()
    }

    /// Peers that may have sessions which are not here yet.
    pub(crate) fn sources(&self) -> PeerSet {
        self.peers().without(self.done)
    }

    /// Returns `true` if everything that the members of this view had is here.
    pub(crate) fn is_complete(&self) -> bool {
        self.sources().is_empty()
    }

    /// Returns `true` if every member has said that it is in the same view.
    pub(crate) fn is_stable(&self) -> bool {
        self.roster
            .iter()
            .all(|(_, peer)| peer.view == Some(self.view))
    }

    /// Returns `true` if a member has announced this view.
    pub(crate) fn agrees(&self, peer: PeerIndex) -> bool {
        let peer = self.roster.get(peer);
        peer.is_some_and(|peer| peer.view == Some(self.view))
    }

    /// Returns `true` if a member is known to be in this view, with everything of it.
    pub(crate) fn has_caught_up(&self, peer: PeerIndex) -> bool {
        let peer = self.roster.get(peer);
        peer.is_some_and(|peer| peer.view == Some(self.view) && peer.complete)
    }

    /// The members that are known to be in this view, with everything of it; this node counts as
    /// the one beyond the last peer.
    pub(crate) fn caught_up(&self) -> PeerSet {
        let mut all = PeerSet::default();
        for peer in self.peers().iter().filter(|peer| self.has_caught_up(*peer)) {
            all.insert(peer);
        }
        if self.is_complete() {
            all.insert(super::roster::PEERS_MAX);
        }
        all
    }

    /// Returns `true` if all members are in this view and have everything of it.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_complete() && self.peers().iter().all(|peer| self.has_caught_up(peer))
    }

    /// The members that keep a slot's sessions.
    pub(crate) fn holders(&self, slot: usize) -> Holders {
        self.placement.holders(slot)
    }

    pub(crate) fn is_mine(&self, slot: usize) -> bool {
        self.placement.is_mine(slot)
    }

    /// The member that orders what must be ordered of a slot's sessions.
    pub(crate) fn owner(&self, slot: usize) -> Member {
        self.placement.owner(slot)
    }

    /// Sends a message to a member: at once, or when its window has room.
    pub(crate) fn send(&mut self, to: PeerIndex, message: Message) {
        let Some(peer) = self.roster.get(to) else {
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

    /// Sends what the window of a member has room for.
    pub(crate) fn release(&mut self, peer: PeerIndex) {
        let Some(to) = self.roster.get(peer).map(|peer| &peer.node) else {
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
        // What a node does on its own account answers no call.
        if op & INTERNAL != 0 {
            return;
        }
        let unknown = matches!(
            reply,
            Reply::Indeterminate | Reply::Updated(Verdict::Unknown, _)
        );
        self.indeterminate += u64::from(unknown);
        self.out.push(Output::Reply { op, reply });
    }

    pub(crate) fn news(&mut self, news: News) {
        self.out.push(Output::News(news));
    }

    pub(crate) fn drain(&mut self, outputs: &mut Vec<Output>) {
        outputs.append(&mut self.out);
    }
}

/// How far an announced epoch may be ahead. Each change of the members counts one, so no cluster
/// gets that far, and a faulty member cannot use the numbers up.
const EPOCH_STEP_MAX: u64 = 1 << 32;

/// Losses remembered: no more members can be lost at once.
const LOSSES_MAX: usize = super::roster::PEERS_MAX;
