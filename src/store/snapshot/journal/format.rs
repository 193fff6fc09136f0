//! The journal's bytes: a start that appears all at once, then batches of ids.

use std::io::Read;

use xxhash_rust::xxh3::xxh3_64;

use crate::session::Root;

use super::super::place::{Place, Unfit, open};

/// What an earlier process noted.
#[derive(Debug)]
pub(in super::super) enum Found {
    Nothing,
    Keys(Vec<Root>),
    /// It cannot be read, and so nobody knows who has ended.
    Unreadable(String),
}

/// Reads the journal at a place.
pub(in super::super) fn read(place: &Place) -> Found {
    let file = match open(&place.journal) {
        Ok(Some(file)) => file,
        Ok(None) => return Found::Nothing,
        Err(unfit) => return Found::Unreadable(unfit.to_string()),
    };
    let mut bytes = Vec::new();
    if let Err(error) = file.take(LENGTH_MAX + 1).read_to_end(&mut bytes) {
        return Found::Unreadable(Unfit::Disk(error).to_string());
    }
    if bytes.len() as u64 > LENGTH_MAX {
        return Found::Unreadable("it is too long".to_owned());
    }
    match parse(&bytes) {
        Some(keys) => Found::Keys(keys),
        None => Found::Unreadable("it is damaged".to_owned()),
    }
}

/// The ids in a journal. Its last batch may be torn: nobody was told that it is there. `None`: it is
/// damaged.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<Root>> {
    let bytes = bytes.strip_prefix(MAGIC)?;
    let (count, bytes) = bytes.split_first_chunk::<8>()?;
    let (check, bytes) = bytes.split_first_chunk::<8>()?;
    if xxh3_64(count).to_le_bytes() != *check {
        return None;
    }
    let first = u32::try_from(u64::from_le_bytes(*count)).ok()?;
    let mut keys = Vec::new();
    // What stands before this was on the disk when something behind it was written.
    let mut sound = first;
    let mut torn = None;
    let mut number = 0;
    for bytes in bytes.chunks(ENTRY) {
        match entry(bytes) {
            Some((_, begin)) if begin > number => return None,
            Some((key, begin)) => {
                sound = sound.max(begin);
                keys.push(key);
            }
            None => drop(torn.get_or_insert(number)),
        }
        number += 1;
    }
    (number >= first && torn.is_none_or(|torn| torn >= sound)).then_some(keys)
}

fn entry(bytes: &[u8]) -> Option<(Root, u32)> {
    let (bytes, check) = bytes.split_last_chunk::<8>()?;
    let (key, begin) = bytes.split_last_chunk::<4>()?;
    let key = Root::from_bytes(key.try_into().ok()?);
    (xxh3_64(bytes).to_le_bytes() == *check).then(|| (key, u32::from_le_bytes(*begin)))
}

/// A new journal.
pub(super) fn start(keys: &[Root]) -> Vec<u8> {
    let count = (keys.len() as u64).to_le_bytes();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&count);
    bytes.extend_from_slice(&xxh3_64(&count).to_le_bytes());
    bytes.append(&mut entries(keys, 0));
    bytes
}

/// A batch whose first entry is the one with number `begin`.
pub(super) fn entries(keys: &[Root], begin: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(keys.len() * ENTRY);
    for key in keys {
        let start = bytes.len();
        bytes.extend_from_slice(&key.to_bytes());
        bytes.extend_from_slice(&begin.to_le_bytes());
        let check = xxh3_64(&bytes[start..]);
        bytes.extend_from_slice(&check.to_le_bytes());
    }
    bytes
}

const MAGIC: &[u8] = b"DSENDED1";
/// An id, the number of the first entry that was written with it, a checksum.
const ENTRY: usize = 20 + 4 + 8;
/// Many times the length at which a new file is due: new files have failed for long.
const LENGTH_MAX: u64 = 1 << 30;
