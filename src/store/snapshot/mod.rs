//! Sessions that survive a restart: a file that is written when the application ends in order, and
//! read when it starts again. Tomcat's `StandardManager` does the same.
//!
//! A [`SnapshotStore`] wraps a store whose sessions are in memory. It promises: a file is whole or
//! not there, whatever happens while it is written; what is read is what was written, or it is
//! detected, set aside, and the rest is read; a file that was read is consumed, so that no crash
//! later brings back a session that has ended since; time that passes while the application is down
//! counts for every session; the file holds keys, never ids.
//!
//! It does not save what changes after the file was written, and so a crash loses everything that
//! was in memory, unless a file is written again and again ([`every`](SnapshotStoreBuilder::every)).
//!
//! ```text
//!   open: lock ─► place ─► decoder ─► restore(Kept) ─► consume        serve
//!                 (header, blocks, records; journal)
//!   save: export(slot) ─► encoder ─► PATH.tmp ─► fsync ─► rename ─► fsync
//! ```

mod block;
mod builder;
mod decoder;
mod encoder;
mod error;
mod header;
mod journal;
mod load;
mod lock;
mod periodic;
mod place;
mod record;
#[cfg(feature = "replicated")]
mod replicated;
mod report;
#[cfg(test)]
mod sample;
mod save;
mod seal;
pub(crate) mod source;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::error::StoreError;
use crate::session::{Changes, Outcome, Record, Root, SessionId};

use self::builder::Settings;
use self::journal::Journal;
use self::lock::Lock;
use self::periodic::Periodic;
use self::place::Place;
use self::source::Source;
use super::SessionStore;

pub use builder::SnapshotStoreBuilder;
pub use error::{SnapshotError, SnapshotErrorKind};
pub use report::{LoadReport, SaveReport};

/// A store whose sessions come back after a restart of the application.
///
/// ```no_run
/// use distributable::{MemoryStore, SessionLayer};
/// use distributable::store::SnapshotStore;
///
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let store = SnapshotStore::builder("/var/lib/shop/sessions")
///     .application("shop")
///     .open(MemoryStore::new())
///     .await?;
/// let layer = SessionLayer::new(store.clone());
/// // … and after the server has stopped:
/// store.save().await?;
/// # Ok(())
/// # }
/// ```
///
/// Opening takes a lock that is held until the last clone is dropped: two processes cannot share a
/// path.
#[derive(Clone)]
pub struct SnapshotStore<S> {
    store: S,
    shared: Arc<Shared>,
    _periodic: Option<Arc<Periodic>>,
}

/// What all clones share.
struct Shared {
    place: Place,
    settings: Settings,
    source: Box<dyn Source>,
    journal: Journal,
    /// Held while a file is written.
    saving: Arc<Mutex<()>>,
    loaded: LoadReport,
    _lock: Lock,
}

impl SnapshotStore<()> {
    /// Begins a store whose sessions are kept at `path` while the application is down. Files with
    /// `.tmp`, `.lock`, `.journal`, `.journal.tmp` and `.bad-1` to `.bad-8` added to that name may appear beside it.
    ///
    /// The directory must exist, and be writable for nobody whom the sessions may not be shown to.
    pub fn builder(path: impl Into<PathBuf>) -> SnapshotStoreBuilder {
        SnapshotStoreBuilder::new(path.into())
    }
}

impl<S> SnapshotStore<S> {
    /// The store inside.
    #[must_use]
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// What was found when the store was opened.
    #[must_use]
    pub fn loaded(&self) -> &LoadReport {
        &self.shared.loaded
    }

    /// Writes all sessions to the file. Call it when the server has stopped: what changes from then
    /// on is not in the file. A session that ends after this stays dead nevertheless.
    ///
    /// It takes no longer than [`save_within`](SnapshotStoreBuilder::save_within). If time is up,
    /// and there is no file from before, those that were written in time are in the file, and
    /// [`unwritten`](SaveReport::unwritten) says how many are not.
    ///
    /// # Errors
    ///
    /// When the file could not be written. What was there before is still there, unless the journal
    /// of [`every`](SnapshotStoreBuilder::every) could not be written: then the file is removed, so
    /// that it revives nobody.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the writing.
    pub async fn save(&self) -> Result<SaveReport, SnapshotError> {
        save::save(&self.shared).await
    }

    /// An id is dead in memory: makes sure that no file brings it back.
    async fn bury(&self, key: &Root) -> Result<(), StoreError> {
        let noted = self.shared.journal.note(*key).await;
        noted.map_err(StoreError::indeterminate)
    }
}

impl<S: SessionStore> SessionStore for SnapshotStore<S> {
    fn new_id(&self) -> SessionId {
        self.store.new_id()
    }

    async fn load(&self, key: &Root) -> Result<Option<Arc<Record>>, StoreError> {
        self.store.load(key).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        let rotates = changes.rotated_to().is_some();
        let outcome = self.store.commit(key, base, changes).await?;
        if rotates && matches!(outcome, Outcome::Committed(_)) {
            self.bury(key).await?;
        }
        Ok(outcome)
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        self.store.touch(key).await
    }

    async fn end(&self, key: &Root) -> Result<bool, StoreError> {
        let ended = self.store.end(key).await?;
        if ended {
            self.bury(key).await?;
        }
        Ok(ended)
    }

    fn route(&self, key: &Root) -> Option<String> {
        self.store.route(key)
    }
}

impl<S: fmt::Debug> fmt::Debug for SnapshotStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotStore")
            .field("store", &self.store)
            .field("path", &self.shared.place.file)
            .field("loaded", &self.shared.loaded)
            .finish()
    }
}
