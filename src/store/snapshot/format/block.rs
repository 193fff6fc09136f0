//! The body of a file: blocks, each with its own checksums; the last one holds the totals.
//!
//! ```text
//! mark 4 │ number 4 │ length 4 │ checksum 8 │ content │ checksum 8
//! ```
//!
//! The first checksum is the head's own: a damaged length is never used, and a reader that has lost
//! its position finds the next block. Both depend on the file's salt and the block's number.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The start of a block's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BlockLabel {
    /// Entries of a slot follow, up to the end of the block.
    Slot {
        slot: u16,
        /// The writer's wall clock when it read the slot.
        at: u64,
    },
    /// The file ends here.
    End(FileTotals),
}

/// The totals of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileTotals {
    pub(crate) blocks: u32,
    pub(crate) sessions: u64,
    pub(crate) tombstones: u64,
    /// Approximate number of sessions in the store that were not written in time.
    pub(crate) unwritten: u64,
}

/// The head of a block, which precedes its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHead {
    pub(crate) number: u32,
    pub(crate) length: u32,
}

impl BlockHead {
    pub(crate) fn to_bytes(self, salt: u64) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(MARK);
        bytes[4..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        let check = xxh3_64_with_seed(&bytes[..12], salt);
        bytes[12..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// `None`: these bytes are no head of a block in the file with that salt.
    pub(crate) fn from_bytes(bytes: &[u8; HEAD_BYTES], salt: u64) -> Option<Self> {
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
    pub(crate) fn check(self, content: &[u8], salt: u64) -> [u8; CHECK_BYTES] {
        let seed = salt ^ u64::from(self.number).rotate_left(32);
        xxh3_64_with_seed(content, seed).to_le_bytes()
    }
}

pub(crate) const HEAD_BYTES: usize = 20;
pub(crate) const CHECK_BYTES: usize = 8;
const MARK: &[u8; 4] = b"\xD5BLK";
