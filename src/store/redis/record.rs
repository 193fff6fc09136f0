//! The representation of a session as a Redis hash, which `lua/session.lua` describes.
//!
//! Behind the version of an attribute's last write is a byte that tells a plain value from an
//! encrypted one, and the value.
//!
//! Times are on the server's clock, so nodes need no synchronized clocks: the server's current time
//! converts them to this node's clock.

use std::borrow::Cow;
use std::time::Duration;

use redis::Value as Reply;

use crate::session::{
    AttributeEntry, Changes, Credential, Details, Lifetime, Name, Record, SecretHash, Timestamp,
    UserKey, Value, Version,
};
use crate::store::redis::cipher::{self, PlainValues, ValueCipher};
use crate::store::redis::error::{RedisError, RedisErrorKind};

/// The clock of a server, relative to this node's.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    /// The server's time, in milliseconds.
    pub(super) there: u64,
    /// The same moment on this node's clock, or a little later: the delay of an answer makes
    /// sessions live longer by that time, never shorter.
    pub(super) here: Timestamp,
}

impl ServerClock {
    pub(super) fn here(self, there: u64) -> Timestamp {
        let (now, then) = (self.there, there);
        if then >= now {
            self.here.plus(Duration::from_millis(then - now))
        } else {
            self.here.minus(Duration::from_millis(now - then))
        }
    }
}

/// The values of a session's attributes, as the server has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValueCodec<'a> {
    /// The session's key in Redis.
    pub(super) key: &'a [u8],
    pub(super) cipher: Option<&'a ValueCipher>,
}

/// Decodes a reply to `HGETALL`; `None`: there is no session of this application.
pub(super) fn decode(
    fields: Reply,
    clock: ServerClock,
    application: Option<&str>,
    values: ValueCodec<'_>,
) -> Result<Option<Record>, RedisError> {
    let pairs = pairs(fields)?;
    if pairs.is_empty() {
        return Ok(None);
    }
    let header = pairs.iter().find(|(name, _)| name.is_empty());
    let Some((_, header)) = header else {
        return Err(foreign("a hash without the header of a session"));
    };
    if header.first() == Some(&TOMBSTONE) {
        return Ok(None);
    }
    let header = HashHeader::read(header, clock)?;
    if header.application.is_some() && header.application != application.map(str::as_bytes) {
        return Ok(None);
    }
    let (credential, lifetime, latest) = (header.credential, header.lifetime, header.version);
    let mut entries = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let register = register(&name, &value, values)?;
        entries.extend(register.filter(|register| register.value.is_some()));
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    match Record::from_parts(credential, lifetime, entries, Vec::new()) {
        Some(mut record) => {
            record.note_latest(latest);
            Ok(Some(record))
        }
        None => Err(foreign("attributes that are no session's")),
    }
}

/// The header of a session.
struct HashHeader<'a> {
    /// The version of the last commit.
    version: Version,
    credential: Credential,
    lifetime: Lifetime,
    /// The name of the application that has created the session, if it has one.
    application: Option<&'a [u8]>,
}

