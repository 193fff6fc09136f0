//! Builder of a [`SnapshotStore`], and the opening of its files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::store::export::{Restored, SnapshotSource, StoredEntry};
use crate::store::memory::MemoryStore;
use crate::store::snapshot::config::SnapshotConfig;
use crate::store::snapshot::error::{SnapshotError, SnapshotErrorKind};
use crate::store::snapshot::format::encryption::FileKey;
use crate::store::snapshot::format::header::APPLICATION_MAX;
use crate::store::snapshot::journal::Journal;
use crate::store::snapshot::load::{LoadedSnapshot, consume, load};
use crate::store::snapshot::lock::Lock;
use crate::store::snapshot::paths::SnapshotPaths;
use crate::store::snapshot::turns::Turns;
use crate::store::snapshot::{SnapshotShared, SnapshotStore, periodic, withheld};
use crate::store::users;

/// Builder of a [`SnapshotStore`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SnapshotStoreBuilder {
    path: PathBuf,
    config: SnapshotConfig,
}

impl SnapshotStoreBuilder {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            config: SnapshotConfig {
                application: String::new(),
                key: None,
                save_timeout: SAVE_WITHIN,
                interval: None,
            },
        }
    }

    /// Sets the name of the application, at most 64 bytes. The file of another application is not
    /// read.
    ///
    /// Defaults to no name. Set one wherever two applications could be configured with one path.
    pub fn application(mut self, name: impl Into<String>) -> Self {
        self.config.application = name.into();
        self
    }

    /// Encrypts the file with a key of 32 random bytes, and reads only files that were encrypted
    /// with it.
    ///
    /// Defaults to no encryption: the file has mode 0600 and holds the application's data, but no
    /// session id. Use a key if the disk, or a backup of it, is accessible to people who must not
    /// see sessions. If the key is lost, the file cannot be read any more.
    pub fn encryption_key(mut self, key: [u8; 32]) -> Self {
        self.config.key = Some(FileKey::new(key));
        self
    }

    /// Sets the time limit of [`save`](SnapshotStore::save). If it is exceeded and there is no
    /// earlier file, the file has the sessions written so far, and the report has the number of
    /// missing ones; otherwise the earlier file stays, and `save` fails.
    ///
    /// Defaults to 15 seconds: Kubernetes gives a process 30 seconds to end, some of which running
    /// requests need.
    pub const fn save_timeout(mut self, time: Duration) -> Self {
        self.config.save_timeout = time;
        self
    }

    /// Writes the file periodically, with this interval between two files, so that a crash loses
    /// only the changes since the last one. A session that has ended meanwhile does not come back,
    /// one whose id was rotated comes back with its new id, and one whose idle timeout was changed
    /// with the new one: these are written to the disk before they are acknowledged, which makes
    /// logouts and logins as slow as the disk.
    ///
    /// For a single node that keeps its sessions in memory. Defaults to off: only
    /// [`save`](SnapshotStore::save) writes the file, and nothing else waits for the disk.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.config.interval = Some(interval);
        self
    }

    /// Loads the saved sessions into `store`, and wraps it.
    ///
    /// An unreadable file is no error: it is quarantined, and the reason is logged and reported in
    /// [`load_report`](SnapshotStore::load_report). A file that a node of a cluster wrote while
    /// other members remained is not used and left in place: it still has sessions that those have
    /// ended since.
    ///
    /// # Errors
    ///
    /// Fails if another process uses the path, if its directory cannot be used, if the path does
    /// not end in the name of a file, if the application's name is longer than 64 bytes, or if a
    /// time is zero.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: if the future is dropped, the file may already be removed and its sessions
    /// lost. Await it to the end, without a timeout.
    pub async fn open(
        self,
        store: MemoryStore,
    ) -> Result<SnapshotStore<MemoryStore>, SnapshotError> {
        let (mut opening, loaded) = self.load().await?;
        let restored = if opening.withholds(&loaded) {
            Restored::default()
        } else {
            let restored = restore(&store, loaded).await;
            restored.map_err(|error| opening.unusable(error))?
        };
        let source = Box::new(store.clone());
        let store = opening.finish(store, source, restored).await?;
        if store.shared.withheld.load(Relaxed) {
            store.shared.warn_ignored();
        }
        Ok(store)
    }

    #[cfg(feature = "replicated")]
    pub(super) const fn is_periodic(&self) -> bool {
        self.config.interval.is_some()
    }

    /// Takes the lock and reads the file.
    pub(super) async fn load(self) -> Result<(Opening, LoadedSnapshot), SnapshotError> {
        let began = Instant::now();
        let invalid = |message: &str| Err(SnapshotError::new(SnapshotErrorKind::Invalid, message));
        let Some(paths) = SnapshotPaths::new(&self.path) else {
            return invalid("the path of a snapshot must end in a file name");
        };
        if self.config.application.len() > APPLICATION_MAX {
            return invalid("the application name must be at most 64 bytes long");
        }
        if self.config.save_timeout.is_zero() || self.config.interval == Some(Duration::ZERO) {
            return invalid("`save_timeout` and `interval` must be greater than zero");
        }
        let lock = Lock::take(&paths)?;
        let mut opening = Opening {
            began,
            paths,
            lock,
            config: self.config,
            loaded: LoadedSnapshot::default(),
            withheld: false,
        };
        let (paths, config) = (opening.paths.clone(), opening.config.clone());
        let mut loaded = blocking(move || load(&paths, &config))
            .await
            .map_err(|error| opening.unusable(error))?;
        opening.loaded.report = loaded.report.clone();
        opening.loaded.notes = std::mem::take(&mut loaded.notes);
        Ok((opening, loaded))
    }
}

