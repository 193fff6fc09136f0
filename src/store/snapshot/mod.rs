//! Sessions that survive a restart, in a file that is written at an orderly shutdown and read at
//! the next start. Tomcat's `StandardManager` does the same.
//!
//! A [`SnapshotStore`] wraps a store whose sessions are in memory. A file is written atomically: it
//! is complete or absent. Damage is detected; the damaged file is quarantined, and the intact part
//! is used. A file is consumed when it is read, so that no later crash restores a session that has
//! ended since, or a secret that was rotated. The downtime counts toward every session's timeouts.
//! The file holds roots and hashes, never ids.
//!
//! A node of a cluster that stops before others names those in its file. The file may still contain
//! sessions that they have ended since, so it is used only together with one of them.
//!
//! Changes after the file was written are not saved. A crash therefore loses all sessions in
//! memory, unless the file is written periodically ([`interval`](SnapshotStoreBuilder::interval)).
//!
//! ```text
//!   open: lock ─► paths ─► decoder ─► restore ─► consume        serve
//!                 (header, blocks, records; journal)
//!   save: export(slot) ─► encoder ─► PATH.tmp ─► fsync ─► rename ─► fsync
//! ```

mod builder;
mod config;
mod error;
mod format;
mod journal;
mod load;
mod lock;
mod paths;
mod periodic;
#[cfg(feature = "replicated")]
mod replicated;
mod report;
mod save;
#[cfg(test)]
mod test_directory;
#[cfg(test)]
mod tests;
mod turns;
mod withheld;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::Mutex;

use crate::error::StoreError;
use crate::events::SessionEvents;
use crate::session::{
    Changes, EndReason, Loaded, Outcome, Record, Root, Scope, SecretHash, SessionCursor, SessionId,
    SessionPage,
};
use crate::watch::SessionWatch;

use self::config::SnapshotConfig;
use self::journal::{Journal, Note};
use self::lock::Lock;
use self::paths::SnapshotPaths;
use self::periodic::BackgroundTask;
use self::turns::{Turn, Turns};
use crate::store::SessionStore;
use crate::store::export::SnapshotSource;

pub use builder::SnapshotStoreBuilder;
pub use error::{SnapshotError, SnapshotErrorKind};
pub use report::{LoadReport, SaveReport};

/// A store whose sessions survive a restart of the application.
///
/// ```no_run
/// use distributable::{MemoryStore, SessionLayer, SnapshotStore};
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
    shared: Arc<SnapshotShared>,
    _tasks: Arc<[BackgroundTask]>,
}

/// State shared by all clones.
struct SnapshotShared {
    paths: SnapshotPaths,
    config: SnapshotConfig,
    source: Box<dyn SnapshotSource>,
    journal: Journal,
    /// The turns of deletions. One that finds no session waits for the one that has deleted it: if
    /// it were answered earlier, a crash could restore the session.
    turns: Turns,
    /// Held while a file is written.
    saving: Arc<Mutex<()>>,
    /// Set if the file on disk was not used; the next file replaces it.
    withheld: AtomicBool,
    load_report: LoadReport,
    _lock: Lock,
}

impl SnapshotStore<()> {
    /// Returns a builder for a store whose sessions are saved at `path` while the application is
    /// down. Files with `.tmp`, `.lock`, `.journal`, `.journal.tmp` and `.bad-1` to `.bad-8` added
    /// to that name may appear beside it.
    ///
    /// The directory must exist, and only users who may see the sessions may have write access to
    /// it.
    pub fn builder(path: impl Into<PathBuf>) -> SnapshotStoreBuilder {
        SnapshotStoreBuilder::new(path.into())
    }
}

impl<S> SnapshotStore<S> {
    /// Returns the wrapped store.
    #[must_use]
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// Returns the report of loading the file.
    #[must_use]
    pub fn load_report(&self) -> &LoadReport {
        &self.shared.load_report
    }

