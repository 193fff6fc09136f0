//! The format of sessions and tombstones in a file.
//!
//! A file outlives the process that wrote it, so it contains no points in time: the remaining
//! lifetime of a session is written as a duration, and the time in between is deducted when it is
//! read. This is not the format of the protocol between nodes: that may change with every version,
//! while a file must stay readable.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::{
    AttributeEntry, Credential, Details, HISTORY_MAX, Idle, Lifetime, Name, Record, Root,
    SecretHash, Timestamp, UserKey, Value, Version,
};
use crate::store::export::{EntryState, StoredEntry};

/// The times of writing and reading a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Downtime {
    /// The reader's clock.
    pub(crate) now: Timestamp,
    /// The time since the bytes were written.
    pub(crate) down: Duration,
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
    Tombstone { left: Left },
}

#[derive(Serialize, Deserialize)]
struct FiledRecord<'a> {
    credential: FiledCredential,
    /// By its creator's clock, in milliseconds since 1970; only displayed.
    created_at: Timestamp,
    idle_for_ms: u64,
    /// The version of the last access.
    access: u64,
    idle_timeout: (Version, Idle),
    initial_idle_timeout: Idle,
    returned: bool,
    #[serde(borrow)]
    entries: Vec<FiledAttribute<'a>>,
    updates: Cow<'a, [Version]>,
}

#[derive(Serialize, Deserialize)]
struct FiledAttribute<'a> {
    name: &'a str,
    version: Version,
    value: Option<&'a [u8]>,
}

/// The hash of a session's secret, and the data bound to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FiledCredential {
    hash: SecretHash,
    /// The time until the absolute deadline.
    left: Left,
    details: Option<Box<FiledDetails>>,
}

/// Present only if the session was rotated, or is bound to a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FiledDetails {
    version: Version,
    /// The time since the secret was rotated.
    rotated_for_ms: Option<u64>,
    user: Option<UserKey>,
    /// The time since the absolute timeout was restarted.
    began_for_ms: Option<u64>,
    history: Vec<Version>,
}

/// Milliseconds until a deadline; the largest number means never.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Left(u64);

/// A decoded entry.
#[derive(Debug)]
pub(crate) enum DecodedEntry {
    Stored(StoredEntry),
    /// It expired between writing and reading.
    Expired,
}

/// Appends an entry to `bytes`.
pub(crate) fn encode(
    entry: &StoredEntry,
    now: Timestamp,
    bytes: Vec<u8>,
) -> postcard::Result<Vec<u8>> {
    let state = match &entry.state {
        EntryState::Live(record) => FiledState::Live(FiledRecord {
            credential: FiledCredential::of(&record.credential, now),
            created_at: record.lifetime.created_at,
            idle_for_ms: passed(record.lifetime.accessed_at, now),
            access: record.lifetime.access,
            idle_timeout: record.lifetime.idle_timeout,
            initial_idle_timeout: record.lifetime.initial_idle_timeout,
            returned: record.lifetime.returned,
            entries: record.entries().iter().map(FiledAttribute::of).collect(),
            updates: Cow::Borrowed(record.updates()),
        }),
        EntryState::Tombstone { until } => FiledState::Tombstone {
            left: Left::of(*until, now),
        },
    };
    let key = entry.key;
    postcard::to_extend(&Filed { key, state }, bytes)
}

/// Decodes the entry at the start of `bytes`, and returns it with the rest. `None`: it is invalid.
pub(crate) fn decode(bytes: &[u8], downtime: Downtime) -> Option<(DecodedEntry, &[u8])> {
    let (filed, rest) = postcard::take_from_bytes::<Filed<'_>>(bytes).ok()?;
    let key = filed.key;
    let read = match filed.state {
        FiledState::Live(record) => match record.restore(downtime)? {
            record if record.is_live(downtime.now) => DecodedEntry::Stored(StoredEntry {
                key,
                state: EntryState::Live(Arc::new(record)),
            }),
            _ => DecodedEntry::Expired,
        },
        FiledState::Tombstone { left } => match left.restore(downtime) {
            until if until > downtime.now => DecodedEntry::Stored(StoredEntry {
                key,
                state: EntryState::Tombstone { until },
            }),
            _ => DecodedEntry::Expired,
        },
    };
    Some((read, rest))
}

impl FiledRecord<'_> {
    fn restore(self, downtime: Downtime) -> Option<Record> {
        let lifetime = Lifetime {
            created_at: self.created_at,
            accessed_at: downtime.before(self.idle_for_ms),
            access: self.access,
            idle_timeout: self.idle_timeout,
            initial_idle_timeout: self.initial_idle_timeout,
            returned: self.returned,
        };
        let credential = self.credential.restore(downtime)?;
        let entries = self.entries.into_iter().map(FiledAttribute::restore);
        Record::from_parts(
            credential,
            lifetime,
            entries.collect(),
            self.updates.into_owned(),
        )
    }
}

impl FiledCredential {
    /// The credential as it is at `now`.
    pub(crate) fn of(credential: &Credential, now: Timestamp) -> Self {
        let details = credential.details();
        let is_plain = details == Details::default();
        let details = FiledDetails {
            version: details.version,
            rotated_for_ms: details.rotated_at.map(|at| passed(at, now)),
            user: details.user,
            began_for_ms: details.began_at.map(|at| passed(at, now)),
            history: details.history,
        };
        Self {
            hash: credential.hash,
            left: Left::of(credential.absolute_deadline, now),
            details: (!is_plain).then(|| Box::new(details)),
        }
    }

    /// Returns `false` if no store can have written this.
    pub(crate) fn is_sound(&self) -> bool {
        self.details.as_ref().is_none_or(|details| {
            details.version.is_valid()
                && details.history.len() <= HISTORY_MAX
                && details.history.iter().all(Version::is_valid)
        })
    }

    /// The credential on this process's clock; `None` if no store can have written it.
    pub(crate) fn restore(self, downtime: Downtime) -> Option<Credential> {
        if !self.is_sound() {
            return None;
        }
        let details = self.details.map_or_else(Details::default, |filed| Details {
            version: filed.version,
            rotated_at: filed.rotated_for_ms.map(|ms| downtime.before(ms)),
            user: filed.user,
            began_at: filed.began_for_ms.map(|ms| downtime.before(ms)),
            history: filed.history,
        });
        let absolute_deadline = self.left.restore(downtime);
        Some(Credential::from_parts(
            self.hash,
            absolute_deadline,
            details,
        ))
    }
}

impl Downtime {
    /// The point on the reader's clock that was `ms` milliseconds before the bytes were written.
    pub(crate) fn before(self, ms: u64) -> Timestamp {
        let passed = Duration::from_millis(ms).saturating_add(self.down);
        self.now.minus(passed)
    }
}

/// The milliseconds from `at` to `now`.
pub(crate) fn passed(at: Timestamp, now: Timestamp) -> u64 {
    now.since(at).as_millis() as u64
}

impl<'a> FiledAttribute<'a> {
    fn of(register: &'a AttributeEntry) -> Self {
        Self {
            name: &register.name,
            version: register.version,
            value: register.value.as_ref().map(Value::as_bytes),
        }
    }

    fn restore(self) -> AttributeEntry {
        AttributeEntry {
            name: Name::from(self.name),
            version: self.version,
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

    fn restore(self, downtime: Downtime) -> Timestamp {
        match self.0 {
            u64::MAX => Timestamp::NEVER,
            ms => {
                let left = Duration::from_millis(ms).saturating_sub(downtime.down);
                downtime.now.plus(left)
            }
        }
    }
}

#[cfg(test)]
mod tests;
