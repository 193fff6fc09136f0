//! The conversion between a record of tower-sessions and a session of the store.
//!
//! - `Id`: [`Root`] and [`SecretHash`], both parts of one hash of the id.
//! - An entry of `data`: an attribute, under the same name unless that begins with a control
//!   character used here.
//! - `expiry_date`: an attribute, so that it is read back exactly, and as the idle timeout the
//!   time that is left at the save.
//!
//! The idle timeout decides when a session ends. It is counted from the save, on the clock of the
//! node that counts, so nodes whose clocks differ agree. The store also needs an absolute deadline,
//! which is moved on by saves as it comes near.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::bridge::{BridgeError, RecordParts};
use crate::middleware::limits::Limits;
use crate::session::{Name, Record, Root, SecretHash, Timestamp, Value, codec};

/// The store key and secret hash of a tower-sessions session.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreKey {
    pub(super) root: Root,
    pub(super) hash: SecretHash,
}

impl StoreKey {
    /// The key of an id, which does not lead back to it.
    pub(super) fn of(id: i128) -> Self {
        let digest = Sha256::new()
            .chain_update(DOMAIN)
            .chain_update(id.to_le_bytes())
            .finalize();
        let (mut root, mut hash) = ([0; 12], [0; 16]);
        root.copy_from_slice(&digest[..12]);
        hash.copy_from_slice(&digest[12..28]);
        Self {
            root: Root::of_hash(root),
            hash: SecretHash::from_bytes(hash),
        }
    }
}

/// The attributes that a request wants to be stored, by their stored names, and the expiry date.
#[derive(Clone, Debug)]
pub(super) struct EncodedRecord {
    pub(super) attributes: BTreeMap<Name, Value>,
    pub(super) expiry: Value,
    expires_at: SystemTime,
}

impl EncodedRecord {
    /// Encodes a record of tower-sessions.
    pub(super) fn encode(
        data: &HashMap<String, Json>,
        expires_at: SystemTime,
        limits: &Limits,
    ) -> Result<Self, BridgeError> {
        let too_large = || BridgeError::Encode(TOO_LARGE.to_owned());
        if data.len() > limits.attributes {
            return Err(too_large());
        }
        let mut attributes = BTreeMap::new();
        let mut bytes = 0;
        for (name, value) in data {
            let name = stored_name(name);
            let value = codec::encode(value, limits.attribute_bytes)
                .map_err(|error| BridgeError::Encode(error.to_string()))?;
            bytes += name.len() + value.as_bytes().len();
            if name.len() > limits.name_bytes || bytes > limits.session_bytes {
                return Err(too_large());
            }
            attributes.insert(name, value);
        }
        let expiry = codec::encode(&since_epoch(expires_at), usize::MAX)
            .map_err(|error| BridgeError::Encode(error.to_string()))?;
        Ok(Self {
            attributes,
            expiry,
            expires_at,
        })
    }

    pub(super) const fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.attributes.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.attributes.keys().map(Name::as_str)
    }

    /// Names and values, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let size = |(name, value): (&Name, &Value)| name.len() + value.as_bytes().len();
        self.attributes.iter().map(size).sum()
    }
}

/// Decodes a stored session into the parts of a record of tower-sessions.
pub(super) fn decode(record: &Record) -> Result<RecordParts, BridgeError> {
    let failed = |error: codec::DecodeError| BridgeError::Decode(error.to_string());
    let mut data = HashMap::new();
    for register in record.entries() {
        let Some(value) = &register.value else {
            continue;
        };
        if &*register.name != EXPIRY {
            let name = shown_name(&register.name).to_owned();
            data.insert(name, codec::decode(value).map_err(failed)?);
        }
    }
    let expires_at = match record.get(EXPIRY) {
        Some(value) => {
            let (secs, nanos) = codec::decode::<(u64, u32)>(value).map_err(failed)?;
            at(secs, nanos)
        }
        None => at(deadline(record).as_millis() / 1_000, 0),
    };
    Ok((data, expires_at))
}

/// Returns `true` if the expiry date has come. The store keeps a session for a little longer.
pub(super) fn has_expired(record: &Record, now: Timestamp) -> bool {
    now >= deadline(record)
}

