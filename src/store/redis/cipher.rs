//! Encryption of attribute values with keys from the application.
//!
//! XChaCha20-Poly1305 with a random nonce of 24 bytes for each write. The session's key in Redis
//! and the attribute's name are authenticated with the value: a value cannot be moved to another
//! session or another attribute. The server chooses the version of a write, so that is not
//! authenticated: a party that can write to Redis can put back an earlier value of the same
//! attribute.
//!
//! An encrypted value is the number of its key (4 bytes), the nonce, and the ciphertext with its
//! tag of 16 bytes.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};

use crate::store::redis::error::{RedisError, RedisErrorKind};

/// What a store with encryption keys does with values that are not encrypted.
///
/// A store whose sessions are in use gets encryption in three steps, each of which every node must
/// have taken before the next one: [`Written`](Self::Written), [`Accepted`](Self::Accepted),
/// [`Refused`](Self::Refused). The last one follows when every session from before the second has
/// expired. In the opposite order they end encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlainValues {
    /// Reading one is an error. Values are encrypted.
    #[default]
    Refused,
    /// They can be read. Values are encrypted.
    Accepted,
    /// They can be read, and are written. Encrypted values can be read.
    Written,
}

/// A secret key as given to the builder. `Debug` does not show it.
#[derive(Clone)]
pub(super) struct EncryptionKey(pub(super) [u8; 32]);

/// Encrypts and decrypts values.
pub(super) struct ValueCipher {
    /// The first one encrypts.
    keys: Vec<NumberedKey>,
    pub(super) plain: PlainValues,
}

struct NumberedKey {
    number: [u8; NUMBER_BYTES],
    cipher: XChaCha20Poly1305,
}

impl ValueCipher {
    /// `None` without a key.
    pub(super) fn new(keys: &[EncryptionKey], plain: PlainValues) -> Option<Self> {
        let numbered = |EncryptionKey(key): &EncryptionKey| {
            let digest = Sha256::new()
                .chain_update(KEY_DOMAIN)
                .chain_update(key)
                .finalize();
            let mut number = [0; NUMBER_BYTES];
            number.copy_from_slice(&digest[..NUMBER_BYTES]);
            NumberedKey {
                number,
                cipher: XChaCha20Poly1305::new(&Key::from(*key)),
            }
        };
        let keys: Vec<_> = keys.iter().map(numbered).collect();
        (!keys.is_empty()).then_some(Self { keys, plain })
    }

    /// Encrypts the value of an attribute of the session under `key`.
    pub(super) fn encrypt(
        &self,
        key: &[u8],
        name: &str,
        value: &[u8],
    ) -> Result<Vec<u8>, RedisError> {
        let mut nonce = [0; NONCE_BYTES];
        let drawn = SysRng.try_fill_bytes(&mut nonce);
        drawn.map_err(|error| wrong("there are no random numbers").with_source(error))?;
        self.encrypt_with(nonce, key, name, value)
    }

    fn encrypt_with(
        &self,
        nonce: [u8; NONCE_BYTES],
        key: &[u8],
        name: &str,
        value: &[u8],
    ) -> Result<Vec<u8>, RedisError> {
        let first = &self.keys[0];
        let payload = Payload {
            msg: value,
            aad: &associated_data(key, name),
        };
        let encrypted = first
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| wrong("a value is too long"))?;
        Ok([&first.number[..], &nonce, &encrypted].concat())
    }

    /// Decrypts what [`encrypt`](Self::encrypt) has returned for this session and attribute.
    pub(super) fn decrypt(
        &self,
        key: &[u8],
        name: &str,
        bytes: &[u8],
    ) -> Result<Vec<u8>, RedisError> {
        let cut = || wrong("an encrypted value is cut short");
        let (number, rest) = bytes.split_first_chunk::<NUMBER_BYTES>().ok_or_else(cut)?;
        let (nonce, encrypted) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(cut)?;
        let aad = associated_data(key, name);
        let mut is_known = false;
        for known in self.keys.iter().filter(|known| known.number == *number) {
            is_known = true;
            let payload = Payload {
                msg: encrypted,
                aad: &aad,
            };
            if let Ok(value) = known.cipher.decrypt(&XNonce::from(*nonce), payload) {
                return Ok(value);
            }
        }
        Err(wrong(if is_known {
            "an encrypted value is damaged, or was stored for another session or attribute"
        } else {
            "a value is encrypted with a key that this store does not have"
        }))
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey(secret)")
    }
}