impl<'a> HashHeader<'a> {
    fn read(header: &'a [u8], clock: ServerClock) -> Result<Self, RedisError> {
        match header.first() {
            Some(&FORMAT) => {}
            // While nodes are updated one by one, those with the older version must not log out
            // users whose sessions the newer one has written: this is an error, and no absent
            // session.
            Some(&format) if format > FORMAT => {
                return Err(foreign("it was written by a newer version"));
            }
            Some(1..FORMAT) => return Err(foreign("it was written by an older version")),
            _ => return Err(foreign("the header is no session's")),
        }
        let cut = || foreign("a header that is cut short");
        let (fixed, mut behind) = header.split_first_chunk::<HEADER_BYTES>().ok_or_else(cut)?;
        let flags = fixed[1];
        let number = |at: usize| number(&fixed[at..at + 6]);
        let moment = |at: usize| {
            Some(number(at))
                .filter(|at| *at > 0)
                .map(|at| clock.here(at))
        };
        let duration = |ms: u64| (ms < NONE).then(|| Duration::from_millis(ms));
        let mut hash = [0; 16];
        hash.copy_from_slice(&fixed[52..68]);
        let mut details = Details {
            rotated_at: moment(68),
            began_at: moment(74),
            ..Details::default()
        };
        if flags & BOUND != 0 {
            let (user, rest) = behind.split_first_chunk().ok_or_else(cut)?;
            details.user = Some(UserKey::from_bytes(*user));
            behind = rest;
        }
        let named = behind.split_first().filter(|_| flags & NAMED != 0);
        let absolute_deadline = clock.here(number(18));
        Ok(Self {
            version: version(&fixed[2..12]),
            credential: Credential::from_parts(
                SecretHash::from_bytes(hash),
                absolute_deadline,
                details,
            ),
            lifetime: Lifetime {
                created_at: clock.here(number(12)),
                accessed_at: clock.here(number(24)),
                // The server orders accesses.
                access: 0,
                idle_timeout: (version(&fixed[36..46]), duration(number(30)).into()),
                initial_idle_timeout: duration(number(46)).into(),
                returned: flags & RETURNED != 0,
            },
            // A truncated name is no application's name, neither this one's nor another's.
            application: named
                .map(|(length, name)| name.get(..usize::from(*length)).unwrap_or_default()),
        })
    }
}

/// The session after a commit that found it in the state of `base`, or created it.
pub(super) fn committed(
    base: Option<&Record>,
    changes: &Changes,
    header: &[u8],
    clock: ServerClock,
) -> Result<Record, RedisError> {
    let header = HashHeader::read(header, clock)?;
    let mut record = match base {
        Some(base) if !changes.is_create() => base.clone(),
        _ => Record::new(header.credential.clone(), header.lifetime.clone()),
    };
    (record.credential, record.lifetime) = (header.credential, header.lifetime);
    for register in changes.entries(header.version) {
        record.merge_entry(Cow::Owned(register));
    }
    record.forget_removed();
    record.note_latest(header.version);
    Ok(record)
}

/// The session of a header, without its attributes.
pub(super) fn without_attributes(header: Reply, clock: ServerClock) -> Result<Record, RedisError> {
    let Reply::BulkString(header) = header else {
        return Err(RedisError::new(RedisErrorKind::Unexpected, "no header"));
    };
    let header = HashHeader::read(&header, clock)?;
    Ok(Record::new(header.credential, header.lifetime))
}

/// A version as it precedes every attribute.
pub(super) fn version_bytes(version: Version) -> [u8; VERSION_BYTES] {
    let mut bytes = [0; VERSION_BYTES];
    bytes[..6].copy_from_slice(&version.clock.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&version.writer.to_be_bytes());
    bytes
}

/// The field of an attribute.
pub(super) fn field(name: &str) -> Vec<u8> {
    [b":", name.as_bytes()].concat()
}

impl ValueCodec<'_> {
    /// The content of a field behind its version.
    pub(super) fn payload(self, name: &str, value: Option<&Value>) -> Result<Vec<u8>, RedisError> {
        let Some(value) = value else {
            return Ok(vec![REMOVED]);
        };
        match self.cipher {
            Some(cipher) if cipher.plain != PlainValues::Written => {
                let encrypted = cipher.encrypt(self.key, name, value.as_bytes())?;
                Ok([&[ENCRYPTED], &encrypted[..]].concat())
            }
            _ => Ok([&[PRESENT], value.as_bytes()].concat()),
        }
    }

    fn plain(self, value: &[u8]) -> Result<Value, RedisError> {
        match self.cipher {
            Some(cipher) if cipher.plain == PlainValues::Refused => Err(cipher::wrong(
                "a value is not encrypted: see `RedisStoreBuilder::plain_values`",
            )),
            _ => Ok(Value::from_bytes(value)),
        }
    }

    fn encrypted(self, name: &str, value: &[u8]) -> Result<Value, RedisError> {
        let Some(cipher) = self.cipher else {
            return Err(cipher::wrong(
                "a value is encrypted, and this store has no key",
            ));
        };
        Ok(Value::from_bytes(cipher.decrypt(self.key, name, value)?))
    }
}

