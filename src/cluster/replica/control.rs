//! The part of the replica that is not a session: who is in, and what is under way.
//!
//! One input goes in, everything that follows from it comes out; nothing waits. The order of
//! things is always the same: hear, change what it changes, then *settle*: adopt a new view if the
//! members changed, go on catching up, and say so when this node has become ready.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use foca::Timer;

use crate::session::{SessionKey, Timestamp};

use super::Settings;
use super::entry::Entry;
use super::event::{Input, News, Output, Reply};
use super::membership::{DETECTION, Membership, Wish};
use super::message::{Copy, Message, OpId, Order, View, ViewId, Write};
use super::node::Node;
use super::placement::{Peer, PeerIndex};
use super::reads::{Finished, Reads};
use super::repair::{Repair, answer_compare, answer_pull};
use super::standing::Standing;
use super::table::Table;
use super::updates::{Call, Tools, Updates};
use super::writes::Writes;

/// What a node knows of its cluster, and what it is in the middle of.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) standing: Standing,
    pub(crate) writes: Writes,
    reads: Reads,
    updates: Updates,
    repair: Repair,
    membership: Membership,
    /// foca's timers, by time and then in the order of their arrival.
    timers: BTreeMap<(Timestamp, u64), Timer<Node>>,
    timers_set: u64,
    next_tick: Timestamp,
    ticks: usize,
    /// Numbers what this node says of itself.
    introductions: u64,
    /// What the members were last told: view, complete, ready.
    told: (ViewId, bool, bool),
    /// Whether all members were in this view when that was last looked at.
    stable: bool,
    /// Whether somebody has come since members were lost.
    reunited: bool,
    /// Whether who is leaving may have changed since the view was last taken up.
    regrouped: bool,
    settings: Settings,
}

impl Control {
    pub(crate) fn new(now: Timestamp, settings: Settings) -> Self {
        Self {
            standing: Standing::new(settings.me.clone(), settings.copies, settings.rules, now),
            writes: Writes::default(),
            reads: Reads::default(),
            updates: Updates::default(),
            repair: Repair::default(),
            membership: Membership::new(settings.me.clone(), settings.seed),
            timers: BTreeMap::new(),
            timers_set: 0,
            next_tick: now.plus(TICK),
            ticks: 0,
            introductions: 0,
            told: Default::default(),
            stable: true,
            reunited: false,
            regrouped: false,
            settings,
        }
    }

