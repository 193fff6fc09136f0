//! The commits of a request, which run one after another.

use std::error::Error;
use std::sync::Arc;

use tracing::{debug, debug_span};

use crate::error::{SessionError, SessionErrorKind, StoreError, StoreErrorKind};
use crate::middleware::request::RequestSession;
use crate::middleware::request::store_call::{failed, traced};
use crate::middleware::rollback::Rollback;
use crate::middleware::state::{AttributeUpdate, BatchLogin, Stored};
use crate::session::{Changes, EndReason, Loaded, Outcome, Record, Root, SessionId, UserKey};
use crate::store::users;

impl RequestSession {
    /// Stores the staged changes, with `update` on top. Returns `false` if nothing was stored
    /// because another request has written the attribute of `update` meanwhile.
    pub(crate) async fn commit(
        self: Arc<Self>,
        update: Option<AttributeUpdate>,
        last: bool,
    ) -> Result<bool, SessionError> {
        let _lock = self.commit_lock().await;
        let is_late = !last && self.state().is_late_write(update.is_some());
        if is_late {
            // A handle does not write to a session that belongs to another user now.
            self.current().await?;
        }
        let stored = self.commit_staged(update, last).await;
        if last && !matches!(stored, Ok(true)) {
            // While the lock is held: a handle that waits for it could otherwise store a new id
            // that no response carries.
            self.state().keep_id();
        }
        stored
    }

    /// Stores the staged changes in one or more batches, with `update` on top.
    async fn commit_staged(
        &self,
        update: Option<AttributeUpdate>,
        last: bool,
    ) -> Result<bool, SessionError> {
        while self.state().has_guards() {
            if !self.commit_batch(None, last).await? {
                return Ok(false);
            }
        }
        self.commit_batch(update.as_ref(), last).await
    }

    /// Stores one batch of staged changes.
    async fn commit_batch(
        &self,
        update: Option<&AttributeUpdate>,
        last: bool,
    ) -> Result<bool, SessionError> {
        for _ in 0..CREATE_TRIES_MAX {
            let batch = self.state().begin(update, last, &self.config)?;
            let Some(batch) = batch else { return Ok(true) };
            let (id, key) = (batch.id, batch.id.key());
            let creates = batch.changes.is_create();
            let rollback = Rollback::of(batch.base.as_ref(), &batch.changes);
            let rotates = rollback.is_some();
            if let Some(base) = &batch.base
                && batch.changes.are_in(base)
                && self.is_unchanged(&id, &batch.changes).await?
            {
                return Ok(true);
            }
            let (login, former_user) = (batch.login, batch.former_user);
            if let Err(error) = self.prepare(&key, login.as_ref(), creates).await {
                self.state().rollback();
                return Err(error);
            }
            let commit = self
                .config
                .store
                .commit(&key, batch.base.as_ref(), batch.changes);
            let span = || debug_span!("session_commit", %key, creates, rotates);
            match traced(commit, span).await {
                Ok(Outcome::Committed(record)) => {
                    if let Some(login) = &login {
                        let listed = self.list(key, login, former_user, &record);
                        // Boxed: a large future, which few commits need.
                        if let Err(error) = Box::pin(listed).await {
                            // The login does not count: its user could not end the session through
                            // the index.
                            self.state().rollback_with_new_id(&self.config);
                            Box::pin(self.take_back_login(key, creates, rollback)).await;
                            return Err(failed(&key, error));
                        }
                    }
                    let login = login.map(|login| login.user);
                    self.state().committed(Stored { id, record }, login);
                    return Ok(true);
                }
                // Two random ids are equal: practically impossible, unless the store is faulty.
                Ok(Outcome::Conflict(_)) if creates => self.state().redraw_id(&self.config),
                Ok(Outcome::Conflict(current)) => {
                    self.state().rebase(current, &self.config)?;
                    return Ok(false);
                }
                Ok(Outcome::Superseded) => {
                    debug!(%key, "another request has rotated the session's id first");
                    if !self.state().handle_superseded(&self.config) {
                        return Err(SessionErrorKind::Superseded.into());
                    }
                    if update.is_some() {
                        return Ok(false);
                    }
                }
                Ok(Outcome::Gone) => {
                    self.state().invalidate();
                    debug!(%key, "the session has ended or expired; its pending changes are dropped");
                    return Err(SessionErrorKind::Invalidated.into());
                }
                Err(error) => return Err(self.not_stored(key, error, rollback)),
            }
        }
        Err(SessionErrorKind::Conflict.into())
    }

