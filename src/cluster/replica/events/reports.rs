//! Reports of events: from this node to its subscribers and to members, and from members.

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::event::{EventReport, Output};
use crate::cluster::replica::message::{Cursor, Happened, Message, Traced};
use crate::cluster::replica::peer_table::PeerIndex;
use crate::session::{Root, SessionEvent, SessionEventKind, Timestamp, UserKey};

use crate::cluster::replica::events::log::{Happening, Logged};

impl ClusterView {
    /// Called when the link to a member is new: sends again what it may not have received.
    pub(crate) fn send_events_again(&mut self, peer: PeerIndex) {
        if let Some(stream) = self.listeners.streams.get_mut(&peer)
            && let Some(received) = stream.received
        {
            stream.sent = received;
        }
        self.send_events(peer);
    }

    /// Sends a member the events that it does not have, as far as the link has room.
    pub(crate) fn send_events(&mut self, peer: PeerIndex) {
        while self.flow.events_waiting(peer) < EVENTS_AHEAD {
            let listeners = &mut self.listeners;
            let Some(stream) = listeners.streams.get_mut(&peer) else {
                return;
            };
            let Some((event, number, lost)) = listeners.log.after(stream.sent) else {
                return;
            };
            stream.sent = number;
            let place = Cursor {
                seq: number,
                ..listeners.log.end(self.now)
            };
            let Happening {
                kind,
                key,
                user,
                rotation,
            } = event.happening;
            let happened = Happened {
                sent_at: self.now,
                kind,
                key,
                user,
                at: event.at,
                lost,
                traced: Some(Traced {
                    place,
                    possible_repeat: event.possible_repeat,
                    rotation,
                }),
            };
            self.send(peer, Message::Happened(happened));
        }
    }

    /// Returns `true` if no event waits for room on the link to a subscriber.
    pub(crate) fn is_reported(&self) -> bool {
        let listeners = &self.listeners;
        listeners.streams.iter().all(|(peer, stream)| {
            self.flow.events_waiting(*peer) == 0 && listeners.log.after(stream.sent).is_none()
        })
    }

    /// Reports what has happened to a session.
    pub(crate) fn happened(&mut self, key: Root, kind: SessionEventKind, user: Option<UserKey>) {
        let happening = Happening {
            kind,
            key,
            user,
            rotation: 0,
        };
        self.emit(happening, self.now, false);
    }

    /// Reports an event to the subscribers here and at the members.
    pub(crate) fn emit(&mut self, happening: Happening, at: Timestamp, possible_repeat: bool) {
        if !self.listeners.is_any() {
            return;
        }
        let now = self.now;
        if self.listeners.here.is_some() {
            let is_known = self.listeners.seen.note(now, &happening);
            let event = SessionEvent {
                kind: happening.kind,
                key: happening.key,
                user: happening.user,
                node: Some(self.me.name.to_string()),
                at,
                possible_repeat,
            };
            self.output(Output::Event(if is_known {
                EventReport::LocalRepeat(event)
            } else {
                EventReport::Local(event)
            }));
        }
        let event = Logged {
            happening,
            at,
            possible_repeat,
        };
        self.listeners.log.push(now, event);
        for peer in self.listeners.peers.iter() {
            self.send_events(peer);
        }
    }

    /// A member has reported what has happened to a session.
    pub(crate) fn handle_event(&mut self, now: Timestamp, from: PeerIndex, happened: Happened) {
        let Some(peer) = self.peers.get(from).filter(|_| self.wants_events()) else {
            return;
        };
        let name = peer.node.name.clone();
        let lost = match happened.traced {
            Some(traced) => {
                let places = &mut self.listeners.places;
                let Some(lost) = places.advance(&name, traced.place, happened.lost) else {
                    return;
                };
                lost
            }
            None => happened.lost,
        };
        if lost > 0 {
            self.output(Output::Event(EventReport::Lost(lost)));
        }
        let happening = Happening {
            kind: happened.kind,
            key: happened.key,
            user: happened.user,
            rotation: happened.traced.map_or(0, |traced| traced.rotation),
        };
        if !self.listeners.seen.note(now, &happening) {
            let event = SessionEvent {
                kind: happening.kind,
                key: happening.key,
                user: happening.user,
                node: Some(name.to_string()),
                at: now.minus(happened.sent_at.since(happened.at)),
                possible_repeat: happened.traced.is_some_and(|traced| traced.possible_repeat),
            };
            self.output(Output::Event(EventReport::Remote(event)));
        }
    }
}

/// Events for one member that may wait for room in its window; further ones wait in the log.
const EVENTS_AHEAD: usize = 256;
