//! The decoder of a file: it reads the sessions that can be read from any bytes.
//!
//! For any bytes it terminates, does not panic, returns no wrong content, and uses no more memory
//! than the bytes themselves justify. A damaged block loses the sessions in it and no others.

use std::fmt;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::session::{SLOTS, Timestamp};
use crate::store::export::StoredEntry;
use crate::store::snapshot::format::block::{
    BlockHead, BlockLabel, CHECK_BYTES, FileTotals, HEAD_BYTES,
};
use crate::store::snapshot::format::encryption::{BlockCipher, FileKey};
use crate::store::snapshot::format::header::{HeaderError, SnapshotHeader, read_more};
use crate::store::snapshot::format::record::{self, DecodedEntry, Downtime};

/// The parameters of reading a file.
#[derive(Clone, Copy)]
pub(crate) struct DecodeOptions<'a> {
    pub(crate) application: &'a str,
    pub(crate) key: Option<&'a FileKey>,
    pub(crate) now: Timestamp,
    /// The wall clock at the same moment.
    pub(crate) wall: Timestamp,
}

/// The content that could be read.
#[derive(Debug)]
pub(crate) struct SnapshotContents {
    pub(crate) header: SnapshotHeader,
    pub(crate) entries: Vec<StoredEntry>,
    pub(crate) sessions: usize,
    /// Sessions that expired between writing and reading.
    pub(crate) expired: usize,
    /// Sessions that were not written in time.
    pub(crate) unwritten: u64,
    pub(crate) damage: Option<Damage>,
}

/// Damage found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The first flaw that was found.
    pub(crate) first: Flaw,
    pub(crate) flaws: usize,
}

/// A flaw of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// There are bytes that are no block, where one must be.
    NoBlock,
    /// A block's checksum, encryption, position or content is wrong.
    Block(u32),
    /// The file ends too early.
    Truncated,
    /// Blocks are missing, or are there twice.
    Blocks,
    /// Bytes follow the end.
    Trailing,
    /// The disk cannot read the bytes.
    Disk(String),
}

/// Reads a file. The outer error is an error of the disk before anything could be read.
pub(crate) fn decode(
    file: impl Read,
    options: DecodeOptions<'_>,
) -> io::Result<Result<SnapshotContents, HeaderError>> {
    let mut file = file;
    let header = SnapshotHeader::read(&mut file, options.application, options.key)?;
    Ok(header.map(|(header, cipher)| {
        let mut decoder = SnapshotDecoder {
            file,
            options,
            cipher,
            skipped: 0,
            reported_at: Instant::now(),
            contents: SnapshotContents {
                header,
                entries: Vec::new(),
                sessions: 0,
                expired: 0,
                unwritten: 0,
                damage: None,
            },
        };
        if let Err(error) = decoder.blocks() {
            decoder.flaw(Flaw::Disk(error.to_string()));
        }
        decoder.contents
    }))
}

struct SnapshotDecoder<'a, R> {
    file: R,
    options: DecodeOptions<'a>,
    cipher: Option<BlockCipher>,
    /// Bytes that were no block.
    skipped: u64,
    reported_at: Instant,
    contents: SnapshotContents,
}

