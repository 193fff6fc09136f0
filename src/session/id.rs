//! The session id that a browser holds: a root that names the session, and a secret that proves
//! access.
//!
//! An id has two parts. The [`Root`] names the session for its whole life. It is the key under
//! which stores, peers, files, logs and events refer to the session, and it gives no access. The
//! *secret* is drawn anew at each rotation and is never stored: a session's record holds its
//! [`SecretHash`], and an id is valid if the hash of its secret matches.

use std::fmt;
use std::hash::{Hash, Hasher};

use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The number of slots into which roots fall: the unit of locking, placement and transfer.
#[cfg(any(test, feature = "memory", feature = "redis", feature = "replicated"))]
pub(crate) const SLOTS: usize = 1 << 14;

/// A session's identifier: a permanent [`Root`] of 96 bits, and a secret of 128 bits that each
/// rotation replaces. Both come from the operating system's random source.
///
/// As text it is 56 upper-case hexadecimal digits, the root first. It is a bearer secret: `Debug`
/// hides it and there is no `Display`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    root: Root,
    secret: [u8; SECRET_BYTES],
}

impl SessionId {
    /// Length of the textual form.
    pub const TEXT_LEN: usize = 2 * (ROOT_BYTES + SECRET_BYTES);

    /// Draws a new identifier.
    ///
    /// # Panics
    ///
    /// Panics if the operating system provides no random numbers: no safe identifier exists then.
    #[must_use]
    pub fn generate() -> Self {
        Self::with_root(Root::generate())
    }

    /// Draws a new secret for a root, for a new session or a rotation.
    ///
    /// # Panics
    ///
    /// As [`generate`](Self::generate).
    #[must_use]
    pub fn with_root(root: Root) -> Self {
        let mut secret = [0; SECRET_BYTES];
        fill(&mut secret);
        Self { root, secret }
    }

    /// Parses the textual form: exactly 56 upper-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; Self::TEXT_LEN] = text.try_into().ok()?;
        let mut bytes = [0; ROOT_BYTES + SECRET_BYTES];
        let mut all = 0;
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
            all |= high | low;
            *byte = high << 4 | low;
        }
        if all >= NO_DIGIT {
            return None;
        }
        let (root, secret) = bytes.split_at(ROOT_BYTES);
        Some(Self {
            root: Root(root.try_into().ok()?),
            secret: secret.try_into().ok()?,
        })
    }

    /// Returns the textual form, for a cookie. **It gives access to the session**: do not log or
    /// store it.
    #[must_use]
    pub fn expose(&self) -> String {
        let mut text = String::with_capacity(Self::TEXT_LEN);
        hex(&self.root.0, UPPER, &mut text);
        hex(&self.secret, UPPER, &mut text);
        text
    }

    /// Returns the root, the key under which stores keep the session.
    #[must_use]
    pub const fn key(&self) -> Root {
        self.root
    }

    /// Returns the hash of the secret, which a session's record holds.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        let digest = Sha256::digest(self.secret);
        let mut hash = [0; SECRET_BYTES];
        hash.copy_from_slice(&digest[..SECRET_BYTES]);
        SecretHash(hash)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(secret)")
    }
}

/// The first 16 bytes of the SHA-256 of an id's secret.
///
/// Comparison takes constant time.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct SecretHash([u8; SECRET_BYTES]);

impl SecretHash {
    /// The hash of a record that is not a session: no secret is known that has it.
    pub(crate) const NONE: Self = Self([0; SECRET_BYTES]);

    /// Creates a hash from the bytes of [`to_bytes`](Self::to_bytes).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the hash.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The bytes as two words, which takes far less time to compare.
    const fn words(&self) -> [u64; 2] {
        let number = u128::from_ne_bytes(self.0);
        [number as u64, (number >> 64) as u64]
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.words().ct_eq(&other.words()).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

/// The part of an id that names the session for its whole life: the key under which stores, peers,
/// files and logs refer to it.
///
/// It does not give access to the session. Shown as 24 lower-case hexadecimal digits. The first bit
/// distinguishes the index of a user's sessions, which is stored in the same way, from a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Root([u8; ROOT_BYTES]);

impl Root {
    /// Draws a root from the operating system's random source.
    ///
    /// # Panics
    ///
    /// Panics if the operating system provides no random numbers.
    #[must_use]
    pub fn generate() -> Self {
        let mut root = [0; ROOT_BYTES];
        fill(&mut root);
        root[0] &= !INDEX;
        Self(root)
    }

    /// The root of the index of a user's sessions.
    pub(crate) const fn of_index(mut bytes: [u8; ROOT_BYTES]) -> Self {
        bytes[0] |= INDEX;
        Self(bytes)
    }

    /// The root of a session whose id is not one of ours, from a hash of that id.
    #[cfg(any(feature = "tower-sessions", feature = "tower-sessions-0-15"))]
    pub(crate) const fn of_hash(mut bytes: [u8; ROOT_BYTES]) -> Self {
        bytes[0] &= !INDEX;
        Self(bytes)
    }

    /// Returns `true` if this root names a user index rather than a session.
    #[must_use]
    pub const fn is_index(&self) -> bool {
        self.0[0] & INDEX != 0
    }

    /// Creates a root from the bytes of [`to_bytes`](Self::to_bytes).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the root.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 12] {
        self.0
    }

    /// Parses the textual form: exactly 24 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text: &[u8; 2 * ROOT_BYTES] = text.as_bytes().try_into().ok()?;
        let mut root = [0; ROOT_BYTES];
        for (byte, pair) in root.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |digit: u8| LOWER.iter().position(|known| *known == digit);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Some(Self(root))
    }

