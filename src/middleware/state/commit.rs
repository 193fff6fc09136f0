//! Committing: the changes sent to the store, and the handling of its answer.

use std::mem;
use std::sync::Arc;

use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::config::Config;
use crate::middleware::cookie::{Persistence, persistence};
use crate::middleware::state::{SessionState, Stored};
use crate::session::{Changes, Name, Record, SessionId, UserKey, Value, Version, is_reserved};

/// The changes sent to the store in one step.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The session's id after the commit.
    pub(crate) id: SessionId,
    pub(crate) base: Option<Arc<Record>>,
    pub(crate) changes: Changes,
    pub(crate) login: Option<BatchLogin>,
    /// The user of the session before.
    pub(crate) former_user: Option<UserKey>,
}

/// The user who logs in with a batch, and the session's label in the user's index.
#[derive(Debug)]
pub(crate) struct BatchLogin {
    pub(crate) user: UserKey,
    pub(crate) label: Option<String>,
}

/// A write that was computed from the attribute's previous value.
#[derive(Clone, Debug)]
pub(crate) struct AttributeUpdate {
    pub(crate) name: Name,
    /// `None`: the attribute is removed.
    pub(crate) value: Option<Value>,
    /// The version of the write that it was computed from.
    pub(crate) after: Option<Version>,
}

impl SessionState {
    /// Returns `true` if there is something to commit.
    pub(crate) fn is_pending(&self) -> bool {
        if self.stored.is_some() {
            self.rotates().is_some()
                || self.login.is_some()
                || self.persistence.is_some()
                || !self.staged.is_empty()
        } else {
            let mut names = self.staged.writes().iter().map(|(name, _)| name);
            let mut creates = || names.any(|name| !is_reserved(name));
            self.check_known().is_ok() && (self.login.is_some() || creates())
        }
    }

    /// Fails if another request has ended this request's session, or has rotated its id.
    pub(super) fn check_known(&self) -> Result<(), SessionError> {
        match self {
            Self {
                invalidated: true, ..
            } => Err(SessionErrorKind::Invalidated.into()),
            Self {
                superseded: true, ..
            } => Err(SessionErrorKind::Superseded.into()),
            _ => Ok(()),
        }
    }

    /// Moves the staged changes, with `update` on top, into a batch for the store. `None`: there is
    /// nothing to do. `last` marks the commit that the response waits for: it may still create a
    /// session.
    pub(crate) fn begin(
        &mut self,
        update: Option<&AttributeUpdate>,
        last: bool,
        config: &Config,
    ) -> Result<Option<Batch>, SessionError> {
        // A commit that panicked has left its batch here.
        self.rollback();
        if last {
            // No other commit begins before this one has ended, even by a panic.
            self.keeps_id = true;
        } else if self.keeps_id {
            self.drop_rotation();
        }
        self.check_known()?;
        if let Some(failure) = self.guards.failure.take() {
            return Err(failure);
        }
        self.forget_guards();
        if update.is_none() && !self.is_pending() {
            return Ok(None);
        }
        if self.stored.is_none() && self.closed && !last {
            return Err(SessionErrorKind::TooLate.into());
        }
        let id = *self.id.get_or_insert_with(|| config.store.new_id());
        let id = match &self.stored {
            // The login was staged while another commit was in progress.
            Some(stored) if self.login.is_some() && stored.id == id => {
                *self.id.insert(SessionId::with_root(id.key()))
            }
            _ => id,
        };
        let base = self.stored.as_ref().map(|stored| stored.record.clone());
        self.stage_persistence(config);
        let guard = match update {
            Some(_) => None,
            None => self.next_guard()?,
        };
        let mut changes = mem::take(&mut self.staged);
        self.hold_back(&mut changes);
        // The response's own commit is not retried, so its batch is not kept, unless it may have to
        // start over under another id, or a detached handle may save the changes later.
        if !last || self.stored.is_none() || self.login.is_some() || self.detached {
            self.in_flight = Some(changes.clone());
        }
        if self.stored.is_none() {
            config.make_create(id.hash(), &mut changes);
        } else if let Some(from) = self.rotates() {
            changes.rotate(from, id.hash());
        }
        if let Some(user) = self.login {
            changes.log_in(config.login(user));
        }
        if let Some(update) = update {
            match &update.value {
                Some(value) => changes.insert(update.name.clone(), value.clone()),
                None => changes.remove(update.name.clone()),
            }
            changes.require_version(update.name.clone(), update.after);
        }
        if let Some(guard) = &guard {
            guard.apply(base.as_deref(), &mut changes);
        }
        if self.is_first_visit(last) && changes.idle_timeout().is_none() {
            changes.without_access();
        }
        self.guards.batch = guard;
        Ok(Some(Batch {
            id,
            base,
            changes,
            login: self.login.map(|user| BatchLogin {
                user,
                label: self.label.clone(),
            }),
            former_user: self.user,
        }))
    }

    /// Returns `true` for a commit by the request that has created the session, whose browser may
    /// never return the cookie: an access would end the initial idle timeout. After the response,
    /// only a handle commits that uses the session for longer.
    fn is_first_visit(&self, last: bool) -> bool {
        let has_initial = |record: &Record| {
            !record.has_returned() && record.idle_timeout_for(false) != record.idle_timeout()
        };
        !self.returned && (last || !self.closed) && self.record().is_some_and(has_initial)
    }

