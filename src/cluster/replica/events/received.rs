//! The place in each member's log up to which this node has received it, and the latest events
//! delivered here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::replica::message::Cursor;
use crate::session::{Root, SessionEventKind, Timestamp};

use crate::cluster::replica::events::log::Happening;

/// The last event received from each member, by the member's name.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<Arc<str>, Cursor>);

impl Places {
    pub(super) fn get(&self, name: &str) -> Option<Cursor> {
        self.0.get(name).copied()
    }

    /// Records that everything up to `place` was received.
    pub(super) fn set(&mut self, name: &Arc<str>, place: Cursor) {
        if self.0.len() >= PLACES_MAX && !self.0.contains_key(name) {
            self.0.pop_first();
        }
        self.0.insert(name.clone(), place);
    }

    /// Records where the log of a member begins for this node. Events from there on may be under
    /// way already, or be here.
    pub(super) fn begin(&mut self, name: &Arc<str>, place: Cursor) {
        let is_other = |known: Cursor| known.log != place.log;
        if self.get(name).is_none_or(is_other) {
            self.set(name, place);
        }
    }

    /// Records an event that follows `lost` others, which its sender does not have any more.
    /// Returns how many of them are missing here; `None` if the event is not the next one: it was
    /// received before, or one before it is still under way.
    pub(super) fn advance(&mut self, name: &Arc<str>, place: Cursor, lost: u64) -> Option<u64> {
        let known = self.get(name).filter(|known| known.log == place.log);
        let lost = match known {
            Some(known) if place.seq <= known.seq => return None,
            Some(known) => {
                let missing = place.seq - known.seq - 1;
                if missing > lost {
                    return None;
                }
                missing
            }
            None => lost,
        };
        self.set(name, place);
        Some(lost)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The latest events delivered here, used to drop possible repeats of events already delivered.
#[derive(Debug, Default)]
pub(super) struct DeliveredEvents {
    events: BTreeSet<EventKey>,
    order: VecDeque<(Timestamp, EventKey)>,
}

/// Identifies an event, whichever node reports it: the session, the kind and the rotation.
type EventKey = (Root, u8, u64);

fn event_key(happening: &Happening) -> Option<EventKey> {
    let kind = match happening.kind {
        SessionEventKind::Created => 0,
        // One from a node of an earlier version, which does not distinguish them.
        SessionEventKind::Rotated if happening.rotation == 0 => return None,
        SessionEventKind::Rotated => 1,
        // The reason is not part of the key: a witness that reports for a failed node may not have
        // it, and the event would be delivered twice.
        SessionEventKind::Deleted(_) => 2,
        SessionEventKind::Expired(_) => 3,
    };
    Some((happening.key, kind, happening.rotation))
}

impl DeliveredEvents {
    /// Records an event that is delivered. Returns `true` if it was delivered before.
    pub(super) fn note(&mut self, now: Timestamp, happening: &Happening) -> bool {
        let is_old = |(at, _): &(Timestamp, EventKey)| now.since(*at) >= SEEN_FOR;
        while self.order.len() >= SEEN_MAX || self.order.front().is_some_and(is_old) {
            let Some((_, event)) = self.order.pop_front() else {
                break;
            };
            self.events.remove(&event);
        }
        let Some(event) = event_key(happening) else {
            return false;
        };
        let is_new = self.events.insert(event);
        if is_new {
            self.order.push_back((now, event));
        }
        !is_new
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Members whose place is remembered: more than a cluster has.
const PLACES_MAX: usize = 128;

/// Events that are remembered: as many as a member remembers to repeat.
const SEEN_MAX: usize = 16_384;

/// How long an event is remembered: as long as its node keeps it, and repeats take.
const SEEN_FOR: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> Cursor {
        Cursor { log: 7, seq }
    }

    #[test]
    fn events_count_in_the_order_of_their_numbers() {
        let name: Arc<str> = "node1".into();
        let mut places = Places::default();
        places.begin(&name, at(4));
        places.begin(&name, at(3));
        assert_eq!(places.advance(&name, at(5), 0), Some(0));
        assert_eq!(places.advance(&name, at(5), 0), None);
        // The sixth is still under way.
        assert_eq!(places.advance(&name, at(7), 0), None);
        assert_eq!(places.advance(&name, at(6), 0), Some(0));
        assert_eq!(places.advance(&name, at(10), 5), Some(3));
        let restarted = Cursor { log: 8, seq: 1 };
        assert_eq!(places.advance(&name, restarted, 0), Some(0));
        assert_eq!(places.get("node1"), Some(restarted));
        let limit = Cursor {
            log: 8,
            seq: u64::MAX,
        };
        assert_eq!(places.advance(&name, limit, u64::MAX), Some(u64::MAX - 2));
    }

    #[test]
    fn rotations_of_a_session_are_distinguished_and_the_memory_is_limited() {
        let now = Timestamp::from_millis(1_000);
        let event = |number: u64, kind, rotation| Happening {
            kind,
            key: Root::from_bytes([number as u8; 12]),
            user: None,
            rotation,
        };
        let mut seen = DeliveredEvents::default();
        let rotated = |rotation| event(1, SessionEventKind::Rotated, rotation);
        assert!(!seen.note(now, &rotated(3)) && !seen.note(now, &rotated(4)));
        assert!(seen.note(now, &rotated(3)));
        assert!(!seen.note(now, &rotated(0)) && !seen.note(now, &rotated(0)));
        for rotation in 5..5 + SEEN_MAX as u64 {
            assert!(!seen.note(now, &rotated(rotation)));
        }
        assert_eq!(seen.order.len(), SEEN_MAX);
        assert_eq!(seen.events.len(), SEEN_MAX);
        assert!(!seen.note(now.plus(SEEN_FOR), &rotated(5)));
        assert_eq!(seen.events.len(), 1);
    }
}