    /// Writes all sessions to the file. Call it when the server has stopped: later changes are not
    /// in the file. Nevertheless, a session that ends after this does not come back, and an id that
    /// is rotated after this does not become valid again.
    ///
    /// It takes at most [`save_timeout`](SnapshotStoreBuilder::save_timeout). If that time is
    /// exceeded and there is no earlier file, the file has the sessions written so far, and
    /// [`unwritten`](SaveReport::unwritten) is the number of the others.
    ///
    /// # Errors
    ///
    /// Fails if the file could not be written. An earlier file stays, unless the journal of
    /// [`interval`](SnapshotStoreBuilder::interval) could not be written: then the file is removed,
    /// so that it restores no ended session.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the writing.
    pub async fn save(&self) -> Result<SaveReport, SnapshotError> {
        save::save(&self.shared).await
    }

    /// Records changes in memory; returns when no file can undo them. The turn ends then, even if
    /// the future is dropped before.
    async fn note(
        &self,
        turn: Option<Turn>,
        notes: impl FnOnce() -> Vec<Note>,
    ) -> Result<(), StoreError> {
        let noted = self.shared.journal.note(turn, notes).await;
        noted.map_err(StoreError::indeterminate)
    }
}

impl<S: SessionStore> SessionStore for SnapshotStore<S> {
    fn new_id(&self) -> SessionId {
        self.store.new_id()
    }

    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        self.store.load(key, secret).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        let rotates = changes.rotation().is_some();
        // A new session is in no file.
        let may_set_idle_timeout = changes.idle_timeout().is_some() && !changes.is_create();
        let outcome = self.store.commit(key, base, changes).await?;
        if let Outcome::Committed(record) = &outcome {
            let idle_timeout = record.lifetime.idle_timeout;
            let sets_idle_timeout = may_set_idle_timeout
                && base.is_none_or(|base| base.lifetime.idle_timeout != idle_timeout);
            if rotates || sets_idle_timeout {
                let rotated = || Note::rotated(*key, &record.credential);
                let set = || Note::idle_timeout(*key, &record.lifetime);
                let notes = || {
                    let rotated = rotates.then(rotated);
                    let set = sets_idle_timeout.then(set);
                    rotated.into_iter().chain(set).collect()
                };
                self.note(None, notes).await?;
            }
        }
        Ok(outcome)
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        self.store.touch(key).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        self.delete_because(key, EndReason::Admin).await
    }

    async fn delete_because(&self, key: &Root, reason: EndReason) -> Result<bool, StoreError> {
        // Without a file, an earlier deletion has nothing to write.
        let turn = if self.shared.journal.is_active() {
            Some(self.shared.turns.wait(key).await)
        } else {
            None
        };
        let ended = self.store.delete_because(key, reason).await?;
        if ended {
            self.note(turn, || vec![Note::ended(*key)]).await?;
        } else {
            // An earlier call may have deleted it, and failed because its note was not written. No
            // note here: deletions of sessions that never existed do not write to the disk.
            let intact = self.shared.journal.expect_intact().await;
            intact.map_err(StoreError::indeterminate)?;
        }
        Ok(ended)
    }

    async fn list(
        &self,
        scope: Scope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Result<SessionPage, StoreError> {
        self.store.list(scope, after, limit).await
    }

    fn events(&self, scope: Scope) -> Result<SessionEvents, StoreError> {
        self.store.events(scope)
    }

    fn watch(&self, key: &Root) -> Option<SessionWatch> {
        self.store.watch(key)
    }

    fn route(&self, key: &Root) -> Option<String> {
        self.store.route(key)
    }

    fn is_divided(&self) -> bool {
        self.store.is_divided()
    }
}

impl<S: fmt::Debug> fmt::Debug for SnapshotStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotStore")
            .field("store", &self.store)
            .field("path", &self.shared.paths.file)
            .field("load_report", &self.shared.load_report)
            .finish()
    }
}
