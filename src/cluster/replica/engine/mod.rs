//! The engine: membership, views and operations in progress.
//!
//! Each input is processed completely and produces outputs; nothing blocks. The order is always the
//! same: handle the input, then [`process`](Engine::process): install a new view if the members
//! have changed, advance the comparison, and announce when this node has become ready. The sessions
//! themselves are in the [`EntryTable`].

mod announce;
mod calls;
mod departures;
mod dispatch;
mod exclusion;
mod incoming;
mod lists;
mod process;
mod reachability;
mod revoke;
mod timers;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foca::Timer;

use crate::session::{Root, Timestamp};

use crate::cluster::replica::Settings;
use crate::cluster::replica::anti_entropy::AntiEntropy;
use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::event::{DownCause, Exclusion, Input, Output};
use crate::cluster::replica::floors::Floors;
use crate::cluster::replica::listing::Lists;
use crate::cluster::replica::membership::{DETECTION, Membership, MembershipOutput};
use crate::cluster::replica::merged_writes::MergedWrites;
use crate::cluster::replica::message::{KeyedEntry, Message, OpId, ViewId};
use crate::cluster::replica::node::Node;
use crate::cluster::replica::peer_table::{PeerIndex, PeerSet};
use crate::cluster::replica::readiness::Readiness;
use crate::cluster::replica::reads::Reads;
use crate::cluster::replica::revocation::Revocations;
use crate::cluster::replica::table::EntryTable;
use crate::cluster::replica::updates::{UpdateContext, Updates};
#[cfg(all(feature = "snapshot", unix))]
use crate::cluster::replica::withheld::WithheldSessions;
use crate::cluster::replica::writes::Writes;

/// State of the cluster at one node, and its operations in progress.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) cluster: ClusterView,
    pub(crate) writes: Writes,
    floors: Floors,
    merged: MergedWrites,
    reads: Reads,
    lists: Lists,
    updates: Updates,
    anti_entropy: AntiEntropy,
    pub(super) readiness: Readiness,
    revocations: Revocations,
    membership: Membership,
    /// foca's timers, ordered by time and then by arrival.
    timers: BTreeMap<(Timestamp, u64), Timer<Node>>,
    timers_set: u64,
    /// Numbers the backfills.
    last_backfill: OpId,
    /// Sessions requested from the other holders, and the writes to acknowledge when they are here.
    backfills: BTreeMap<Root, BTreeSet<(PeerIndex, u64)>>,
    next_tick: Timestamp,
    ticks: usize,
    /// Numbers the announcements of this node.
    announcements: u64,
    /// The last announcement to the members: view, complete, ready.
    last_announced: (ViewId, bool, bool),
    /// Whether the view was stable, with a member that serves, when last checked.
    stable: bool,
    /// The members that were complete when last checked.
    caught_up: PeerSet,
    /// The names of members that were lost and have not come back, with their incarnation numbers
    /// and when they were lost.
    missing: BTreeMap<Arc<str>, (u64, Timestamp)>,
    /// The names of members that left in order while others were missing. A member that joins in
    /// place of one of them is not one of those that were missing.
    departed: BTreeSet<Arc<str>>,
    /// Whether all that were missing have come since, or others in their place.
    all_returned: bool,
    /// Whether leaving flags or the epoch may have changed since the view was last installed.
    view_dirty: bool,
    /// Times at which other members recently declared this node down.
    short_incarnations: Vec<Timestamp>,
    /// Addresses that did not answer this node although other members reached them, with the time
    /// at which this was noticed.
    silent: BTreeMap<SocketAddr, Timestamp>,
    /// Until when this node is quarantined.
    quarantined_until: Option<Timestamp>,
    /// Why this node is excluded from the cluster.
    pub(crate) excluded: Option<Exclusion>,
    /// Whether this node exceeded its limits when last checked.
    over_limit: bool,
    /// Since when copies of sessions are missing or not confirmed, if this was reported.
    copying_since: Option<Timestamp>,
    /// Sessions that this node may not use yet.
    #[cfg(all(feature = "snapshot", unix))]
    pub(super) withheld: WithheldSessions,
    settings: Settings,
}

