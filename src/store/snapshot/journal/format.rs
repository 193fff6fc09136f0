//! The format of the journal: a start that is written atomically, then batches of notes.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::clock;
use crate::session::{Credential, Idle, Lifetime, Root, Timestamp, Version};
use crate::store::snapshot::format::record::{Downtime, FiledCredential, passed};
use crate::store::snapshot::paths::{FileError, SnapshotPaths, open};

/// A change of a session since the file was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) key: Root,
    event: NotedChange,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum NotedChange {
    Ended,
    Rotated {
        /// The writer's wall clock at that moment.
        at: u64,
        credential: FiledCredential,
    },
    /// The idle timeout was set.
    IdleTimeout {
        /// The writer's wall clock at that moment.
        at: u64,
        idle_timeout: (Version, Idle),
        /// The time since the last access, and its version.
        idle_for_ms: u64,
        access: u64,
        returned: bool,
    },
}

/// What a note says about its session, on this process's clock.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NotedState {
    Ended,
    /// It has this credential since.
    Rotated(Credential),
    /// It has this idle timeout since.
    IdleTimeout(NotedIdleTimeout),
}

/// An idle timeout, and the last access at the time when it was set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NotedIdleTimeout {
    idle_timeout: (Version, Idle),
    accessed_at: Timestamp,
    access: u64,
    returned: bool,
}

impl NotedIdleTimeout {
    /// Merges it into a session's lifetime, which may have a later one.
    pub(crate) fn merge_into(&self, lifetime: &mut Lifetime) {
        lifetime.merge_access(self.accessed_at, self.access);
        lifetime.idle_timeout = lifetime.idle_timeout.max(self.idle_timeout);
        lifetime.returned |= self.returned;
    }
}

impl Note {
    /// The session has ended.
    pub(crate) const fn ended(key: Root) -> Self {
        let event = NotedChange::Ended;
        Self { key, event }
    }

    /// The secret was rotated; this is the new credential.
    pub(crate) fn rotated(key: Root, credential: &Credential) -> Self {
        Self::rotated_at(key, credential, clock::now(), clock::wall_clock())
    }

    pub(super) fn rotated_at(
        key: Root,
        credential: &Credential,
        now: Timestamp,
        wall: Timestamp,
    ) -> Self {
        let event = NotedChange::Rotated {
            at: wall.as_millis(),
            credential: FiledCredential::of(credential, now),
        };
        Self { key, event }
    }

    /// The idle timeout was set; this is the new lifetime.
    pub(crate) fn idle_timeout(key: Root, lifetime: &Lifetime) -> Self {
        Self::idle_timeout_at(key, lifetime, clock::now(), clock::wall_clock())
    }

    pub(super) fn idle_timeout_at(
        key: Root,
        lifetime: &Lifetime,
        now: Timestamp,
        wall: Timestamp,
    ) -> Self {
        let event = NotedChange::IdleTimeout {
            at: wall.as_millis(),
            idle_timeout: lifetime.idle_timeout,
            idle_for_ms: passed(lifetime.accessed_at, now),
            access: lifetime.access,
            returned: lifetime.returned,
        };
        Self { key, event }
    }

    /// The session's state on this process's clock.
    pub(crate) fn state(&self, now: Timestamp, wall: Timestamp) -> NotedState {
        let downtime = |at: u64| {
            let down = wall.since(Timestamp::from_millis(at));
            Downtime { now, down }
        };
        match &self.event {
            NotedChange::Ended => NotedState::Ended,
            NotedChange::Rotated { at, credential } => {
                let credential = credential.clone().restore(downtime(*at));
                credential.map_or(NotedState::Ended, NotedState::Rotated)
            }
            NotedChange::IdleTimeout {
                at,
                idle_timeout,
                idle_for_ms,
                access,
                returned,
            } => NotedState::IdleTimeout(NotedIdleTimeout {
                idle_timeout: *idle_timeout,
                accessed_at: downtime(*at).before(*idle_for_ms),
                access: *access,
                returned: *returned,
            }),
        }
    }

    fn is_sound(&self) -> bool {
        match &self.event {
            NotedChange::Ended => true,
            NotedChange::Rotated { credential, .. } => credential.is_sound(),
            NotedChange::IdleTimeout { idle_timeout, .. } => idle_timeout.0.is_valid(),
        }
    }
}