    /// Which of the [`SLOTS`] slots this root falls into: its low 14 bits.
    #[cfg(any(test, feature = "memory", feature = "redis", feature = "replicated"))]
    pub(crate) const fn slot(&self) -> usize {
        (self.0[ROOT_BYTES - 2] as usize) << 8 & (SLOTS - 1) | self.0[ROOT_BYTES - 1] as usize
    }

    /// The place of the session in a list: in the order of slots and, within a slot, of roots.
    #[cfg(any(feature = "memory", feature = "replicated"))]
    pub(crate) const fn place(&self) -> (usize, Self) {
        (self.slot(), *self)
    }

    /// The last place of a slot.
    #[cfg(any(feature = "memory", feature = "replicated"))]
    pub(crate) const fn last_of(slot: usize) -> Self {
        Self([u8::MAX; ROOT_BYTES]).with_slot(slot)
    }

    /// The same root in another slot.
    #[cfg(any(feature = "memory", feature = "replicated"))]
    pub(crate) const fn with_slot(mut self, slot: usize) -> Self {
        let kept = self.0[ROOT_BYTES - 2] & !((SLOTS >> 8) as u8 - 1);
        self.0[ROOT_BYTES - 2] = kept | (slot >> 8) as u8;
        self.0[ROOT_BYTES - 1] = slot as u8;
        self
    }
}

/// Hashing a part of the root is enough: it is random.
impl Hash for Root {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (part, _) = self.0.split_at(size_of::<u64>());
        state.write_u64(u64::from_le_bytes(part.try_into().expect("eight bytes")));
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(2 * ROOT_BYTES);
        hex(&self.0, LOWER, &mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn fill(bytes: &mut [u8]) {
    SysRng
        .try_fill_bytes(bytes)
        .expect("the operating system has a random source");
}

fn hex(bytes: &[u8], digits: &[u8; 16], text: &mut String) {
    for byte in bytes {
        text.push(digits[usize::from(byte >> 4)].into());
        text.push(digits[usize::from(byte & 15)].into());
    }
}

const ROOT_BYTES: usize = 12;
/// The bit of the first byte of a root that marks the index of a user's sessions.
const INDEX: u8 = 0x80;
const SECRET_BYTES: usize = 16;
const UPPER: &[u8; 16] = b"0123456789ABCDEF";
const LOWER: &[u8; 16] = b"0123456789abcdef";
/// The value of each upper-case digit, [`NO_DIGIT`] for every other byte.
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        digits[UPPER[value] as usize] = value as u8;
        value += 1;
    }
    digits
};
const NO_DIGIT: u8 = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_fifty_six_upper_case_digits_and_reads_back() {
        let id = SessionId::generate();
        let text = id.expose();
        assert_eq!(text.len(), 56);
        assert!(text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')));
        assert_eq!(SessionId::parse(text.as_bytes()), Some(id));
    }

    #[test]
    fn neither_debug_nor_the_root_shows_the_secret() {
        let id = SessionId::generate();
        let secret = &id.expose()[24..];
        assert!(!format!("{id:?} {:?}", id.hash()).contains(secret));
        assert!(!format!("{}", id.key()).to_uppercase().contains(secret));
        assert_eq!(format!("{}", id.key()).len(), 24);
        assert_ne!(&SessionId::with_root(id.key()).expose()[24..], secret);
    }

    /// C-13.
    #[test]
    fn a_hash_is_the_first_half_of_the_sha_256_of_the_secret() {
        let id = SessionId::parse(&[b'0'; 56]).expect("an id");
        let zeros = [0x37, 0x47, 0x08, 0xff, 0xf7, 0x71, 0x9d, 0xd5];
        assert_eq!(id.hash().to_bytes()[..8], zeros);
    }

    #[test]
    fn hashes_differ_if_one_byte_does() {
        let hash = SecretHash::from_bytes([7; 16]);
        assert_eq!(hash, SecretHash::from_bytes([7; 16]));
        for at in 0..16 {
            let mut bytes = hash.to_bytes();
            bytes[at] ^= 0x80;
            assert_ne!(hash, SecretHash::from_bytes(bytes), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics_and_only_takes_what_expose_gives(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(id) = SessionId::parse(&bytes) {
                let text = id.expose();
                prop_assert_eq!(text.as_bytes(), &bytes[..]);
            }
        }

        #[test]
        fn a_root_survives_its_bytes_and_its_text(bytes in any::<[u8; 12]>()) {
            let root = Root::from_bytes(bytes);
            prop_assert_eq!(root.to_bytes(), bytes);
            prop_assert_eq!(Root::parse(&root.to_string()), Some(root));
            prop_assert_eq!(root.slot(), usize::from(u16::from_be_bytes([bytes[10], bytes[11]])) % SLOTS);
        }

        #[cfg(feature = "replicated")]
        #[test]
        fn a_root_goes_to_any_slot(bytes in any::<[u8; 12]>(), slot in 0..SLOTS) {
            let root = Root::from_bytes(bytes);
            let other = root.with_slot(slot);
            prop_assert_eq!(other.slot(), slot);
            prop_assert_eq!(other.with_slot(root.slot()), root);
        }
    }
}
