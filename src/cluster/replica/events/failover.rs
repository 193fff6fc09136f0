//! Events of nodes that fail before they have reported them.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::{KeyedEntry, Message, Operation, Reason, ViewId};
use crate::cluster::replica::peer_table::{PeerIndex, PeerSet};
use crate::cluster::replica::placement::MemberRef;
use crate::cluster::replica::table::EntryTable;
use crate::session::{EndReason, Record, Root, SessionEventKind, Timestamp};

use crate::cluster::replica::events::log::Happening;
use crate::cluster::replica::events::witness::{WITNESSED_FOR, Witnessed};

impl ClusterView {
    /// A new view is being installed: remembers who owned the slots before.
    pub(crate) fn note_former_placement(&mut self) {
        if self.listeners.is_any() {
            let formers = &mut self.listeners.formers;
            if formers.len() == FORMERS_MAX {
                formers.pop_front();
            }
            formers.push_back((self.now, self.placement.clone()));
        }
    }

    /// Returns `true` if `is_it` holds for the owner of a slot in a view that ended at most `age`
    /// ago.
    fn was_owner(&self, slot: usize, age: Duration, is_it: impl Fn(MemberRef) -> bool) -> bool {
        let is_recent = |at: &Timestamp| self.now.since(*at) < age;
        let formers = self.listeners.formers.iter();
        let mut recent = formers.filter(|(at, _)| is_recent(at));
        recent.any(|(_, placement)| is_it(placement.owner(slot)))
    }

    /// A session has expired and was removed from memory here. Its owner reports that.
    pub(crate) fn expired(&mut self, key: Root, record: &Record) {
        // A node without a place among the others owns nothing.
        if !self.ready || !self.listeners.is_any() {
            return;
        }
        let happening = Happening {
            kind: SessionEventKind::expiry_of(record),
            key,
            user: record.user(),
            rotation: 0,
        };
        let (now, slot) = (self.now, key.slot());
        match self.owner(slot) {
            MemberRef::Me => {
                // The former owner may have dropped the session, and reported that, before it
                // failed.
                let is_else = |owner: MemberRef| owner != MemberRef::Me;
                let possible_repeat = self.was_owner(slot, WITNESSED_FOR, is_else);
                self.emit(happening, now, possible_repeat);
            }
            // The new owner may not have had it any more.
            MemberRef::Peer(_)
                if self.was_owner(slot, MOVING_FOR, |owner| owner == MemberRef::Me) =>
            {
                self.emit(happening, now, true);
            }
            MemberRef::Peer(owner) => {
                let holders = self.holders(slot).peers;
                self.remember(happening, owner, Some(holders));
            }
        }
    }

    /// Remembers what a write of a member does to a session, before it is merged.
    pub(crate) fn witness(
        &mut self,
        from: PeerIndex,
        view: ViewId,
        keyed: &KeyedEntry,
        table: &EntryTable,
    ) {
        let key = keyed.key;
        if !self.listeners.is_any() || key.is_index() {
            return;
        }
        let before = table.record(&key);
        let (kind, user, rotation) = match &keyed.entry {
            Entry::Live(record) if before.is_none() && !table.has_ended(&key) => {
                (SessionEventKind::Created, record.user(), 0)
            }
            Entry::Delta(delta) => {
                let Some(credential) = &delta.credential else {
                    return;
                };
                let version = credential.version();
                // The write was sent again: its event was recorded when it first arrived.
                if before.is_some_and(|before| before.credential.version() >= version) {
                    return;
                }
                (SessionEventKind::Rotated, credential.user(), version.clock)
            }
            Entry::Tombstone { .. } if !table.has_ended(&key) => {
                let reason = self.listeners.witnesses.reason(&key);
                let user = before.and_then(|before| before.user());
                (SessionEventKind::Deleted(reason), user, 0)
            }
            Entry::Live(_) | Entry::Tombstone { .. } | Entry::Expired(_) => return,
        };
        let happening = Happening {
            kind,
            key,
            user,
            rotation,
        };
        // In another view, the writer may have sent it to other holders.
        let holders = (view == self.view).then(|| self.holders(key.slot()).peers);
        self.remember(happening, from, holders);
    }

