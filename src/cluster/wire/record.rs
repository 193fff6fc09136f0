//! Encoding of sessions and of changes to them.
//!
//! Each type here has the fields of one in the session layer or the replica, in the order of the
//! wire format, and borrows them. Those types do not derive an encoding themselves. Decoding has to
//! establish what they rely on before one of them exists: names in order and not too long, versions
//! that a later one can follow. The parts of a [`Record`] and a [`Credential`] are private to the
//! session layer, and a value is encoded as a whole and decoded without a copy in between.

use std::borrow::Cow;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::session::{
    AttributeEntry, Credential, Details, HISTORY_MAX, Idle, Lifetime, Name, Record, Root,
    SecretHash, Timestamp, UPDATES_MAX, Value, Version,
};

use crate::cluster::replica::delta::{Delta, keep_latest};
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::expired::Mark;
use crate::cluster::replica::message::KeyedEntry;
use crate::cluster::wire::{Bytes, WireError, at_most};

#[derive(Serialize, Deserialize)]
pub(super) struct WireKeyedEntry<'a> {
    key: Root,
    #[serde(borrow)]
    entry: WireEntry<'a>,
}

#[derive(Serialize, Deserialize)]
enum WireEntry<'a> {
    Live(#[serde(borrow)] WireRecord<'a>),
    Delta(#[serde(borrow)] WireDelta<'a>),
    Tombstone {
        until: Timestamp,
    },
    Expired {
        #[serde(borrow)]
        credential: WireCredential<'a>,
        idle_timeout: (Version, Idle),
        until: Timestamp,
    },
}

#[derive(Serialize, Deserialize)]
struct WireCredential<'a> {
    hash: SecretHash,
    absolute_deadline: Timestamp,
    details: Option<Cow<'a, Details>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireRecord<'a> {
    #[serde(borrow)]
    credential: WireCredential<'a>,
    lifetime: Cow<'a, Lifetime>,
    #[serde(borrow)]
    entries: Vec<WireRegister<'a>>,
    updates: Cow<'a, [Version]>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireDelta<'a> {
    #[serde(borrow)]
    entries: Vec<WireRegister<'a>>,
    idle_timeout: Option<(Version, Idle)>,
    accessed_at: Timestamp,
    access: u64,
    #[serde(borrow)]
    credential: Option<WireCredential<'a>>,
    updates: Cow<'a, [Version]>,
}

#[derive(Serialize, Deserialize)]
struct WireRegister<'a> {
    name: &'a str,
    version: Version,
    #[serde(borrow)]
    value: Option<Bytes<'a>>,
}

impl Serialize for KeyedEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WireKeyedEntry::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeyedEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let copy = WireKeyedEntry::deserialize(deserializer)?;
        copy.try_into()
            .map_err(|_: WireError| D::Error::custom(INVALID))
    }
}

impl<'a> From<&'a KeyedEntry> for WireKeyedEntry<'a> {
    fn from(copy: &'a KeyedEntry) -> Self {
        let entry = match &copy.entry {
            Entry::Live(record) => WireEntry::Live((&**record).into()),
            Entry::Delta(delta) => WireEntry::Delta((&**delta).into()),
            Entry::Tombstone { until } => WireEntry::Tombstone { until: *until },
            Entry::Expired(mark) => WireEntry::Expired {
                credential: (&mark.credential).into(),
                idle_timeout: mark.idle_timeout,
                until: mark.until,
            },
        };
        Self {
            key: copy.key,
            entry,
        }
    }
}

impl TryFrom<WireKeyedEntry<'_>> for KeyedEntry {
    type Error = WireError;

    fn try_from(copy: WireKeyedEntry<'_>) -> Result<Self, WireError> {
        let entry = match copy.entry {
            WireEntry::Live(record) => Entry::Live(Arc::new(record.try_into()?)),
            WireEntry::Delta(delta) => Entry::Delta(Arc::new(delta.try_into()?)),
            WireEntry::Tombstone { until } => Entry::Tombstone { until },
            WireEntry::Expired {
                credential,
                idle_timeout,
                until,
            } => {
                is_valid(&idle_timeout.0)?;
                let credential = credential.try_into()?;
                Entry::Expired(Box::new(Mark {
                    credential,
                    idle_timeout,
                    until,
                }))
            }
        };
        Ok(Self {
            key: copy.key,
            entry,
        })
    }
}

impl<'a> From<&'a Record> for WireRecord<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            credential: (&record.credential).into(),
            lifetime: Cow::Borrowed(&record.lifetime),
            entries: record.entries().iter().map(WireRegister::from).collect(),
            updates: Cow::Borrowed(record.updates()),
        }
    }
}

impl TryFrom<WireRecord<'_>> for Record {
    type Error = WireError;

    fn try_from(record: WireRecord<'_>) -> Result<Self, WireError> {
        let lifetime = record.lifetime.into_owned();
        is_valid(&lifetime.idle_timeout.0)?;
        is_access(lifetime.access)?;
        record.updates.iter().try_for_each(is_valid)?;
        let entries = registers_of(record.entries)?;
        let credential = record.credential.try_into()?;
        Self::from_parts(credential, lifetime, entries, record.updates.into_owned())
            .ok_or(WireError::InvalidContent)
    }
}