/// How long a session that is saved now is to live; `None` if it has expired.
///
/// In whole seconds where it is a minute or more: an inactivity time is then the same at each save,
/// and costs the store nothing.
pub(super) fn idle_until(expires_at: SystemTime, now: SystemTime) -> Option<Duration> {
    let left = expires_at.duration_since(now).ok()?.min(IDLE_MAX);
    if left.is_zero() {
        return None;
    }
    let unit = if left < EXACT_BELOW {
        Duration::from_millis(1)
    } else {
        Duration::from_secs(1)
    };
    let units = left.as_nanos().div_ceil(unit.as_nanos());
    Some(unit * u32::try_from(units).unwrap_or(u32::MAX))
}

fn deadline(record: &Record) -> Timestamp {
    let idle = record.idle_timeout();
    idle.map_or_else(
        || record.absolute_deadline(),
        |idle| record.last_accessed_at().plus(idle),
    )
}

/// The name that the store has for one of the application's.
fn stored_name(name: &str) -> Name {
    match name.as_bytes() {
        [b'\0' | ESCAPE, ..] => format!("{}{name}", char::from(ESCAPE)).as_str().into(),
        _ => name.into(),
    }
}

/// The application's name for one of the store's.
fn shown_name(name: &str) -> &str {
    name.strip_prefix(char::from(ESCAPE)).unwrap_or(name)
}

/// Seconds and nanoseconds since the Unix epoch; dates before it have long passed.
fn since_epoch(time: SystemTime) -> (u64, u32) {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    (since.as_secs(), since.subsec_nanos())
}

/// That time, at most the last second of the year 9999: later ones have no date.
fn at(secs: u64, nanos: u32) -> SystemTime {
    let exact = Duration::from_secs(secs.min(LAST_SECOND)) + Duration::from_nanos(nanos.into());
    let since = exact.min(Duration::from_secs(LAST_SECOND));
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

const TOO_LARGE: &str = "the session is larger than the limits allow";

/// Keeps the keys of tower-sessions' ids apart from other hashes.
const DOMAIN: &[u8] = b"distributable tower-sessions\0";

/// Stands before names that begin with it, or with the character that stores reserve.
const ESCAPE: u8 = 1;

/// The attribute with the expiry date. No escaped name is equal to it.
pub(super) const EXPIRY: &str = "\u{1}e";

/// Below this the idle timeout is counted in milliseconds.
const EXACT_BELOW: Duration = Duration::from_secs(60);

/// A hundred years, in place of no limit.
const IDLE_MAX: Duration = Duration::from_secs(36_525 * 24 * 60 * 60);

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn an_id_leads_to_one_key_which_does_not_show_it() {
        let (one, other) = (StoreKey::of(0x0102_0304), StoreKey::of(0x0102_0305));
        assert_eq!(one.root, StoreKey::of(0x0102_0304).root);
        assert_ne!(one.root, other.root);
        assert_ne!(one.hash, other.hash);
        assert!(!one.hash.to_bytes().starts_with(&one.root.to_bytes()));
        assert_eq!(one.root.to_bytes()[0] & 0x80, 0);
    }

    #[test]
    fn names_come_back_whatever_they_begin_with() {
        for name in [
            "",
            "a",
            "\0",
            "\0a",
            "\u{1}",
            "\u{1}e",
            "\u{1}\u{1}e",
            "\u{2}",
        ] {
            let stored = stored_name(name);
            assert!(&*stored != EXPIRY && !stored.starts_with('\0'), "{name:?}");
            assert_eq!(shown_name(&stored), name);
        }
    }

    #[test]
    fn an_inactivity_time_is_the_same_at_each_save_and_a_short_one_is_exact() {
        let now = SystemTime::now();
        let nanos = Duration::from_nanos(1);
        assert_eq!(idle_until(now + MINUTE * 2 - nanos, now), Some(MINUTE * 2));
        assert_eq!(idle_until(now + MINUTE * 2, now), Some(MINUTE * 2));
        let short = Duration::from_millis(1500);
        assert_eq!(idle_until(now + short, now), Some(short));
        assert_eq!(idle_until(now, now), None);
        assert_eq!(idle_until(now - MINUTE, now), None);
        assert_eq!(idle_until(now + 2 * IDLE_MAX, now), Some(IDLE_MAX));
    }

    #[test]
    fn the_last_date_is_not_exceeded() {
        let last = at(LAST_SECOND, 0);
        assert_eq!(at(u64::MAX, u32::MAX), last);
        assert_eq!(at(LAST_SECOND, 5), last);
        assert_eq!(since_epoch(at(7, 8)), (7, 8));
    }
}
