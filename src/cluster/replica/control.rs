//! The part of the replica that is not a session: who is in, and what is under way.
//!
//! One input goes in, everything that follows from it comes out; nothing waits. The order of
//! things is always the same: hear, change what it changes, then *settle*: adopt a new view if the
//! members changed, go on catching up, and say so when this node has become ready.

mod exclusion;
mod hear;
mod introduce;
mod reach;
mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foca::Timer;

use crate::cluster::Ack;
use crate::session::{Changes, Root, Timestamp};

use super::Settings;
use super::event::{Exclusion, Input, News, Output, Reply};
use super::floors::Floors;
#[cfg(all(feature = "snapshot", unix))]
use super::held::Held;
use super::membership::{DETECTION, Membership, Wish};
use super::message::{Copy, Message, OpId, ViewId};
use super::node::Node;
use super::placement::Member;
use super::readiness::Readiness;
use super::reads::{Reads, Wanted};
use super::repair::Repair;
use super::revocation::Revocations;
use super::roster::{Peer, PeerIndex, PeerSet};
use super::standing::Standing;
use super::table::Table;
use super::updates::{Call, Tools, Updates};
use super::writes::Writes;
use super::writes::{Merged, NewWrite};

/// What a node knows of its cluster, and what it is in the middle of.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) standing: Standing,
    pub(crate) writes: Writes,
    floors: Floors,
    merged: Merged,
    reads: Reads,
    updates: Updates,
    repair: Repair,
    pub(super) readiness: Readiness,
    revocations: Revocations,
    membership: Membership,
    /// foca's timers, by time and then in the order of their arrival.
    timers: BTreeMap<(Timestamp, u64), Timer<Node>>,
    timers_set: u64,
    /// Numbers what this node has looked for on its own account.
    looks: OpId,
    /// Sessions that this node looks for, and the writes that are acknowledged when it has looked.
    looking: BTreeMap<Root, BTreeSet<(PeerIndex, u64)>>,
    next_tick: Timestamp,
    ticks: usize,
    /// Numbers what this node says of itself.
    introductions: u64,
    /// What the members were last told: view, complete, ready.
    told: (ViewId, bool, bool),
    /// Whether all members were in this view when that was last looked at.
    stable: bool,
    /// The members that had caught up when that was last looked at.
    caught_up: PeerSet,
    /// Whether somebody has come since members were lost.
    reunited: bool,
    /// Whether who is leaving may have changed since the view was last taken up.
    regrouped: bool,
    /// When others declared this node down lately.
    short_lives: Vec<Timestamp>,
    /// Addresses from which nothing was heard although others heard the nodes there, and when that
    /// was noticed.
    silent: BTreeMap<SocketAddr, Timestamp>,
    /// Until when this node stays away.
    away_until: Option<Timestamp>,
    /// Why this node has no place in the cluster.
    pub(crate) excluded: Option<Exclusion>,
    /// Whether this node held more than its limits when that was last looked at.
    over_limit: bool,
    /// Sessions that this node may not use yet.
    #[cfg(all(feature = "snapshot", unix))]
    pub(super) held: Held,
    settings: Settings,
}

impl Control {
    pub(crate) fn new(now: Timestamp, settings: Settings) -> Self {
        Self {
            standing: Standing::new(now, &settings),
            writes: Writes::default(),
            floors: Floors::default(),
            merged: Merged::default(),
            reads: Reads::default(),
            updates: Updates::default(),
            repair: Repair::default(),
            readiness: Readiness::new(settings.requirements.clone()),
            revocations: Revocations::default(),
            membership: Membership::new(settings.me.clone(), settings.seed),
            timers: BTreeMap::new(),
            timers_set: 0,
            looks: 0,
            looking: BTreeMap::new(),
            next_tick: now.plus(TICK),
            ticks: 0,
            introductions: 0,
            told: Default::default(),
            stable: true,
            caught_up: PeerSet::default(),
            reunited: false,
            regrouped: false,
            short_lives: Vec::new(),
            silent: BTreeMap::new(),
            away_until: None,
            excluded: None,
            over_limit: false,
            #[cfg(all(feature = "snapshot", unix))]
            held: Held::default(),
            settings,
        }
    }

