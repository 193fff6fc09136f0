//! Conditional writes: values that were computed from what the request has loaded.
//!
//! A [`Guard`] is kept beside the staged write of its attribute. The write is stored only if the
//! store still has the value that it was computed from. A commit has at most one condition, so a
//! batch carries the write of one guard, and those of further guards follow one by one.

use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::config::Config;
use crate::middleware::state::SessionState;
use crate::session::{Changes, Name, Record, Value};

/// The conditions of a request's writes.
#[derive(Debug, Default)]
pub(super) struct Guards {
    /// Those of staged writes, in the order in which they were staged.
    staged: Vec<Guard>,
    /// That of the batch.
    pub(super) batch: Option<Guard>,
    /// The error of a write that no call could return: the response is to.
    pub(super) failure: Option<SessionError>,
    /// How often the request has lost or ended its session.
    pub(super) losses: u32,
}

/// The condition of a staged write: the attribute's value below the staged changes.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub(super) name: Name,
    loaded: Option<Value>,
}

/// The value of an attribute from which a request computes a new one.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) value: Option<Value>,
    losses: u32,
}

impl SessionState {
    /// The attribute as the request sees it now.
    pub(crate) fn origin(&self, name: &str) -> Origin {
        Origin {
            value: self.value(name).cloned(),
            losses: self.guards.losses,
        }
    }

    /// Stages a write that was computed from `origin`. It is dropped if the request has ended the
    /// session since. Fails if this request or another one is known to have changed the attribute.
    pub(crate) fn write_from(
        &mut self,
        origin: &Origin,
        name: &str,
        value: Value,
        config: &Config,
    ) -> Result<(), SessionError> {
        self.writable(false)?;
        if origin.losses != self.guards.losses {
            return Ok(());
        }
        if self.value(name) != origin.value.as_ref() {
            return Err(conflict(name));
        }
        let loaded = self.below(name).flatten().cloned();
        self.write(name, Some(value), config)?;
        if !self.guards.staged.iter().any(|guard| &*guard.name == name) {
            let name = name.into();
            self.guards.staged.push(Guard { name, loaded });
        }
        Ok(())
    }

    /// Records an error that the response is to return. Returns it if there is no response that
    /// could.
    pub(crate) fn fail(&mut self, error: SessionError) -> Option<SessionError> {
        if self.closed {
            return Some(error).filter(|_| !self.abandoned);
        }
        self.guards.failure.get_or_insert(error);
        None
    }

    /// Returns `true` if staged writes have conditions.
    pub(crate) const fn has_guards(&self) -> bool {
        !self.guards.staged.is_empty()
    }

    /// Drops the conditions of writes that are not staged any more.
    pub(super) fn forget_guards(&mut self) {
        let staged = &self.staged;
        self.guards
            .staged
            .retain(|guard| staged.get(&guard.name).is_some());
    }

    /// Takes the condition of the next batch. Fails if it is known not to hold; the write is then
    /// dropped.
    pub(super) fn next_guard(&mut self) -> Result<Option<Guard>, SessionError> {
        let Some(stored) = &self.stored else {
            // No other request can write to a session that does not exist yet.
            self.guards.staged.clear();
            return Ok(None);
        };
        if self.guards.staged.is_empty() {
            return Ok(None);
        }
        let guard = self.guards.staged.remove(0);
        if stored.record.get(&guard.name) == guard.loaded.as_ref() {
            return Ok(Some(guard));
        }
        self.unstage(&guard.name);
        Err(conflict(&guard.name))
    }

    /// Takes the writes of the remaining guards out of a batch and stages them again.
    pub(super) fn hold_back(&mut self, changes: &mut Changes) {
        for guard in &self.guards.staged {
            let written = changes.get(&guard.name).map(Option::<&Value>::cloned);
            let Some(written) = written else { continue };
            changes.unset(&guard.name);
            match written {
                Some(value) => self.staged.insert(guard.name.clone(), value),
                None => self.staged.remove(guard.name.clone()),
            }
        }
    }

    /// The batch did not take effect: its condition applies to the next one.
    pub(super) fn restore_guard(&mut self) {
        if let Some(guard) = self.guards.batch.take() {
            self.guards.staged.insert(0, guard);
        }
    }

    /// The condition of the batch did not hold. Drops its write, which has been staged again.
    pub(super) fn refuse(&mut self, guard: &Guard) -> SessionError {
        self.unstage(&guard.name);
        conflict(&guard.name)
    }

    fn unstage(&mut self, name: &str) {
        self.staged.unset(name);
        self.size = None;
    }
}

impl Guards {
    /// Drops the conditions, with the changes that they belong to.
    pub(super) fn clear(&mut self) {
        let losses = self.losses;
        *self = Self {
            losses,
            ..Self::default()
        };
    }
}

impl Guard {
    /// Makes a batch conditional.
    pub(super) fn apply(&self, base: Option<&Record>, changes: &mut Changes) {
        let version = base.and_then(|base| base.version(&self.name));
        changes.require_version(self.name.clone(), version);
    }
}

fn conflict(name: &str) -> SessionError {
    SessionError::from(SessionErrorKind::Conflict).with_attribute(name)
}
