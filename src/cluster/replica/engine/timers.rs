//! Timers: what falls due as time passes, and pauses in which this node could not notice.
//!
//! The timers of the membership protocol are kept in order. Everything else is checked once per
//! tick: timeouts, members that receive nothing, limits, and sessions to forget.

use std::time::Duration;

use foca::Timer;

use crate::session::Timestamp;

use crate::cluster::replica::engine::{Engine, PAUSE_MAX, TICK};
use crate::cluster::replica::event::{DownCause, Notification};
use crate::cluster::replica::message::Message;
use crate::cluster::replica::node::Node;
use crate::cluster::replica::peer_table::PeerIndex;
use crate::cluster::replica::placement::MemberRef;
use crate::cluster::replica::table::EntryTable;

impl Engine {
    /// Fences this node after a long pause: the other members may have declared it down and
    /// continued without it, so nothing received before the pause counts.
    pub(super) fn check_pause(&mut self, now: Timestamp, table: &EntryTable) {
        if now.since(self.next_tick) >= PAUSE_MAX && self.cluster.rules.fence() {
            self.next_tick = now;
            self.fence(now, table);
        }
    }

    /// Continues in a new incarnation after a pause, if there are members that may have continued
    /// without this node. Otherwise it could serve values that they have replaced.
    pub(super) fn fence(&mut self, now: Timestamp, table: &EntryTable) {
        // Nothing was delivered in the pause: the healthy members would be declared down as
        // stalled.
        self.cluster.flow.resume(now);
        // A node that was paused while joining has not looked for other nodes in that time.
        self.cluster.joining_since = now;
        if !self.cluster.peers().is_empty() && self.cluster.rules.fence() {
            // Before `rejoin`, which ends serving: no members would be recorded, and this node
            // would not wait for them.
            self.readiness.pause(now, &self.cluster);
            let renewed = self.membership.renew();
            self.rejoin(now, renewed);
            self.adopt_members(now, table);
        }
    }

    pub(super) fn timeout(&mut self, now: Timestamp, table: &EntryTable) {
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let timer = entry.remove();
            if let Timer::ChangeSuspectToDown { member_id, .. } = &timer {
                self.check_suspect(now, member_id);
            }
            if let Some(node) = self.membership.timeout(timer) {
                self.cluster.peers.note_down(&node, DownCause::NoAnswer);
            }
            self.handle_membership(now);
        }
        if self.next_tick <= now {
            self.next_tick = now.plus(TICK);
            self.ticks = self.ticks.wrapping_add(1);
            self.tick(now, table);
            #[cfg(all(feature = "snapshot", unix))]
            self.withheld.expire(now);
        }
    }

    /// Checks a suspect before it is declared down. If something has arrived from it since, it is
    /// slow and not down: its answers to probes may be queued behind megabytes of data.
    fn check_suspect(&mut self, now: Timestamp, suspect: &Node) {
        let peers = &self.cluster.peers;
        let peer = peers.find(suspect).and_then(|peer| peers.get(peer));
        if peer.is_some_and(|peer| now.since(peer.active_at) < ACTIVE_FOR) {
            self.membership.trust(suspect);
        }
    }

    fn tick(&mut self, now: Timestamp, table: &EntryTable) {
        self.end_quarantine(now);
        self.review_exclusion(now);
        let timeout = self.settings.ack_timeout;
        self.writes.tick(now, timeout, &mut self.cluster);
        let late_reads = self.reads.tick(timeout, &mut self.cluster);
        let (updates, mut context) = self.ordering(table);
        let late_updates = updates.tick(now, timeout, &mut context);
        let late_lists = self.lists.tick(now, timeout, &mut self.cluster);
        if late_reads || late_updates || late_lists {
            self.drop_abandoned();
        }
        self.floors
            .tick(now, &mut self.cluster, &mut self.writes, table);
        self.declare_stalled_down(now);
        self.declare_refused_down(now);
        self.revoke(now, table);
        self.watch_limits(table);
        let placement = self.cluster.placement.clone();
        let is_owned = |slot| placement.owner(slot) == MemberRef::Me;
        for (key, record) in table.sweep_and_count(now, &is_owned) {
            self.cluster.expired(key, &record);
        }
        if self.ticks.is_multiple_of(VIEW_TICKS) {
            self.probe_lagging(now);
        }
        if self.ticks.is_multiple_of(DROP_TICKS) {
            self.drop_others(table);
            self.cluster.review_listeners(now);
        }
    }

    /// Declares members down that receive nothing although bytes are in flight to them. They answer
    /// probes, but every write that they hold would wait without limit.
    fn declare_stalled_down(&mut self, now: Timestamp) {
        let is_stalled = |peer: &PeerIndex| self.cluster.flow.is_stalled(now, *peer);
        let stalled: Vec<_> = self.cluster.peers().iter().filter(is_stalled).collect();
        for peer in stalled {
            self.cluster.flow.reset(peer);
            let Some(node) = self.cluster.peers.get(peer).map(|peer| peer.node.clone()) else {
                continue;
            };
            self.cluster.notify(Notification::Stalled(node.clone()));
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

    /// Reports when this node starts or stops exceeding its limits.
    fn watch_limits(&mut self, table: &EntryTable) {
        let is_over = table.is_over_limit();
        if self.over_limit != is_over {
            self.over_limit = is_over;
            let (sessions, bytes) = (table.sessions(), table.bytes());
            let notification = Notification::OverLimit {
                is_over,
                sessions,
                bytes,
            };
            self.cluster.notify(notification);
        }
    }
}

/// How recently something must have arrived from a suspect that is alive. Less than a suspicion
/// lasts, so that only what has arrived since it was suspected counts.
const ACTIVE_FOR: Duration = Duration::from_millis(1_800);

/// Ticks between two announcements to a member that is behind.
const VIEW_TICKS: usize = 4;

/// Ticks between two checks for sessions to drop, one second. The delay leaves time for requests
/// under way for slots that this node has just stopped holding.
const DROP_TICKS: usize = 20;
