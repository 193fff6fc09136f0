//! What sessions are called in Redis.

use crate::session::SessionKey;

use super::error::{RedisError, RedisErrorKind};

/// The start of every key that a store uses: the one part of a database that is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefix(String);

impl Prefix {
    /// Takes 1 to [`PREFIX_MAX`] printable ASCII characters, without those that mean something in
    /// a key (braces choose a cluster's slot) or in a pattern (as access lists have them).
    pub(super) fn new(text: &str) -> Result<Self, RedisError> {
        let plain = |b: u8| b.is_ascii_graphic() && !b"{}*?[]^\\\"'".contains(&b);
        if text.is_empty() || text.len() > PREFIX_MAX || !text.bytes().all(plain) {
            return Err(RedisError::new(
                RedisErrorKind::Config,
                format!(
                    "a prefix is 1 to {PREFIX_MAX} printable ASCII characters without spaces, \
                     quotes, backslashes, `^` and `{{}}*?[]`"
                ),
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// `prefix:{tag}hash`: the forty digits under which logs know the session, with the tag in
    /// braces. It alone chooses the slot, so a session that gets a new id stays in its slot.
    pub(super) fn key(&self, key: &SessionKey) -> Vec<u8> {
        let digits = key.to_string();
        let (tag, hash) = digits.split_at(TAG_DIGITS);
        [&self.0, ":{", tag, "}", hash].concat().into_bytes()
    }

    /// A key of the store's own that no session has, in the slot that `tag` chooses.
    pub(super) fn probe(&self, tag: &str) -> Vec<u8> {
        [&self.0, ":{", tag, "}probe"].concat().into_bytes()
    }

    /// The session that a key of ours belongs to.
    pub(super) fn parse(&self, key: &[u8]) -> Option<SessionKey> {
        let rest = key.strip_prefix(self.0.as_bytes())?.strip_prefix(b":{")?;
        let (tag, hash) = rest.split_at_checked(TAG_DIGITS)?;
        let hash = hash.strip_prefix(b"}")?;
        let mut bytes = [0; 20];
        if tag.len() + hash.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip([tag, hash].concat().chunks_exact(2)) {
            *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(SessionKey::from_bytes(bytes))
    }
}

/// The slot of a Redis Cluster that a session belongs to: CRC16 (XMODEM) of what stands between the
/// braces, modulo 16,384.
pub(super) fn slot(key: &SessionKey) -> u16 {
    let digits = key.to_string();
    slot_of_tag(&digits.as_bytes()[..TAG_DIGITS])
}

pub(super) fn slot_of_tag(tag: &[u8]) -> u16 {
    let mut crc = 0u16;
    for &byte in tag {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x1021
            };
        }
    }
    crc % SLOTS
}

pub(super) const SLOTS: u16 = 1 << 14;

/// Keys repeat the prefix with every session: a long one costs memory a million times.
const PREFIX_MAX: usize = 64;
const TAG_DIGITS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionId;

    #[test]
    fn a_key_is_what_logs_show_and_reads_back() {
        let prefix = Prefix::new("shop:sess").expect("it is plain");
        let key = SessionId::generate().key();
        let bytes = prefix.key(&key);
        let text = String::from_utf8(bytes.clone()).expect("it is ASCII");
        assert_eq!(
            text.replace(['{', '}'], ""),
            format!("shop:sess:{key}"),
            "{text}"
        );
        assert_eq!(prefix.parse(&bytes), Some(key));
        for foreign in [&b"shop:sess:{"[..], b"other:{0a1b2c3d}", &bytes[..20], b""] {
            assert_eq!(prefix.parse(foreign), None);
        }
    }

    ///
    #[test]
    fn rotation_stays_in_its_slot() {
        let id = SessionId::generate();
        assert_eq!(slot(&id.key()), slot(&id.rotate().key()));
        // From the specification of Redis Cluster.
        assert_eq!(slot_of_tag(b"123456789"), 0x31C3);
    }

    ///
    #[test]
    fn a_prefix_that_could_mean_something_else_is_refused() {
        let long = "p".repeat(PREFIX_MAX + 1);
        for bad in [
            "", "a b", "a{b", "a}b", "a*", "a?", "[a]", "a\r\n", "é", &long,
        ] {
            assert!(Prefix::new(bad).is_err(), "{bad:?}");
        }
        Prefix::new("sess").expect("it is plain");
    }
}
