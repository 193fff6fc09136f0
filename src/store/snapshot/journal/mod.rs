//! The journal of sessions that have ended, were rotated, or got another idle timeout since a file
//! was written.
//!
//! While a file could undo it, such a change is acknowledged only after it was written to the
//! journal on disk. After a crash the sessions of the file are restored without those that have
//! ended or expired, and each with its latest secret. Concurrent notes share one write. A root is
//! never used again and a credential names its predecessors, so surplus notes do no harm.
//!
//! If the journal cannot be written, the file itself is removed, so that it restores nothing:
//! losing sessions is better than reviving one.

mod format;

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::store::snapshot::paths::SnapshotPaths;
use crate::store::snapshot::turns::Turn;

pub(super) use self::format::{JournalContents, Note, NotedIdleTimeout, NotedState, read};
use self::format::{entries, start};
use crate::sync::lock;

/// The changes since the file was written. Clones refer to the same journal.
#[derive(Clone, Debug)]
pub(super) struct Journal(Arc<JournalInner>);

#[derive(Debug)]
struct JournalInner {
    paths: SnapshotPaths,
    /// Set while there is a file, or soon will be, whose use would undo an end or a rotation.
    active: AtomicBool,
    queue: Mutex<NoteQueue>,
    /// Locked while the journal is written; never while `queue` is locked.
    written: Mutex<Written>,
    /// Notified when a new file is due.
    long: Notify,
}

/// Notes on their way to the disk.
#[derive(Debug, Default)]
struct NoteQueue {
    notes: Vec<Note>,
    pushed: u64,
}

#[derive(Debug, Default)]
struct Written {
    file: Option<File>,
    /// All notes in the journal.
    notes: Vec<Note>,
    flushed: u64,
    /// A note could not be written, and the file that requires it could not be removed.
    failed: bool,
    /// The same for a file that is still being written: it must not be published.
    poisoned: bool,
}

/// The position where a new file begins: later notes may concern changes that are not in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut(usize);

impl Journal {
    pub(super) fn new(paths: SnapshotPaths) -> Self {
        Self(Arc::new(JournalInner {
            paths,
            active: AtomicBool::new(false),
            queue: Mutex::default(),
            written: Mutex::default(),
            long: Notify::new(),
        }))
    }

    /// Continues the journal of an earlier process, beside a file that stays.
    pub(super) fn resume(&self, notes: Vec<Note>) -> io::Result<()> {
        self.0.active.store(true, SeqCst);
        let mut written = self.written();
        written.notes = notes;
        self.rewrite(&mut written)
    }

