//! Sessions and tombstones as bytes in a file.
//!
//! A file outlives the process that wrote it, so nothing in here is a point in time: what a session
//! has left is written as a duration, and what passed meanwhile is deducted when it is read. This is
//! not the form that nodes speak to each other: the protocol may change with every version, a file
//! that was written once must be readable for ever.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::{Idle, Lifetime, Name, Record, Register, Root, Stamp, Timestamp, Value};

use super::source::{Kept, State};

/// When a file was written, and when it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    /// The reader's clock.
    pub(super) now: Timestamp,
    /// What has passed since the bytes were written.
    pub(super) down: Duration,
}

/// One entry of a file.
#[derive(Serialize, Deserialize)]
struct Filed<'a> {
    key: Root,
    #[serde(borrow)]
    state: FiledState<'a>,
}

#[derive(Serialize, Deserialize)]
enum FiledState<'a> {
    Live(#[serde(borrow)] FiledRecord<'a>),
    Dead { left: Left, successor: Option<Root> },
}

#[derive(Serialize, Deserialize)]
struct FiledRecord<'a> {
    /// As its creator's clock said, in milliseconds since 1970; only ever shown.
    created_at: Timestamp,
    left: Left,
    idle_for_ms: u64,
    max_inactive: (Stamp, Idle),
    first_visit: Idle,
    returned: bool,
    #[serde(borrow)]
    registers: Vec<FiledRegister<'a>>,
    updates: Cow<'a, [Stamp]>,
}

#[derive(Serialize, Deserialize)]
struct FiledRegister<'a> {
    name: &'a str,
    stamp: Stamp,
    value: Option<&'a [u8]>,
}

/// Milliseconds to a deadline; the largest number: it never comes.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Left(u64);

/// An entry that could be read.
#[derive(Debug)]
pub(super) enum Read {
    Kept(Kept),
    /// It ran out while it lay in the file.
    Expired,
}

/// Appends an entry to `bytes`.
pub(super) fn encode(kept: &Kept, now: Timestamp, bytes: Vec<u8>) -> postcard::Result<Vec<u8>> {
    let state = match &kept.state {
        State::Live(record) => FiledState::Live(FiledRecord {
            created_at: record.lifetime.created_at,
            left: Left::of(record.lifetime.ends_at, now),
            idle_for_ms: now.since(record.lifetime.accessed_at).as_millis() as u64,
            max_inactive: record.lifetime.max_inactive,
            first_visit: record.lifetime.first_visit,
            returned: record.lifetime.returned,
            registers: record.registers().iter().map(FiledRegister::of).collect(),
            updates: Cow::Borrowed(record.updates()),
        }),
        State::Dead { until, successor } => FiledState::Dead {
            left: Left::of(*until, now),
            successor: *successor,
        },
    };
    let key = kept.key;
    postcard::to_extend(&Filed { key, state }, bytes)
}

/// Reads the entry at the start of `bytes`; gives the rest as well. `None`: it is none.
pub(super) fn decode(bytes: &[u8], passage: Passage) -> Option<(Read, &[u8])> {
    let (filed, rest) = postcard::take_from_bytes::<Filed<'_>>(bytes).ok()?;
    let key = filed.key;
    let read = match filed.state {
        FiledState::Live(record) => match record.restore(passage)? {
            record if record.is_live(passage.now) => Read::Kept(Kept {
                key,
                state: State::Live(Arc::new(record)),
            }),
            _ => Read::Expired,
        },
        FiledState::Dead { left, successor } => match left.restore(passage) {
            until if until > passage.now => Read::Kept(Kept {
                key,
                state: State::Dead { until, successor },
            }),
            _ => Read::Expired,
        },
    };
    Some((read, rest))
}

impl FiledRecord<'_> {
    fn restore(self, passage: Passage) -> Option<Record> {
        let idle_for = Duration::from_millis(self.idle_for_ms).saturating_add(passage.down);
        let lifetime = Lifetime {
            created_at: self.created_at,
            ends_at: self.left.restore(passage),
            accessed_at: passage.now.minus(idle_for),
            max_inactive: self.max_inactive,
            first_visit: self.first_visit,
            returned: self.returned,
        };
        let registers = self.registers.into_iter().map(FiledRegister::restore);
        Record::from_parts(lifetime, registers.collect(), self.updates.into_owned())
    }
}

impl<'a> FiledRegister<'a> {
    fn of(register: &'a Register) -> Self {
        Self {
            name: &register.name,
            stamp: register.stamp,
            value: register.value.as_ref().map(Value::as_bytes),
        }
    }

    fn restore(self) -> Register {
        Register {
            name: Name::from(self.name),
            stamp: self.stamp,
            value: self.value.map(Value::from_bytes),
        }
    }
}

impl Left {
    fn of(deadline: Timestamp, now: Timestamp) -> Self {
        match deadline {
            Timestamp::NEVER => Self(u64::MAX),
            _ => Self(deadline.since(now).as_millis() as u64),
        }
    }

    fn restore(self, passage: Passage) -> Timestamp {
        match self.0 {
            u64::MAX => Timestamp::NEVER,
            ms => {
                let left = Duration::from_millis(ms).saturating_sub(passage.down);
                passage.now.plus(left)
            }
        }
    }
}

#[cfg(test)]
mod tests;