impl fmt::Debug for ValueCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueCipher")
            .field("keys", &self.keys.len())
            .field("plain", &self.plain)
            .finish()
    }
}

/// The place of a value, which is authenticated with it.
fn associated_data(key: &[u8], name: &str) -> Vec<u8> {
    // A key has a prefix of at most 64 bytes.
    let length = u8::try_from(key.len()).unwrap_or(u8::MAX);
    // The length separates the two: otherwise a value could be moved to a longer key and a shorter
    // name.
    [VALUE_DOMAIN, &[length], key, name.as_bytes()].concat()
}

pub(super) fn wrong(message: &str) -> RedisError {
    RedisError::new(RedisErrorKind::Encryption, message)
}

/// The most keys of a store: every value of an unknown key is compared with all of them.
pub(super) const KEYS_MAX: usize = 8;

const NUMBER_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const KEY_DOMAIN: &[u8] = b"distributable redis key\0";
const VALUE_DOMAIN: &[u8] = b"distributable redis value\0";

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"sess:000102030405060708090a0b";

    fn cipher(keys: &[u8]) -> ValueCipher {
        let keys: Vec<_> = keys.iter().map(|key| EncryptionKey([*key; 32])).collect();
        ValueCipher::new(&keys, PlainValues::Refused).expect("there is a key")
    }

    #[test]
    fn what_one_key_has_encrypted_is_decrypted_in_its_place_only() {
        let (old, new) = (cipher(&[1]), cipher(&[2, 1]));
        let encrypted = old.encrypt(KEY, "cart", b"jtrue").expect("it is encrypted");
        assert!(!encrypted.windows(5).any(|part| part == b"jtrue"));
        for cipher in [&old, &new] {
            let opened = cipher
                .decrypt(KEY, "cart", &encrypted)
                .expect("it has the key");
            assert_eq!(opened, b"jtrue");
        }
        let again = new.encrypt(KEY, "cart", b"jtrue").expect("it is encrypted");
        let third = new.encrypt(KEY, "cart", b"jtrue").expect("it is encrypted");
        assert_ne!(again[4..28], third[4..28], "no nonce comes twice");
        let elsewhere: [(&[u8], &str, &[u8]); 8] = [
            (KEY, "cart", &again[..]),
            (KEY, "card", &encrypted),
            (b"sess:000102030405060708090a0c", "cart", &encrypted),
            (b"sess:000102030405060708090a0", "bcart", &encrypted),
            (KEY, "cart", &encrypted[..encrypted.len() - 1]),
            (KEY, "cart", &encrypted[..28]),
            (KEY, "cart", &encrypted[..27]),
            (KEY, "cart", &[]),
        ];
        for (key, name, encrypted) in elsewhere {
            let error = old
                .decrypt(key, name, encrypted)
                .expect_err("it is not in place");
            assert_eq!(error.kind(), RedisErrorKind::Encryption);
        }
        for at in 0..encrypted.len() {
            let mut forged = encrypted.clone();
            forged[at] ^= 1;
            assert!(old.decrypt(KEY, "cart", &forged).is_err(), "{at}");
        }
        let empty = old.encrypt(KEY, "", b"").expect("it is encrypted");
        assert_eq!(old.decrypt(KEY, "", &empty).expect("it has the key"), b"");
    }

    /// Values that an earlier version has written can be read.
    #[test]
    fn the_format_of_an_encrypted_value_stays() {
        let cipher = cipher(&[7]);
        let encrypted = cipher.encrypt_with([9; 24], KEY, "cart", b"jtrue");
        let encrypted = encrypted.expect("it is encrypted");
        let hex: String = encrypted.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    /// Made with another implementation.
    const GOLDEN: &str = "85176c50090909090909090909090909090909090909090909090909d40690ff\
        191e73fb284d05cba4092ac46d5cabd366";

    #[test]
    fn no_key_is_shown() {
        let shown = format!("{:?} {:?}", EncryptionKey([42; 32]), cipher(&[42]));
        assert!(!shown.contains("42"), "{shown}");
    }
}