    pub(crate) fn handle(&mut self, now: Timestamp, input: Input, table: &Table) {
        if self.standing.left {
            return;
        }
        self.check_pause(now, table);
        match input {
            Input::Message { from, message } => self.hear(now, from, message, table),
            Input::LinkUp { node } => self.link_up(now, node),
            Input::Refused { node } => self.membership.down([node].into_iter()),
            Input::Timeout => self.timeout(now, table),
            Input::Drain(leaving) => {
                self.standing.leaving = leaving;
                self.regrouped = true;
            }
            Input::Leave => self.leave(),
        }
        self.settle(now, table);
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

    /// A session was changed here: the other holders are to merge it. Says whether the caller has
    /// to wait.
    pub(crate) fn write(&mut self, now: Timestamp, op: OpId, copies: Arc<[Copy]>) -> bool {
        let ack = self.settings.ack;
        let begun = self
            .writes
            .begin(now, &mut self.standing, Some(op), ack, false, copies);
        begun.is_some_and(|(_, safe)| !safe)
    }

    /// A session is wanted that is not here, or that this node may not have all of. It may have run
    /// out here, and not where it was used last.
    pub(crate) fn read(&mut self, now: Timestamp, op: OpId, key: SessionKey, table: &Table) {
        let ran_out = table.has_run_out(now, &key);
        if self.reads.is_full() {
            self.standing.reply(op, Reply::Unavailable);
        } else {
            self.reads.begin(now, &mut self.standing, op, key, ran_out);
            self.finish_reads(now, table);
        }
    }

    /// A change is to be made that the session's owner orders.
    pub(crate) fn update(&mut self, now: Timestamp, call: Call<'_>, table: &Table) {
        if self.updates.is_full() {
            self.standing.reply(call.op, Reply::Unavailable);
            return;
        }
        let (updates, mut tools) = self.ordering(table);
        updates.begin(now, call, &mut tools);
    }

    /// Somebody used a session here.
    pub(crate) fn touch(&mut self, now: Timestamp, key: SessionKey) {
        for peer in self.standing.holders(key.slot()).peers.iter() {
            let message = Message::Touch {
                sent_at: now,
                key,
                accessed_at: now,
            };
            self.standing.send(peer, message);
        }
    }

    pub(crate) fn drain(&mut self, outputs: &mut Vec<Output>) {
        self.standing.drain(outputs);
    }

    fn hear(&mut self, now: Timestamp, from: Node, message: Message, table: &Table) {
        let message = match message {
            Message::Swim(packet) => return self.membership.packet(&packet),
            Message::View(view) => return self.hear_view(now, from, view, table),
            Message::Bye => return self.hear_bye(from),
            message => message,
        };
        // Whoever is not in says nothing that counts: it may have been declared down meanwhile.
        if let Some(peer) = self.standing.roster.find(&from) {
            self.hear_peer(now, peer, message, table);
        }
    }

    fn hear_peer(&mut self, now: Timestamp, from: PeerIndex, message: Message, table: &Table) {
        let current = self.standing.view;
        match message {
            Message::Swim(_) | Message::View(_) | Message::Bye => {}
            Message::Write(write) => self.hear_write(now, from, &write, table),
            Message::Ack { view, seqs } => {
                for seq in seqs {
                    let done = self
                        .writes
                        .acknowledged(&mut self.standing, from, view, seq);
                    if let Some(seq) = done {
                        let (updates, mut tools) = self.ordering(table);
                        updates.written(now, seq, &mut tools);
                    }
                }
            }
            // The other side is in another view: let it know ours.
            Message::Refuse { .. } => self.introduce(from),
            Message::Touch {
                sent_at,
                key,
                accessed_at,
            } => {
                let age = sent_at.since(accessed_at);
                table.touch(now, &key, now.minus(age));
            }
            Message::Compare {
                view,
                round,
                digests,
            } if view == current => {
                let place = (view, round);
                let answer = answer_compare(place, from, &digests, &self.standing, table);
                self.standing.send(from, answer);
            }
            Message::Pull {
                view,
                round,
                slot,
                after,
                known,
            } if view == current => {
                let answer = answer_pull(now, (view, round), slot, after, &known, table);
                self.standing.send(from, answer);
            }
            Message::Compare { .. } | Message::Pull { .. } => self.introduce(from),
            Message::Differ { view, round, slots } if view == current => {
                self.repair
                    .differ(now, from, round, slots, &mut self.standing, table);
            }
            Message::Push {
                view,
                round,
                slot,
                sent_at,
                mut copies,
                more,
            } => {
                for copy in &mut copies {
                    copy.entry.rebase(sent_at, now);
                    if self.standing.is_mine(copy.key.slot()) {
                        table.merge(now, copy);
                    }
                }
                if view == current {
                    let last = copies.last().filter(|_| more).map(|copy| copy.key);
                    let place = (round, slot);
                    self.repair
                        .pushed(now, from, place, last, &mut self.standing, table);
                }
            }
            Message::Fetch { op, key, .. } => {
                let answer = Message::Fetched {
                    view: current,
                    op,
                    sent_at: now,
                    copy: table.copy(now, &key),
                };
                self.standing.send(from, answer);
            }
            Message::Fetched {
                view,
                op,
                sent_at,
                copy,
            } => {
                let copy = self.take_in(now, sent_at, copy, table);
                let entry = copy.map(|copy| copy.entry);
                self.reads.answered(from, (view, op), entry, current);
            }
            Message::Update(mut update) => {
                let mut entry = Entry::Fragment(update.fragment);
                entry.rebase(update.sent_at, now);
                if let Order::Create(record) = update.order {
                    let mut entry = Entry::Live(record.clone());
                    entry.rebase(update.sent_at, now);
                    update.order = Order::Create(entry.live(now).cloned().unwrap_or(record));
                }
                if let Entry::Fragment(fragment) = entry {
                    update.fragment = fragment;
                    let (updates, mut tools) = self.ordering(table);
                    updates.order(now, Some(from), update, &mut tools);
                }
            }
            Message::Updated {
                op,
                sent_at,
                verdict,
                copy,
            } => {
                let copy = self.take_in(now, sent_at, copy, table);
                // Where the session is kept here, more may be known of it by now.
                let foreign = copy.filter(|copy| !self.standing.is_mine(copy.key.slot()));
                let (updates, mut tools) = self.ordering(table);
                updates.answered(now, op, verdict, foreign, &mut tools);
            }
            Message::Differ { .. } => {}
        }
    }

    fn hear_write(&mut self, now: Timestamp, from: PeerIndex, write: &Write, table: &Table) {
        let view = self.standing.view;
        if write.strict && write.view != view {
            self.standing.send(
                from,
                Message::Refuse {
                    view,
                    seq: write.seq,
                },
            );
            return;
        }
        // In this view the session is others' business, and the writer will hear of the view.
        let slot = write.copies.first().map_or(0, |copy| copy.key.slot());
        if !self.standing.is_mine(slot) {
            return self.introduce(from);
        }
        for copy in write.copies.iter() {
            let mut copy = copy.clone();
            copy.entry.rebase(write.sent_at, now);
            table.merge(now, &copy);
        }
        let seqs = vec![write.seq];
        self.standing.send(from, Message::Ack { view, seqs });
    }

    fn hear_view(&mut self, now: Timestamp, from: Node, mut view: View, table: &Table) {
        self.membership
            .down(std::mem::take(&mut view.removed).into_iter());
        let known_down = self.membership.removed().any(|node| *node == from);
        if known_down {
            // It does not know yet; its own identity among the removed tells it.
            let mine = Message::View(self.introduction(false));
            self.standing.send_to(from, mine);
            return;
        }
        self.membership.alive(
            std::mem::take(&mut view.members)
                .into_iter()
                .chain([from.clone()]),
        );
        // The sender may be new here: what it says of itself must not get lost.
        self.adopt_members(now, table);
        if let Some(index) = self.standing.roster.find(&from) {
            self.hear_standing(now, index, &view, table);
        }
    }

    /// How far a member is, by what it says of itself.
    fn hear_standing(&mut self, now: Timestamp, from: PeerIndex, view: &View, table: &Table) {
        let Some(peer) = self.standing.roster.get_mut(from) else {
            return;
        };
        if view.number > peer.number {
            let came = peer.view != Some(view.view);
            self.regrouped |= peer.leaving != view.leaving;
            peer.number = view.number;
            peer.view = Some(view.view);
            peer.complete = view.complete;
            peer.ready = view.ready;
            peer.leaving = view.leaving;
            self.adopt_members(now, table);
            if came && view.view == self.standing.view {
                self.writes.send_again(now, from, &mut self.standing);
            }
        }
        if view.ask {
            self.introduce(from);
        }
    }

    fn hear_bye(&mut self, from: Node) {
        let known = self.standing.roster.find(&from);
        if let Some(peer) = known.and_then(|peer| self.standing.roster.get_mut(peer)) {
            peer.parted = true;
        }
        self.membership.down([from].into_iter());
    }

    fn link_up(&mut self, now: Timestamp, node: Node) {
        match self.standing.roster.find(&node) {
            Some(peer) => {
                self.introduce(peer);
                self.writes.send_again(now, peer, &mut self.standing);
            }
            None => {
                let mine = Message::View(self.introduction(false));
                self.standing.send_to(node.clone(), mine);
                self.membership.announce(node);
            }
        }
    }

    /// After a long pause nothing counts that was said before it: the others may have declared this
    /// node down and gone on without it.
    fn check_pause(&mut self, now: Timestamp, table: &Table) {
        if now.since(self.next_tick) >= PAUSE_MAX && self.standing.rules.fence {
            self.next_tick = now;
            if !self.standing.peers().is_empty() {
                let reborn = self.membership.rebirth();
                self.reborn(now, reborn);
                self.adopt_members(now, table);
            }
        }
    }

    fn timeout(&mut self, now: Timestamp, table: &Table) {
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let timer = entry.remove();
            self.membership.timeout(timer);
            self.grant(now);
        }
        if self.next_tick <= now {
            self.next_tick = now.plus(TICK);
            self.ticks = self.ticks.wrapping_add(1);
            self.tick(now, table);
        }
    }

