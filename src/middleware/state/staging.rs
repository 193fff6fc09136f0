//! Staging: the changes that a handler may still make, and their size limits.

use std::time::Duration;

use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::config::Config;
use crate::middleware::cookie::Persistence;
use crate::middleware::state::SessionState;
use crate::session::{Changes, LABEL_MAX, Record, SessionId, UserKey, Value};

/// The number of attributes, and the bytes of their names and values. Removed ones do not count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    names: usize,
    bytes: usize,
}

impl SessionState {
    /// Fails if a write can no longer be stored. Once the response is being made, only a detached
    /// handle may stage changes, for a session that exists.
    pub(crate) fn writable(&self, detached: bool) -> Result<(), SessionError> {
        self.check_known()?;
        if self.closed && !(detached && self.exists()) {
            Err(SessionErrorKind::TooLate.into())
        } else {
            Ok(())
        }
    }

    /// Stages a write or a removal, even one that leaves the attribute as it was loaded: another
    /// request may have written meanwhile, and this write is the later one.
    pub(crate) fn write(
        &mut self,
        name: &str,
        value: Option<Value>,
        config: &Config,
    ) -> Result<(), SessionError> {
        let entry = self.entry(name);
        let below = self
            .in_flight(name)
            .or_else(|| entry.map(|entry| entry.value.as_ref()));
        let staged = self.staged.get(name);
        let unchanged = below.flatten() == value.as_ref();
        if unchanged && self.stored.is_none() {
            if staged.is_some() {
                self.staged.unset(name);
                self.size = None;
            }
            return Ok(());
        }
        let loaded = entry.map(|entry| entry.version);
        let confirms = unchanged && self.in_flight(name).is_none();
        let size = self.check_size(name, staged.or(below), value.as_ref(), config)?;
        let name = entry.map_or_else(|| name.into(), |entry| entry.name.clone());
        if confirms {
            self.size = None;
            self.staged.confirm(name, value, loaded);
            return Ok(());
        }
        self.size = Some(size);
        self.id.get_or_insert_with(|| config.store.new_id());
        match value {
            Some(value) => self.staged.insert(name, value),
            None => self.staged.remove(name),
        }
        Ok(())
    }

    /// Fails if an update may not write this value.
    pub(crate) fn check_limits(
        &self,
        name: &str,
        value: &Value,
        config: &Config,
    ) -> Result<(), SessionError> {
        self.check_size(name, self.known(name), Some(value), config)?;
        Ok(())
    }

    pub(crate) fn set_idle_timeout(&mut self, idle: Option<Duration>) {
        self.staged.set_idle_timeout(idle);
    }

    pub(crate) fn set_persistence(
        &mut self,
        persistence: Persistence,
        config: &Config,
    ) -> Result<(), SessionError> {
        if self.closed {
            return Err(SessionErrorKind::TooLate.into());
        }
        // A cookie with an age is sent again, so that its age begins now.
        let known = self.persistence(config);
        if known != persistence || persistence != Persistence::BrowserSession {
            self.persistence = Some(persistence);
            self.stale_cookie = true;
        }
        Ok(())
    }

    /// Stages a rotation of the id. A session that is not stored yet needs none.
    pub(crate) fn cycle_id(&mut self) -> Result<(), SessionError> {
        if self.closed {
            return Err(SessionErrorKind::TooLate.into());
        }
        let id = self.id().ok_or(SessionErrorKind::NoSession)?;
        if self.stored.is_some() && self.rotates().is_none() {
            self.id = Some(SessionId::with_root(id.key()));
        }
        Ok(())
    }

    /// Stages a login: a new id for the session, or a new session, bound to the user.
    pub(crate) fn log_in(
        &mut self,
        user: UserKey,
        label: Option<&str>,
        config: &Config,
    ) -> Result<(), SessionError> {
        if label.is_some_and(|label| label.len() > LABEL_MAX) {
            return Err(SessionErrorKind::TooLarge.into());
        }
        if self.closed {
            return Err(SessionErrorKind::TooLate.into());
        }
        if self.superseded {
            // A session of its own.
            self.reset();
        }
        if self.invalidated {
            return Err(SessionErrorKind::Invalidated.into());
        }
        self.login = Some(user);
        self.label = label.map(str::to_owned);
        match self.stored {
            Some(_) => self.cycle_id(),
            None => {
                self.id.get_or_insert_with(|| config.store.new_id());
                Ok(())
            }
        }
    }

    /// The size of the session with this write over the `known` value of the name; fails if it
    /// exceeds a limit. A write that does not make the session larger is never refused.
    fn check_size(
        &self,
        name: &str,
        known: Option<Option<&Value>>,
        value: Option<&Value>,
        config: &Config,
    ) -> Result<Size, SessionError> {
        let limits = &config.limits;
        let before = self.size.unwrap_or_else(|| self.measure());
        let after = before.with(name, known, value);
        let fits = name.len() <= limits.name_bytes
            && after.names <= limits.attributes.max(before.names)
            && after.bytes <= limits.session_bytes.max(before.bytes);
        if fits || value.is_none() {
            Ok(after)
        } else {
            Err(SessionError::from(SessionErrorKind::TooLarge).with_attribute(name))
        }
    }

    fn measure(&self) -> Size {
        let (names, bytes) = self.record().map_or((0, 0), Record::live_size);
        let mut size = Size { names, bytes };
        for (name, value) in self.in_flight.iter().flat_map(Changes::writes) {
            size = size.with(name, self.in_record(name), value.as_ref());
        }
        for (name, value) in self.staged.writes() {
            size = size.with(name, self.below(name), value.as_ref());
        }
        size
    }
}

impl Size {
    /// The size after a write over the `known` value of the name.
    fn with(self, name: &str, known: Option<Option<&Value>>, value: Option<&Value>) -> Self {
        let count = |value: Option<&Value>| usize::from(value.is_some());
        let len = |value: Option<&Value>| value.map_or(0, |it| name.len() + it.as_bytes().len());
        let known = known.flatten();
        Self {
            names: self.names + count(value) - count(known),
            bytes: self.bytes + len(value) - len(known),
        }
    }
}
