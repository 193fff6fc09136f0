//! Reading of a file, and the decision about its use.
//!
//! A bad file does not keep the application from starting: it is quarantined, the reason is logged,
//! and the readable part is used. A file that could restore an ended session is not used at all.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufReader};
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::session::{Credential, Record, Root, Timestamp};
use crate::store::export::SnapshotSurvivor;
use crate::store::export::{EntryState, StoredEntry};
use crate::store::snapshot::config::SnapshotConfig;
use crate::store::snapshot::format::decoder::{DecodeOptions, SnapshotContents, decode};
use crate::store::snapshot::journal::{self, JournalContents, Note, NotedIdleTimeout, NotedState};
use crate::store::snapshot::paths::{SnapshotPaths, open};
use crate::store::snapshot::report::LoadReport;

/// The result of reading a snapshot's files.
#[derive(Debug, Default)]
pub(super) struct LoadedSnapshot {
    pub(super) entries: Vec<StoredEntry>,
    /// The changes since the file was written.
    pub(super) notes: Vec<Note>,
    /// Sessions whose login may be later than the saved indexes of users.
    pub(super) logins: HashSet<Root>,
    /// The members that remained when the file was written. Unless one of them is contacted, the
    /// file must not be used.
    pub(super) survivors: Vec<SnapshotSurvivor>,
    pub(super) report: LoadReport,
}

/// Reads a snapshot's files. Unusable files are quarantined, usable ones are left in place.
///
/// No file is too old as a whole: each session in it expires at its own time, and the tombstones of
/// ended ones, here and on other nodes, are kept until after that.
pub(super) fn load(paths: &SnapshotPaths, config: &SnapshotConfig) -> io::Result<LoadedSnapshot> {
    let mut loaded = LoadedSnapshot::default();
    let journal = journal::read(paths);
    if let JournalContents::Unreadable(why) = &journal {
        paths.quarantine(&paths.journal, why)?;
    }
    match read(paths, config)? {
        Ok(None) => {}
        Ok(Some(contents)) => match rejection(&contents, &journal) {
            Some(reason) => quarantine(paths, reason, &mut loaded)?,
            None => accept(paths, contents, &journal, &mut loaded)?,
        },
        Err(reason) => quarantine(paths, reason, &mut loaded)?,
    }
    if let JournalContents::Notes(notes) = journal {
        loaded.notes = notes;
    }
    Ok(loaded)
}

/// The reason why a readable file must not be used: it could restore ended sessions.
fn rejection(contents: &SnapshotContents, journal: &JournalContents) -> Option<String> {
    match journal {
        JournalContents::Notes(_) => None,
        JournalContents::Nothing => contents
            .header
            .journaled
            .then(|| "the journal is missing: the file could restore ended sessions".to_owned()),
        JournalContents::Unreadable(why) => Some(format!(
            "the journal of ended sessions cannot be used: {why}"
        )),
    }
}

fn accept(
    paths: &SnapshotPaths,
    contents: SnapshotContents,
    journal: &JournalContents,
    loaded: &mut LoadedSnapshot,
) -> io::Result<()> {
    loaded.entries = contents.entries;
    loaded.report.expired = contents.expired;
    if let JournalContents::Notes(notes) = journal {
        apply_journal(notes, loaded);
    }
    loaded.survivors = contents.header.survivors;
    let names = loaded.survivors.iter();
    loaded.report.stayed = names.map(|survivor| survivor.name.clone()).collect();
    if let Some(damage) = contents.damage {
        quarantine(paths, damage.to_string(), loaded)?;
    }
    if contents.unwritten > 0 {
        tracing::warn!(
            file = %paths.file.display(),
            sessions = contents.unwritten,
            "some sessions are not in the snapshot, because there was no time to write them"
        );
    }
    Ok(())
}

/// Removes the file that has been read, so that no later crash can restore sessions that end until
/// then.
pub(super) fn consume(paths: &SnapshotPaths) -> io::Result<()> {
    // In this order: without its journal the file could restore them.
    paths.remove(&paths.file)?;
    paths.remove(&paths.journal)
}

