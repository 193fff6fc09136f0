//! The shared secret of a cluster.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::error::{SetupError, SetupErrorKind};

/// The shared secret that authenticates the nodes of a cluster: at least 32 random bytes, the same
/// on every node.
///
/// ```sh
/// openssl rand -hex 32 > secret
/// chmod 600 secret
/// ```
///
/// Any process with the secret can join the cluster, and read and change every session. It never
/// leaves the node: the keys that authenticate and encrypt links are derived from it.
///
/// `Debug` does not show it.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Creates a secret from bytes, all of which are significant.
    ///
    /// # Errors
    ///
    /// If there are fewer than 32 bytes, more than 4096, or only a few different values.
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Result<Self, SetupError> {
        Self::check("the secret", bytes.as_ref())
    }

    /// Reads a secret from a file, without the line break at its end.
    ///
    /// A file that every user of the machine may read is accepted, with a warning in the log:
    /// orchestrators mount secrets like that.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, and as for [`from_bytes`](Self::from_bytes).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SetupError> {
        let path = path.as_ref();
        let name = format!("the secret in {}", path.display());
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| {
            warn_if_public(path, &file);
            // The maximum, a line break and one more byte are enough to detect a file that is too
            // long.
            file.take(SECRET_MAX as u64 + 3).read_to_end(&mut bytes)
        });
        read.map_err(|error| {
            let path = path.display();
            let what = format!("{name} cannot be read: make it with `{RECIPE} > {path}`");
            SetupError::new(SetupErrorKind::SecretMissing, what).with_source(error)
        })?;
        Self::check(&name, without_line_break(&bytes))
    }

    /// Reads a secret from an environment variable, without the line break at its end.
    ///
    /// # Errors
    ///
    /// If the variable is not set, and as for [`from_bytes`](Self::from_bytes).
    pub fn from_env(variable: &str) -> Result<Self, SetupError> {
        let name = format!("the secret in the environment variable {variable}");
        let Some(value) = std::env::var_os(variable) else {
            let what = format!("{name} is not set: use the output of `{RECIPE}`");
            return Err(SetupError::new(SetupErrorKind::SecretMissing, what));
        };
        Self::check(&name, without_line_break(value.as_encoded_bytes()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn check(name: &str, bytes: &[u8]) -> Result<Self, SetupError> {
        let len = bytes.len();
        let (kind, what) = if len < SECRET_MIN {
            (
                SetupErrorKind::SecretTooShort,
                format!("is {len} bytes long"),
            )
        } else if len > SECRET_MAX {
            let what = format!("is longer than {SECRET_MAX} bytes");
            (SetupErrorKind::SecretTooLong, what)
        } else if distinct(bytes) < DISTINCT_MIN {
            (
                SetupErrorKind::SecretWeak,
                "repeats a few characters".to_owned(),
            )
        } else {
            return Ok(Self(bytes.into()));
        };
        let advice =
            format!("{name} {what}: use at least {SECRET_MIN} random bytes, as from `{RECIPE}`");
        Err(SetupError::new(kind, advice))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn without_line_break(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Returns the number of different byte values.
fn distinct(bytes: &[u8]) -> usize {
    let mut seen = [false; 256];
    for &byte in bytes {
        seen[usize::from(byte)] = true;
    }
    seen.iter().filter(|seen| **seen).count()
}

#[cfg(unix)]
fn warn_if_public(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt;

    const OTHERS_READ: u32 = 0o004;
    let mode = file.metadata().map(|data| data.permissions().mode());
    if mode.is_ok_and(|mode| mode & OTHERS_READ != 0) {
        tracing::warn!(
            file = %path.display(),
            "every user of this machine may read the secret: chmod 600 the file"
        );
    }
}

#[cfg(not(unix))]
fn warn_if_public(_: &Path, _: &File) {}

/// 256 bits if they are random. It is not a password: people do not have to remember it.
const SECRET_MIN: usize = 32;
/// Longer input is a mistake.
const SECRET_MAX: usize = 4096;
/// Of 32 random hexadecimal digits one in thirty million has fewer.
const DISTINCT_MIN: usize = 8;
const RECIPE: &str = "openssl rand -hex 32";

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "6f1d0c3b5a79884e2f6d1c0b9a8f7e6d5c4b3a29180f7e6d5c4b3a2918273645";

    /// N-01.
    #[test]
    fn what_is_no_secret_is_refused_with_a_recipe() {
        let cases = [
            ("", SetupErrorKind::SecretTooShort),
            (&GOOD[..31], SetupErrorKind::SecretTooShort),
            (&"changeme".repeat(4), SetupErrorKind::SecretWeak),
            (&"0".repeat(64), SetupErrorKind::SecretWeak),
            (&GOOD.repeat(65), SetupErrorKind::SecretTooLong),
        ];
        for (bytes, kind) in cases {
            let error = Secret::from_bytes(bytes).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(RECIPE), "{error}");
        }
        assert!(Secret::from_bytes(&GOOD[..32]).is_ok());
    }

    #[test]
    fn a_line_break_at_the_end_of_a_file_does_not_count() {
        let plain = Secret::from_bytes(GOOD).unwrap();
        for end in ["", "\n", "\r\n"] {
            let bytes = format!("{GOOD}{end}");
            assert_eq!(without_line_break(bytes.as_bytes()), plain.bytes());
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let file = Secret::from_file("/no/such/secret").unwrap_err();
        assert_eq!(file.kind(), SetupErrorKind::SecretMissing);
        assert!(file.to_string().contains("/no/such/secret"), "{file}");
        let variable = Secret::from_env("NO_SUCH_SECRET").unwrap_err();
        assert_eq!(variable.kind(), SetupErrorKind::SecretMissing);
        assert!(
            variable.to_string().contains("NO_SUCH_SECRET"),
            "{variable}"
        );
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::from_bytes(GOOD).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