    /// Remembers a change that this node, as the owner, has ordered for a member.
    pub(crate) fn witness_order(
        &mut self,
        asker: PeerIndex,
        key: Root,
        order: &Operation,
        entries: &[KeyedEntry],
        before: Option<&Arc<Record>>,
    ) {
        if !self.listeners.is_any() || key.is_index() {
            return;
        }
        let credential = entries.iter().find_map(|keyed| match &keyed.entry {
            Entry::Delta(delta) => delta.credential.as_ref(),
            Entry::Live(_) | Entry::Expired(_) | Entry::Tombstone { .. } => None,
        });
        let (kind, user, rotation) = match order {
            Operation::Create(record) => (SessionEventKind::Created, record.user(), 0),
            Operation::Update => {
                let Some(credential) = credential else {
                    return;
                };
                let version = credential.version();
                (SessionEventKind::Rotated, credential.user(), version.clock)
            }
            Operation::Delete => {
                let reason = self.listeners.witnesses.reason(&key);
                let user = before.and_then(|before| before.user());
                (SessionEventKind::Deleted(reason), user, 0)
            }
        };
        let happening = Happening {
            kind,
            key,
            user,
            rotation,
        };
        // The other holders have received the change from this node: they report it if this node
        // fails, and not if the one that has asked for it does.
        self.remember(happening, asker, None);
    }

    fn remember(&mut self, happening: Happening, reporter: PeerIndex, others: Option<PeerSet>) {
        let event = Witnessed {
            happening,
            happened_at: self.now,
            at: self.now,
            reporter,
            others,
        };
        self.listeners.witnesses.push(event);
    }

    /// Sends the reason for a deletion ahead of it, for the event that the receivers report if this
    /// node fails.
    pub(crate) fn announce_reason(&mut self, key: Root, reason: EndReason) {
        if reason == EndReason::Admin || !self.listeners.is_any() {
            return;
        }
        let holders = self.holders(key.slot());
        let to = match holders.owner {
            MemberRef::Peer(owner) if !holders.me => PeerSet::of(owner),
            MemberRef::Peer(_) | MemberRef::Me => holders.peers,
        };
        for peer in to.iter() {
            self.send(peer, Message::Reason(Reason { key, reason }));
        }
    }

    /// Handles the reason for a deletion that follows.
    pub(crate) fn handle_reason(&mut self, from: PeerIndex, announced: Reason) {
        let Reason { key, reason } = announced;
        if !self.listeners.is_any() {
            return;
        }
        self.listeners.witnesses.note_reason(self.now, key, reason);
        let holders = self.holders(key.slot());
        if holders.owner == MemberRef::Me {
            // A member that is no holder has the owner delete the session.
            for peer in holders.peers.iter().filter(|peer| *peer != from) {
                self.send(peer, Message::Reason(Reason { key, reason }));
            }
        }
    }

    /// Called when a member was removed. If it did not leave in order, it may have failed to report
    /// what it has done: one of the nodes that remember it reports it.
    pub(crate) fn reporter_gone(&mut self, peer: PeerIndex, departed: bool, table: &EntryTable) {
        for event in self.listeners.witnesses.take(self.now, peer) {
            let others = event.others.unwrap_or_default();
            let members = others.iter().filter_map(|index| {
                let peer = self.peers.get(index)?;
                Some((&peer.node, index))
            });
            let first = members.min_by_key(|(node, _)| *node);
            let happening = event.happening;
            let is_live = || table.peek(self.now, &happening.key).is_some();
            match first {
                // A member that left in order has reported its events.
                _ if departed => {}
                // One witness reports it. The others wait for that one, which may fail before it
                // has done so.
                Some((node, index)) if *node < self.me => {
                    self.listeners.witnesses.push(Witnessed {
                        at: self.now,
                        reporter: index,
                        ..event
                    });
                }
                // It was used elsewhere meanwhile.
                _ if matches!(happening.kind, SessionEventKind::Expired(_)) && is_live() => {}
                _ => self.emit(happening, event.happened_at, true),
            }
        }
    }
}

/// How long after a change of the view an expiry is also reported by the former owner of the slot:
/// views differ for no longer while no member fails.
const MOVING_FOR: Duration = Duration::from_secs(5);

/// Earlier placements that are remembered.
const FORMERS_MAX: usize = 8;
