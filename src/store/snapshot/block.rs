//! A file's body: blocks, each with its own checksum, the last of which says what there must be.
//!
//! ```text
//! mark 4 │ number 4 │ length 4 │ checksum 8 │ content │ checksum 8
//! ```
//!
//! The first checksum is the head's own: a damaged length is never believed, and a reader that has
//! lost its way finds the next block. Both depend on the file's salt and the block's number.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a block's content begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Label {
    /// Entries of a slot follow, up to the end of the block.
    Slot {
        slot: u16,
        /// The writer's wall clock when it looked into the slot.
        at: u64,
    },
    /// The file ends here.
    End(Totals),
}

/// What there is in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    pub(super) blocks: u32,
    pub(super) sessions: u64,
    pub(super) tombstones: u64,
    /// Sessions that were in the store, about, and not written: time was up.
    pub(super) unwritten: u64,
}

/// What stands before a block's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: u32,
    pub(super) length: u32,
}

impl Head {
    pub(super) fn to_bytes(self, salt: u64) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(MARK);
        bytes[4..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        let check = xxh3_64_with_seed(&bytes[..12], salt);
        bytes[12..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// `None`: this is no head of a block in the file with that salt.
    pub(super) fn from_bytes(bytes: &[u8; HEAD_BYTES], salt: u64) -> Option<Self> {
        if !bytes.starts_with(MARK) {
            return None;
        }
        let [_, number, length, ..] = bytes.as_chunks::<4>().0 else {
            return None;
        };
        let head = Self {
            number: u32::from_le_bytes(*number),
            length: u32::from_le_bytes(*length),
        };
        (head.to_bytes(salt) == *bytes).then_some(head)
    }

    /// The checksum of the content.
    pub(super) fn check(self, content: &[u8], salt: u64) -> [u8; CHECK_BYTES] {
        let seed = salt ^ u64::from(self.number).rotate_left(32);
        xxh3_64_with_seed(content, seed).to_le_bytes()
    }
}

pub(super) const HEAD_BYTES: usize = 20;
pub(super) const CHECK_BYTES: usize = 8;
const MARK: &[u8; 4] = b"\xD5BLK";
