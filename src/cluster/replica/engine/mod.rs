//! The engine: membership, views and operations in progress.
//!
//! Each input is processed completely and produces outputs; nothing blocks. The order is always the
//! same: handle the input, then [`process`](Engine::process): install a new view if the members
//! have changed, advance the comparison, and announce when this node has become ready. The sessions
//! themselves are in the [`Table`].

mod announce;
mod dispatch;
mod exclusion;
mod lists;
mod process;
mod reachability;
mod revoke;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foca::Timer;

use crate::cluster::Ack;
use crate::session::{Root, Timestamp};

use super::Settings;
use super::cluster_view::ClusterView;
use super::event::{DownCause, Exclusion, Input, Notification, Output, Reply};
use super::floors::Floors;
#[cfg(all(feature = "snapshot", unix))]
use super::held::Held;
use super::listing::Lists;
use super::membership::{DETECTION, Membership, MembershipOutput};
use super::message::{KeyedEntry, Message, OpId, ViewId};
use super::node::Node;
use super::peer_table::{Peer, PeerIndex, PeerSet};
use super::placement::Member;
use super::readiness::Readiness;
use super::reads::{Reads, Wanted};
use super::repair::Repair;
use super::revocation::Revocations;
use super::table::Table;
use super::updates::{Call, Ctx, Updates};
use super::writes::Writes;
use super::writes::{Merged, NewWrite};

/// State of the cluster at one node, and its operations in progress.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) cluster: ClusterView,
    pub(crate) writes: Writes,
    floors: Floors,
    merged: Merged,
    reads: Reads,
    lists: Lists,
    updates: Updates,
    repair: Repair,
    pub(super) readiness: Readiness,
    revocations: Revocations,
    membership: Membership,
    /// foca's timers, ordered by time and then by arrival.
    timers: BTreeMap<(Timestamp, u64), Timer<Node>>,
    timers_set: u64,
    /// Numbers the lookups that this node makes on its own.
    looks: OpId,
    /// Sessions being looked up, and the writes to acknowledge when the lookup is done.
    looking: BTreeMap<Root, BTreeSet<(PeerIndex, u64)>>,
    next_tick: Timestamp,
    ticks: usize,
    /// Numbers the announcements of this node.
    introductions: u64,
    /// The last announcement to the members: view, complete, ready.
    last_announced: (ViewId, bool, bool),
    /// Whether the view was stable, with a member that serves, when last checked.
    stable: bool,
    /// The members that were complete when last checked.
    caught_up: PeerSet,
    /// The names of members that were lost and have not come back.
    missing: BTreeSet<Arc<str>>,
    /// Of members that have left in order while others were missing.
    parted: BTreeSet<Arc<str>>,
    /// Whether all that were missing have come since, or others in their place.
    reunited: bool,
    /// Whether leaving flags or the epoch may have changed since the view was last installed.
    regrouped: bool,
    /// Times at which other members recently declared this node down.
    short_lives: Vec<Timestamp>,
    /// Addresses that did not answer this node although other members reached them, with the time
    /// at which this was noticed.
    silent: BTreeMap<SocketAddr, Timestamp>,
    /// Until when this node is quarantined.
    away_until: Option<Timestamp>,
    /// Why this node is excluded from the cluster.
    pub(crate) excluded: Option<Exclusion>,
    /// Whether this node exceeded its limits when last checked.
    over_limit: bool,
    /// Since when copies of sessions are missing or not confirmed, if this was reported.
    copying_since: Option<Timestamp>,
    /// Sessions that this node may not use yet.
    #[cfg(all(feature = "snapshot", unix))]
    pub(super) held: Held,
    settings: Settings,
}

impl Engine {
    pub(crate) fn new(now: Timestamp, settings: Settings) -> Self {
        Self {
            cluster: ClusterView::new(now, &settings),
            writes: Writes::default(),
            floors: Floors::default(),
            merged: Merged::default(),
            reads: Reads::default(),
            lists: Lists::default(),
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
            last_announced: Default::default(),
            stable: true,
            caught_up: PeerSet::default(),
            missing: BTreeSet::new(),
            parted: BTreeSet::new(),
            reunited: false,
            regrouped: false,
            short_lives: Vec::new(),
            silent: BTreeMap::new(),
            away_until: None,
            excluded: None,
            over_limit: false,
            copying_since: None,
            #[cfg(all(feature = "snapshot", unix))]
            held: Held::default(),
            settings,
        }
    }