/// The notes of an earlier process.
#[derive(Debug)]
pub(crate) enum JournalContents {
    Nothing,
    Notes(Vec<Note>),
    /// The journal cannot be read, so the ended sessions are unknown.
    Unreadable(String),
}

/// Reads a journal.
pub(crate) fn read(paths: &SnapshotPaths) -> JournalContents {
    let file = match open(&paths.journal) {
        Ok(Some(file)) => file,
        Ok(None) => return JournalContents::Nothing,
        Err(error) => return JournalContents::Unreadable(error.to_string()),
    };
    let mut bytes = Vec::new();
    if let Err(error) = file.take(LENGTH_MAX + 1).read_to_end(&mut bytes) {
        return JournalContents::Unreadable(FileError::Disk(error).to_string());
    }
    if bytes.len() as u64 > LENGTH_MAX {
        return JournalContents::Unreadable("it is too long".to_owned());
    }
    if bytes.starts_with(MAGIC_1) {
        return JournalContents::Unreadable("its format is version 1, not 2".to_owned());
    }
    match parse(&bytes) {
        Some(notes) => JournalContents::Notes(notes),
        None => JournalContents::Unreadable("it is damaged".to_owned()),
    }
}

/// The notes in a journal. Its last batch may be torn, because it was not acknowledged. `None`: it
/// is damaged.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<Note>> {
    let bytes = bytes.strip_prefix(MAGIC)?;
    let (count, bytes) = bytes.split_first_chunk::<8>()?;
    let (check, bytes) = bytes.split_first_chunk::<8>()?;
    if xxh3_64(count).to_le_bytes() != *check {
        return None;
    }
    let first = u32::try_from(u64::from_le_bytes(*count)).ok()?;
    let mut notes = Vec::new();
    // Everything before this was on the disk when the data behind it was written.
    let mut sound = first;
    let mut torn = None;
    let mut number = 0;
    for bytes in bytes.chunks(ENTRY) {
        match entry(bytes) {
            Some((_, begin)) if begin > number => return None,
            Some((note, begin)) => {
                sound = sound.max(begin);
                notes.push(note);
            }
            None => drop(torn.get_or_insert(number)),
        }
        number += 1;
    }
    (number >= first && torn.is_none_or(|torn| torn >= sound)).then_some(notes)
}

fn entry(bytes: &[u8]) -> Option<(Note, u32)> {
    let (bytes, check) = bytes.split_last_chunk::<8>()?;
    if xxh3_64(bytes).to_le_bytes() != *check {
        return None;
    }
    let (note, begin) = bytes.split_last_chunk::<4>()?;
    let note: Note = postcard::from_bytes(note).ok()?;
    (note.is_sound()).then(|| (note, u32::from_le_bytes(*begin)))
}

/// A new journal.
pub(super) fn start(notes: &[Note]) -> io::Result<Vec<u8>> {
    let count = (notes.len() as u64).to_le_bytes();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&count);
    bytes.extend_from_slice(&xxh3_64(&count).to_le_bytes());
    bytes.append(&mut entries(notes, 0)?);
    Ok(bytes)
}

/// A batch whose first entry is the one with number `begin`.
pub(super) fn entries(notes: &[Note], begin: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(notes.len() * ENTRY);
    for note in notes {
        let start = bytes.len();
        bytes.resize(start + NOTE, 0);
        postcard::to_slice(note, &mut bytes[start..]).map_err(io::Error::other)?;
        bytes.extend_from_slice(&begin.to_le_bytes());
        let check = xxh3_64(&bytes[start..]);
        bytes.extend_from_slice(&check.to_le_bytes());
    }
    Ok(bytes)
}

const MAGIC: &[u8] = b"DSENDED2";
const MAGIC_1: &[u8] = b"DSENDED1";
/// The size of a note with its padding. All are as long as the longest, so that the entries behind
/// a torn one are found.
const NOTE: usize = 168;
/// A note, the number of the first entry of its batch, a checksum.
const ENTRY: usize = NOTE + 4 + 8;
/// Many times the length at which a new file is due: writing new files has failed for a long time.
const LENGTH_MAX: u64 = 1 << 30;