/// A file that has been read and is about to become a store.
pub(super) struct Opening {
    began: Instant,
    paths: SnapshotPaths,
    lock: Lock,
    config: SnapshotConfig,
    loaded: LoadedSnapshot,
    withheld: bool,
}

impl Opening {
    /// Returns `true` if the file must not be used before a member that remained when it was
    /// written is contacted, and records that in the report.
    pub(super) fn withholds(&mut self, loaded: &LoadedSnapshot) -> bool {
        // Tombstones restore no session, and most members leave nothing else.
        let is_harmless = !loaded.entries.iter().any(|entry| entry.is_live());
        self.withheld = !loaded.survivors.is_empty() && !is_harmless;
        if self.withheld {
            self.loaded.report.withheld = sessions(&loaded.entries);
        }
        self.withheld
    }

    /// Called when everything is in memory: removes the file, or keeps it with its journal. A
    /// withheld file stays.
    pub(super) async fn finish<S>(
        self,
        store: S,
        source: Box<dyn SnapshotSource>,
        restored: Restored,
    ) -> Result<SnapshotStore<S>, SnapshotError> {
        let journal = Journal::new(self.paths.clone());
        let (paths, notes) = (self.paths.clone(), self.loaded.notes);
        let settled = match self.config.interval {
            _ if self.withheld => Ok(()),
            None => blocking(move || consume(&paths)).await,
            Some(_) => {
                let journal = journal.clone();
                blocking(move || journal.resume(notes)).await
            }
        };
        settled.map_err(|error| unusable(&self.paths, error))?;
        let mut report = self.loaded.report;
        report.sessions = restored.sessions;
        report.refused = restored.refused;
        report.elapsed = self.began.elapsed();
        let file = self.paths.file.display();
        if report.refused > 0 {
            tracing::error!(
                %file,
                sessions = report.refused,
                "there is no room for some sessions of a snapshot; raise `max_sessions` or \
                 `max_bytes`"
            );
        }
        tracing::info!(
            %file,
            sessions = report.sessions,
            elapsed_ms = report.elapsed.as_millis() as u64,
            "a snapshot was loaded"
        );
        let shared = Arc::new(SnapshotShared {
            paths: self.paths,
            config: self.config,
            source,
            journal,
            turns: Turns::default(),
            saving: Arc::default(),
            withheld: AtomicBool::new(self.withheld),
            load_report: report,
            _lock: self.lock,
        });
        let tasks = [periodic::start(&shared), withheld::start(&shared)];
        Ok(SnapshotStore {
            store,
            shared,
            _tasks: tasks.into_iter().flatten().collect(),
        })
    }

    fn unusable(&self, error: io::Error) -> SnapshotError {
        unusable(&self.paths, error)
    }
}

fn unusable(paths: &SnapshotPaths, error: io::Error) -> SnapshotError {
    let message = format!("cannot use {}", paths.file.display());
    SnapshotError::new(SnapshotErrorKind::Unusable, message).with_source(error)
}

/// Restores what was loaded. Each session of a user is in the list of that user afterward.
async fn restore(store: &MemoryStore, loaded: LoadedSnapshot) -> io::Result<Restored> {
    let LoadedSnapshot {
        entries, logins, ..
    } = loaded;
    let users = entries.iter().filter_map(StoredEntry::session_of_user);
    let users = users.collect();
    let memory = store.clone();
    let mut restored = blocking(move || Ok(memory.restore(entries))).await?;
    let deleted = users::list_again(store, users, &logins);
    let deleted = deleted.await.map_err(io::Error::other)?;
    restored.sessions = restored.sessions.saturating_sub(deleted);
    restored.refused += deleted;
    Ok(restored)
}

/// The number of sessions among these entries.
pub(super) fn sessions(entries: &[StoredEntry]) -> usize {
    entries.iter().filter(|entry| entry.is_session()).count()
}

/// Runs work that waits for the disk on a thread for blocking work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

const SAVE_WITHIN: Duration = Duration::from_secs(15);
