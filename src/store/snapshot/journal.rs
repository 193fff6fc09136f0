//! The ids that have ended since a file was written.
//!
//! While a file could bring them back, an end is not acknowledged before its id is on the disk: after
//! a crash the sessions of the file come back, but none that was ended. Ends that come together share
//! one write. An id is never used again, so one too many in here does no harm.
//!
//! If the journal cannot be written, the file itself is removed: then it cannot bring anybody back.
//! Losing sessions is better than reviving one.

mod format;

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::session::Root;

use super::place::Place;

pub(super) use self::format::{Found, read};
use self::format::{entries, start};

/// What has ended since the file was written. Clones are the same journal.
#[derive(Clone, Debug)]
pub(super) struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    /// Whether there is a file, or soon will be, that could bring somebody back.
    armed: AtomicBool,
    queue: Mutex<Queue>,
    /// Locked while it is written; after `queue` is not held any more.
    written: Mutex<Written>,
    /// Told when it is time for a new file.
    long: Notify,
}

/// Ids on their way to the disk.
#[derive(Debug, Default)]
struct Queue {
    keys: Vec<Root>,
    pushed: u64,
}

#[derive(Debug, Default)]
struct Written {
    file: Option<File>,
    /// All ids in the file.
    keys: Vec<Root>,
    flushed: u64,
    /// An id could not be written, and the file that could revive its session not be removed.
    failed: bool,
    /// The same happened to a file that is still being written: it must not appear.
    spoilt: bool,
}

/// Where a new file begins: ids from here on may be in it although they have ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut(usize);

impl Journal {
    pub(super) fn new(place: Place) -> Self {
        Self(Arc::new(Inner {
            place,
            armed: AtomicBool::new(false),
            queue: Mutex::default(),
            written: Mutex::default(),
            long: Notify::new(),
        }))
    }

    /// Goes on with what an earlier process wrote, beside a file that stays.
    pub(super) fn go_on(&self, keys: Vec<Root>) -> io::Result<()> {
        self.0.armed.store(true, SeqCst);
        let mut written = self.written();
        written.keys = keys;
        self.rewrite(&mut written)
    }

    /// The session under `key` has ended; returns when no file can bring it back.
    pub(super) async fn note(&self, key: Root) -> io::Result<()> {
        if !self.0.armed.load(SeqCst) {
            return Ok(());
        }
        let journal = self.clone();
        let noted = tokio::task::spawn_blocking(move || journal.write(key));
        noted.await.map_err(io::Error::other)?
    }

    /// Returns when the journal has grown so long that a new file should be written.
    pub(super) async fn is_long(&self) {
        self.0.long.notified().await;
    }

    /// A new file is begun, which `needs` a journal beside it or may do without one. From now on
    /// every end is noted.
    pub(super) fn begin(&self, needs: bool) -> io::Result<Cut> {
        self.0.armed.store(true, SeqCst);
        let mut written = self.written();
        written.spoilt = false;
        if needs && written.file.is_none() {
            self.rewrite(&mut written)?;
        }
        Ok(Cut(written.keys.len()))
    }

    /// Lets the new file appear, by `publish`, and forgets what had ended before it was begun.
    pub(super) fn finish(
        &self,
        cut: Cut,
        publish: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut written = self.written();
        if written.spoilt {
            return Err(io::Error::other("the journal beside it cannot be written"));
        }
        publish()?;
        written.keys.drain(..cut.0);
        let rewritten = match written.keys.is_empty() && written.file.is_none() {
            true => Ok(()),
            false => self.rewrite(&mut written),
        };
        match rewritten {
            Ok(()) => written.failed = false,
            Err(error) if written.file.is_some() => {
                // The old one holds all of it and more.
                tracing::warn!(%error, "the journal of ended sessions stays long");
            }
            Err(error) => {
                self.disarm(&mut written, &error);
                return Err(error);
            }
        }
        Ok(())
    }

    fn write(&self, key: Root) -> io::Result<()> {
        let mine = {
            let mut queue = lock(&self.0.queue);
            queue.keys.push(key);
            queue.pushed += 1;
            queue.pushed
        };
        let mut written = self.written();
        if written.flushed < mine {
            let (keys, pushed) = {
                let mut queue = lock(&self.0.queue);
                (std::mem::take(&mut queue.keys), queue.pushed)
            };
            written.flushed = pushed;
            if let Err(error) = self.append(&mut written, &keys) {
                self.disarm(&mut written, &error);
            }
        }
        match written.failed {
            true => Err(io::Error::other(
                "the journal of ended sessions cannot be written",
            )),
            false => Ok(()),
        }
    }

    fn append(&self, written: &mut Written, keys: &[Root]) -> io::Result<()> {
        let begin = u32::try_from(written.keys.len()).map_err(io::Error::other)?;
        written.keys.extend_from_slice(keys);
        if written.keys.len() >= LONG {
            self.0.long.notify_one();
        }
        let Some(file) = &mut written.file else {
            return self.rewrite(written);
        };
        file.write_all(&entries(keys, begin))?;
        file.sync_data()
    }

    /// The journal cannot be written: takes away what could bring somebody back.
    fn disarm(&self, written: &mut Written, error: &io::Error) {
        written.spoilt = true;
        written.file = None;
        let place = &self.0.place;
        match place.remove(&place.file) {
            Ok(()) => {
                self.0.armed.store(false, SeqCst);
                tracing::error!(
                    %error,
                    "the journal of ended sessions cannot be written; {} was removed, so that it \
                     cannot bring them back",
                    place.file.display()
                );
            }
            Err(second) => {
                written.failed = true;
                tracing::error!(
                    %error,
                    "the journal of ended sessions cannot be written, and {} not be removed \
                     ({second}): logouts are not acknowledged",
                    place.file.display()
                );
            }
        }
    }

    /// Writes a journal that holds exactly what it should.
    fn rewrite(&self, written: &mut Written) -> io::Result<()> {
        let place = &self.0.place;
        let mut file = place.create(&place.journal_temporary)?;
        file.write_all(&start(&written.keys))?;
        file.sync_all()?;
        place.publish(&place.journal_temporary, &place.journal)?;
        written.file = Some(file);
        Ok(())
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        lock(&self.0.written)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic leaves behind is at worst an id that is noted twice.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From this many ids on a new file is due: 8 MiB of them.
const LONG: usize = 1 << 18;
#[cfg(test)]
mod tests;
