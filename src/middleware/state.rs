//! What one request knows of its session and has done to it. No waiting, no HTTP.
//!
//! A [`State`] has three layers: the record as the store has it, a batch of changes on its way to
//! the store, and what was staged since. Reads look through them from the top. Everything else that
//! a request can do to a session is kept beside them, each in a field of its own, so that every
//! order of insert, remove, cycle and invalidate comes out right.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::cookie::Persistence;
use super::error::{SessionError, SessionErrorKind};
use super::layer::Config;
use super::remember;
use crate::clock;
use crate::session::{Changes, Name, Record, Register, SessionId, SessionKey, Stamp, Value};

/// One request's view of its session.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Somebody has asked for the session: the response depends on the cookie.
    consulted: bool,
    /// The store has said whether there is a session.
    loaded: bool,
    /// The response is being made, or never will be: no cookie can be sent any more.
    closed: bool,
    /// Somebody else has ended the session since it was loaded.
    ended: bool,
    /// Whether a cookie of the response carries `Secure`.
    secure: bool,
    /// The live session that the browser showed.
    client: Option<SessionId>,
    /// The session is the one that the browser showed, whatever its id is by now.
    returned: bool,
    /// The browser has the right id, and is to get the cookie again for another reason.
    stale_cookie: bool,
    /// There are handles that may save what the response does not carry.
    detached: bool,
    /// The session's id once everything staged is in.
    id: Option<SessionId>,
    stored: Option<Stored>,
    in_flight: Option<Changes>,
    staged: Changes,
    /// `id` is a successor that the store has not heard of.
    rotating: bool,
    /// To be written into the session when it is created.
    persistence: Option<Persistence>,
    /// What the session measures with everything staged; `None`: to be measured.
    size: Option<Size>,
}

/// A session as the store had it when we last heard.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) key: SessionKey,
    pub(super) record: Arc<Record>,
}

/// An id that a browser has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lead {
    pub(super) id: SessionId,
    pub(super) key: SessionKey,
    /// The cookie names another node than it should.
    pub(super) misrouted: bool,
}

/// The live session that it led to.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) lead: Lead,
    pub(super) record: Arc<Record>,
}

/// What goes to the store in one step.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) key: SessionKey,
    pub(super) base: Option<Arc<Record>>,
    pub(super) changes: Changes,
}

/// A write that was computed from the attribute's last one.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) name: Name,
    pub(super) value: Value,
    /// The write that it was computed from.
    pub(super) after: Option<Stamp>,
}

/// What is left to do when the handler has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nobody has asked for the session.
    Untouched,
    Nothing,
    Commit,
    Touch(SessionKey),
}

/// What the response's cookie is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    Session(SessionId, SessionKey, Persistence),
    Removal,
}

/// Names, removed ones included, and bytes of names and values.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    names: usize,
    bytes: usize,
}

impl State {
    /// Begins to load. Says whether that is still to be done.
    pub(super) fn consult(&mut self) -> Result<bool, SessionError> {
        if self.loaded {
            return Ok(false);
        }
        if self.closed {
            return Err(SessionErrorKind::TooLate.into());
        }
        self.consulted = true;
        Ok(true)
    }

    /// Takes note of what the store has said.
    pub(super) fn load(&mut self, shown: Option<Shown>, secure: bool) {
        if mem::replace(&mut self.loaded, true) {
            return;
        }
        self.secure = secure;
        let Some(Shown { lead, record }) = shown else {
            return;
        };
        self.returned = true;
        self.client = Some(lead.id);
        self.id = Some(lead.id);
        self.stale_cookie = lead.misrouted;
        if let Some(persistence) = remember::renewal(&record) {
            self.remember(persistence);
        }
        let key = lead.key;
        self.stored = Some(Stored { key, record });
    }

    /// Somebody has taken a handle whose writes count after the response.
    pub(super) const fn detach(&mut self) {
        self.detached = true;
    }

    /// The key of a session whose staged changes no response will carry.
    pub(super) fn lost(&self) -> Option<SessionKey> {
        self.key().filter(|_| self.closed && self.is_pending())
    }