    /// Records changes of a session; returns when no file can undo them. `notes` is called only if
    /// there is a file. `turn` is dropped when the notes are on the disk.
    pub(super) async fn note(
        &self,
        turn: Option<Turn>,
        notes: impl FnOnce() -> Vec<Note>,
    ) -> io::Result<()> {
        // After the change in memory: a file that is begun after this does not contain the former
        // state.
        if !self.0.active.load(SeqCst) {
            return Ok(());
        }
        let (journal, notes) = (self.clone(), notes());
        let noted = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            journal.write(notes)
        });
        noted.await.map_err(io::Error::other)?
    }

    /// Returns `true` while there is a file, or one is being written: changes have to be noted.
    pub(super) fn is_active(&self) -> bool {
        self.0.active.load(SeqCst)
    }

    /// Fails if a note could not be written, and a file could undo the change.
    pub(super) async fn expect_intact(&self) -> io::Result<()> {
        if !self.0.active.load(SeqCst) {
            return Ok(());
        }
        let journal = self.clone();
        let result = tokio::task::spawn_blocking(move || journal.written().result());
        result.await.map_err(io::Error::other)?
    }

    /// Completes when the journal has become so long that a new file should be written.
    pub(super) async fn is_long(&self) {
        self.0.long.notified().await;
    }

    /// Starts a new file. `needs`: the file requires a journal beside it. From now on every end and
    /// every rotation is recorded, and every new idle timeout.
    pub(super) fn begin(&self, needs: bool) -> io::Result<Cut> {
        let mut written = self.written();
        // Locked: a note that fails meanwhile would clear it again.
        self.0.active.store(true, SeqCst);
        written.poisoned = false;
        if needs && written.file.is_none() {
            self.rewrite(&mut written)?;
        }
        Ok(Cut(written.notes.len()))
    }

    /// Publishes the new file with `publish`, and drops the notes from before it was started.
    pub(super) fn finish(
        &self,
        cut: Cut,
        publish: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut written = self.written();
        if written.poisoned {
            return Err(io::Error::other("the journal beside it cannot be written"));
        }
        // In this order: after a crash in between, the file has more notes beside it than it needs,
        // and none is missing.
        publish()?;
        written.notes.drain(..cut.0);
        let rewritten = if written.notes.is_empty() && written.file.is_none() {
            Ok(())
        } else {
            self.rewrite(&mut written)
        };
        match rewritten {
            Ok(()) => written.failed = false,
            Err(error) if written.file.is_some() => {
                // The old one holds all of it and more.
                tracing::warn!(cause = %error, "the journal of ended sessions cannot be shortened");
            }
            Err(error) => {
                self.deactivate(&mut written, &error);
                return Err(error);
            }
        }
        Ok(())
    }

    fn write(&self, notes: Vec<Note>) -> io::Result<()> {
        let mine = {
            let mut queue = lock(&self.0.queue);
            queue.pushed += notes.len() as u64;
            queue.notes.extend(notes);
            queue.pushed
        };
        let mut written = self.written();
        if written.flushed < mine {
            let (notes, pushed) = {
                let mut queue = lock(&self.0.queue);
                (mem::take(&mut queue.notes), queue.pushed)
            };
            written.flushed = pushed;
            // A panic in between loses these notes, and nothing may be acknowledged then.
            let failed = mem::replace(&mut written.failed, true);
            let appended = self.append(&mut written, notes);
            written.failed = failed;
            if let Err(error) = appended {
                self.deactivate(&mut written, &error);
            }
        }
        written.result()
    }

    fn append(&self, written: &mut Written, notes: Vec<Note>) -> io::Result<()> {
        let begin = u32::try_from(written.notes.len()).map_err(io::Error::other)?;
        let bytes = entries(&notes, begin)?;
        // Even if they cannot be written now: a journal that is written anew later, beside a file
        // that could not be removed, has to contain them.
        written.notes.extend(notes);
        if written.notes.len() >= LONG {
            self.0.long.notify_one();
        }
        let Some(file) = &mut written.file else {
            return self.rewrite(written);
        };
        file.write_all(&bytes)?;
        file.sync_data()
    }

    /// The journal cannot be written: removes the file that could restore ended sessions.
    fn deactivate(&self, written: &mut Written, error: &io::Error) {
        written.poisoned = true;
        written.file = None;
        let paths = &self.0.paths;
        match paths.remove(&paths.file) {
            Ok(()) => {
                self.0.active.store(false, SeqCst);
                tracing::error!(
                    file = %paths.file.display(),
                    cause = %error,
                    "cannot write the journal of ended sessions; the snapshot was removed, because it \
                     could restore them"
                );
            }
            Err(second) => {
                written.failed = true;
                tracing::error!(
                    file = %paths.file.display(),
                    cause = %error,
                    removal = %second,
                    "cannot write the journal or remove the snapshot; logouts fail until the disk is \
                     writable"
                );
            }
        }
    }

    /// Writes a journal with exactly the current notes.
    fn rewrite(&self, written: &mut Written) -> io::Result<()> {
        let paths = &self.0.paths;
        let mut file = paths.create(&paths.journal_temporary)?;
        file.write_all(&start(&written.notes)?)?;
        file.sync_all()?;
        // If it fails, the path may refer to the new file already, and the old one has no name. No
        // note may be written to that any more.
        written.file = None;
        paths.publish(&paths.journal_temporary, &paths.journal)?;
        written.file = Some(file);
        Ok(())
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        lock(&self.0.written)
    }
}

impl Written {
    fn result(&self) -> io::Result<()> {
        if self.failed {
            Err(io::Error::other(
                "the journal of ended sessions cannot be written",
            ))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
impl Journal {
    /// Until the result is dropped, the journal is not written.
    pub(super) fn hold(&self) -> impl Sized + use<> {
        let (locked, is_locked) = std::sync::mpsc::channel();
        let (held, is_released) = std::sync::mpsc::channel::<()>();
        let journal = self.clone();
        std::thread::spawn(move || {
            let _written = journal.written();
            locked.send(()).expect("the test waits for it");
            let _ = is_released.recv();
        });
        is_locked.recv().expect("no panic");
        held
    }
}

/// The number of notes from which on a new file is due: 12 MiB of them.
const LONG: usize = 1 << 16;

#[cfg(test)]
mod tests;