impl Engine {
    pub(crate) fn new(now: Timestamp, settings: Settings) -> Self {
        Self {
            cluster: ClusterView::new(now, &settings),
            writes: Writes::default(),
            floors: Floors::default(),
            merged: MergedWrites::default(),
            reads: Reads::default(),
            lists: Lists::default(),
            updates: Updates::default(),
            anti_entropy: AntiEntropy::default(),
            readiness: Readiness::new(settings.requirements.clone()),
            revocations: Revocations::default(),
            membership: Membership::new(settings.me.clone(), settings.seed),
            timers: BTreeMap::new(),
            timers_set: 0,
            last_backfill: 0,
            backfills: BTreeMap::new(),
            next_tick: now.plus(TICK),
            ticks: 0,
            announcements: 0,
            last_announced: Default::default(),
            stable: true,
            caught_up: PeerSet::default(),
            missing: BTreeMap::new(),
            departed: BTreeSet::new(),
            all_returned: false,
            view_dirty: false,
            short_incarnations: Vec::new(),
            silent: BTreeMap::new(),
            quarantined_until: None,
            excluded: None,
            over_limit: false,
            copying_since: None,
            #[cfg(all(feature = "snapshot", unix))]
            withheld: WithheldSessions::default(),
            settings,
        }
    }