    pub(super) const fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether there is a session, or will be with what is staged.
    pub(super) fn exists(&self) -> bool {
        self.stored.is_some() || self.is_creating()
    }

    pub(super) fn is_new(&self) -> bool {
        self.exists() && !self.returned
    }

    pub(super) fn id(&self) -> Option<SessionId> {
        self.id.filter(|_| self.exists())
    }

    /// The key of [`id`](Self::id).
    pub(super) fn key(&self) -> Option<SessionKey> {
        match &self.stored {
            Some(stored) if !self.rotating => Some(stored.key),
            _ => self.id().map(|id| id.key()),
        }
    }

    pub(super) const fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref()
    }

    pub(super) fn record(&self) -> Option<&Record> {
        self.stored.as_ref().map(|stored| &*stored.record)
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.known(name).flatten()
    }

    /// The stamp that a conditional write of the attribute expects.
    pub(super) fn stamp(&self, name: &str) -> Option<Stamp> {
        self.record()?.stamp(name)
    }

    /// Names of the application's attributes, sorted.
    pub(super) fn names(&self) -> Vec<Name> {
        let stored = self.record().into_iter().flat_map(Record::registers);
        let in_flight = self.in_flight.iter().flat_map(Changes::writes);
        let mut names: Vec<_> = stored
            .map(|register| &register.name)
            .chain(in_flight.map(|(name, _)| name))
            .chain(self.staged.writes().iter().map(|(name, _)| name))
            .filter(|name| !remember::is_reserved(name) && self.value(name).is_some())
            .cloned()
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn max_inactive(&self, config: &Config) -> Option<Duration> {
        self.staged
            .max_inactive()
            .or_else(|| self.in_flight.as_ref()?.max_inactive())
            .or_else(|| Some(self.record()?.max_inactive_interval()))
            .unwrap_or(config.idle)
    }

    /// Whether a write can still be stored. Once the response is being made, only what a detached
    /// handle stages for a session that the browser knows.
    pub(super) fn writable(&self, detached: bool) -> Result<(), SessionError> {
        if self.ended {
            Err(SessionErrorKind::Ended.into())
        } else if self.closed && !(detached && self.exists()) {
            Err(SessionErrorKind::TooLate.into())
        } else {
            Ok(())
        }
    }

    /// Stages a write, or a removal, unless it leaves the attribute as it is.
    pub(super) fn write(
        &mut self,
        name: &str,
        value: Option<Value>,
        config: &Config,
    ) -> Result<(), SessionError> {
        let register = self.register(name);
        let below = self.in_flight(name);
        let below = below.or_else(|| register.map(|register| register.value.as_ref()));
        let staged = self.staged.written(name);
        if below.flatten() == value.as_ref() {
            if staged.is_some() {
                self.staged.retract(name);
                self.size = None;
            }
            return Ok(());
        }
        let size = self.admit(name, staged.or(below), value.as_ref(), config)?;
        let name = register.map_or_else(|| name.into(), |register| register.name.clone());
        self.size = Some(size);
        self.id.get_or_insert_with(|| config.store.new_id());
        match value {
            Some(value) => self.staged.insert(name, value),
            None => self.staged.remove(name),
        }
        Ok(())
    }

    /// Whether an update may write this value.
    pub(super) fn admits(
        &self,
        name: &str,
        value: &Value,
        config: &Config,
    ) -> Result<(), SessionError> {
        self.admit(name, self.known(name), Some(value), config)?;
        Ok(())
    }

    pub(super) fn set_max_inactive(&mut self, idle: Option<Duration>, config: &Config) {
        if self.max_inactive(config) != idle {
            self.staged.set_max_inactive(idle);
        }
    }

    pub(super) fn set_persistence(
        &mut self,
        persistence: Persistence,
        config: &Config,
    ) -> Result<(), SessionError> {
        if self.closed {
            return Err(SessionErrorKind::TooLate.into());
        }
        if self.persistence(config) != persistence {
            if self.stored.is_some() {
                self.remember(persistence);
            } else {
                self.persistence = Some(persistence);
            }
        }
        Ok(())
    }

    /// Stages a new id. A session that is not stored yet needs none.
    pub(super) fn cycle_id(&mut self) -> Result<(), SessionError> {
        if self.closed {
            return Err(SessionErrorKind::TooLate.into());
        }
        let id = self.id().ok_or(SessionErrorKind::NoSession)?;
        if self.stored.is_some() && !self.rotating {
            self.id = Some(id.rotate());
            self.rotating = true;
        }
        Ok(())
    }

    /// Closes the session to writes that the response could not carry, and says what is left to do
    /// for it.
    pub(super) fn close(&mut self) -> Rest {
        self.closed = true;
        if !self.consulted {
            Rest::Untouched
        } else if self.is_pending() || self.in_flight.is_some() {
            Rest::Commit
        } else {
            match &self.stored {
                // A commit was an access by itself: none is due after one.
                Some(stored) if self.returned && stored.record.is_touch_due(clock::now()) => {
                    Rest::Touch(stored.key)
                }
                _ => Rest::Nothing,
            }
        }
    }

    /// Closes the session to writes: there will be no response.
    pub(super) const fn abandon(&mut self) {
        self.closed = true;
    }

    /// Whether there is something to commit.
    pub(super) fn is_pending(&self) -> bool {
        if self.stored.is_some() {
            self.rotating || !self.staged.is_empty()
        } else {
            let mut names = self.staged.writes().iter().map(|(name, _)| name);
            !self.ended && names.any(|name| !remember::is_reserved(name))
        }
    }

    /// Sends what is staged, and `update` on top, on its way to the store. `None`: there is nothing
    /// to do. `last` is for the commit that the response waits for: it may still create.
    pub(super) fn begin(
        &mut self,
        update: Option<&Update>,
        last: bool,
        config: &Config,
    ) -> Result<Option<Batch>, SessionError> {
        // A commit that panicked has left its batch here.
        self.undo();
        if self.ended {
            return Err(SessionErrorKind::Ended.into());
        }
        if update.is_none() && !self.is_pending() {
            return Ok(None);
        }
        if self.stored.is_none() && self.closed && !last {
            return Err(SessionErrorKind::TooLate.into());
        }
        let id = *self.id.get_or_insert_with(|| config.store.new_id());
        let (key, base) = match &self.stored {
            Some(stored) => (stored.key, Some(stored.record.clone())),
            None => {
                let usual = config.cookie.persistence();
                let usual = Some(usual).filter(|it| *it != Persistence::BrowserSession);
                if let Some(persistence) = self.persistence.take().or(usual) {
                    self.remember(persistence);
                }
                (id.key(), None)
            }
        };
        let mut changes = mem::take(&mut self.staged);
        // The response's own commit is not tried again: nothing is kept of it, unless it may have
        // to begin anew under another id, or somebody may save what it leaves.
        if !last || self.stored.is_none() || self.detached {
            self.in_flight = Some(changes.clone());
        }
        if self.stored.is_none() {
            config.make_create(&mut changes);
        }
        if self.rotating {
            changes.rotate_to(id.key());
        }
        if let Some(update) = update {
            changes.insert(update.name.clone(), update.value.clone());
            changes.expect(update.name.clone(), update.after);
        }
        Ok(Some(Batch { key, base, changes }))
    }

    /// The batch is in the store.
    pub(super) fn committed(&mut self, stored: Stored, rotated: bool) {
        self.in_flight = None;
        self.size = None;
        self.rotating &= !rotated;
        self.stored = Some(stored);
    }

    /// The batch did not take effect: its changes are staged again, under those made since.
    pub(super) fn undo(&mut self) {
        let Some(older) = self.in_flight.take() else {
            return;
        };
        let newer = mem::replace(&mut self.staged, older);
        for (name, value) in newer.writes() {
            match value {
                Some(value) => self.staged.insert(name.clone(), value.clone()),
                None => self.staged.remove(name.clone()),
            }
        }
        if let Some(idle) = newer.max_inactive() {
            self.staged.set_max_inactive(idle);
        }
    }

    /// The id of the session to be created is taken: it gets another one.
    pub(super) fn rename(&mut self, config: &Config) {
        self.undo();
        self.id = Some(config.store.new_id());
    }

    /// Somebody else has written before the batch: it is staged again, on top of what they made.
    pub(super) fn outrun(&mut self, record: Arc<Record>) {
        self.undo();
        self.refresh(record);
    }

    /// The session as it stands in the store, with what is staged still on top.
    pub(super) fn refresh(&mut self, record: Arc<Record>) {
        self.size = None;
        if let Some(stored) = &mut self.stored {
            stored.record = record;
        }
    }

    /// Somebody else has ended the session: all that was to be written to it is dropped, and
    /// nothing is, until the request itself asks for a fresh start.
    pub(super) fn end(&mut self) {
        self.drop_session();
        self.ended = true;
    }

    /// This request has ended the session: what it writes from now on makes a new one.
    pub(super) fn restart(&mut self) {
        self.drop_session();
        self.ended = false;
        self.returned = false;
    }

    /// What the browser is to be told, now that everything is stored.
    pub(super) fn notice(&self, config: &Config) -> Option<Notice> {
        match (&self.stored, self.id) {
            _ if self.ended => None,
            (Some(stored), Some(id)) => {
                let has_it = self.client == Some(id) && !self.stale_cookie;
                let notice = || Notice::Session(id, stored.key, self.persistence(config));
                (!has_it).then(notice)
            }
            _ => self.client.map(|_| Notice::Removal),
        }
    }

    /// What the browser is to be told although the last commit has failed: only that its session
    /// has another id since an earlier one. Keeping that back would log it out.
    pub(super) fn notice_of_rotation(&self, config: &Config) -> Option<Notice> {
        let moved = self.returned && !self.rotating && self.id != self.client;
        self.notice(config).filter(|_| moved)
    }

    fn is_creating(&self) -> bool {
        self.stored.is_none() && (self.in_flight.is_some() || self.is_pending())
    }

    /// What was last written under a name: `None` if nothing ever was.
    fn known(&self, name: &str) -> Option<Option<&Value>> {
        self.staged.written(name).or_else(|| self.below(name))
    }

    /// What was last written under a name, apart from what is staged.
    fn below(&self, name: &str) -> Option<Option<&Value>> {
        self.in_flight(name).or_else(|| self.in_record(name))
    }

    fn in_flight(&self, name: &str) -> Option<Option<&Value>> {
        self.in_flight.as_ref()?.written(name)
    }

    fn in_record(&self, name: &str) -> Option<Option<&Value>> {
        Some(self.register(name)?.value.as_ref())
    }

    fn register(&self, name: &str) -> Option<&Register> {
        self.record()?.register(name)
    }

    /// What the session would measure with this write over what is `known` under the name, unless
    /// that is too much. What does not make it larger is never refused.
    fn admit(
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
        let mut size = self.record().map_or_else(Size::default, |record| Size {
            names: record.registers().len(),
            bytes: record.payload_bytes(),
        });
        for (name, value) in self.in_flight.iter().flat_map(Changes::writes) {
            size = size.with(name, self.in_record(name), value.as_ref());
        }
        for (name, value) in self.staged.writes() {
            size = size.with(name, self.below(name), value.as_ref());
        }
        size
    }

    fn persistence(&self, config: &Config) -> Persistence {
        self.persistence
            .or_else(|| remember::read(self.value(remember::NAME)?))
            .unwrap_or_else(|| config.cookie.persistence())
    }

    fn remember(&mut self, persistence: Persistence) {
        let value = remember::value(persistence);
        self.staged.insert(remember::NAME.into(), value);
        self.stale_cookie = true;
        self.size = None;
    }

    fn drop_session(&mut self) {
        self.id = None;
        self.stored = None;
        self.in_flight = None;
        self.staged = Changes::default();
        self.rotating = false;
        self.persistence = None;
        self.size = None;
    }
}

impl Size {
    /// The size after a write over what was `known` under the name.
    fn with(self, name: &str, known: Option<Option<&Value>>, value: Option<&Value>) -> Self {
        let len = |value: Option<&Value>| value.map_or(0, |value| value.as_bytes().len());
        let (new_names, new_bytes) = match known {
            Some(_) => (0, 0),
            None => (1, name.len()),
        };
        Self {
            names: self.names + new_names,
            bytes: self.bytes + new_bytes + len(value) - len(known.flatten()),
        }
    }
}
