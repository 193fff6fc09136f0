//! The one-way name of a user.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name under which stores, peers and files refer to a user: the first 16 bytes of the SHA-256
/// of the user's id.
///
/// The id itself stays in the application. Shown as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserKey([u8; 16]);

impl UserKey {
    /// Returns the key of a user id.
    #[must_use]
    pub fn of(user: &str) -> Self {
        let digest = Sha256::new()
            .chain_update(DOMAIN)
            .chain_update(user.as_bytes())
            .finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }

    /// Creates a key from the bytes of [`to_bytes`](Self::to_bytes).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the key.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl From<&str> for UserKey {
    fn from(user: &str) -> Self {
        Self::of(user)
    }
}

impl From<String> for UserKey {
    fn from(user: String) -> Self {
        Self::of(&user)
    }
}

impl From<&String> for UserKey {
    fn from(user: &String) -> Self {
        Self::of(user)
    }
}

impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Separates the keys of users from other hashes.
const DOMAIN: &[u8] = b"distributable user\0";