impl<'a> From<&'a Delta> for WireDelta<'a> {
    fn from(delta: &'a Delta) -> Self {
        Self {
            entries: delta.entries.iter().map(WireRegister::from).collect(),
            idle_timeout: delta.idle_timeout,
            accessed_at: delta.accessed_at,
            access: delta.access,
            credential: delta.credential.as_ref().map(WireCredential::from),
            updates: latest(Cow::Borrowed(&delta.updates)),
        }
    }
}

impl TryFrom<WireDelta<'_>> for Delta {
    type Error = WireError;

    fn try_from(delta: WireDelta<'_>) -> Result<Self, WireError> {
        delta
            .idle_timeout
            .iter()
            .try_for_each(|(version, _)| is_valid(version))?;
        delta.updates.iter().try_for_each(is_valid)?;
        is_access(delta.access)?;
        Ok(Self {
            entries: registers_of(delta.entries)?,
            idle_timeout: delta.idle_timeout,
            accessed_at: delta.accessed_at,
            access: delta.access,
            credential: delta.credential.map(Credential::try_from).transpose()?,
            updates: latest(delta.updates).into_owned(),
        })
    }
}

impl<'a> From<&'a Credential> for WireCredential<'a> {
    fn from(credential: &'a Credential) -> Self {
        Self {
            hash: credential.hash,
            absolute_deadline: credential.absolute_deadline,
            details: credential.known_details().map(Cow::Borrowed),
        }
    }
}

impl TryFrom<WireCredential<'_>> for Credential {
    type Error = WireError;

    fn try_from(credential: WireCredential<'_>) -> Result<Self, WireError> {
        let details = credential.details.map(Cow::into_owned).unwrap_or_default();
        at_most(details.history.len(), HISTORY_MAX)?;
        is_valid(&details.version)?;
        details.history.iter().try_for_each(is_valid)?;
        Ok(Self::from_parts(
            credential.hash,
            credential.absolute_deadline,
            details,
        ))
    }
}

impl<'a> From<&'a AttributeEntry> for WireRegister<'a> {
    fn from(register: &'a AttributeEntry) -> Self {
        Self {
            name: &register.name,
            version: register.version,
            value: register.value.as_ref().map(|value| Bytes(value.as_bytes())),
        }
    }
}

impl TryFrom<WireRegister<'_>> for AttributeEntry {
    type Error = WireError;

    fn try_from(register: WireRegister<'_>) -> Result<Self, WireError> {
        is_valid(&register.version)?;
        let register = Self {
            name: attribute_name(register.name)?,
            version: register.version,
            value: register.value.map(|bytes| Value::from_bytes(bytes.0)),
        };
        if register.is_floor() && register.value.is_some() {
            return Err(WireError::InvalidContent);
        }
        Ok(register)
    }
}

fn registers_of(entries: Vec<WireRegister<'_>>) -> Result<Vec<AttributeEntry>, WireError> {
    at_most(entries.len(), ATTRIBUTES_MAX)?;
    if !entries.is_sorted_by(|a, b| a.name < b.name) {
        return Err(WireError::InvalidContent);
    }
    entries.into_iter().map(AttributeEntry::try_from).collect()
}

/// Returns as many of the latest updates as a record keeps: the receiver does not use further ones.
fn latest(mut updates: Cow<'_, [Version]>) -> Cow<'_, [Version]> {
    if updates.len() > UPDATES_MAX {
        keep_latest(updates.to_mut());
    }
    updates
}

/// Returns a delta with all of these updates, which no encoder here would send.
#[cfg(test)]
pub(super) fn copy_with_updates(
    key: Root,
    accessed_at: Timestamp,
    updates: &[Version],
) -> WireKeyedEntry<'_> {
    let delta = WireDelta {
        entries: Vec::new(),
        idle_timeout: None,
        accessed_at,
        access: 0,
        credential: None,
        updates: Cow::Borrowed(updates),
    };
    WireKeyedEntry {
        key,
        entry: WireEntry::Delta(delta),
    }
}

pub(super) fn attribute_name(name: &str) -> Result<Name, WireError> {
    if name.len() > ATTRIBUTE_NAME_MAX {
        return Err(WireError::InvalidContent);
    }
    Ok(name.into())
}

pub(super) fn is_valid(version: &Version) -> Result<(), WireError> {
    if version.is_valid() {
        Ok(())
    } else {
        Err(WireError::InvalidContent)
    }
}

/// Checks the version of an access, which is the clock of a session version.
pub(super) fn is_access(clock: u64) -> Result<(), WireError> {
    is_valid(&Version { clock, writer: 0 })
}

/// Not shown: postcard keeps the kind of an error only.
pub(super) const INVALID: &str = "invalid content";

/// The same limit as the session layer's, so no valid name is longer.
pub(crate) const ATTRIBUTE_NAME_MAX: usize = 256;
/// Far more than the session layer lets an application write by default.
pub(crate) const ATTRIBUTES_MAX: usize = 1 << 16;