/// A duration in the form of the scripts' arguments.
pub(super) fn millis(duration: Option<Duration>) -> u64 {
    duration.map_or(NONE, |d| {
        u64::try_from(d.as_millis())
            .unwrap_or(MILLIS_MAX)
            .min(MILLIS_MAX)
    })
}

/// Fields that are not attributes are ignored. An attribute that cannot be decoded exists; only
/// reading it is an error. One that cannot be decrypted is an error of the session: with another
/// key it can be.
fn register(
    name: &[u8],
    value: &[u8],
    values: ValueCodec<'_>,
) -> Result<Option<AttributeEntry>, RedisError> {
    let name = name.strip_prefix(b":").map(str::from_utf8);
    let Some(Ok(name)) = name else {
        return Ok(None);
    };
    let unreadable = || Some(Value::from_bytes([]));
    let (written, value) = match value.split_at_checked(VERSION_BYTES) {
        Some((written, [PRESENT, value @ ..])) => (version(written), Some(values.plain(value)?)),
        Some((written, [ENCRYPTED, value @ ..])) => {
            (version(written), Some(values.encrypted(name, value)?))
        }
        Some((written, [REMOVED])) => (version(written), None),
        Some((written, _)) => (version(written), unreadable()),
        None => (Version::default(), unreadable()),
    };
    Ok(Some(AttributeEntry {
        name: Name::from(name),
        version: written,
        value,
    }))
}

fn version(bytes: &[u8]) -> Version {
    let writer = bytes[6..VERSION_BYTES].iter();
    Version {
        clock: number(&bytes[..6]),
        writer: writer.fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A name and its value.
type HashField = (Vec<u8>, Vec<u8>);

/// The fields of a hash, in either version of the protocol.
fn pairs(reply: Reply) -> Result<Vec<HashField>, RedisError> {
    let bytes = |value| match value {
        Reply::BulkString(bytes) => Ok(bytes),
        Reply::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(RedisError::new(
            RedisErrorKind::Unexpected,
            "no text in a hash",
        )),
    };
    match reply {
        Reply::Map(map) => map
            .into_iter()
            .map(|(name, value)| Ok((bytes(name)?, bytes(value)?)))
            .collect(),
        Reply::Array(list) => {
            let mut pairs = Vec::with_capacity(list.len() / 2);
            let mut list = list.into_iter();
            while let (Some(name), Some(value)) = (list.next(), list.next()) {
                pairs.push((bytes(name)?, bytes(value)?));
            }
            Ok(pairs)
        }
        _ => Err(RedisError::new(RedisErrorKind::Unexpected, "no hash")),
    }
}

fn foreign(message: &str) -> RedisError {
    RedisError::new(RedisErrorKind::Foreign, message)
}

/// The format that this version writes, and the only one that it reads.
const FORMAT: u8 = 2;
const TOMBSTONE: u8 = b'x';
const HEADER_BYTES: usize = 80;
const RETURNED: u8 = 1;
const NAMED: u8 = 2;
const BOUND: u8 = 4;
/// Six bytes of version, four that distinguish concurrent commits.
const VERSION_BYTES: usize = 10;
const REMOVED: u8 = 0;
const PRESENT: u8 = 1;
const ENCRYPTED: u8 = 2;
/// Represents *no limit*: the largest value of six bytes.
const NONE: u64 = (1 << 48) - 1;
/// A thousand years; longer durations count as that.
const MILLIS_MAX: u64 = 1_000 * 31_557_600_000;