    pub(crate) fn handle(&mut self, now: Timestamp, input: Input, table: &EntryTable) {
        if self.cluster.left {
            return;
        }
        self.cluster.now = now;
        // Before the input: an acknowledgement from before a pause would count, although the other
        // members may have continued without this node.
        self.check_pause(now, table);
        match input {
            // The members name this incarnation as down. Their messages would make it join again at
            // once, and hold them up again.
            Input::Message { .. }
            | Input::LinkUp { .. }
            | Input::Accepted { .. }
            | Input::Refused { .. }
                if self.quarantined_until.is_some() => {}
            // An excluded node would otherwise join members that have no place for it.
            Input::Message { .. } | Input::LinkUp { .. } | Input::Accepted { .. }
                if self.excluded.is_some() => {}
            // A message for an earlier incarnation was buffered while this process was stopped. It
            // would extend sessions that have expired since.
            Input::Message { to, .. } if !self.is_meant(to) => {}
            Input::Message {
                from,
                age,
                mut message,
                ..
            } => {
                // Without the time in the sender's queues, sessions would live longer on a slow
                // link.
                message.aged(age);
                self.handle_message(now, from, message, table);
            }
            Input::LinkUp { node } => self.link_up(now, node, table),
            Input::Accepted { node } => {
                if let Some(peer) = self.cluster.peers.find(&node) {
                    // The requests made now may reach it before its end of the new link is up, and
                    // their answers be lost. They are made again when it announces itself.
                    if let Some(peer) = self.cluster.peers.get_mut(peer) {
                        peer.reconnected = true;
                    }
                    self.ask_again(now, peer, table);
                }
            }
            Input::Delivered { node, bytes, large } => {
                // Bytes that arrive there show that the peer runs, although its answers to probes
                // may wait behind data.
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
            Input::Arriving { node } => {
                if let Some(peer) = self.cluster.peers.find(&node) {
                    self.record_contact(now, &node, Some(peer));
                    self.cluster.flow.arriving(now, peer);
                }
            }
            Input::Refused { node } => self.handle_refused(now, node),
            Input::Outlook(outlook) => self.readiness.set_outlook(outlook, &mut self.cluster),
            Input::Seen { incarnation } => self.renew_above(now, incarnation),
            Input::Rival { node } => self.rival(now, node),
            Input::Paused => self.fence(now, table),
            Input::Timeout => self.timeout(now, table),
            Input::Listen(scope) => self.cluster.listen(scope),
            Input::Drain(leaving) => {
                self.cluster.leaving = leaving;
                self.view_dirty = true;
            }
            Input::Leave => self.leave(),
        }
        self.process(now, table);
    }

    /// Returns the bytes that wait for all peers together, and those of updates that wait here.
    #[cfg(test)]
    pub(crate) fn waiting_bytes(&self) -> [usize; 2] {
        let of = |peer| self.cluster.flow.waiting_bytes(peer);
        let for_peers = self.cluster.peers().iter().map(of).sum();
        [for_peers, self.updates.queued_bytes()]
    }

    /// Returns `true` if a message to this incarnation counts.
    const fn is_meant(&self, to: u64) -> bool {
        to == self.cluster.me.incarnation
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

    /// Reviews floors after a merge, which may leave a session with many marks of removed
    /// attributes.
    fn review_marks(&mut self, now: Timestamp, entries: &[KeyedEntry], table: &EntryTable) {
        let (cluster, writes) = (&mut self.cluster, &mut self.writes);
        self.floors.merged(now, entries, cluster, writes, table);
    }

    pub(crate) fn drain(&mut self, outputs: &mut Vec<Output>) {
        self.cluster.drain(outputs);
    }

    /// Handles a new link: messages on the old one may be lost.
    fn link_up(&mut self, now: Timestamp, node: Node, table: &EntryTable) {
        match self.cluster.peers.find(&node) {
            Some(peer) => {
                self.cluster.peers.note_linked(peer);
                // No delivery is reported for what the former link has lost: its bytes would fill
                // the window for as long as the peer is a member.
                self.cluster.flow.reset(peer);
                self.announce(now, peer);
                self.writes.send_again(peer, &mut self.cluster);
                self.cluster.send_events_again(peer);
                self.ask_again(now, peer, table);
            }
            None => {
                let mine = Message::View(self.view_message(now, false));
                self.cluster.send_to(node.clone(), mine);
                self.membership.announce(node);
            }
        }
    }

    /// Called when requests to a peer or its responses may be lost, or did not count: asks it
    /// again.
    fn ask_again(&mut self, now: Timestamp, peer: PeerIndex, table: &EntryTable) {
        self.reads.ask_again(peer, &mut self.cluster);
        self.lists.ask_again(peer, &mut self.cluster);
        let (updates, mut context) = self.ordering(table);
        updates.ask_again(now, peer, &mut context);
        self.anti_entropy.restart(peer, &mut self.cluster, table);
        self.floors.relinked(now, peer, &self.cluster, table);
    }

    /// Sends to a peer what fits into its window: messages first, then responses.
    fn fill_window(&mut self, now: Timestamp, peer: PeerIndex, table: &EntryTable) {
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

    fn leave(&mut self) {
        let has_others = self.cluster.peers.iter().any(|(_, peer)| !peer.leaving);
        let handed_over = self.cluster.is_settled() && self.writes.len() == 0 && has_others;
        // A node that leaves without having handed over is a loss, which the members must notice.
        if handed_over {
            for peer in self.cluster.peers().iter() {
                self.cluster.send(peer, Message::Leave);
            }
        }
        // After `Leave`: a member that first receives that this node is down counts its sessions as
        // possibly lost.
        self.membership.leave();
        while let Some(output) = self.membership.next_output() {
            if let MembershipOutput::Send(to, packet) = output {
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

    fn ordering<'a>(&'a mut self, table: &'a EntryTable) -> (&'a mut Updates, UpdateContext<'a>) {
        let context = UpdateContext {
            cluster: &mut self.cluster,
            writes: &mut self.writes,
            reads: &mut self.reads,
            floors: &mut self.floors,
            table,
        };
        (&mut self.updates, context)
    }
}

/// Interval at which timeouts and repetitions are checked.
const TICK: Duration = Duration::from_millis(50);

/// A node that was not scheduled for this long may have been declared down.
pub(crate) const PAUSE_MAX: Duration = DETECTION;

/// Most down incarnations named in one message: more than a cluster loses in ten minutes.
const REMOVED_MAX: usize = 256;
