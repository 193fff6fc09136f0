//! The header of a file: its format, its application and its encryption.
//!
//! ```text
//! magic 8 │ version 2 │ length 2 │ fields (postcard) │ checksum 8 │ proof of the key 16 (optional)
//! ```

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::store::export::SnapshotSurvivor;
use crate::store::snapshot::format::encryption::{BlockCipher, FileKey, FileNonce, TAG_BYTES};

/// The fields of the header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub(crate) application: String,
    /// The writer's wall clock in milliseconds since 1970; each block has its own.
    pub(crate) written_at: u64,
    /// Drawn for this file and included in every checksum. Data stored by an application can
    /// therefore never look like a block of the file in which it is stored.
    pub(crate) salt: u64,
    /// Present if the blocks are encrypted.
    pub(crate) nonce: Option<FileNonce>,
    /// The file must not be used without the journal of later changes.
    pub(crate) journaled: bool,
    /// The members that remained when the file was written. Sessions that they have ended since are
    /// still in it.
    pub(crate) survivors: Vec<SnapshotSurvivor>,
}

/// The reason why a file is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    NotASnapshot,
    Version(u16),
    Damaged,
    Application(String),
    /// It is encrypted, and no key is configured.
    KeyMissing,
    /// It is not encrypted although a key is configured: anyone could have written it.
    NotEncrypted,
    /// It was encrypted with another key, or its header was changed.
    WrongKey,
}

impl SnapshotHeader {
    /// Returns the encoded header, and the cipher for the blocks after it.
    pub(crate) fn encode(
        &self,
        key: Option<&FileKey>,
    ) -> io::Result<(Vec<u8>, Option<BlockCipher>)> {
        let fields = postcard::to_stdvec(self).map_err(io::Error::other)?;
        let length = u16::try_from(fields.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(PREFIX + fields.len() + CHECK + TAG_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&fields);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        let cipher = match (key, self.nonce) {
            (Some(key), Some(nonce)) => Some(key.block_cipher(nonce, &bytes)),
            _ => None,
        };
        if let Some(cipher) = &cipher {
            let proof = cipher.proof();
            bytes.extend_from_slice(&proof.map_err(|_| io::Error::other("cannot encrypt"))?);
        }
        Ok((bytes, cipher))
    }

    /// Reads the header of a file. The outer error concerns the disk, the inner one the file.
    pub(crate) fn read(
        file: &mut impl Read,
        application: &str,
        key: Option<&FileKey>,
    ) -> io::Result<Result<(Self, Option<BlockCipher>), HeaderError>> {
        let mut bytes = Vec::new();
        if !read_more(file, PREFIX, &mut bytes)? || !bytes.starts_with(MAGIC) {
            return Ok(Err(HeaderError::NotASnapshot));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Ok(Err(HeaderError::Version(version)));
        }
        let length = u16::from_le_bytes([bytes[10], bytes[11]]).into();
        let mut check = Vec::new();
        if !read_more(file, length, &mut bytes)? || !read_more(file, CHECK, &mut check)? {
            return Ok(Err(HeaderError::Damaged));
        }
        if xxh3_64(&bytes).to_le_bytes() != *check {
            return Ok(Err(HeaderError::Damaged));
        }
        let Ok(header) = postcard::from_bytes::<Self>(&bytes[PREFIX..]) else {
            return Ok(Err(HeaderError::Damaged));
        };
        if header.application.len() > APPLICATION_MAX || header.survivors.len() > SURVIVORS_MAX {
            return Ok(Err(HeaderError::Damaged));
        }
        if header.application != application {
            return Ok(Err(HeaderError::Application(header.application)));
        }
        bytes.append(&mut check);
        let cipher = match (key, header.nonce) {
            (None, None) => None,
            (None, Some(_)) => return Ok(Err(HeaderError::KeyMissing)),
            (Some(_), None) => return Ok(Err(HeaderError::NotEncrypted)),
            (Some(key), Some(nonce)) => {
                let cipher = key.block_cipher(nonce, &bytes);
                let mut proof = Vec::new();
                if !read_more(file, TAG_BYTES, &mut proof)? || !cipher.is_proved_by(&proof) {
                    return Ok(Err(HeaderError::WrongKey));
                }
                Some(cipher)
            }
        };
        Ok(Ok((header, cipher)))
    }
}

impl std::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotASnapshot => f.write_str("it is no snapshot of sessions"),
            Self::Version(version) => write!(f, "its format is version {version}, not {VERSION}"),
            Self::Damaged => f.write_str("its header is damaged"),
            Self::Application(name) => write!(f, "it belongs to the application {name:?}"),
            Self::KeyMissing => f.write_str("it is encrypted, and no key is configured"),
            Self::NotEncrypted => f.write_str("it is not encrypted, although a key is configured"),
            Self::WrongKey => f.write_str("it was encrypted with another key, or altered"),
        }
    }
}

/// Appends `length` bytes of `file`. Returns `true` if there were that many. No memory is reserved
/// for bytes that do not exist.
pub(crate) fn read_more(
    file: &mut impl Read,
    length: usize,
    bytes: &mut Vec<u8>,
) -> io::Result<bool> {
    let read = file.take(length as u64).read_to_end(bytes)?;
    Ok(read == length)
}

/// Longer names are neither accepted nor shown.
pub(crate) const APPLICATION_MAX: usize = 64;
const MAGIC: &[u8; 8] = b"DSESSION";
/// More members than a cluster can have.
const SURVIVORS_MAX: usize = 64;
/// Format 1 had no secrets in records: a session's key followed from its id.
const VERSION: u16 = 2;
/// Magic, version and length.
const PREFIX: usize = 12;
const CHECK: usize = 8;
