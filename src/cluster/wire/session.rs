//! Encoding of sessions and deltas.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::{
    Credential, Details, HISTORY_MAX, Idle, Lifetime, Login, Name, Record, Register, Root,
    Rotation, SecretHash, Stamp, Timestamp, UPDATES_MAX, UserKey, Value,
};

use super::{Bytes, WireError, at_most};
use crate::cluster::replica::entry::{Delta, Entry, keep_latest};
use crate::cluster::replica::expired::Mark;
use crate::cluster::replica::message::KeyedEntry;

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
    Dead {
        until: Timestamp,
    },
    Expired {
        #[serde(borrow)]
        credential: WireCredential<'a>,
        max_inactive: (Stamp, Idle),
        until: Timestamp,
    },
}

#[derive(Serialize, Deserialize)]
struct WireCredential<'a> {
    hash: SecretHash,
    ends_at: Timestamp,
    details: Option<WireDetails<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WireDetails<'a> {
    version: Stamp,
    rotated_at: Option<Timestamp>,
    user: Option<UserKey>,
    began_at: Option<Timestamp>,
    history: Cow<'a, [Stamp]>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireRotation {
    from: SecretHash,
    to: SecretHash,
    login: Option<(Option<UserKey>, Duration)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireRecord<'a> {
    #[serde(borrow)]
    credential: WireCredential<'a>,
    created_at: Timestamp,
    accessed_at: Timestamp,
    access: u64,
    max_inactive: (Stamp, Idle),
    first_visit: Idle,
    returned: bool,
    #[serde(borrow)]
    registers: Vec<WireRegister<'a>>,
    updates: Cow<'a, [Stamp]>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireDelta<'a> {
    #[serde(borrow)]
    registers: Vec<WireRegister<'a>>,
    max_inactive: Option<(Stamp, Idle)>,
    accessed_at: Timestamp,
    access: u64,
    #[serde(borrow)]
    credential: Option<WireCredential<'a>>,
    updates: Cow<'a, [Stamp]>,
}

#[derive(Serialize, Deserialize)]
struct WireRegister<'a> {
    name: &'a str,
    stamp: Stamp,
    #[serde(borrow)]
    value: Option<Bytes<'a>>,
}

impl<'a> From<&'a KeyedEntry> for WireKeyedEntry<'a> {
    fn from(copy: &'a KeyedEntry) -> Self {
        let entry = match &copy.entry {
            Entry::Live(record) => WireEntry::Live((&**record).into()),
            Entry::Delta(fragment) => WireEntry::Delta((&**fragment).into()),
            Entry::Dead { until } => WireEntry::Dead { until: *until },
            Entry::Expired(mark) => WireEntry::Expired {
                credential: (&mark.credential).into(),
                max_inactive: mark.max_inactive,
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
            WireEntry::Delta(fragment) => Entry::Delta(Arc::new(fragment.try_into()?)),
            WireEntry::Dead { until } => Entry::Dead { until },
            WireEntry::Expired {
                credential,
                max_inactive,
                until,
            } => {
                is_sane(&max_inactive.0)?;
                let credential = credential.try_into()?;
                Entry::Expired(Box::new(Mark {
                    credential,
                    max_inactive,
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
            created_at: record.lifetime.created_at,
            accessed_at: record.lifetime.accessed_at,
            access: record.lifetime.access,
            max_inactive: record.lifetime.max_inactive,
            first_visit: record.lifetime.first_visit,
            returned: record.lifetime.returned,
            registers: record.registers().iter().map(WireRegister::from).collect(),
            updates: Cow::Borrowed(record.updates()),
        }
    }
}

impl TryFrom<WireRecord<'_>> for Record {
    type Error = WireError;

    fn try_from(record: WireRecord<'_>) -> Result<Self, WireError> {
        is_sane(&record.max_inactive.0)?;
        is_access(record.access)?;
        let registers = registers_of(record.registers)?;
        record.updates.iter().try_for_each(is_sane)?;
        let lifetime = Lifetime {
            created_at: record.created_at,
            accessed_at: record.accessed_at,
            access: record.access,
            max_inactive: record.max_inactive,
            first_visit: record.first_visit,
            returned: record.returned,
        };
        let credential = record.credential.try_into()?;
        Self::from_parts(credential, lifetime, registers, record.updates.into_owned())
            .ok_or(WireError::Disorder)
    }
}

impl<'a> From<&'a Delta> for WireDelta<'a> {
    fn from(fragment: &'a Delta) -> Self {
        Self {
            registers: fragment.registers.iter().map(WireRegister::from).collect(),
            max_inactive: fragment.max_inactive,
            accessed_at: fragment.accessed_at,
            access: fragment.access,
            credential: fragment.credential.as_ref().map(WireCredential::from),
            updates: latest(Cow::Borrowed(&fragment.updates)),
        }
    }
}

impl TryFrom<WireDelta<'_>> for Delta {
    type Error = WireError;

    fn try_from(fragment: WireDelta<'_>) -> Result<Self, WireError> {
        fragment
            .max_inactive
            .iter()
            .try_for_each(|(stamp, _)| is_sane(stamp))?;
        fragment.updates.iter().try_for_each(is_sane)?;
        is_access(fragment.access)?;
        Ok(Self {
            registers: registers_of(fragment.registers)?,
            max_inactive: fragment.max_inactive,
            accessed_at: fragment.accessed_at,
            access: fragment.access,
            credential: fragment.credential.map(Credential::try_from).transpose()?,
            updates: latest(fragment.updates).into_owned(),
        })
    }
}

impl<'a> From<&'a Credential> for WireCredential<'a> {
    fn from(credential: &'a Credential) -> Self {
        let details = credential.known_details().map(|details| WireDetails {
            version: details.version,
            rotated_at: details.rotated_at,
            user: details.user,
            began_at: details.began_at,
            history: Cow::Borrowed(&details.history),
        });
        Self {
            hash: credential.hash,
            ends_at: credential.ends_at,
            details,
        }
    }
}

