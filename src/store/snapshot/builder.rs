//! What a snapshot needs to know, and the opening of one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::store::{MemoryStore, users};

use super::error::{SnapshotError, SnapshotErrorKind};
use super::header::APPLICATION_MAX;
use super::journal::Journal;
use super::load::{Loaded, consume, load};
use super::lock::Lock;
use super::place::Place;
use super::seal::FileKey;
use super::source::{Kept, Restored, Source};
use super::{Shared, SnapshotStore, periodic, withheld};

/// Opens a [`SnapshotStore`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SnapshotStoreBuilder {
    path: PathBuf,
    settings: Settings,
}

/// How a file is written and read.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) application: String,
    pub(super) key: Option<FileKey>,
    pub(super) save_within: Duration,
    pub(super) every: Option<Duration>,
}

impl SnapshotStoreBuilder {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            settings: Settings {
                application: String::new(),
                key: None,
                save_within: SAVE_WITHIN,
                every: None,
            },
        }
    }

    /// Whose sessions these are: 64 bytes at most. The file of another application is not read.
    ///
    /// Defaults to no name. Give one wherever two applications could be given one path.
    pub fn application(mut self, name: impl Into<String>) -> Self {
        self.settings.application = name.into();
        self
    }

    /// Encrypts the file with a key of 32 random bytes, and reads no file but those that were
    /// encrypted with it.
    ///
    /// Defaults to none: the file has mode 0600 and holds what the application stored, but no
    /// session id. Use it where the disk, or a backup of it, is seen by people who should not see
    /// sessions. A file cannot be read any more when the key is lost.
    pub fn encryption_key(mut self, key: [u8; 32]) -> Self {
        self.settings.key = Some(FileKey::new(key));
        self
    }

    /// How long [`save`](SnapshotStore::save) may take. When it is up and no earlier file is there,
    /// the file has what was written so far, and the report says what is missing; otherwise the
    /// earlier file stays, and `save` fails.
    ///
    /// Defaults to 15 seconds: Kubernetes gives a process 30 to end, and requests need some of them.
    pub const fn save_within(mut self, time: Duration) -> Self {
        self.settings.save_within = time;
        self
    }

    /// Writes the file again and again, this long after the last one, so that a crash loses the
    /// changes since then and not everything. A session that has ended meanwhile stays dead, and one
    /// whose id was changed comes back with its new id: each is on the disk before it is acknowledged,
    /// which makes logouts and logins as slow as the disk.
    ///
    /// For one node that keeps its sessions in memory. Defaults to off: the file is written by
    /// [`save`](SnapshotStore::save) alone, and nothing else waits for a disk.
    pub const fn every(mut self, interval: Duration) -> Self {
        self.settings.every = Some(interval);
        self
    }

    /// Loads what was saved into `store`, and wraps it.
    ///
    /// A file that cannot be read does not fail: it is set aside, with the reason in the log and in
    /// [`loaded`](SnapshotStore::loaded). One that a node of a cluster wrote while other members
    /// stayed is left where it is: what those have ended since is not in it.
    ///
    /// # Errors
    ///
    /// When another process uses the path, or its directory cannot be used; when the path does not end
    /// in the name of a file, the application's name is longer than 64 bytes, or a time is zero.
    ///
    /// # Cancel safety
    ///
    /// None: the file may be gone although nobody gets the store. Await it to the end, without a
    /// timeout.
    pub async fn open(
        self,
        store: MemoryStore,
    ) -> Result<SnapshotStore<MemoryStore>, SnapshotError> {
        let (mut opening, loaded) = self.load().await?;
        let restored = if opening.withholds(&loaded) {
            Ok(Restored::default())
        } else {
            let store = store.clone();
            blocking(move || Ok(store.restore(loaded.kept))).await
        };
        let restored = restored.map_err(|error| opening.unusable(error))?;
        if let Err(error) = users::list_again(&store, loaded.logins).await {
            tracing::error!(%error, "sessions are missing in the lists of their users");
        }
        let source = Box::new(store.clone());
        let store = opening.finish(store, source, restored).await?;
        if store.shared.withheld.load(Relaxed) {
            store.shared.tell_ignored();
        }
        Ok(store)
    }

    #[cfg(feature = "replicated")]
    pub(super) const fn is_periodic(&self) -> bool {
        self.settings.every.is_some()
    }

    /// Takes the lock and reads the file.
    pub(super) async fn load(self) -> Result<(Opening, Loaded), SnapshotError> {
        let began = Instant::now();
        let invalid = |what: &str| Err(SnapshotError::new(SnapshotErrorKind::Invalid, what));
        let Some(place) = Place::new(&self.path) else {
            return invalid("the path of a snapshot ends in the name of a file");
        };
        if self.settings.application.len() > APPLICATION_MAX {
            return invalid("the name of an application is at most 64 bytes long");
        }
        if self.settings.save_within.is_zero() || self.settings.every == Some(Duration::ZERO) {
            return invalid("a time to write, or between two files, is longer than nothing");
        }
        let lock = Lock::take(&place)?;
        let mut opening = Opening {
            began,
            place,
            lock,
            settings: self.settings,
            loaded: Loaded::default(),
            withheld: false,
        };
        let (place, settings) = (opening.place.clone(), opening.settings.clone());
        let loaded = blocking(move || load(&place, &settings)).await;
        let mut loaded = loaded.map_err(|error| opening.unusable(error))?;
        opening.loaded.report = loaded.report.clone();
        opening.loaded.notes = std::mem::take(&mut loaded.notes);
        Ok((opening, loaded))
    }
}