    /// The steps before a commit: the limit for the sessions of a user who logs in, and the
    /// deletion of the sessions that a new one replaces.
    async fn prepare(
        &self,
        key: &Root,
        login: Option<&BatchLogin>,
        creates: bool,
    ) -> Result<(), SessionError> {
        if let Some(login) = login {
            Box::pin(self.config.check_excess(&login.user, key)).await?;
        }
        if creates {
            // Before the session is stored: if a deletion fails, no session is left whose cookie no
            // browser has.
            self.delete_rivals().await?;
        }
        Ok(())
    }

    /// Adds a session whose login is stored to the list of its user, and removes it from the list
    /// of its former one.
    async fn list(
        &self,
        key: Root,
        login: &BatchLogin,
        former: Option<UserKey>,
        record: &Arc<Record>,
    ) -> Result<(), StoreError> {
        self.config
            .register(key, login.user, login.label.clone(), record)
            .await?;
        if let Some(former) = former.filter(|former| *former != login.user) {
            users::forget_moved(&*self.config.store, &former, &[key]).await;
        }
        Ok(())
    }

    /// Handles the failure of a commit. A rotation that may have taken effect is rolled back.
    fn not_stored(&self, key: Root, error: StoreError, rollback: Option<Rollback>) -> SessionError {
        if error.kind() == StoreErrorKind::Indeterminate {
            self.state().rollback_with_new_id(&self.config);
            if let Some(rollback) = rollback {
                rollback.begin(self.config.clone(), key);
            }
        } else {
            self.state().rollback();
        }
        failed(&key, error)
    }

    /// Takes back a login whose session could not be added to the user's index.
    async fn take_back_login(&self, key: Root, creates: bool, rollback: Option<Rollback>) {
        if let Some(rollback) = rollback {
            rollback.begin(self.config.clone(), key);
        } else if creates
            && let Err(error) = self.config.store.delete(&key, EndReason::Logout).await
        {
            debug!(%key, cause = &error as &dyn Error, "a session whose login failed is left to expire");
        }
    }

    /// Returns `true` if the stored session is still as the request has loaded it, and `changes`
    /// would leave it as it is.
    async fn is_unchanged(&self, id: &SessionId, changes: &Changes) -> Result<bool, SessionError> {
        let current = self
            .fetch(&id.key(), None)
            .await
            .inspect_err(|_| self.state().rollback())?;
        Ok(match current.into_live() {
            Some(record) if changes.are_in(&record) => {
                let stored = Stored { id: *id, record };
                self.state().committed(stored, None);
                true
            }
            _ => false,
        })
    }

    /// Stores the remaining changes before the response is sent.
    pub(crate) async fn commit_last(self: Arc<Self>) -> Result<(), SessionError> {
        if !self.clone().commit(None, true).await? {
            return Err(SessionErrorKind::Conflict.into());
        }
        // A login may have been answered while the other holders acknowledged this commit.
        let sends_again = self.state().sends_cookie_again();
        if sends_again {
            self.confirm().await?;
        }
        Ok(())
    }

    /// Ensures that a cookie that is to be sent again still has the session's id.
    pub(crate) async fn confirm(self: Arc<Self>) -> Result<(), SessionError> {
        let id = self.state().stored().map(|stored| stored.id);
        let Some(id) = id else { return Ok(()) };
        let found = self.fetch(&id.key(), Some(&id.hash())).await;
        let mut state = self.state();
        match found {
            Ok(Loaded::Live(record)) => state.refresh(record),
            // The error is logged; the next request tries again.
            Ok(Loaded::Superseded | Loaded::Absent) | Err(_) => state.keep_cookie(),
        }
        Ok(())
    }
}

/// How many ids are drawn if a session with the id already exists.
const CREATE_TRIES_MAX: usize = 3;
