//! The log of the latest events that a node has reported.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cluster::replica::message::Cursor;
use crate::session::{Record, Root, SessionEventKind, Timestamp, UserKey};

/// What has happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Happening {
    pub(crate) kind: SessionEventKind,
    pub(crate) key: Root,
    pub(crate) user: Option<UserKey>,
    /// The clock of the version that a rotation has given to the credential, which distinguishes
    /// the rotations of one session; 0 for other events.
    pub(crate) rotation: u64,
}

impl Happening {
    /// What a call has done to `record`.
    pub(crate) fn of(key: Root, kind: SessionEventKind, record: &Record) -> Self {
        let is_rotation = kind == SessionEventKind::Rotated;
        let version = is_rotation.then(|| record.credential.version());
        Self {
            kind,
            key,
            user: record.user(),
            rotation: version.map_or(0, |version| version.clock),
        }
    }
}

/// An event as its node reports it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logged {
    pub(super) happening: Happening,
    pub(super) at: Timestamp,
    pub(super) possible_repeat: bool,
}

/// The latest events of this node, numbered. They are kept whether or not they were sent: a member
/// whose link was broken receives what follows the last one that it has.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    /// Distinguishes this log from that of another process under the same name: the time at which
    /// it began.
    id: u64,
    /// The number of the last event.
    last: u64,
    /// The latest events without a gap; the last one has the number `last`.
    events: VecDeque<Logged>,
}

impl EventLog {
    /// Returns the place after the last event.
    pub(super) fn end(&mut self, now: Timestamp) -> Cursor {
        if self.id == 0 {
            self.id = now.as_millis().max(1);
        }
        Cursor {
            log: self.id,
            seq: self.last,
        }
    }

    /// Returns the place, if it is in this log.
    pub(super) fn find(&self, place: Option<Cursor>) -> Option<u64> {
        let place = place.filter(|place| place.log == self.id && place.seq <= self.last);
        place.map(|place| place.seq)
    }

    pub(super) fn push(&mut self, now: Timestamp, event: Logged) {
        self.end(now);
        self.forget(now);
        if self.events.len() == LOGGED_MAX {
            self.events.pop_front();
        }
        self.last += 1;
        self.events.push_back(event);
    }

    /// Removes events that are too old to be sent again.
    pub(super) fn forget(&mut self, now: Timestamp) {
        let is_old = |event: &Logged| now.since(event.at) >= LOGGED_FOR;
        while self.events.front().is_some_and(is_old) {
            self.events.pop_front();
        }
    }

    /// Called when events are not logged for a while. The gap counts as one lost event for a member
    /// that asks for what follows an earlier one: the number is unknown.
    pub(super) fn interrupt(&mut self) {
        if self.id != 0 {
            self.events.clear();
            self.last += 1;
        }
    }

    /// Returns the first event after the number `seq` that is still here, with its number, and the
    /// number of those before it that are not.
    pub(super) fn after(&self, seq: u64) -> Option<(Logged, u64, u64)> {
        let first = self.last + 1 - self.events.len() as u64;
        let number = first.max(seq + 1);
        let event = self.events.get((number - first) as usize)?;
        Some((*event, number, number - seq - 1))
    }
}

/// Events that are kept for members whose links are slow or broken.
const LOGGED_MAX: usize = 8_192;

/// How long an event is kept: longer than a member is away that was paused or cut off briefly.
pub(super) const LOGGED_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64) -> Logged {
        Logged {
            happening: Happening {
                kind: SessionEventKind::Created,
                key: Root::from_bytes([1; 12]),
                user: None,
                rotation: 0,
            },
            at: Timestamp::from_millis(at),
            possible_repeat: false,
        }
    }

    fn after(log: &EventLog, seq: u64) -> Option<(u64, u64, u64)> {
        let (event, number, lost) = log.after(seq)?;
        Some((event.at.as_millis(), number, lost))
    }

    #[test]
    fn what_follows_a_place_is_found_and_what_is_missing_is_counted() {
        let mut log = EventLog::default();
        let start = Timestamp::from_millis(1_000);
        let began = log.end(start);
        assert_eq!(log.find(Some(began)), Some(0));
        for at in 1_001..=1_000 + LOGGED_MAX as u64 + 2 {
            log.push(Timestamp::from_millis(at), event(at));
        }
        assert_eq!(after(&log, 0), Some((1_003, 3, 2)));
        assert_eq!(after(&log, 3), Some((1_004, 4, 0)));
        assert_eq!(after(&log, LOGGED_MAX as u64 + 2), None);
        let other = Cursor { log: 1, ..began };
        assert_eq!((log.find(Some(other)), log.find(None)), (None, None));
        let beyond = Cursor {
            seq: 1 << 40,
            ..began
        };
        assert_eq!(log.find(Some(beyond)), None);
        let late = start.plus(LOGGED_FOR * 2);
        log.push(late, event(late.as_millis()));
        assert_eq!(after(&log, 8_000), Some((late.as_millis(), 8_195, 194)));
    }

    #[test]
    fn an_interruption_counts_as_a_loss() {
        let mut log = EventLog::default();
        let now = Timestamp::from_millis(1_000);
        log.push(now, event(1_000));
        log.interrupt();
        assert_eq!(after(&log, 1), None);
        log.push(now, event(1_002));
        assert_eq!(after(&log, 1), Some((1_002, 3, 1)));
        assert_eq!(after(&log, 2), Some((1_002, 3, 0)));
    }
}
