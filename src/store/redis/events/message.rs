//! Messages of events, as `lua/report.lua` writes them.
//!
//! Any client that may publish on the channel can send any bytes: a message that is not exactly of
//! this form is ignored.

use crate::session::{EndReason, Root, SessionEventKind, Timestamp, UserKey};
use crate::store::redis::record::ServerClock;

/// The random number by which a store recognizes its own messages.
pub(super) type Instance = [u8; 8];

/// What has happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventMessage {
    pub(super) content: EventMessageKind,
    pub(super) key: Root,
    pub(super) user: Option<UserKey>,
    /// The name of the application that has created the session; empty without one.
    pub(super) application: Vec<u8>,
    /// When the session expires unless it is used.
    pub(super) until: Timestamp,
    /// When it expires in any case.
    pub(super) absolute_deadline: Timestamp,
    pub(super) instance: Instance,
    /// The name of the sender's node, if it has one.
    pub(super) node: Option<String>,
    /// The mark of the sender's attempt.
    attempt: [u8; 4],
}

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventMessageKind {
    Event(SessionEventKind),
    /// The session has another idle timeout; this is not reported.
    Lifetime,
}

/// Identifies a message that arrives over several connections.
pub(super) type EventMessageId = (Instance, [u8; 4]);

impl EventMessage {
    /// Parses a message that has arrived at `here`; `None` if it is not one.
    pub(super) fn parse(bytes: &[u8], here: Timestamp) -> Option<Self> {
        if bytes.len() > MESSAGE_MAX {
            return None;
        }
        let (fixed, rest) = bytes.split_first_chunk::<FIXED_BYTES>()?;
        let [MESSAGE_FORMAT, kind, reason, times @ ..] = fixed else {
            return None;
        };
        let number = |at: usize| {
            let bytes = times[at..at + 6].iter();
            bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let clock = ServerClock {
            there: number(0),
            here,
        };
        let (attempt, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(ROOT_DIGITS)?;
        let (user, rest) = match rest.split_first()? {
            (0, rest) => (None, rest),
            (16, rest) => {
                let (user, rest) = rest.split_first_chunk()?;
                (Some(UserKey::from_bytes(*user)), rest)
            }
            _ => return None,
        };
        let (length, rest) = rest.split_first()?;
        let (application, rest) = rest.split_at_checked(usize::from(*length))?;
        let (instance, node) = rest.split_first_chunk()?;
        let node = str::from_utf8(node).ok()?;
        if node.len() > NODE_NAME_MAX || node.chars().any(char::is_control) {
            return None;
        }
        let key = Root::parse(str::from_utf8(key).ok()?)?;
        if key.is_index() {
            return None;
        }
        Some(Self {
            content: content(*kind, *reason)?,
            key,
            user,
            application: application.to_vec(),
            until: clock.here(number(6)),
            absolute_deadline: clock.here(number(12)),
            instance: *instance,
            node: Some(node.to_owned()).filter(|node| !node.is_empty()),
            attempt: *attempt,
        })
    }

    pub(super) const fn id(&self) -> EventMessageId {
        (self.instance, self.attempt)
    }
}

fn content(kind: u8, reason: u8) -> Option<EventMessageKind> {
    Some(match kind {
        1 => EventMessageKind::Event(SessionEventKind::Created),
        2 => EventMessageKind::Event(SessionEventKind::Rotated),
        3 => EventMessageKind::Event(SessionEventKind::Deleted(parse_reason(reason)?)),
        4 => EventMessageKind::Event(SessionEventKind::Expired(parse_reason(reason)?)),
        5 => EventMessageKind::Lifetime,
        _ => return None,
    })
}

/// The number of a reason in messages.
pub(crate) const fn reason_number(reason: EndReason) -> u8 {
    match reason {
        EndReason::Logout => 1,
        EndReason::User => 2,
        EndReason::Admin => 3,
        EndReason::Limit => 4,
        EndReason::Idle => 5,
        EndReason::Absolute => 6,
    }
}

fn parse_reason(number: u8) -> Option<EndReason> {
    let reasons = [
        EndReason::Logout,
        EndReason::User,
        EndReason::Admin,
        EndReason::Limit,
        EndReason::Idle,
        EndReason::Absolute,
    ];
    reasons
        .into_iter()
        .find(|reason| reason_number(*reason) == number)
}

const MESSAGE_FORMAT: u8 = 1;
/// Format, kind, reason, and three times of six bytes.
const FIXED_BYTES: usize = 21;
const ROOT_DIGITS: usize = 24;
/// The longest name of a node, in bytes.
pub(crate) const NODE_NAME_MAX: usize = 64;
/// With the mark of the attempt, the user, an application's name of 64 bytes, and the instance.
const MESSAGE_MAX: usize = FIXED_BYTES + 4 + ROOT_DIGITS + 17 + 65 + 8 + NODE_NAME_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Timestamp = Timestamp::from_millis(1_000_000);

    fn message(kind: u8, reason: u8, user: &[u8], node: &[u8]) -> Vec<u8> {
        let mut bytes = vec![MESSAGE_FORMAT, kind, reason];
        for time in [5_000_u64, 6_000, 9_000] {
            bytes.extend(&time.to_be_bytes()[2..]);
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.extend(b"000102030405060708090a0b");
        bytes.push(user.len() as u8);
        bytes.extend(user);
        bytes.extend(b"\x04shop");
        bytes.extend([9; 8]);
        bytes.extend(node);
        bytes
    }

    #[test]
    fn times_are_converted_to_the_clock_of_this_node() {
        let bytes = message(3, 1, &[7; 16], b"node1");
        let parsed = EventMessage::parse(&bytes, HERE).expect("it is one");
        let kind = SessionEventKind::Deleted(EndReason::Logout);
        assert_eq!(parsed.content, EventMessageKind::Event(kind));
        assert_eq!(parsed.key.to_string(), "000102030405060708090a0b");
        assert_eq!(parsed.user, Some(UserKey::from_bytes([7; 16])));
        assert_eq!(parsed.application, b"shop");
        assert_eq!(parsed.until.as_millis(), 1_001_000);
        assert_eq!(parsed.absolute_deadline.as_millis(), 1_004_000);
        assert_eq!(parsed.node.as_deref(), Some("node1"));
        assert_eq!(parsed.id(), ([9; 8], [1, 2, 3, 4]));
        let nameless = EventMessage::parse(&message(1, 0, &[], b""), HERE).expect("it is one");
        assert_eq!((nameless.user, nameless.node), (None, None));
    }

    /// What is published by others on the channel: no prefix of a message, no longer one and no
    /// other value of a byte is taken for an event that it is not.
    #[test]
    fn bytes_that_are_no_message_are_ignored() {
        let good = message(4, 5, &[7; 16], b"node1");
        for length in 0..good.len() - 5 {
            assert_eq!(EventMessage::parse(&good[..length], HERE), None, "{length}");
        }
        let long = message(4, 5, &[7; 16], &[b'n'; NODE_NAME_MAX + 1]);
        let bad = [
            long,
            message(0, 0, &[], b""),
            message(6, 0, &[], b""),
            message(3, 0, &[], b""),
            message(4, 7, &[], b""),
            message(1, 0, &[7; 15], b""),
            message(1, 0, &[], b"\xff"),
            message(1, 0, &[], b"a\nb"),
            message(1, 0, &[], &[0; 1 << 20]),
            Vec::new(),
        ];
        for bytes in bad {
            assert_eq!(EventMessage::parse(&bytes, HERE), None, "{bytes:?}");
        }
        for at in 0..good.len() {
            for byte in 0..=u8::MAX {
                let mut bytes = good.clone();
                bytes[at] = byte;
                let _ = EventMessage::parse(&bytes, HERE);
            }
        }
    }
}
