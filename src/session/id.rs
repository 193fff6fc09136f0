//! The secret that a browser holds, and the one-way name that everybody else uses.

use std::fmt;
use std::hash::{Hash, Hasher};

use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Number of slots into which keys fall: the unit of locking, placement and hand-over.
pub const SLOTS: usize = 1 << 14;

/// A session's identifier: a 32-bit *tag* that survives rotation and a 128-bit *secret* that never
/// does, from the operating system's random source. A tag need not be secret: the replicated store
/// draws it so that the node owns the session.
///
/// On the wire it is 40 upper-case hexadecimal digits, the tag first. It is a bearer secret:
/// `Debug` hides it, there is no `Display`, and stores, peers, files and logs only ever see its
/// [`key`](Self::key).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    tag: u32,
    secret: [u8; SECRET_BYTES],
}

impl SessionId {
    /// Length of the textual form.
    pub const TEXT_LEN: usize = 2 * (TAG_BYTES + SECRET_BYTES);

    /// Draws a new identifier.
    ///
    /// # Panics
    ///
    /// When the operating system has no random numbers to give: no safe identifier exists then.
    #[must_use]
    pub fn generate() -> Self {
        let mut tag = [0; TAG_BYTES];
        fill(&mut tag);
        Self::with_tag(u32::from_be_bytes(tag))
    }

    /// Draws a new secret under a tag that the caller has chosen (from the random source as well:
    /// a store picks a tag that it owns).
    ///
    /// # Panics
    ///
    /// As [`generate`](Self::generate).
    #[must_use]
    pub fn with_tag(tag: u32) -> Self {
        let mut secret = [0; SECRET_BYTES];
        fill(&mut secret);
        Self { tag, secret }
    }

    /// Draws the successor of this identifier: same tag, hence same slot and same holders, and a
    /// new secret.
    ///
    /// # Panics
    ///
    /// As [`generate`](Self::generate).
    #[must_use]
    pub fn rotate(&self) -> Self {
        Self::with_tag(self.tag)
    }

    /// Reads the textual form: exactly 40 upper-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; Self::TEXT_LEN] = text.try_into().ok()?;
        let mut bytes = [0; TAG_BYTES + SECRET_BYTES];
        let mut all = 0;
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
            all |= high | low;
            *byte = high << 4 | low;
        }
        if all >= NO_DIGIT {
            return None;
        }
        let (tag, secret) = bytes.split_at(TAG_BYTES);
        Some(Self {
            tag: u32::from_be_bytes(tag.try_into().ok()?),
            secret: secret.try_into().ok()?,
        })
    }

    /// The textual form, for a cookie. **Whoever has it has the session**: do not log or store it.
    #[must_use]
    pub fn expose(&self) -> String {
        let mut text = String::with_capacity(Self::TEXT_LEN);
        hex(&self.tag.to_be_bytes(), UPPER, &mut text);
        hex(&self.secret, UPPER, &mut text);
        text
    }

    /// The part that survives rotation.
    #[must_use]
    pub const fn tag(&self) -> u32 {
        self.tag
    }

    /// The one-way name of this session: the tag and the first 16 bytes of the secret's SHA-256.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        let digest = Sha256::digest(self.secret);
        let mut hash = [0; SECRET_BYTES];
        hash.copy_from_slice(&digest[..SECRET_BYTES]);
        SessionKey {
            tag: self.tag,
            hash,
        }
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(secret)")
    }
}

/// The name under which stores, peers, files and logs know a session: its id's tag and a one-way
/// hash of its secret.
///
/// Knowing a key does not let anyone use the session. Shown as 40 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionKey {
    tag: u32,
    hash: [u8; SECRET_BYTES],
}

impl SessionKey {
    /// Puts together what [`to_bytes`](Self::to_bytes) took apart.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        let mut tag = [0; TAG_BYTES];
        let mut hash = [0; SECRET_BYTES];
        tag.copy_from_slice(&bytes[..TAG_BYTES]);
        hash.copy_from_slice(&bytes[TAG_BYTES..]);
        Self {
            tag: u32::from_be_bytes(tag),
            hash,
        }
    }

    /// The tag, big-endian, and the hash.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..TAG_BYTES].copy_from_slice(&self.tag.to_be_bytes());
        bytes[TAG_BYTES..].copy_from_slice(&self.hash);
        bytes
    }

    /// The tag of the id: it alone chooses slot and holders.
    #[must_use]
    pub const fn tag(&self) -> u32 {
        self.tag
    }

    /// Which of the [`SLOTS`] slots this key falls into.
    #[must_use]
    pub const fn slot(&self) -> usize {
        slot_of(self.tag)
    }
}

/// The slot of all sessions with this tag.
pub(crate) const fn slot_of(tag: u32) -> usize {
    tag as usize & (SLOTS - 1)
}

/// A part of the key is as good as all of it: it is a hash already.
impl Hash for SessionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (part, _) = self.hash.split_at(size_of::<u64>());
        state.write_u64(u64::from_le_bytes(part.try_into().expect("eight bytes")));
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(SessionId::TEXT_LEN);
        hex(&self.to_bytes(), LOWER, &mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for SessionKey {
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

const TAG_BYTES: usize = 4;
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
    fn text_is_forty_upper_case_digits_and_reads_back() {
        let id = SessionId::generate();
        let text = id.expose();
        assert_eq!(text.len(), 40);
        assert!(text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')));
        assert_eq!(SessionId::parse(text.as_bytes()), Some(id));
    }

    #[test]
    fn rotation_keeps_the_tag_and_changes_the_secret() {
        let id = SessionId::generate();
        let next = id.rotate();
        assert_eq!(id.tag(), next.tag());
        assert_eq!(id.key().slot(), next.key().slot());
        assert_ne!(id, next);
    }

    /// C-13.
    #[test]
    fn neither_debug_nor_the_key_shows_the_secret() {
        let id = SessionId::generate();
        let secret = &id.expose()[8..];
        assert!(!format!("{id:?}").contains(secret));
        assert!(!format!("{}", id.key()).to_uppercase().contains(secret));
        assert_eq!(format!("{}", id.key()).len(), 40);
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
        fn a_key_survives_its_bytes(bytes in any::<[u8; 20]>()) {
            prop_assert_eq!(SessionKey::from_bytes(bytes).to_bytes(), bytes);
        }
    }
}
