//! The index of a user's sessions, as stores keep it.
//!
//! Each user who has logged in has an *index*: a record like that of a session, under a root
//! derived from the user's key. It is placed, replicated, repaired, saved and limited as sessions
//! are. It has one attribute for each session, under the session's root. It is not a session: no
//! secret opens it, and it is not counted as one.
//!
//! When all sessions of a user are ended, the index records it under [`ENDED`]. The version of that
//! write decides about entries that are merged later, from the other side of a partition: the
//! sessions of older entries are ended as well.

use std::cmp::Reverse;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(feature = "replicated")]
use crate::session::Version;
use crate::session::{
    AttributeEntry, Changes, Login, Name, Record, Root, SecretHash, Timestamp, UserKey, Value,
    codec, is_reserved, shown,
};

/// An entry of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexEntry {
    /// The application's label of the session, a device for example.
    #[serde(rename = "l")]
    pub(crate) label: Option<String>,
    /// The time of the login, in milliseconds, by that node's clock.
    #[serde(rename = "t")]
    pub(crate) logged_in_at: u64,
    /// The session's absolute deadline, by that node's clock.
    #[serde(rename = "u")]
    pub(crate) until: u64,
}

/// A session as listed in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) key: Root,
    pub(crate) entry: IndexEntry,
    /// All sessions of the user were ended after this entry was written.
    pub(crate) is_ended: bool,
}

/// The root of a user's index.
pub(crate) fn index_root(user: &UserKey) -> Root {
    let [root @ .., _, _, _, _] = user.to_bytes();
    Root::of_index(root)
}

/// The changes that create an index.
pub(crate) fn new_index(lifetime: Duration) -> Changes {
    Changes::create(SecretHash::NONE, None, lifetime)
}

/// The changes that set an index's lifetime to `lifetime` from now on.
pub(crate) fn prolong(changes: &mut Changes, lifetime: Duration) {
    // The deadline is part of the credential, and only a rotation replaces that. The secret stays:
    // two sides of a partition that prolong the index do not fork.
    changes.rotate(SecretHash::NONE, SecretHash::NONE);
    changes.log_in(Login {
        user: None,
        absolute_timeout: lifetime,
    });
}

pub(crate) fn put(changes: &mut Changes, key: &Root, entry: &IndexEntry) {
    let value =
        codec::encode(entry, ENTRY_MAX).expect("an entry has a short label and two numbers");
    changes.insert(Name::from(&*key.to_string()), value);
}

pub(crate) fn remove(changes: &mut Changes, key: &Root) {
    changes.remove(Name::from(&*key.to_string()));
}

/// Makes the changes conditional: the session's entry must still be as it is in `index`.
pub(crate) fn expect_entry(changes: &mut Changes, key: &Root, index: &Record) {
    let name = Name::from(&*key.to_string());
    let version = index.version(&name);
    changes.require_version(name, version);
}

/// Records that all sessions listed so far are ended.
pub(crate) fn note_end(changes: &mut Changes) {
    changes.insert(Name::from(ENDED), Value::from_bytes([]));
}

impl Record {
    /// Returns `true` if this is the index of a user, and not a session.
    #[cfg(any(test, feature = "memory", feature = "replicated"))]
    pub(crate) fn is_index(&self) -> bool {
        self.credential.hash == SecretHash::NONE
    }

    /// How many sessions are in an index, including those that have ended by themselves.
    pub(crate) fn listed_count(&self) -> usize {
        let is_entry = |it: &&AttributeEntry| it.value.is_some() && !is_reserved(&it.name);
        self.entries().iter().filter(is_entry).count()
    }

    /// Returns `true` if a session is in an index.
    pub(crate) fn is_listed(&self, key: &Root) -> bool {
        self.get(&key.to_string()).is_some()
    }

    /// Returns `true` if a session is in an index, or was, as far as that is known.
    pub(crate) fn was_listed(&self, key: &Root) -> bool {
        self.version(&key.to_string()).is_some()
    }

