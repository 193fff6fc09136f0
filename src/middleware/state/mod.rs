//! The state of one request's session, and the changes staged to it. No waiting, no HTTP.
//!
//! A [`SessionState`] has three layers: the record as the store has it, a batch of changes on its
//! way to the store, and the changes staged since. Reads look through them from the top. Everything
//! else that a request can change is kept beside them, each in a field of its own, so that every
//! order of insert, remove, cycle and invalidate has a defined result.

mod closing;
mod commit;
mod guard;
mod presented_sessions;
mod staging;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::closing::OnResponse;
pub(super) use self::commit::{AttributeUpdate, BatchLogin};
use self::guard::Guards;
pub(super) use self::guard::Origin;
pub(super) use self::presented_sessions::{LoadedSession, PresentedId, PresentedSessions};
use self::staging::Size;
use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::carrier::IdPlacement;
use crate::middleware::config::Config;
use crate::middleware::cookie::route::{Route, RouteBuf};
use crate::middleware::cookie::{Persistence, persistence};
use crate::session::{
    AttributeEntry, Changes, Name, Record, Root, SecretHash, SessionId, UserKey, Value, Version,
    is_reserved,
};

/// One request's view of its session.
#[derive(Debug, Default)]
pub(super) struct SessionState {
    /// The session has been extracted: the response depends on the cookie.
    extracted: bool,
    /// The store has answered whether there is a session.
    loaded: bool,
    /// The request uses the session and does not only peek at it.
    used: bool,
    /// The response is being made, or never will be: no cookie can be sent any more.
    closed: bool,
    /// There will be no response.
    abandoned: bool,
    /// No later commit may stage a new id: there is no response, or its own commit has begun.
    keeps_id: bool,
    /// Another request has ended the session since it was loaded.
    invalidated: bool,
    /// The browser presented a former id of a session whose id was rotated.
    superseded: bool,
    /// Whether the response carries the id in a cookie, in a header, or in both.
    placement: IdPlacement,
    /// The live session that the browser presented.
    client: Option<SessionId>,
    /// Live sessions that the browser presented, none of which is used because there are several.
    rivals: Vec<Root>,
    /// The browser presented several, or more cookies than are looked up.
    ambiguous: bool,
    /// This request has deleted the rivals.
    deleted_rivals: bool,
    /// The route of the presented cookie.
    requested_route: Option<RouteBuf>,
    /// The session is the one that the browser presented, even if its id has changed since.
    returned: bool,
    /// The browser has the right id, but the cookie is to be sent again for another reason.
    stale_cookie: bool,
    /// There are handles that may still save changes which the response does not carry.
    detached: bool,
    /// The session's id once everything staged is stored. If the session is stored under another
    /// id, a rotation is staged.
    id: Option<SessionId>,
    stored: Option<Stored>,
    in_flight: Option<Changes>,
    staged: Changes,
    guards: Guards,
    /// The user who is logged in by the next commit, and the label in the user's index.
    login: Option<UserKey>,
    label: Option<String>,
    /// The user of the session when the request presented its id, or since the request has created
    /// it.
    user: Option<UserKey>,
    /// Staged changes were dropped, and no call has returned that error: the response is to.
    dropped: bool,
    /// How long the browser is to keep the cookie, to be stored in the session.
    persistence: Option<Persistence>,
    /// The size of the session with everything staged; `None`: not computed yet.
    size: Option<Size>,
}

/// A session as of the last answer of the store.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The id with the secret that was current when this request last knew.
    pub(super) id: SessionId,
    pub(super) record: Arc<Record>,
}

impl Stored {
    pub(super) const fn key(&self) -> Root {
        self.id.key()
    }
}

/// The change of the cookie that the response carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CookieAction {
    Session(SessionId, Persistence),
    Removal,
}

impl SessionState {
    /// Marks the session as extracted. Returns `true` if it is still to be loaded.
    pub(super) fn mark_extracted(&mut self) -> Result<bool, SessionError> {
        if self.loaded {
            return Ok(false);
        }
        if self.closed {
            return Err(SessionErrorKind::TooLate.into());
        }
        self.extracted = true;
        Ok(true)
    }