impl TryFrom<WireCredential<'_>> for Credential {
    type Error = WireError;

    fn try_from(credential: WireCredential<'_>) -> Result<Self, WireError> {
        let details = match credential.details {
            None => Details::default(),
            Some(details) => {
                at_most(details.history.len(), HISTORY_MAX)?;
                is_sane(&details.version)?;
                details.history.iter().try_for_each(is_sane)?;
                Details {
                    version: details.version,
                    rotated_at: details.rotated_at,
                    user: details.user,
                    began_at: details.began_at,
                    history: details.history.into_owned(),
                }
            }
        };
        Ok(Self::from_parts(
            credential.hash,
            credential.ends_at,
            details,
        ))
    }
}

impl From<Rotation> for WireRotation {
    fn from(rotation: Rotation) -> Self {
        Self {
            from: rotation.from,
            to: rotation.to,
            login: rotation
                .login
                .map(|Login { user, absolute }| (user, absolute)),
        }
    }
}

impl From<WireRotation> for Rotation {
    fn from(rotation: WireRotation) -> Self {
        Self {
            from: rotation.from,
            to: rotation.to,
            login: rotation
                .login
                .map(|(user, absolute)| Login { user, absolute }),
        }
    }
}

impl<'a> From<&'a Register> for WireRegister<'a> {
    fn from(register: &'a Register) -> Self {
        Self {
            name: &register.name,
            stamp: register.stamp,
            value: register.value.as_ref().map(|value| Bytes(value.as_bytes())),
        }
    }
}

impl TryFrom<WireRegister<'_>> for Register {
    type Error = WireError;

    fn try_from(register: WireRegister<'_>) -> Result<Self, WireError> {
        is_sane(&register.stamp)?;
        let register = Self {
            name: attribute_name(register.name)?,
            stamp: register.stamp,
            value: register.value.map(|bytes| Value::from_bytes(bytes.0)),
        };
        match register.is_floor() && register.value.is_some() {
            true => Err(WireError::FloorWithValue),
            false => Ok(register),
        }
    }
}

pub(super) fn copies_of(copies: Vec<WireKeyedEntry<'_>>) -> Result<Vec<KeyedEntry>, WireError> {
    copies.into_iter().map(KeyedEntry::try_from).collect()
}

fn registers_of(registers: Vec<WireRegister<'_>>) -> Result<Vec<Register>, WireError> {
    at_most(registers.len(), REGISTERS_MAX)?;
    if !registers.is_sorted_by(|a, b| a.name < b.name) {
        return Err(WireError::Disorder);
    }
    registers.into_iter().map(Register::try_from).collect()
}

/// Returns as many of the latest updates as a record keeps: the receiver does not use further ones.
fn latest(mut updates: Cow<'_, [Stamp]>) -> Cow<'_, [Stamp]> {
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
    updates: &[Stamp],
) -> WireKeyedEntry<'_> {
    let fragment = WireDelta {
        registers: Vec::new(),
        max_inactive: None,
        accessed_at,
        access: 0,
        credential: None,
        updates: Cow::Borrowed(updates),
    };
    WireKeyedEntry {
        key,
        entry: WireEntry::Delta(fragment),
    }
}

pub(super) fn attribute_name(name: &str) -> Result<Name, WireError> {
    if name.len() > ATTRIBUTE_NAME_MAX {
        return Err(WireError::NameTooLong);
    }
    Ok(name.into())
}

pub(super) fn is_sane(stamp: &Stamp) -> Result<(), WireError> {
    match stamp.is_sane() {
        true => Ok(()),
        false => Err(WireError::StampTooFar),
    }
}

/// Checks the version of an access, which is the clock of a session version.
pub(super) fn is_access(clock: u64) -> Result<(), WireError> {
    is_sane(&Stamp { clock, writer: 0 })
}

/// The same limit as the session layer's, so no valid name is longer.
pub(crate) const ATTRIBUTE_NAME_MAX: usize = 256;
/// Far more than the session layer lets an application write.
const REGISTERS_MAX: usize = 1 << 16;