    /// The sessions in an index, the latest login first.
    pub(crate) fn listed(&self) -> Vec<Listed> {
        let ended = self.version(ENDED).unwrap_or_default();
        let mut listed: Vec<_> = self
            .entries()
            .iter()
            .filter_map(|entry| {
                let listed = Listed {
                    key: Root::parse(&entry.name)?,
                    entry: codec::decode(entry.value.as_ref()?).ok()?,
                    is_ended: entry.version < ended,
                };
                Some((entry.version, listed))
            })
            .collect();
        // Not by the time of the login: by the clock of a node that is behind, the login that is
        // just being registered would be the oldest. Its version is larger than all that it has
        // seen.
        listed.sort_by_key(|(version, listed)| (Reverse(*version), listed.key));
        listed.into_iter().map(|(_, listed)| listed).collect()
    }

    /// Sessions in an index that were ended before their entries arrived here.
    #[cfg(feature = "replicated")]
    pub(crate) fn ended_too_late(&self) -> Vec<Root> {
        let ended: Option<Version> = self.version(ENDED);
        let is_late = |version: &Version| ended.is_some_and(|ended| *version < ended);
        let entries = self.entries().iter();
        let late = entries.filter(|r| r.value.is_some() && is_late(&r.version));
        late.filter_map(|entry| Root::parse(&entry.name)).collect()
    }
}

/// A session, as shown to administration.
///
/// Serialized, keys are text as [`Display`](std::fmt::Display) shows them, and times are
/// milliseconds since the Unix epoch: `null` for one that never comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The root of the session's id: its name in stores and logs, which is not a secret.
    #[serde(serialize_with = "shown::text")]
    pub key: Root,
    /// The user who is logged in.
    #[serde(serialize_with = "shown::user")]
    pub user: Option<UserKey>,
    /// The label that the application gave the session at the login.
    pub label: Option<String>,
    /// The time when the session was created.
    #[serde(serialize_with = "shown::time")]
    pub created_at: Timestamp,
    /// The time of the last recorded access.
    #[serde(serialize_with = "shown::time")]
    pub last_accessed_at: Timestamp,
    /// The time when it expires unless it is used before.
    #[serde(serialize_with = "shown::time")]
    pub expires_at: Timestamp,
    /// The time when it expires in any case.
    #[serde(serialize_with = "shown::time")]
    pub absolute_deadline: Timestamp,
}

impl SessionInfo {
    pub(crate) fn new(key: Root, record: &Record, label: Option<String>) -> Self {
        Self {
            key,
            user: record.user(),
            label,
            created_at: record.created_at(),
            last_accessed_at: record.last_accessed_at(),
            expires_at: record.expires_at(),
            absolute_deadline: record.absolute_deadline(),
        }
    }
}

/// The longest label of a session, in bytes.
pub(crate) const LABEL_MAX: usize = 256;

/// An entry with the longest label, each of whose characters takes six in JSON.
const ENTRY_MAX: usize = 6 * LABEL_MAX + 128;

/// The attribute that records that all sessions were ended.
const ENDED: &str = "\0ended";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::session::Outcome;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn entry(at: u64) -> IndexEntry {
        IndexEntry {
            label: Some("\u{1}".repeat(LABEL_MAX)),
            logged_in_at: at,
            until: at + 1,
        }
    }

    fn apply(record: Option<&Arc<Record>>, changes: &Changes) -> Arc<Record> {
        match changes.apply_as(record, record.map(|r| &**r), NOW, 1) {
            Outcome::Committed(record) => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_listed_before_the_end_is_ended_and_what_comes_after_is_not() {
        let [one, two] = [Root::from_bytes([1; 12]), Root::from_bytes([2; 12])];
        let mut changes = new_index(Duration::from_secs(60));
        put(&mut changes, &one, &entry(5));
        let index = apply(None, &changes);
        assert!(index.is_index());
        let mut changes = Changes::default();
        note_end(&mut changes);
        let index = apply(Some(&index), &changes);
        let mut changes = Changes::default();
        put(&mut changes, &two, &entry(6));
        prolong(&mut changes, Duration::from_secs(600));
        let index = apply(Some(&index), &changes);
        assert_eq!(
            index.absolute_deadline(),
            NOW.plus(Duration::from_secs(600))
        );
        let listed: Vec<_> = index
            .listed()
            .into_iter()
            .map(|listed| (listed.key, listed.is_ended))
            .collect();
        assert_eq!(listed, [(two, false), (one, true)]);
    }

    #[test]
    fn users_have_indexes_of_their_own() {
        let (ada, bob) = (UserKey::of("ada"), UserKey::of("bob"));
        assert_ne!(index_root(&ada), index_root(&bob));
        assert_eq!(index_root(&ada), index_root(&UserKey::of("ada")));
    }
}