    /// Records the store's answer. Returns `true` if it was recorded for the first time and the
    /// request is misrouted.
    pub(super) fn load(&mut self, found: PresentedSessions, placement: IdPlacement) -> bool {
        if mem::replace(&mut self.loaded, true) {
            return false;
        }
        self.placement = placement;
        let LoadedSession { presented, record } = match found {
            PresentedSessions::None => return false,
            PresentedSessions::Superseded => {
                self.superseded = true;
                return false;
            }
            PresentedSessions::One(session) => session,
            PresentedSessions::Several(keys) => {
                self.rivals = keys;
                self.ambiguous = true;
                return false;
            }
        };
        self.returned = true;
        self.client = Some(presented.id);
        self.requested_route = presented.requested_route;
        self.id = Some(presented.id);
        self.stale_cookie = presented.is_route_stale;
        self.user = record.user();
        self.stored = Some(Stored {
            id: presented.id,
            record,
        });
        presented.is_misrouted
    }

    /// Marks the session as used. Returns `true` the first time. Only a use renews the cookie: to
    /// store when it was sent is an access, and peeking is none.
    pub(super) fn note_use(&mut self, config: &Config) -> bool {
        let is_first = !mem::replace(&mut self.used, true);
        if is_first
            // A renewal is stored with the time when the cookie was sent. After the response none
            // is sent, and the browser could drop the one that it has before the next renewal.
            && !self.closed
            && let Some(record) = self.record()
        {
            let renewal = persistence::renewal(record, config.carrier.persistence());
            self.stale_cookie |= renewal.is_some();
            self.persistence = renewal;
        }
        is_first
    }

    pub(super) const fn is_used(&self) -> bool {
        self.used
    }

    /// Records that a handle exists whose writes may follow the response.
    pub(super) const fn detach(&mut self) {
        self.detached = true;
    }

    /// The key of a session whose staged changes no response will carry.
    pub(super) fn lost(&self) -> Option<Root> {
        self.key().filter(|_| self.closed && self.is_pending())
    }

    /// Returns `true` if the browser presented several sessions that have not been deleted.
    pub(super) const fn is_ambiguous(&self) -> bool {
        self.ambiguous && !self.deleted_rivals
    }

    /// The live sessions that a first write or a logout deletes.
    pub(super) fn rivals(&self) -> Vec<Root> {
        self.rivals.clone()
    }

    /// Records that the rivals have been deleted.
    pub(super) fn rivals_deleted(&mut self) {
        self.rivals = Vec::new();
        self.deleted_rivals = self.ambiguous;
    }

    pub(super) const fn has_deleted_rivals(&self) -> bool {
        self.deleted_rivals
    }

    pub(super) const fn placement(&self) -> IdPlacement {
        self.placement
    }

    /// Returns `true` if a handle is to store something, or an update, in a session after the
    /// response.
    pub(super) fn is_late_write(&self, is_update: bool) -> bool {
        self.closed && self.stored.is_some() && (is_update || self.is_pending())
    }

    /// Returns `true` if there is a session, or if the staged changes create one.
    pub(super) fn exists(&self) -> bool {
        self.stored.is_some() || self.is_creating()
    }

    pub(super) fn is_new(&self) -> bool {
        self.exists() && !self.returned
    }

    /// Returns `true` if the session is the one that the browser presented.
    pub(super) const fn is_returned(&self) -> bool {
        self.returned
    }

    pub(super) fn requested_route(&self) -> Option<Route> {
        self.requested_route.map(RouteBuf::to_route)
    }

    pub(super) fn id(&self) -> Option<SessionId> {
        self.id.filter(|_| self.exists())
    }

    /// The key of [`id`](Self::id).
    pub(super) fn key(&self) -> Option<Root> {
        Some(self.id()?.key())
    }

    /// The user of the session.
    pub(super) fn user(&self) -> Option<UserKey> {
        self.login.or_else(|| self.record()?.user())
    }