    pub(crate) fn handle(&mut self, now: Timestamp, input: Input, table: &Table) {
        if self.standing.left {
            return;
        }
        self.standing.now = now;
        self.check_pause(now, table);
        match input {
            Input::Message { .. }
            | Input::LinkUp { .. }
            | Input::Accepted { .. }
            | Input::Refused { .. }
                if self.away_until.is_some() => {}
            Input::Message { .. } | Input::LinkUp { .. } | Input::Accepted { .. }
                if self.excluded.is_some() => {}
            Input::Message { to, .. } if !self.is_meant(to) => {}
            Input::Message {
                from,
                age,
                mut message,
                ..
            } => {
                message.aged(age);
                self.hear(now, from, message, table);
            }
            Input::LinkUp { node } => self.link_up(now, node, table),
            Input::Accepted { node } => {
                if let Some(peer) = self.standing.roster.find(&node) {
                    self.ask_again(now, peer, table);
                }
            }
            Input::Delivered { node, bytes, large } => {
                if let Some(peer) = self.standing.roster.find(&node) {
                    self.heard(now, &node, Some(peer));
                    self.standing.flow.delivered(now, peer, bytes, large);
                    self.fill_window(now, peer, table);
                }
            }
            Input::Progress { node } => {
                if let Some(peer) = self.standing.roster.find(&node) {
                    self.heard(now, &node, Some(peer));
                    self.standing.flow.moved(now, peer);
                }
            }
            Input::Refused { node } => self.membership.down([node].into_iter()),
            Input::Outlook(outlook) => self.readiness.look_out(outlook, &mut self.standing),
            Input::Seen { generation } => self.renew(now, generation),
            Input::Rival { node } => self.rival(now, node),
            Input::Paused => self.fence(now, table),
            Input::Timeout => self.timeout(now, table),
            Input::Drain(leaving) => {
                self.standing.leaving = leaving;
                self.regrouped = true;
            }
            Input::Leave => self.leave(),
        }
        self.settle(now, table);
    }

    /// Returns `true` if what was said to this generation counts.
    const fn is_meant(&self, to: u64) -> bool {
        to == self.standing.me.generation
    }