    fn tick(&mut self, now: Timestamp, table: &Table) {
        let timeout = self.settings.ack_timeout;
        self.writes.tick(now, timeout, &mut self.standing);
        self.reads.tick(now, timeout, &mut self.standing);
        let (updates, mut tools) = self.ordering(table);
        updates.tick(now, timeout, &mut tools);
        self.repair.tick(now, &mut self.standing, table);
        table.sweep(now);
        if self.ticks.is_multiple_of(VIEW_TICKS) {
            // Somebody behind, or whose word that it has caught up was lost.
            let standing = &self.standing;
            let behind = standing
                .roster
                .iter()
                .filter(|(index, peer)| !standing.has_caught_up(*index) || !peer.ready);
            for peer in behind.map(|(index, _)| index).collect::<Vec<_>>() {
                let mine = self.introduction(true);
                self.standing.send(peer, Message::View(mine));
            }
        }
        if self.ticks.is_multiple_of(DROP_TICKS) {
            self.drop_others(table);
        }
    }

    /// Forgets what others hold: each holder has compared itself with this node, and since this view
    /// began nothing was added here to what is theirs.
    fn drop_others(&self, table: &Table) {
        if self.standing.is_settled() || !self.standing.rules.confirmed_drop {
            let placement = &self.standing.placement;
            table.retain(|slot| placement.is_mine(slot));
        }
    }