    pub(super) const fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref()
    }

    /// The key of the stored session, or an error if it has ended meanwhile.
    pub(super) fn known_key(&self) -> Result<Option<Root>, SessionError> {
        self.check_known()?;
        Ok(self.stored.as_ref().map(Stored::key))
    }

    pub(super) fn record(&self) -> Option<&Record> {
        self.stored.as_ref().map(|stored| &*stored.record)
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.known(name).flatten()
    }

    /// The version that a conditional write of the attribute expects.
    pub(super) fn version(&self, name: &str) -> Option<Version> {
        self.record()?.version(name)
    }

    /// Names of the application's attributes, sorted.
    pub(super) fn names(&self) -> Vec<Name> {
        let stored = self.record().into_iter().flat_map(Record::entries);
        let in_flight = self.in_flight.iter().flat_map(Changes::writes);
        let mut names: Vec<_> = stored
            .map(|entry| &entry.name)
            .chain(in_flight.map(|(name, _)| name))
            .chain(self.staged.writes().iter().map(|(name, _)| name))
            .filter(|name| !is_reserved(name) && self.value(name).is_some())
            .cloned()
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The idle timeout in force.
    pub(super) fn idle_timeout(&self, config: &Config) -> Option<Duration> {
        let set = self
            .staged
            .idle_timeout()
            .or_else(|| self.in_flight.as_ref()?.idle_timeout());
        match (set, self.record()) {
            (Some(idle), _) => idle,
            (None, Some(record)) => config.idle_timeout_of(record, self.returned),
            (None, None) => config.idle_timeout_of_new(),
        }
    }

    /// The cookie for the response, now that everything is stored.
    pub(super) fn cookie_action(&self, config: &Config) -> Option<CookieAction> {
        match &self.stored {
            _ if self.invalidated || self.superseded => None,
            Some(Stored { id, record }) => {
                let has_it = self.client == Some(*id) && !self.stale_cookie;
                // Another request may have rotated the id meanwhile, and its cookie must not be
                // replaced.
                let is_wanted = !has_it && record.is_current(&id.hash());
                is_wanted.then(|| CookieAction::Session(*id, self.persistence(config)))
            }
            None => (self.client.is_some() || self.deleted_rivals).then_some(CookieAction::Removal),
        }
    }

    /// The cookie for the response after the last commit has failed: only a rotation by an earlier
    /// commit is announced. Without it, the browser would be logged out.
    pub(super) fn cookie_action_on_error(&self, config: &Config) -> Option<CookieAction> {
        let stored = self.stored.as_ref().map(|stored| stored.id);
        let moved = self.returned && stored != self.client;
        self.cookie_action(config).filter(|_| moved)
    }

    /// The secret that a staged rotation replaces.
    fn rotates(&self) -> Option<SecretHash> {
        let stored = self.stored.as_ref()?;
        (self.id != Some(stored.id)).then(|| stored.id.hash())
    }

    fn is_creating(&self) -> bool {
        self.stored.is_none() && (self.in_flight.is_some() || self.is_pending())
    }

    /// The value last written under a name: `None` if nothing was ever written.
    fn known(&self, name: &str) -> Option<Option<&Value>> {
        self.staged.get(name).or_else(|| self.below(name))
    }

    /// The value last written under a name, ignoring staged changes.
    fn below(&self, name: &str) -> Option<Option<&Value>> {
        self.in_flight(name).or_else(|| self.in_record(name))
    }

    fn in_flight(&self, name: &str) -> Option<Option<&Value>> {
        self.in_flight.as_ref()?.get(name)
    }

    fn in_record(&self, name: &str) -> Option<Option<&Value>> {
        Some(self.entry(name)?.value.as_ref())
    }

    fn entry(&self, name: &str) -> Option<&AttributeEntry> {
        self.record()?.entry(name)
    }

    fn persistence(&self, config: &Config) -> Persistence {
        self.persistence
            .or_else(|| persistence::read(self.value(persistence::NAME)?))
            .unwrap_or_else(|| config.carrier.persistence())
    }
}