/// The file's contents, if there is one, or the reason why it must not be used.
fn read(
    paths: &SnapshotPaths,
    config: &SnapshotConfig,
) -> io::Result<Result<Option<SnapshotContents>, String>> {
    let file = match open(&paths.file) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(Ok(None)),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let options = DecodeOptions {
        application: &config.application,
        key: config.key.as_ref(),
        now: clock::now(),
        wall: clock::wall_clock(),
    };
    Ok(
        match decode(BufReader::with_capacity(BUFFER, file), options) {
            Ok(Ok(contents)) => Ok(Some(contents)),
            Ok(Err(rejected)) => Err(rejected.to_string()),
            Err(error) => Err(format!("it cannot be read: {error}")),
        },
    )
}

/// Applies the journal: gives each session its latest credential and idle timeout, and turns those
/// that have ended into tombstones.
fn apply_journal(notes: &[Note], loaded: &mut LoadedSnapshot) {
    let (now, wall) = (clock::now(), clock::wall_clock());
    let states = latest_states(notes, now, wall);
    for entry in &mut loaded.entries {
        let EntryState::Live(record) = &mut entry.state else {
            continue;
        };
        let Some(state) = states.get(&entry.key) else {
            continue;
        };
        let record = Arc::make_mut(record);
        let former = record.credential.version();
        let credential = state.credential.as_ref();
        if !state.is_ended && credential.is_none_or(|credential| rotate(record, credential)) {
            for set in &state.idle_timeouts {
                set.merge_into(&mut record.lifetime);
            }
            let user = credential.and_then(|_| record.user());
            loaded.logins.extend(user.map(|_| entry.key));
            loaded.report.rotated += usize::from(record.credential.version() != former);
        } else {
            // A copy elsewhere may be from a login after the file was written, which has restarted
            // the absolute timeout. The tombstone has to outlive that as well.
            let granted = record.absolute_deadline().since(record.began_at());
            let until = record
                .absolute_deadline()
                .max(now.plus(granted))
                .plus(MARGIN);
            entry.state = EntryState::Tombstone { until };
            loaded.report.ended += 1;
        }
    }
    let all = loaded.entries.len();
    // With the idle timeout that was noted.
    loaded.entries.retain(|entry| match &entry.state {
        EntryState::Live(record) => record.is_live(now),
        EntryState::Tombstone { .. } => true,
    });
    loaded.report.expired += all - loaded.entries.len();
}

/// The latest state of a session in the journal.
#[derive(Debug, Default)]
struct LatestState {
    is_ended: bool,
    /// The latest one.
    credential: Option<Credential>,
    /// All that were set.
    idle_timeouts: Vec<NotedIdleTimeout>,
}

/// Returns the latest states of the sessions in the journal.
fn latest_states(notes: &[Note], now: Timestamp, wall: Timestamp) -> HashMap<Root, LatestState> {
    let mut states = HashMap::<_, LatestState>::with_capacity(notes.len());
    for note in notes {
        let state = states.entry(note.key).or_default();
        // Notes of one moment may be in any order.
        match (note.state(now, wall), &mut state.credential) {
            (NotedState::Ended, _) => state.is_ended = true,
            (NotedState::Rotated(next), Some(known)) => {
                state.is_ended |= known.merge(&next).is_err();
            }
            (NotedState::Rotated(next), none) => *none = Some(next),
            (NotedState::IdleTimeout(set), _) => state.idle_timeouts.push(set),
        }
    }
    states
}

/// Makes a credential from the journal the record's, unless that has a later one. A rotation counts
/// as an access. Returns `false` if neither follows the other.
fn rotate(record: &mut Record, noted: &Credential) -> bool {
    if let Some(at) = noted.rotated_at() {
        record.lifetime.merge_access(at, noted.version().clock);
        record.lifetime.returned = true;
    }
    record.credential.merge(noted).is_ok()
}

fn quarantine(
    paths: &SnapshotPaths,
    reason: String,
    loaded: &mut LoadedSnapshot,
) -> io::Result<()> {
    paths.quarantine(&paths.file, &reason)?;
    loaded.report.quarantined = Some(reason);
    Ok(())
}

const BUFFER: usize = 256 << 10;
/// How long a tombstone is kept after any copy of its session must have expired: as in a cluster.
const MARGIN: Duration = Duration::from_secs(600);