impl<R: Read> SnapshotDecoder<'_, R> {
    fn blocks(&mut self) -> io::Result<()> {
        let (mut read, mut next) = (0, 0);
        let mut content = Vec::new();
        while let Some(head) = self.head()? {
            if !self.content(head, &mut content)? {
                self.flaw(Flaw::Truncated);
                return Ok(());
            }
            // A block that was copied to another position is not valid.
            match self
                .block(head, &mut content)
                .filter(|_| head.number >= next)
            {
                None => self.flaw(Flaw::Block(head.number)),
                Some(DecodedBlock::Slot(entries)) => {
                    self.take(entries);
                    self.report();
                    read += 1;
                    next = head.number.saturating_add(1);
                }
                Some(DecodedBlock::End(totals)) => return self.end(head, totals, read),
            }
        }
        self.flaw(Flaw::Truncated);
        Ok(())
    }

    /// The next block's head; searches for it if it does not follow at once. `None`: there is none.
    fn head(&mut self) -> io::Result<Option<BlockHead>> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        if !read_more(&mut self.file, HEAD_BYTES, &mut bytes)? {
            return Ok(None);
        }
        let Ok(mut window) = <[u8; HEAD_BYTES]>::try_from(bytes) else {
            return Ok(None);
        };
        let mut is_lost = false;
        loop {
            if let Some(head) = BlockHead::from_bytes(&window, self.contents.header.salt) {
                return Ok(Some(head));
            }
            if !is_lost {
                self.flaw(Flaw::NoBlock);
                is_lost = true;
            }
            self.skipped += 1;
            if self.skipped > SKIPPED_MAX {
                return Ok(None);
            }
            window.copy_within(1.., 0);
            match self.file.read_exact(&mut window[HEAD_BYTES - 1..]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a block's content. Returns `true` if it is complete.
    fn content(&mut self, head: BlockHead, content: &mut Vec<u8>) -> io::Result<bool> {
        content.clear();
        let length = head.length as usize + CHECK_BYTES;
        read_more(&mut self.file, length, content)
    }

    /// Decodes a block, if it is intact from its first to its last byte.
    fn block(&self, head: BlockHead, content: &mut Vec<u8>) -> Option<DecodedBlock> {
        let (sound, check) = content.split_last_chunk::<CHECK_BYTES>()?;
        if head.check(sound, self.contents.header.salt) != *check {
            return None;
        }
        content.truncate(sound.len());
        if let Some(cipher) = &self.cipher {
            cipher.decrypt(head.number, content).ok()?;
        }
        let (label, mut rest) = postcard::take_from_bytes::<BlockLabel>(content).ok()?;
        match label {
            BlockLabel::End(totals) => rest.is_empty().then_some(DecodedBlock::End(totals)),
            BlockLabel::Slot { slot, at } if usize::from(slot) < SLOTS => {
                let downtime = Downtime {
                    now: self.options.now,
                    down: self.options.wall.since(Timestamp::from_millis(at)),
                };
                let mut entries = BlockEntries::default();
                while !rest.is_empty() {
                    let (read, after) = record::decode(rest, downtime)?;
                    entries.add(read, slot.into())?;
                    rest = after;
                }
                Some(DecodedBlock::Slot(entries))
            }
            BlockLabel::Slot { .. } => None,
        }
    }

    fn take(&mut self, mut entries: BlockEntries) {
        let is_session = |entry: &&StoredEntry| entry.is_session();
        self.contents.sessions += entries.entries.iter().filter(is_session).count();
        self.contents.expired += entries.expired;
        self.contents.entries.append(&mut entries.entries);
    }

    /// Shows the progress to an operator who waits for the start.
    fn report(&mut self) {
        if self.reported_at.elapsed() >= REPORT_EVERY {
            self.reported_at = Instant::now();
            tracing::info!(sessions = self.contents.sessions, "reading a snapshot");
        }
    }

    fn end(&mut self, head: BlockHead, totals: FileTotals, read: u32) -> io::Result<()> {
        self.contents.unwritten = totals.unwritten;
        if totals.blocks != head.number || totals.blocks != read {
            self.flaw(Flaw::Blocks);
        }
        if self.file.read(&mut [0])? > 0 {
            self.flaw(Flaw::Trailing);
        }
        Ok(())
    }

    fn flaw(&mut self, flaw: Flaw) {
        match &mut self.contents.damage {
            Some(damage) => damage.flaws += 1,
            None => {
                self.contents.damage = Some(Damage {
                    first: flaw,
                    flaws: 1,
                });
            }
        }
    }
}

/// The content of an intact block.
enum DecodedBlock {
    Slot(BlockEntries),
    End(FileTotals),
}

#[derive(Default)]
struct BlockEntries {
    entries: Vec<StoredEntry>,
    expired: usize,
}

impl BlockEntries {
    fn add(&mut self, read: DecodedEntry, slot: usize) -> Option<()> {
        match read {
            DecodedEntry::Stored(entry) if entry.key.slot() == slot => self.entries.push(entry),
            DecodedEntry::Stored(_) => return None,
            DecodedEntry::Expired => self.expired += 1,
        }
        Some(())
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.first {
            Flaw::NoBlock => f.write_str("bytes between its blocks are damaged")?,
            Flaw::Block(number) => write!(f, "block {number} is damaged")?,
            Flaw::Truncated => f.write_str("it ends too early")?,
            Flaw::Blocks => f.write_str("blocks are missing")?,
            Flaw::Trailing => f.write_str("bytes follow its end")?,
            Flaw::Disk(error) => write!(f, "it cannot be read to its end: {error}")?,
        }
        match self.flaws {
            1 => Ok(()),
            flaws => write!(f, " ({flaws} flaws in all)"),
        }
    }
}

/// How many bytes are searched for the next block, in a whole file. Far more than damage leaves;
/// ends the search in an endless file.
const SKIPPED_MAX: u64 = 64 << 20;
/// How often progress is logged.
const REPORT_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
#[path = "../../../../../tests/fuzz/snapshot_file.rs"]
mod fuzz;
#[cfg(test)]
mod tests;