    /// When `Input::Timeout` is due.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let timer = self
            .timers
            .keys()
            .next()
            .map_or(Timestamp::NEVER, |(at, _)| *at);
        (!self.standing.left).then(|| timer.min(self.next_tick))
    }

    /// A session was changed here: the other holders are to merge it. Returns `true` if the caller
    /// has to wait.
    pub(crate) fn write(
        &mut self,
        now: Timestamp,
        op: OpId,
        (ack, min_copies): (Ack, usize),
        copies: &Arc<[Copy]>,
        table: &Table,
    ) -> bool {
        self.standing.now = now;
        if self.standing.left {
            self.standing.reply(op, Reply::Indeterminate);
            return true;
        }
        let write = NewWrite {
            op: Some(op),
            ack,
            min_copies,
            strict: false,
            copies: copies.clone(),
        };
        let begun = self.writes.begin(now, &mut self.standing, write);
        self.review_marks(now, copies, table);
        begun.is_some_and(|(_, safe)| !safe)
    }

    /// Changes were merged here, which may leave a session with many marks of removed attributes.
    fn review_marks(&mut self, now: Timestamp, copies: &[Copy], table: &Table) {
        let (standing, writes) = (&mut self.standing, &mut self.writes);
        self.floors.merged(now, copies, standing, writes, table);
    }

    /// A session is wanted that is not here, or that this node may not have all of. It may have run
    /// out here, and not where it was used last.
    pub(crate) fn read(&mut self, now: Timestamp, op: OpId, wanted: Wanted, table: &Table) {
        self.standing.now = now;
        let doubtful = table.is_doubtful(now, &wanted.key);
        if self.standing.left || self.reads.is_full() {
            self.standing.reply(op, Reply::Unavailable);
        } else {
            self.reads
                .begin(now, &mut self.standing, op, wanted, doubtful);
            self.finish_reads(now, table);
        }
    }

    /// A change is to be made that the session's owner orders.
    pub(crate) fn update(&mut self, now: Timestamp, call: Call<'_>, table: &Table) {
        self.standing.now = now;
        if self.standing.left || self.updates.is_full() {
            self.standing.reply(call.op, Reply::Unavailable);
            return;
        }
        let (updates, mut tools) = self.ordering(table);
        updates.begin(now, call, &mut tools);
        // Where nobody else keeps the session, nobody has to answer.
        self.finish_reads(now, table);
    }

    /// A session was used here; `access` is the version of that.
    pub(crate) fn touch(&mut self, now: Timestamp, key: Root, access: u64) {
        self.standing.now = now;
        for peer in self.standing.holders(key.slot()).peers.iter() {
            let message = Message::Touch {
                sent_at: now,
                key,
                accessed_at: now,
                access,
            };
            self.standing.send(peer, message);
        }
    }

    pub(crate) fn drain(&mut self, outputs: &mut Vec<Output>) {
        self.standing.drain(outputs);
    }

    /// A new link: what was sent over the old one may be lost.
    fn link_up(&mut self, now: Timestamp, node: Node, table: &Table) {
        match self.standing.roster.find(&node) {
            Some(peer) => {
                self.standing.flow.reset(peer);
                self.introduce(now, peer);
                self.writes.send_again(peer, &mut self.standing);
                self.ask_again(now, peer, table);
            }
            None => {
                let mine = Message::View(self.introduction(now, false));
                self.standing.send_to(node.clone(), mine);
                self.membership.announce(node);
            }
        }
    }

    /// Questions to a peer, or its answers, may be lost or did not count: asks it again.
    fn ask_again(&mut self, now: Timestamp, peer: PeerIndex, table: &Table) {
        self.reads.ask_again(peer, &mut self.standing);
        let (updates, mut tools) = self.ordering(table);
        updates.ask_again(now, peer, &mut tools);
        self.repair.restart(peer, &mut self.standing, table);
        self.floors.relinked(now, peer, &self.standing, table);
    }

    /// Sends to a peer what its window has room for: messages first, then answers.
    fn fill_window(&mut self, now: Timestamp, peer: PeerIndex, table: &Table) {
        self.standing.release(peer);
        while let Some(question) = self.standing.flow.question(peer) {
            self.answer(now, peer, question, table);
        }
    }

    /// Declares members down to which something is in flight and nothing arrives: they answer, but
    /// every write that they hold would wait for ever.
    fn give_up_stalled(&mut self, now: Timestamp) {
        let is_stalled = |peer: &PeerIndex| self.standing.flow.is_stalled(now, *peer);
        let stalled: Vec<_> = self.standing.peers().iter().filter(is_stalled).collect();
        for peer in stalled {
            self.standing.flow.reset(peer);
            let Some(node) = self.standing.roster.get(peer).map(|peer| peer.node.clone()) else {
                continue;
            };
            self.standing.news(News::Stalled(node.clone()));
            self.membership.down([node].into_iter());
        }
    }

    /// Drops from the windows what no caller waits for any more.
    fn drop_abandoned(&mut self) {
        for peer in self.standing.peers().iter() {
            let (reads, updates) = (&self.reads, &self.updates);
            self.standing.flow.retain(peer, |message| match message {
                Message::Fetch { op, .. } => reads.is_open(*op),
                Message::Update(update) => updates.is_open(update.op),
                _ => true,
            });
        }
    }

    /// After a long pause nothing counts that was said before it: the others may have declared this
    /// node down and gone on without it.
    fn check_pause(&mut self, now: Timestamp, table: &Table) {
        if now.since(self.next_tick) >= PAUSE_MAX && self.standing.rules.fence {
            self.next_tick = now;
            self.fence(now, table);
        }
    }

    /// This node was paused: it goes on in a new incarnation, if there are others who may have gone
    /// on without it.
    fn fence(&mut self, now: Timestamp, table: &Table) {
        // Who has not looked around yet begins with it.
        self.standing.joining_since = now;
        if !self.standing.peers().is_empty() && self.standing.rules.fence {
            self.readiness.pause(now, &self.standing);
            let reborn = self.membership.rebirth();
            self.reborn(now, reborn);
            self.adopt_members(now, table);
        }
    }

    fn timeout(&mut self, now: Timestamp, table: &Table) {
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let timer = entry.remove();
            if let Timer::ChangeSuspectToDown { member_id, .. } = &timer {
                self.judge_suspect(now, member_id);
            }
            self.membership.timeout(timer);
            self.grant(now);
        }
        if self.next_tick <= now {
            self.next_tick = now.plus(TICK);
            self.ticks = self.ticks.wrapping_add(1);
            self.tick(now, table);
            #[cfg(all(feature = "snapshot", unix))]
            self.held.expire(now);
        }
    }

    /// A suspect is about to be declared down. It is slow, and not dead, if something has arrived
    /// from it meanwhile: its answers to probes may wait behind megabytes of data.
    fn judge_suspect(&mut self, now: Timestamp, suspect: &Node) {
        let roster = &self.standing.roster;
        let peer = roster.find(suspect).and_then(|peer| roster.get(peer));
        if peer.is_some_and(|peer| now.since(peer.active_at) < ACTIVE_FOR) {
            self.membership.trust(suspect);
        }
    }

    /// Deletes the sessions of users who were ended out of sight.
    fn revoke(&mut self, now: Timestamp, table: &Table) {
        let changes = Changes::default();
        for revoked in self.revocations.take_due(now, &self.standing, table) {
            if !self.updates.is_full() {
                self.update(now, revoked.call(&changes), table);
            }
        }
    }

    fn tick(&mut self, now: Timestamp, table: &Table) {
        self.come_back(now);
        self.review_exclusion(now);
        let timeout = self.settings.ack_timeout;
        self.writes.tick(now, timeout, &mut self.standing);
        let late_reads = self.reads.tick(now, timeout, &mut self.standing);
        let (updates, mut tools) = self.ordering(table);
        let late_updates = updates.tick(now, timeout, &mut tools);
        if late_reads || late_updates {
            self.drop_abandoned();
        }
        self.floors
            .tick(now, &mut self.standing, &mut self.writes, table);
        self.give_up_stalled(now);
        self.revoke(now, table);
        self.watch_limits(table);
        let placement = &self.standing.placement;
        table.sweep_and_count(now, &|slot| placement.owner(slot) == Member::Me);
        if self.ticks.is_multiple_of(VIEW_TICKS) {
            self.ask_around(now);
        }
        if self.ticks.is_multiple_of(DROP_TICKS) {
            self.drop_others(table);
        }
    }

    /// Reports when this node begins or ceases to hold more than its limits.
    fn watch_limits(&mut self, table: &Table) {
        let is_over = table.is_over_limit();
        if self.over_limit != is_over {
            self.over_limit = is_over;
            let (sessions, bytes) = (table.sessions(), table.bytes());
            let news = News::OverLimit {
                is_over,
                sessions,
                bytes,
            };
            self.standing.news(news);
        }
    }

    fn leave(&mut self) {
        let stays = |(_, peer): (_, &Peer)| !peer.leaving;
        let handed_over = self.standing.is_settled()
            && self.writes.len() == 0
            && self.standing.roster.iter().any(stays);
        // Whoever goes without having handed over is a loss, and the others should know.
        if handed_over {
            for peer in self.standing.peers().iter() {
                self.standing.send(peer, Message::Bye);
            }
        }
        self.membership.leave();
        while let Some(wish) = self.membership.wish() {
            if let Wish::Send(to, packet) = wish {
                self.standing.send_to(to, Message::Swim(packet));
            }
        }
        self.standing.left = true;
        self.standing.ready = false;
        self.reads.abort(&mut self.standing);
        self.writes.abort(&mut self.standing);
        self.updates.abort(&mut self.standing);
    }

    /// Updates and writes that wait for others.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.writes.len() + self.updates.len()
    }

    fn ordering<'a>(&'a mut self, table: &'a Table) -> (&'a mut Updates, Tools<'a>) {
        let tools = Tools {
            standing: &mut self.standing,
            writes: &mut self.writes,
            reads: &mut self.reads,
            floors: &mut self.floors,
            table,
        };
        (&mut self.updates, tools)
    }
}

/// How recently something must have arrived from a suspect that is alive: after it was suspected.
const ACTIVE_FOR: Duration = Duration::from_millis(1_800);

/// The clock of everything that is repeated or given up.
const TICK: Duration = Duration::from_millis(50);

/// Ticks between two introductions to a member that is behind.
const VIEW_TICKS: usize = 4;

/// Ticks between two looks at what this node could forget, a second: what is forgotten was held a
/// moment ago, and may be asked for by somebody who is late.
const DROP_TICKS: usize = 20;

/// Tells what this node looks for from the reads of its updates.
const LOOK: OpId = 1 << 62;

/// A node that was not run for this long may have been declared down.
pub(crate) const PAUSE_MAX: Duration = DETECTION;

/// Identities that are down, named in one message: more than a cluster loses in ten minutes.
const REMOVED_MAX: usize = 256;
