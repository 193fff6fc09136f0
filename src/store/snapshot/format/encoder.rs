//! The encoder of a file. It works slot by slot, so that no more than one slot is in memory twice.

use std::io::{self, Write};

use crate::session::Timestamp;
use crate::store::export::{EntryState, StoredEntry};
use crate::store::snapshot::format::block::{BlockHead, BlockLabel, FileTotals};
use crate::store::snapshot::format::encryption::{BlockCipher, FileKey};
use crate::store::snapshot::format::header::SnapshotHeader;
use crate::store::snapshot::format::record;

/// Writes a file's bytes to `out`.
pub(crate) struct SnapshotEncoder<W> {
    out: W,
    salt: u64,
    cipher: Option<BlockCipher>,
    totals: FileTotals,
    bytes: u64,
    content: Vec<u8>,
}

impl<W: Write> SnapshotEncoder<W> {
    /// Begins a file.
    pub(crate) fn begin(
        mut out: W,
        header: &SnapshotHeader,
        key: Option<&FileKey>,
    ) -> io::Result<Self> {
        let (bytes, cipher) = header.encode(key)?;
        out.write_all(&bytes)?;
        Ok(Self {
            out,
            salt: header.salt,
            cipher,
            totals: FileTotals::default(),
            bytes: bytes.len() as u64,
            content: Vec::new(),
        })
    }

    /// Adds the entries of a slot as they are at `now`, which is `wall` on the wall clock.
    pub(crate) fn slot(
        &mut self,
        slot: u16,
        now: Timestamp,
        wall: Timestamp,
        entries: &[StoredEntry],
    ) -> io::Result<()> {
        let at = wall.as_millis();
        let mut entries = entries.iter().peekable();
        while entries.peek().is_some() {
            self.label(&BlockLabel::Slot { slot, at })?;
            while self.content.len() < BLOCK_BYTES
                && let Some(entry) = entries.next()
            {
                let content = std::mem::take(&mut self.content);
                self.content = record::encode(entry, now, content).map_err(io::Error::other)?;
                match &entry.state {
                    EntryState::Live(_) => self.totals.sessions += u64::from(entry.is_session()),
                    EntryState::Tombstone { .. } => self.totals.tombstones += 1,
                }
            }
            self.block()?;
        }
        Ok(())
    }

    /// Ends the file, with `unwritten` sessions left out. Returns the writer, the totals of the
    /// file, and its size.
    pub(crate) fn end(mut self, unwritten: u64) -> io::Result<(W, FileTotals, u64)> {
        self.totals.unwritten = unwritten;
        self.label(&BlockLabel::End(self.totals))?;
        self.block()?;
        self.out.flush()?;
        Ok((self.out, self.totals, self.bytes))
    }

    pub(crate) const fn sessions(&self) -> u64 {
        self.totals.sessions
    }

    fn label(&mut self, label: &BlockLabel) -> io::Result<()> {
        let mut content = std::mem::take(&mut self.content);
        content.clear();
        self.content = postcard::to_extend(label, content).map_err(io::Error::other)?;
        Ok(())
    }

    fn block(&mut self) -> io::Result<()> {
        let number = self.totals.blocks;
        if let Some(cipher) = &self.cipher {
            let encrypted = cipher.encrypt(number, &mut self.content);
            encrypted.map_err(|_| io::Error::other("cannot encrypt"))?;
        }
        let length = u32::try_from(self.content.len()).map_err(io::Error::other)?;
        let head = BlockHead { number, length };
        let (start, end) = (
            head.to_bytes(self.salt),
            head.check(&self.content, self.salt),
        );
        for part in [&start[..], &self.content, &end] {
            self.out.write_all(part)?;
            self.bytes += part.len() as u64;
        }
        self.totals.blocks += 1;
        Ok(())
    }
}

/// The length at which a block ends; a block with one larger session is as long as needed. Short
/// enough that damage loses few sessions, long enough that the overhead of heads is negligible.
const BLOCK_BYTES: usize = 64 << 10;
