//! The start of a file: what it is, whose it is, how it is to be read.
//!
//! ```text
//! magic 8 │ version 2 │ length 2 │ fields (postcard) │ checksum 8 │ proof of the key 16, if sealed
//! ```

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::seal::{FileKey, FileNonce, Seal, TAG_BYTES};

/// What stands at the start of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) application: String,
    /// The writer's wall clock in milliseconds since 1970; each block has its own.
    pub(super) written_at: u64,
    /// Drawn for this file: it goes into every checksum. So nothing that an application stores can
    /// look like a block of the file that it will be stored in.
    pub(super) salt: u64,
    /// There if the blocks are encrypted.
    pub(super) nonce: Option<FileNonce>,
    /// Whether the file means nothing without the journal of what has happened since.
    pub(super) journaled: bool,
    /// The members that stayed when the file was written. What they have ended since is not in it.
    pub(super) survivors: Vec<Survivor>,
}

/// A member of a cluster that was there when another one wrote its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Survivor {
    pub(crate) name: String,
    /// Which of its lives that was: it has kept its memory as long as this is the same.
    pub(crate) generation: u64,
    /// Whether it was on its way out too, and has written a file later.
    pub(crate) leaving: bool,
}

/// Why a file is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NotASnapshot,
    Version(u16),
    Damaged,
    Application(String),
    /// It is encrypted, and no key is given.
    KeyMissing,
    /// It is not encrypted, and a key is given: anybody could have written it.
    NotEncrypted,
    /// It was encrypted with another key, or its header was changed.
    WrongKey,
}

impl Header {
    /// The header as bytes, and what seals the blocks after it.
    pub(super) fn encode(&self, key: Option<&FileKey>) -> io::Result<(Vec<u8>, Option<Seal>)> {
        let fields = postcard::to_stdvec(self).map_err(io::Error::other)?;
        let length = u16::try_from(fields.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(PREFIX + fields.len() + CHECK + TAG_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&fields);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        let seal = match (key, self.nonce) {
            (Some(key), Some(nonce)) => Some(key.seal(nonce, &bytes)),
            _ => None,
        };
        if let Some(seal) = &seal {
            let proof = seal.proof();
            bytes.extend_from_slice(&proof.map_err(|_| io::Error::other("cannot encrypt"))?);
        }
        Ok((bytes, seal))
    }

    /// Reads the start of a file. The outer error is the disk's, the inner one the file's.
    pub(super) fn read(
        file: &mut impl Read,
        application: &str,
        key: Option<&FileKey>,
    ) -> io::Result<Result<(Self, Option<Seal>), Refusal>> {
        let mut bytes = Vec::new();
        if !read_more(file, PREFIX, &mut bytes)? || !bytes.starts_with(MAGIC) {
            return Ok(Err(Refusal::NotASnapshot));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Ok(Err(Refusal::Version(version)));
        }
        let length = u16::from_le_bytes([bytes[10], bytes[11]]).into();
        let mut check = Vec::new();
        if !read_more(file, length, &mut bytes)? || !read_more(file, CHECK, &mut check)? {
            return Ok(Err(Refusal::Damaged));
        }
        if xxh3_64(&bytes).to_le_bytes() != *check {
            return Ok(Err(Refusal::Damaged));
        }
        let Ok(header) = postcard::from_bytes::<Self>(&bytes[PREFIX..]) else {
            return Ok(Err(Refusal::Damaged));
        };
        if header.application.len() > APPLICATION_MAX || header.survivors.len() > SURVIVORS_MAX {
            return Ok(Err(Refusal::Damaged));
        }
        if header.application != application {
            return Ok(Err(Refusal::Application(header.application)));
        }
        bytes.append(&mut check);
        let seal = match (key, header.nonce) {
            (None, None) => None,
            (None, Some(_)) => return Ok(Err(Refusal::KeyMissing)),
            (Some(_), None) => return Ok(Err(Refusal::NotEncrypted)),
            (Some(key), Some(nonce)) => {
                let seal = key.seal(nonce, &bytes);
                let mut proof = Vec::new();
                if !read_more(file, TAG_BYTES, &mut proof)? || !seal.is_proved_by(&proof) {
                    return Ok(Err(Refusal::WrongKey));
                }
                Some(seal)
            }
        };
        Ok(Ok((header, seal)))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotASnapshot => f.write_str("it is no snapshot of sessions"),
            Self::Version(version) => write!(f, "its format is version {version}, not {VERSION}"),
            Self::Damaged => f.write_str("its header is damaged"),
            Self::Application(name) => write!(f, "it belongs to the application {name:?}"),
            Self::KeyMissing => f.write_str("it is encrypted, and no key is given"),
            Self::NotEncrypted => f.write_str("it is not encrypted, although a key is given"),
            Self::WrongKey => f.write_str("it was encrypted with another key, or altered"),
        }
    }
}

/// Appends `length` bytes of `file`; says whether there were so many. Nothing is reserved for bytes
/// that are not there.
pub(super) fn read_more(
    file: &mut impl Read,
    length: usize,
    bytes: &mut Vec<u8>,
) -> io::Result<bool> {
    let read = file.take(length as u64).read_to_end(bytes)?;
    Ok(read == length)
}

/// Longer names are not taken, nor shown.
pub(super) const APPLICATION_MAX: usize = 64;
const MAGIC: &[u8; 8] = b"DSESSION";
/// More members than a cluster can have.
const SURVIVORS_MAX: usize = 64;
/// Format 1 had no secrets in records: a session's key followed from its id.
const VERSION: u16 = 2;
/// Magic, version and length.
const PREFIX: usize = 12;
const CHECK: usize = 8;