/// A file that has been read, on its way to be a store.
pub(super) struct Opening {
    began: Instant,
    place: Place,
    lock: Lock,
    settings: Settings,
    loaded: Loaded,
    withheld: bool,
}

impl Opening {
    /// Returns `true` if the file is not to be used unless a member is met that stayed when it was
    /// written, and makes that part of the report.
    pub(super) fn withholds(&mut self, loaded: &Loaded) -> bool {
        // What is known of ended sessions brings none back, and most members leave nothing else.
        let is_harmless = !loaded.kept.iter().any(|kept| kept.is_live());
        self.withheld = !loaded.survivors.is_empty() && !is_harmless;
        if self.withheld {
            self.loaded.report.withheld = sessions(&loaded.kept);
        }
        self.withheld
    }

    /// Now that everything is in memory: the file goes, or stays with its journal. One that is
    /// withheld stays.
    pub(super) async fn finish<S>(
        self,
        store: S,
        source: Box<dyn Source>,
        restored: Restored,
    ) -> Result<SnapshotStore<S>, SnapshotError> {
        let journal = Journal::new(self.place.clone());
        let (place, notes) = (self.place.clone(), self.loaded.notes);
        let settled = match self.settings.every {
            _ if self.withheld => Ok(()),
            None => blocking(move || consume(&place)).await,
            Some(_) => {
                let journal = journal.clone();
                blocking(move || journal.go_on(notes)).await
            }
        };
        settled.map_err(|error| unusable(&self.place, error))?;
        let mut report = self.loaded.report;
        report.sessions = restored.sessions;
        report.refused = restored.refused;
        report.took = self.began.elapsed();
        let file = self.place.file.display();
        if report.refused > 0 {
            tracing::error!("no room for {} sessions of {file}", report.refused);
        }
        tracing::info!(
            "{} sessions loaded from {file} in {:?}",
            report.sessions,
            report.took
        );
        let shared = Arc::new(Shared {
            place: self.place,
            settings: self.settings,
            source,
            journal,
            saving: Arc::default(),
            withheld: AtomicBool::new(self.withheld),
            loaded: report,
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
        unusable(&self.place, error)
    }
}

fn unusable(place: &Place, error: io::Error) -> SnapshotError {
    let what = format!("cannot use {}", place.file.display());
    SnapshotError::new(SnapshotErrorKind::Unusable, what).because(error)
}

/// How many sessions there are among these.
pub(super) fn sessions(kept: &[Kept]) -> usize {
    kept.iter().filter(|kept| kept.is_session()).count()
}

/// Does what waits for the disk where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

const SAVE_WITHIN: Duration = Duration::from_secs(15);