    /// Stages how long the browser is to keep the cookie, if that is set or is not the default.
    fn stage_persistence(&mut self, config: &Config) {
        if self.stored.is_none() && self.staged.get(persistence::NAME).is_none() {
            let usual = config.carrier.persistence();
            if usual != Persistence::BrowserSession {
                self.persistence.get_or_insert(usual);
            }
        }
        if let Some(persistence) = self.persistence.take() {
            self.size = None;
            let value = persistence::value(persistence);
            self.staged.insert(persistence::NAME.into(), value);
        }
    }

    /// Records that the batch is stored, with this `login`. If another request has changed the
    /// session's user, the changes are stored as well, and this request loses the session.
    pub(crate) fn committed(&mut self, stored: Stored, login: Option<UserKey>) {
        self.in_flight = None;
        self.guards.batch = None;
        self.size = None;
        if login.is_some() {
            self.user = login;
            if self.login == login {
                self.login = None;
                self.label = None;
            }
        }
        let is_known = stored.record.user() == self.user;
        self.stored = Some(stored);
        if !is_known {
            // Staged while the batch was in progress.
            self.dropped |= self.is_pending();
            self.supersede();
        }
    }

    /// Takes over the session as the store has it now. Fails if another request has changed its
    /// user: this request has not presented that user's id.
    pub(crate) fn renew(&mut self, record: Arc<Record>) -> Result<(), SessionError> {
        if record.user() != self.user {
            self.supersede();
        } else {
            self.refresh(record);
        }
        self.check_known()
    }

    /// Handles a rotation by another request. A login creates a session of its own from the staged
    /// changes, and this returns `true`; any other request can do nothing more, and its staged
    /// changes are dropped.
    pub(crate) fn handle_superseded(&mut self, config: &Config) -> bool {
        self.rollback();
        if self.login.is_none() {
            self.supersede();
            return false;
        }
        self.stored = None;
        self.user = None;
        self.size = None;
        self.requested_route = None;
        self.returned = false;
        self.id = Some(config.store.new_id());
        true
    }

    fn supersede(&mut self) {
        self.drop_session();
        // A login and a logout in this request clear `superseded`. With a client, the response
        // would then remove the cookie that the other request's login has set.
        self.client = None;
        self.superseded = true;
    }

    /// The batch did not take effect: its changes are staged again, below those made since.
    pub(crate) fn rollback(&mut self) {
        self.restore_guard();
        let Some(older) = self.in_flight.take() else {
            return;
        };
        let newer = mem::replace(&mut self.staged, older);
        for (name, value) in newer.writes() {
            let (name, value) = (name.clone(), value.clone());
            match (newer.confirmed(&name), value) {
                (Some(version), value) => self.staged.confirm(name, value, version),
                (None, Some(value)) => self.staged.insert(name, value),
                (None, None) => self.staged.remove(name),
            }
        }
        if let Some(idle) = newer.idle_timeout() {
            self.staged.set_idle_timeout(idle);
        }
    }

    /// The batch has taken effect, or may have, and does not count: its changes are staged again.
    /// They get another id, because the one that they had is rolled back.
    pub(crate) fn rollback_with_new_id(&mut self, config: &Config) {
        self.rollback();
        self.id = match &self.stored {
            Some(stored) if self.rotates().is_some() => Some(SessionId::with_root(stored.key())),
            Some(_) => self.id,
            None => Some(config.store.new_id()),
        };
    }

    /// The id of the session to be created is taken: draws another one.
    pub(crate) fn redraw_id(&mut self, config: &Config) {
        self.rollback();
        self.id = Some(config.store.new_id());
    }

    /// Another request has written before the batch: stages it again, on top of the newer record.
    /// Fails if the batch had a condition of its own, and drops the write that depends on it.
    pub(crate) fn rebase(
        &mut self,
        record: Arc<Record>,
        config: &Config,
    ) -> Result<(), SessionError> {
        // Taken before the rollback, which would stage the condition again: a later write of the
        // attribute by this request, which has no condition, would be refused as well.
        let guard = self.guards.batch.take();
        self.rollback();
        let refused = guard.map(|guard| self.refuse(&guard));
        if record.user() != self.user && self.handle_superseded(config) {
            return Ok(());
        }
        self.renew(record)?;
        refused.map_or(Ok(()), Err)
    }

    /// The cookie to be sent again has a former id, or this could not be determined: does not send
    /// it.
    pub(crate) const fn keep_cookie(&mut self) {
        self.stale_cookie = false;
    }

    /// Replaces the stored session; the staged changes stay on top.
    pub(crate) fn refresh(&mut self, record: Arc<Record>) {
        self.size = None;
        if let Some(stored) = &mut self.stored {
            stored.record = record;
        }
    }

    /// Another request has ended the session: drops all pending changes, and refuses further ones
    /// until the request itself restarts.
    pub(crate) fn invalidate(&mut self) {
        self.drop_session();
        self.invalidated = true;
    }

    /// This request has ended the session: later writes create a new one.
    pub(crate) fn reset(&mut self) {
        self.drop_session();
        self.invalidated = false;
        self.superseded = false;
        self.dropped = false;
        self.returned = false;
        self.user = None;
    }

    fn drop_session(&mut self) {
        self.id = None;
        self.requested_route = None;
        self.stored = None;
        self.guards.losses += 1;
        self.drop_changes();
    }

    pub(super) fn drop_changes(&mut self) {
        self.in_flight = None;
        self.staged = Changes::default();
        self.guards.clear();
        self.login = None;
        self.label = None;
        self.persistence = None;
        self.size = None;
    }
}