    pub(crate) fn handle(&mut self, now: Timestamp, input: Input, table: &Table) {
        if self.cluster.left {
            return;
        }
        self.cluster.now = now;
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
                self.handle_message(now, from, message, table);
            }
            Input::LinkUp { node } => self.link_up(now, node, table),
            Input::Accepted { node } => {
                if let Some(peer) = self.cluster.peers.find(&node) {
                    self.ask_again(now, peer, table);
                }
            }
            Input::Delivered { node, bytes, large } => {
                if let Some(peer) = self.cluster.peers.find(&node) {
                    self.record_contact(now, &node, Some(peer));
                    self.cluster.flow.delivered(now, peer, bytes, large);
                    self.fill_window(now, peer, table);
                }
            }
            Input::Progress { node } => {
                if let Some(peer) = self.cluster.peers.find(&node) {
                    self.record_contact(now, &node, Some(peer));
                    self.cluster.flow.moved(now, peer);
                }
            }
            Input::Refused { node } => self.declare_down(node, DownCause::Refused),
            Input::Outlook(outlook) => self.readiness.look_out(outlook, &mut self.cluster),
            Input::Seen { generation } => self.renew(now, generation),
            Input::Rival { node } => self.rival(now, node),
            Input::Paused => self.fence(now, table),
            Input::Timeout => self.timeout(now, table),
            Input::Listen(scope) => self.cluster.listen(scope),
            Input::Drain(leaving) => {
                self.cluster.leaving = leaving;
                self.regrouped = true;
            }
            Input::Leave => self.leave(),
        }
        self.process(now, table);
    }

    /// Returns `true` if a message to this incarnation counts.
    const fn is_meant(&self, to: u64) -> bool {
        to == self.cluster.me.generation
    }

    /// Returns when [`Input::Timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let timer = self
            .timers
            .keys()
            .next()
            .map_or(Timestamp::NEVER, |(at, _)| *at);
        (!self.cluster.left).then(|| timer.min(self.next_tick))
    }

    /// Replicates a session that was changed here. Returns `true` if the caller has to wait.
    pub(crate) fn write(
        &mut self,
        now: Timestamp,
        op: OpId,
        (ack, min_copies): (Ack, usize),
        copies: &Arc<[KeyedEntry]>,
        table: &Table,
    ) -> bool {
        self.cluster.now = now;
        if self.cluster.left {
            self.cluster.reply(op, Reply::Indeterminate);
            return true;
        }
        let write = NewWrite {
            op: Some(op),
            ack,
            min_copies,
            strict: false,
            copies: copies.clone(),
        };
        let begun = self.writes.begin(now, &mut self.cluster, write);
        self.review_marks(now, copies, table);
        begun.is_some_and(|(_, safe)| !safe)
    }

    /// Reviews floors after a merge, which may leave a session with many marks of removed
    /// attributes.
    fn review_marks(&mut self, now: Timestamp, copies: &[KeyedEntry], table: &Table) {
        let (cluster, writes) = (&mut self.cluster, &mut self.writes);
        self.floors.merged(now, copies, cluster, writes, table);
    }

    /// Reads a session that is not here, is incomplete here, or has expired here but perhaps not
    /// where it was accessed last.
    pub(crate) fn read(&mut self, now: Timestamp, op: OpId, wanted: Wanted, table: &Table) {
        self.cluster.now = now;
        let doubtful = table.is_doubtful(now, &wanted.key);
        if self.cluster.left || self.reads.is_full() {
            self.cluster.reply(op, Reply::Unavailable);
        } else {
            self.reads
                .begin(now, &mut self.cluster, op, wanted, doubtful);
            self.finish_reads(now, table);
        }
    }

    /// Starts a change that the session's owner orders.
    pub(crate) fn update(&mut self, now: Timestamp, call: Call<'_>, table: &Table) {
        self.cluster.now = now;
        if self.cluster.left || self.updates.is_full() {
            self.cluster.reply(call.op, Reply::Unavailable);
            return;
        }
        let (updates, mut tools) = self.ordering(table);
        updates.begin(now, call, &mut tools);
        // If no other node holds the session, no response has to be waited for.
        self.finish_reads(now, table);
    }

    /// Replicates an access; `access` is its version.
    pub(crate) fn touch(&mut self, now: Timestamp, key: Root, access: u64) {
        self.cluster.now = now;
        for peer in self.cluster.holders(key.slot()).peers.iter() {
            let message = Message::Touch {
                sent_at: now,
                key,
                accessed_at: now,
                access,
            };
            self.cluster.send(peer, message);
        }
    }

    pub(crate) fn drain(&mut self, outputs: &mut Vec<Output>) {
        self.cluster.drain(outputs);
    }

    /// Handles a new link: messages on the old one may be lost.
    fn link_up(&mut self, now: Timestamp, node: Node, table: &Table) {
        match self.cluster.peers.find(&node) {
            Some(peer) => {
                self.cluster.flow.reset(peer);
                self.announce(now, peer);
                self.writes.send_again(peer, &mut self.cluster);
                self.cluster.send_events_again(peer);
                self.ask_again(now, peer, table);
            }
            None => {
                let mine = Message::View(self.introduction(now, false));
                self.cluster.send_to(node.clone(), mine);
                self.membership.announce(node);
            }
        }
    }

    /// Called when requests to a peer or its responses may be lost, or did not count: asks it
    /// again.
    fn ask_again(&mut self, now: Timestamp, peer: PeerIndex, table: &Table) {
        self.reads.ask_again(peer, &mut self.cluster);
        self.lists.ask_again(peer, &mut self.cluster);
        let (updates, mut tools) = self.ordering(table);
        updates.ask_again(now, peer, &mut tools);
        self.repair.restart(peer, &mut self.cluster, table);
        self.floors.relinked(now, peer, &self.cluster, table);
    }

    /// Sends to a peer what fits into its window: messages first, then responses.
    fn fill_window(&mut self, now: Timestamp, peer: PeerIndex, table: &Table) {
        self.cluster.release(peer);
        self.cluster.send_events(peer);
        while let Some(question) = self.cluster.flow.question(peer) {
            self.answer(now, peer, question, table);
        }
    }

    fn declare_down(&mut self, node: Node, cause: DownCause) {
        self.cluster.peers.note_down(&node, cause);
        self.membership.down([node].into_iter());
    }

    /// Declares members down that receive nothing although bytes are in flight to them. They answer
    /// probes, but every write that they hold would wait without limit.
    fn give_up_stalled(&mut self, now: Timestamp) {
        let is_stalled = |peer: &PeerIndex| self.cluster.flow.is_stalled(now, *peer);
        let stalled: Vec<_> = self.cluster.peers().iter().filter(is_stalled).collect();
        for peer in stalled {
            self.cluster.flow.reset(peer);
            let Some(node) = self.cluster.peers.get(peer).map(|peer| peer.node.clone()) else {
                continue;
            };
            self.cluster.news(Notification::Stalled(node.clone()));
            self.declare_down(node, DownCause::Stalled);
        }
    }

    /// Removes from the windows the requests that no caller waits for any more.
    fn drop_abandoned(&mut self) {
        for peer in self.cluster.peers().iter() {
            let (reads, lists, updates) = (&self.reads, &self.lists, &self.updates);
            self.cluster.flow.retain(peer, |message| match message {
                Message::Get { op, .. } => reads.is_open(*op),
                Message::ListSlots(request) => lists.is_open(request.op),
                Message::Update(update) => updates.is_open(update.op),
                _ => true,
            });
        }
    }

    /// Fences this node after a long pause: the other members may have declared it down and
    /// continued without it, so nothing received before the pause counts.
    fn check_pause(&mut self, now: Timestamp, table: &Table) {
        if now.since(self.next_tick) >= PAUSE_MAX && self.cluster.rules.fence {
            self.next_tick = now;
            self.fence(now, table);
        }
    }

    /// Continues in a new incarnation after a pause, if there are members that may have continued
    /// without this node. Otherwise it could serve values that they have replaced.
    fn fence(&mut self, now: Timestamp, table: &Table) {
        self.cluster.flow.resume(now);
        // A node that was paused while joining has not looked for other nodes in that time.
        self.cluster.joining_since = now;
        if !self.cluster.peers().is_empty() && self.cluster.rules.fence {
            self.readiness.pause(now, &self.cluster);
            let renewed = self.membership.renew();
            self.renewed(now, renewed);
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
            if let Some(node) = self.membership.timeout(timer) {
                self.cluster.peers.note_down(&node, DownCause::NoAnswer);
            }
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

    /// Checks a suspect before it is declared down. If something has arrived from it since, it is
    /// slow and not down: its answers to probes may be queued behind megabytes of data.
    fn judge_suspect(&mut self, now: Timestamp, suspect: &Node) {
        let peers = &self.cluster.peers;
        let peer = peers.find(suspect).and_then(|peer| peers.get(peer));
        if peer.is_some_and(|peer| now.since(peer.active_at) < ACTIVE_FOR) {
            self.membership.trust(suspect);
        }
    }

    fn tick(&mut self, now: Timestamp, table: &Table) {
        self.come_back(now);
        self.review_exclusion(now);
        let timeout = self.settings.ack_timeout;
        self.writes.tick(now, timeout, &mut self.cluster);
        let late_reads = self.reads.tick(now, timeout, &mut self.cluster);
        let (updates, mut tools) = self.ordering(table);
        let late_updates = updates.tick(now, timeout, &mut tools);
        let late_lists = self.lists.tick(now, timeout, &mut self.cluster);
        if late_reads || late_updates || late_lists {
            self.drop_abandoned();
        }
        self.floors
            .tick(now, &mut self.cluster, &mut self.writes, table);
        self.give_up_stalled(now);
        self.revoke(now, table);
        self.watch_limits(table);
        let placement = self.cluster.placement.clone();
        let is_owned = |slot| placement.owner(slot) == Member::Me;
        for (key, record) in table.sweep_and_count(now, &is_owned) {
            self.cluster.expired(key, &record);
        }
        if self.ticks.is_multiple_of(VIEW_TICKS) {
            self.ask_around(now);
        }
        if self.ticks.is_multiple_of(DROP_TICKS) {
            self.drop_others(table);
            self.cluster.review_listeners(now);
        }
    }

    /// Reports when this node starts or stops exceeding its limits.
    fn watch_limits(&mut self, table: &Table) {
        let is_over = table.is_over_limit();
        if self.over_limit != is_over {
            self.over_limit = is_over;
            let (sessions, bytes) = (table.sessions(), table.bytes());
            let news = Notification::OverLimit {
                is_over,
                sessions,
                bytes,
            };
            self.cluster.news(news);
        }
    }

    fn leave(&mut self) {
        let stays = |(_, peer): (_, &Peer)| !peer.leaving;
        let handed_over = self.cluster.is_settled()
            && self.writes.len() == 0
            && self.cluster.peers.iter().any(stays);
        // A node that leaves without having handed over is a loss, which the members must notice.
        if handed_over {
            for peer in self.cluster.peers().iter() {
                self.cluster.send(peer, Message::Leave);
            }
        }
        self.membership.leave();
        while let Some(wish) = self.membership.wish() {
            if let MembershipOutput::Send(to, packet) = wish {
                self.cluster.send_to(to, Message::Swim(packet));
            }
        }
        self.cluster.left = true;
        self.cluster.ready = false;
        self.reads.abort(&mut self.cluster);
        self.lists.abort(&mut self.cluster);
        self.writes.abort(&mut self.cluster);
        self.updates.abort(&mut self.cluster);
    }

    /// Returns the number of writes and updates that wait for other members.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.writes.len() + self.updates.len()
    }

    fn ordering<'a>(&'a mut self, table: &'a Table) -> (&'a mut Updates, Ctx<'a>) {
        let tools = Ctx {
            cluster: &mut self.cluster,
            writes: &mut self.writes,
            reads: &mut self.reads,
            floors: &mut self.floors,
            table,
        };
        (&mut self.updates, tools)
    }
}

/// How recently something must have arrived from a suspect that is alive: since it was suspected.
const ACTIVE_FOR: Duration = Duration::from_millis(1_800);

/// Interval at which timeouts and repetitions are checked.
const TICK: Duration = Duration::from_millis(50);

/// Ticks between two announcements to a member that is behind.
const VIEW_TICKS: usize = 4;

/// Ticks between two checks for sessions to drop, one second. The delay leaves time for requests
/// under way for slots that this node has just stopped holding.
const DROP_TICKS: usize = 20;

/// Distinguishes lookups from the reads that updates make.
const LOOK: OpId = 1 << 62;

/// A node that was not scheduled for this long may have been declared down.
pub(crate) const PAUSE_MAX: Duration = DETECTION;

/// Most down incarnations named in one message: more than a cluster loses in ten minutes.
const REMOVED_MAX: usize = 256;