    fn leave(&mut self) {
        for peer in self.standing.peers().iter() {
            self.standing.send(peer, Message::Bye);
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
    }

    /// Does what follows from whatever was heard.
    fn settle(&mut self, now: Timestamp, table: &Table) {
        if self.standing.left {
            return;
        }
        self.adopt_members(now, table);
        let stable = self.standing.is_stable();
        if stable && !self.stable {
            let written = self.writes.review(&mut self.standing);
            let (updates, mut tools) = self.ordering(table);
            for seq in written {
                updates.written(now, seq, &mut tools);
            }
        }
        self.stable = stable;
        self.repair.advance(now, &mut self.standing, table);
        self.finish_reads(now, table);
        self.become_ready(now);
        if self.standing.is_settled() {
            self.standing.recovered(now);
            if std::mem::take(&mut self.reunited) {
                table.reunite();
            }
        }
        let standing = &self.standing;
        let news = (standing.view, standing.is_complete(), standing.ready);
        if self.told != news {
            self.told = news;
            self.introduce_to_all();
        }
    }

    /// Does what the membership protocol wants done.
    fn grant(&mut self, now: Timestamp) {
        while let Some(wish) = self.membership.wish() {
            match wish {
                Wish::Send(to, packet) => self.standing.send_to(to, Message::Swim(packet)),
                Wish::Wake(after, timer) => {
                    self.timers_set += 1;
                    self.timers
                        .insert((now.plus(after), self.timers_set), timer);
                }
                Wish::Reborn(node) => self.reborn(now, node),
            }
        }
    }

    /// Takes up the view that follows from the members, if it is a new one.
    fn adopt_members(&mut self, now: Timestamp, table: &Table) {
        self.grant(now);
        if self.membership.take_changed() {
            self.change_roster(now, table);
        } else if !self.regrouped {
            return;
        }
        self.regrouped = false;
        if !self.standing.install() {
            return;
        }
        self.stable = false;
        self.repair.install();
        // The others must hear of the view before anything that belongs to it.
        self.introduce_to_all();
        self.writes.install(now, &mut self.standing);
        self.reads.install(now, &mut self.standing);
        let (updates, mut tools) = self.ordering(table);
        updates.install(now, &mut tools);
    }

    /// Takes the members out who are gone, and puts those in who are new.
    fn change_roster(&mut self, now: Timestamp, table: &Table) {
        let members: Vec<Node> = self.membership.members().cloned().collect();
        let roster = &self.standing.roster;
        let gone: Vec<_> = roster
            .iter()
            .filter(|(_, peer)| !members.contains(&peer.node))
            .map(|(index, peer)| (index, peer.node.clone(), peer.parted))
            .collect();
        if gone.iter().any(|(.., parted)| !parted) {
            let stays = |(_, peer): (_, &Peer)| {
                let gone = gone.iter().any(|(_, node, _)| *node == peer.node);
                (!gone).then(|| peer.node.writer())
            };
            let peers = self.standing.roster.iter().filter_map(stays);
            table.part(peers.chain([self.standing.me.writer()]));
            self.reunited = false;
        }
        for (index, node, parted) in gone {
            self.standing.roster.remove(index);
            if !parted {
                self.standing.lost(now);
            }
            self.standing.news(News::Left(node));
        }
        for node in members {
            if self.standing.roster.find(&node).is_none() && self.standing.roster.add(node.clone())
            {
                self.reunited = true;
                self.standing.news(News::Joined(node));
            }
        }
    }

    fn become_ready(&mut self, now: Timestamp) {
        let standing = &mut self.standing;
        if standing.ready {
            return;
        }
        // Nodes that find each other first may not have found those that have the sessions yet.
        let invited = standing.roster.iter().any(|(_, peer)| peer.ready);
        let waited = now.since(standing.joining_since) >= self.settings.alone_after;
        if (invited || waited) && standing.is_stable() && standing.is_complete() {
            standing.ready = true;
            standing.news(News::Ready);
        }
    }

    /// Stops serving until this node has joined under its new identity.
    fn reborn(&mut self, now: Timestamp, me: Node) {
        self.standing.me = me.clone();
        self.standing.ready = false;
        self.standing.joining_since = now;
        self.standing.news(News::Reborn(me));
        self.reads.abort(&mut self.standing);
    }

    fn finish_reads(&mut self, now: Timestamp, table: &Table) {
        for finished in self.reads.finished(&self.standing) {
            let (updates, mut tools) = self.ordering(table);
            if !updates.read_done(now, finished.op, &mut tools) {
                self.answer_read(now, finished, table);
            }
        }
    }

    fn answer_read(&mut self, now: Timestamp, finished: Finished, table: &Table) {
        let Finished {
            op,
            key,
            mine,
            found,
        } = finished;
        let mut entry = table.copy(now, &key).map(|copy| copy.entry);
        if !mine {
            Entry::join(&mut entry, found);
        }
        let record = entry.as_ref().and_then(|entry| entry.live(now).cloned());
        let certain = entry.is_some() || self.standing.uncertain_until() <= now;
        self.standing.reply(
            op,
            if record.is_some() || certain {
                Reply::Found(record)
            } else {
                Reply::Uncertain
            },
        );
    }

    fn introduce(&mut self, peer: PeerIndex) {
        let mine = Message::View(self.introduction(false));
        self.standing.send(peer, mine);
    }

    fn introduce_to_all(&mut self) {
        for peer in self.standing.peers().iter() {
            self.introduce(peer);
        }
    }

    /// What this node says of itself; `ask`: and wants to hear from the other.
    fn introduction(&mut self, ask: bool) -> View {
        let removed = self.membership.removed().take(REMOVED_MAX);
        let removed = removed.cloned().collect();
        self.introductions += 1;
        let standing = &self.standing;
        View {
            number: self.introductions,
            ask,
            view: standing.view,
            members: standing
                .roster
                .iter()
                .map(|(_, peer)| peer.node.clone())
                .collect(),
            removed,
            complete: standing.is_complete(),
            ready: standing.ready,
            leaving: standing.leaving,
        }
    }

    /// Takes over what another node has of a session, if this one holds it; gives it back.
    fn take_in(
        &self,
        now: Timestamp,
        sent_at: Timestamp,
        copy: Option<Copy>,
        table: &Table,
    ) -> Option<Copy> {
        let mut copy = copy?;
        copy.entry.rebase(sent_at, now);
        if self.standing.is_mine(copy.key.slot()) {
            table.merge(now, &copy);
        }
        Some(copy)
    }

    fn ordering<'a>(&'a mut self, table: &'a Table) -> (&'a mut Updates, Tools<'a>) {
        let tools = Tools {
            standing: &mut self.standing,
            writes: &mut self.writes,
            reads: &mut self.reads,
            table,
        };
        (&mut self.updates, tools)
    }
}

/// The clock of everything that is repeated or given up.
const TICK: Duration = Duration::from_millis(50);

/// Ticks between two introductions to a member that is behind.
const VIEW_TICKS: usize = 4;

/// Ticks between two looks at what this node could forget, a second: what is forgotten was held a
/// moment ago, and may be asked for by somebody who is late.
const DROP_TICKS: usize = 20;

/// A node that was not run for this long may have been declared down.
pub(crate) const PAUSE_MAX: Duration = DETECTION;

/// Identities that are down, named in one message: more than a cluster loses in ten minutes.
const REMOVED_MAX: usize = 256;
