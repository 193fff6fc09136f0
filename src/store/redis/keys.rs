//! The keys of sessions in Redis.

use crate::session::Root;
use crate::store::redis::error::{RedisError, RedisErrorKind};

/// The prefix of every key that a store uses, which separates them from other keys of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefix(String);

impl Prefix {
    /// Accepts 1 to [`PREFIX_MAX`] printable ASCII characters, without those that have a meaning in
    /// a key (braces choose a cluster's slot) or in a pattern (of access lists).
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

    /// The key of a session: `prefix:` and the digits shown in logs. The index of a user's sessions
    /// has `prefix-users:`, so that counts of session keys do not include it.
    pub(super) fn key(&self, root: &Root) -> Vec<u8> {
        let kind = if root.is_index() { USERS } else { "" };
        format!("{}{kind}:{root}", self.0).into_bytes()
    }

    /// The pattern of the keys of sessions. A prefix has no characters with a meaning in it.
    pub(super) fn pattern(&self) -> Vec<u8> {
        format!("{}:*", self.0).into_bytes()
    }

    /// A key of the store that belongs to no session.
    pub(super) fn probe(&self, number: usize) -> Vec<u8> {
        format!("{}:probe{number}", self.0).into_bytes()
    }

    /// The channel of events.
    pub(super) fn channel(&self) -> String {
        format!("{}:events", self.0)
    }

    /// The key that one of the nodes sets that notice the expiry of a session: in the slot of the
    /// session.
    pub(super) fn claim(&self, key: &[u8]) -> Vec<u8> {
        let mut claim = format!("{}-expired:{{", self.0).into_bytes();
        claim.extend_from_slice(key);
        claim.push(b'}');
        claim
    }

    /// The session to which a key of the store belongs.
    pub(super) fn parse(&self, key: &[u8]) -> Option<Root> {
        let rest = key.strip_prefix(self.0.as_bytes())?;
        let users = rest.strip_prefix(USERS.as_bytes());
        let digits = users.unwrap_or(rest).strip_prefix(b":")?;
        let root = Root::parse(str::from_utf8(digits).ok()?)?;
        // The prefix of another store may be the one of this store's indexes.
        (root.is_index() == users.is_some()).then_some(root)
    }
}

/// The slot of a key without braces in a Redis Cluster: CRC16 (XMODEM) modulo 16,384.
pub(super) fn slot(key: &[u8]) -> u16 {
    let mut crc = 0u16;
    for &byte in key {
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

/// The suffix of the prefix in the keys of users' indexes.
const USERS: &str = "-users";

/// Each session's key repeats the prefix: a long one costs memory for every session.
const PREFIX_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_logs_show_and_reads_back() {
        let prefix = Prefix::new("shop:sess").expect("it is plain");
        let user = crate::session::index_root(&crate::UserKey::of("ada"));
        let list = prefix.key(&user);
        assert!(list.starts_with(b"shop:sess-users:"));
        assert_eq!(prefix.parse(&list), Some(user));
        let root = Root::generate();
        let key = prefix.key(&root);
        assert_eq!(key, format!("shop:sess:{root}").as_bytes());
        assert_eq!(prefix.parse(&key), Some(root));
        let probe = prefix.probe(7);
        let claim = prefix.claim(&key);
        for foreign in [
            b"shop:sess:",
            &probe[..],
            &claim,
            b"other:0a1b",
            &key[..20],
            b"",
        ] {
            assert_eq!(prefix.parse(foreign), None);
        }
    }

    /// The prefix of another store may be the one of this store's indexes.
    #[test]
    fn a_session_of_the_store_with_the_prefix_of_the_indexes_is_foreign() {
        let [shop, other] = ["shop", "shop-users"].map(|it| Prefix::new(it).expect("it is plain"));
        let user = crate::session::index_root(&crate::UserKey::of("ada"));
        assert_eq!(shop.parse(&other.key(&Root::generate())), None);
        assert_eq!(other.parse(&shop.key(&user)), None);
    }

    /// from the specification of Redis Cluster.
    #[test]
    fn a_slot_is_the_one_that_the_server_computes() {
        assert_eq!(slot(b"123456789"), 0x31C3);
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
