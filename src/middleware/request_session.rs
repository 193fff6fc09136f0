//! One request and its response: the session's state and the store calls.
//!
//! The layer puts a [`RequestSession`] into the request, where [`Session`](super::Session) finds
//! it, and keeps it for the response. Nothing happens until the session is requested. The commits
//! of one request run one after another.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Extensions, HeaderMap, Uri};
use tokio::time::{sleep, timeout};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span, debug, debug_span, warn};

use super::affinity::Affinity;
use super::carrier::{Carrier, Word};
use super::complete::Complete;
use super::config::Config;
use super::cookie::{Candidate, Candidates};
use super::route::Route;
use super::state::{CookieAction, Found, LoadedSession, PresentedId, Rest, State, Stored, Update};
use super::take_back::Undoing;
use crate::clock;
use crate::error::{SessionError, SessionErrorKind, StoreError, StoreErrorKind};
use crate::session::{Changes, EndReason, Loaded, Outcome, Record, Root, SecretHash, SessionId};
use crate::store::erased::Answer;
use crate::store::users;

/// State shared by a request, its handles and its response.
pub(super) struct RequestSession {
    config: Arc<Config>,
    /// The exchange of an outer layer whose cookie has another name.
    outer: Option<Arc<Self>>,
    /// Held for a few instructions at a time, never across an await.
    state: Mutex<State>,
    /// Held by the commit that is in progress.
    turn: tokio::sync::Mutex<()>,
}

/// The request extension that carries an [`RequestSession`].
#[derive(Clone)]
struct Carried(Arc<RequestSession>);

/// The work that the response has to wait for.
pub(super) enum Closing {
    /// None; the response does not depend on a session.
    Untouched,
    /// None.
    Settled,
    Storing(Complete<()>),
}

impl RequestSession {
    /// Creates an exchange and puts it into the request. `None` if an outer layer has done so for a
    /// cookie of the same name: there is one session per name.
    pub(super) fn begin(config: &Arc<Config>, request: &mut Extensions) -> Option<Arc<Self>> {
        let exchange = Arc::new(Self::new(config.clone(), None));
        // Layers are rarely nested: inserting and looking at the previous value takes one access.
        let Some(outer) = request.insert(Carried(exchange.clone())) else {
            return Some(exchange);
        };
        if outer.0.serves(&config.carrier) {
            if !outer.0.is_of(config) {
                config.hint.nested();
            }
            request.insert(outer);
            return None;
        }
        let exchange = Arc::new(Self::new(config.clone(), Some(outer.0)));
        request.insert(Carried(exchange.clone()));
        Some(exchange)
    }

    /// The exchange of a request, the innermost if there are several.
    pub(super) fn of(request: &Extensions) -> Option<Arc<Self>> {
        request.get::<Carried>().map(|carried| carried.0.clone())
    }

    /// Creates an exchange whose session has not been requested.
    pub(super) fn new(config: Arc<Config>, outer: Option<Arc<Self>>) -> Self {
        Self {
            config,
            outer,
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // No code under this lock can panic between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ensures that the session is loaded, and counts as used.
    pub(super) async fn load(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), SessionError> {
        self.peek(uri, headers).await?;
        let due = {
            let mut state = self.state();
            let is_first = state.note_use();
            let record = state.record().filter(|_| is_first);
            let is_due = record.is_some_and(|record| self.config.is_touch_due(record));
            state.stored().filter(|_| is_due).map(|stored| stored.key())
        };
        // The access counts now, not when the response is ready: the request may take longer than
        // the session has left.
        match due {
            Some(key) => self.touch(&key).await,
            None => Ok(()),
        }
    }

    /// Ensures that the session is loaded.
    pub(super) async fn peek(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), SessionError> {
        if !self.state().consult()? {
            return Ok(());
        }
        self.config.check()?;
        let (candidates, answer) = self.config.carrier.read(uri, headers);
        let found = self.look_up(&candidates).await?;
        if self.state().load(found, answer, &self.config) {
            self.config.turnovers.count();
        }
        Ok(())
    }

    /// Loads the session again, below the staged changes.
    pub(super) async fn reload(self: Arc<Self>) -> Result<(), SessionError> {
        let _turn = self.turn().await;
        self.current().await?;
        Ok(())
    }

    /// Records a use of the session.
    pub(super) async fn use_now(self: Arc<Self>) -> Result<(), SessionError> {
        let _turn = self.turn().await;
        match self.current().await? {
            Some((key, record)) if self.config.is_touch_due(&record) => self.touch(&key).await,
            _ => Ok(()),
        }
    }

    /// Waits until the store has something else than this request knows.
    pub(super) async fn changed(&self) -> Result<(), SessionError> {
        let key = self.state().known_key()?;
        // Before the session is read, so that no change is missed.
        let mut watch = key.and_then(|key| self.config.store.watch(&key));
        loop {
            let turn = self.turn().await;
            let known = self.state().record().cloned();
            let current = self.current().await?;
            drop(turn);
            let (Some(known), Some((_, record))) = (known, current) else {
                return Err(SessionErrorKind::NoSession.into());
            };
            if known.was_changed_in(&record) {
                return Ok(());
            }
            match &mut watch {
                // It looks again without being woken as well: another node may have written.
                Some(watch) => _ = timeout(LOOK_EVERY, watch.changed()).await,
                None => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// The session as the store has it now; `None` if this request has none.
    async fn current(&self) -> Result<Option<(Root, Arc<Record>)>, SessionError> {
        let key = self.state().known_key()?;
        let Some(key) = key else { return Ok(None) };
        let Some(record) = self.fetch(&key, None).await?.into_live() else {
            self.state().end();
            return Err(SessionErrorKind::Invalidated.into());
        };
        self.state().renew(record.clone())?;
        Ok(Some((key, record)))
    }

    /// Ensures that a cookie that is to be sent again still has the session's id.
    async fn confirm(self: Arc<Self>) -> Result<(), SessionError> {
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

    /// Stores the staged changes, with `update` on top. Returns `false` if nothing was stored
    /// because another request has written the attribute of `update` meanwhile.
    pub(super) async fn commit(
        self: Arc<Self>,
        update: Option<Update>,
        last: bool,
    ) -> Result<bool, SessionError> {
        let _turn = self.turn().await;
        let is_late = !last && self.state().is_late_write(update.is_some());
        if is_late {
            // A handle does not write to a session that belongs to another user now.
            self.current().await?;
        }
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
        update: Option<&Update>,
        last: bool,
    ) -> Result<bool, SessionError> {
        for _ in 0..CREATE_TRIES_MAX {
            let batch = self.state().begin(update, last, &self.config)?;
            let Some(batch) = batch else { return Ok(true) };
            let (id, key) = (batch.id, batch.id.key());
            let creates = batch.changes.is_create();
            let undoing = Undoing::of(batch.base.as_ref(), &batch.changes);
            let rotates = undoing.is_some();
            if let Some(base) = &batch.base
                && batch.changes.are_in(base)
                && self.is_unchanged(&id, &batch.changes).await?
            {
                return Ok(true);
            }
            let (login, former_user) = (batch.login, batch.former_user);
            if let Some((user, _)) = &login
                && let Err(error) = self.config.check_excess(user, &key).await
            {
                self.state().undo();
                return Err(error);
            }
            let commit = self
                .config
                .store
                .commit(&key, batch.base.as_ref(), batch.changes);
            let span = || debug_span!("session_commit", %key, creates, rotates);
            if creates && let Err(error) = self.end_rivals().await {
                self.state().undo();
                return Err(error);
            }
            let outcome = traced(commit, span).await;
            match outcome {
                Ok(Outcome::Committed(record)) => {
                    if let Some((user, label)) = &login {
                        let listed = self.config.register(key, *user, label.clone(), &record);
                        if let Err(error) = listed.await {
                            // The login does not count: its user could not end the session through
                            // the index.
                            self.state().doubt(&self.config);
                            self.take_back_login(key, creates, undoing).await;
                            return Err(failed(&key, error));
                        }
                        if let Some(former) = former_user.filter(|former| former != user) {
                            users::forget_moved(&*self.config.store, &former, &[key]).await;
                        }
                    }
                    let login = login.map(|(user, _)| user);
                    self.state().committed(Stored { id, record }, login);
                    return Ok(true);
                }
                // Two random ids are equal: practically impossible, unless the store is faulty.
                Ok(Outcome::Conflict(_)) if creates => self.state().rename(&self.config),
                Ok(Outcome::Conflict(current)) => {
                    self.state().outrun(current, &self.config)?;
                    return Ok(false);
                }
                Ok(Outcome::Superseded) => {
                    debug!(%key, "another request has rotated the session's id first");
                    if !self.state().outpaced(&self.config) {
                        return Err(SessionErrorKind::Superseded.into());
                    }
                    if update.is_some() {
                        return Ok(false);
                    }
                }
                Ok(Outcome::Gone) => {
                    self.state().end();
                    debug!(%key, "the session has ended or expired; its pending changes are dropped");
                    return Err(SessionErrorKind::Invalidated.into());
                }
                Err(error) if error.kind() == StoreErrorKind::Indeterminate => {
                    self.state().doubt(&self.config);
                    if let Some(undoing) = undoing {
                        undoing.begin(self.config.clone(), key);
                    }
                    return Err(failed(&key, error));
                }
                Err(error) => {
                    self.state().undo();
                    return Err(failed(&key, error));
                }
            }
        }
        Err(SessionErrorKind::Conflict.into())
    }

    /// Takes back a login whose session could not be added to the user's index.
    async fn take_back_login(&self, key: Root, creates: bool, undoing: Option<Undoing>) {
        if let Some(undoing) = undoing {
            undoing.begin(self.config.clone(), key);
        } else if creates
            && let Err(error) = self.config.store.delete(&key, EndReason::Logout).await
        {
            debug!(%key, error = &error as &dyn Error, "a session whose login failed is left to expire");
        }
    }

    /// Returns `true` if the stored session is still as the request has loaded it, and `changes`
    /// would leave it as it is.
    async fn is_unchanged(&self, id: &SessionId, changes: &Changes) -> Result<bool, SessionError> {
        let current = self.fetch(&id.key(), None).await;
        let current = current.inspect_err(|_| self.state().undo())?;
        Ok(match current.into_live() {
            Some(record) if changes.are_in(&record) => {
                let stored = Stored { id: *id, record };
                self.state().committed(stored, None);
                true
            }
            _ => false,
        })
    }

    /// Deletes the session. Returns `true` if there was one.
    pub(super) async fn end(self: Arc<Self>) -> Result<bool, SessionError> {
        let _turn = self.turn().await;
        let (key, user, existed) = {
            let state = self.state();
            if state.is_superseded() {
                // It is not this request's session. Later writes are refused as before: the cookie
                // of a new session would replace the one that the login has set.
                return Ok(false);
            }
            let stored = state.stored();
            let user = stored.and_then(|stored| stored.record.user());
            (stored.map(Stored::key), user, state.exists())
        };
        let rivals = self.end_rivals().await?;
        let existed = match key {
            None => existed,
            Some(key) => self.end_stored(&key).await?,
        };
        if let (Some(key), Some(user), true) = (key, user, existed) {
            users::forget(&*self.config.store, &user, &[key]).await;
        }
        self.state().restart();
        Ok(existed || rivals)
    }

    /// Deletes all live sessions of a request that presented several. Returns `true` if one of them
    /// was live.
    async fn end_rivals(&self) -> Result<bool, SessionError> {
        let rivals = self.state().rivals();
        let mut existed = false;
        for key in &rivals {
            existed |= self.end_stored(key).await?;
        }
        self.state().rivals_ended();
        Ok(existed)
    }

    async fn end_stored(&self, key: &Root) -> Result<bool, SessionError> {
        let ended = self.config.store.delete(key, EndReason::Logout);
        let ended = traced(ended, || debug_span!("session_end", %key)).await;
        ended.map_err(|error| failed(key, error))
    }

    /// How long the running request may continue before its session is to be touched again; `None`
    /// if there is no session that could expire by its idle timeout.
    pub(super) fn touch_again_after(&self) -> Option<Duration> {
        let idle = {
            let state = self.state();
            let record = state.record().filter(|_| state.is_used())?;
            self.config.idle_of(record, state.is_returned())?
        };
        Some((idle / TOUCHES_PER_IDLE_TIME).max(TOUCH_AGAIN_MIN))
    }

    /// Records that the request is still running.
    pub(super) fn touch_again(self: &Arc<Self>) -> Complete<()> {
        Complete::new(self.clone().use_again())
    }

    /// Closes the session to writes and starts to store the remaining changes.
    ///
    /// Staged changes are dropped first, unless the response `commits`.
    pub(super) fn close(self: &Arc<Self>, commits: bool) -> Closing {
        let rest = {
            let mut state = self.state();
            if !commits {
                state.discard();
            }
            state.close()
        };
        match rest {
            Rest::Untouched => Closing::Untouched,
            Rest::Nothing => Closing::Settled,
            Rest::Confirm => Closing::Storing(Complete::new(self.clone().confirm())),
            Rest::Commit => Closing::Storing(Complete::new(self.clone().commit_last())),
        }
    }

    /// Closes the session to writes: no response will carry them.
    pub(super) fn abandon(&self) {
        self.state().abandon();
    }

    /// Logs a warning about changes that can no longer be saved.
    pub(super) fn warn_of_loss(&self) {
        let lost = self.state().lost();
        if let Some(key) = lost {
            warn!(%key, "a detached session was dropped with unsaved changes");
        }
    }

    /// Writes the response headers: that the response depends on the cookie, and the cookie if it
    /// changes.
    pub(super) fn sign(&self, headers: &mut HeaderMap) {
        let notice = self.state().notice(&self.config);
        self.tell(notice, headers);
    }

    /// The same for a response that replaces the handler's because the commit has failed.
    pub(super) fn sign_failure(&self, headers: &mut HeaderMap) {
        let notice = self.state().notice_of_rotation(&self.config);
        self.tell(notice, headers);
    }

    /// The route that the session's cookie should name.
    pub(super) fn route(&self, key: &Root) -> Option<Route> {
        let here = self.config.route.as_ref()?;
        let owner = match self.config.affinity {
            Affinity::Owner => self.config.store.route(key),
            Affinity::Local | Affinity::Off => None,
        };
        let owner = owner.and_then(|route| Route::new(&route).ok());
        Some(owner.unwrap_or_else(|| here.clone()))
    }

    /// The live sessions that the request presents.
    async fn look_up(&self, candidates: &Candidates<'_>) -> Result<Found, SessionError> {
        if candidates.malformed() > 0 {
            debug!(
                count = candidates.malformed(),
                "session cookies that hold no id"
            );
        }
        if candidates.iter().next().is_some() {
            self.config.hint.returned();
        }
        if candidates.is_crowded() {
            warn!(target: SECURITY, "too many session cookies in one request: none is used");
            return Ok(Found::Several(Vec::new()));
        }
        let mut found = Found::None;
        for candidate in candidates.iter() {
            let lead = self.lead(candidate);
            // The list of a user's sessions: a client must not learn, not even from the time that
            // an answer takes, whether the user has logged in.
            if lead.key.is_index() {
                continue;
            }
            found = match self.fetch(&lead.key, Some(&lead.id.hash())).await? {
                Loaded::Live(record) => found.with(LoadedSession { lead, record }),
                Loaded::Superseded if matches!(found, Found::None) => Found::Superseded,
                Loaded::Superseded | Loaded::Absent => found,
            };
        }
        if let Found::Several(keys) = &found {
            // One of them may have been planted.
            let count = keys.len();
            warn!(target: SECURITY, ?keys, count, "several live sessions in one request: none is used");
        }
        Ok(found)
    }

    fn lead(&self, candidate: &Candidate<'_>) -> PresentedId {
        let key = candidate.id().key();
        let settled = self.config.affinity == Affinity::Off;
        let misrouted = !settled
            && self
                .route(&key)
                .is_some_and(|route| !candidate.carries(Some(&route)));
        let here = self.config.route.as_ref();
        let requested = candidate.route(here);
        let elsewhere = |here| requested.is_some_and(|route| !route.names(here));
        PresentedId {
            id: *candidate.id(),
            key,
            misrouted,
            requested,
            turnover: here.is_some_and(elsewhere),
        }
    }

    /// Waits until no other commit is in progress; usually none is.
    async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(_) => self.turn.lock().await,
        }
    }

    async fn fetch(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, SessionError> {
        let loaded = self.config.store.load(key, secret);
        let loaded = traced(loaded, || debug_span!("session_load", %key)).await;
        Ok(match loaded.map_err(|error| failed(key, error))? {
            Loaded::Live(record) if !self.config.admits(&record) => Loaded::Absent,
            loaded => loaded,
        })
    }

    /// Returns `true` if this configuration is that of this layer or of an outer one.
    fn is_of(&self, config: &Arc<Config>) -> bool {
        let outer = || self.outer.as_ref().is_some_and(|outer| outer.is_of(config));
        Arc::ptr_eq(&self.config, config) || outer()
    }

    /// Returns `true` if this request, or an outer layer, uses the same cookie or header.
    fn serves(&self, carrier: &Carrier) -> bool {
        let outer = || {
            self.outer
                .as_ref()
                .is_some_and(|outer| outer.serves(carrier))
        };
        self.config.carrier.is_shared_with(carrier) || outer()
    }

    async fn commit_last(self: Arc<Self>) -> Result<(), SessionError> {
        if !self.clone().commit(None, true).await? {
            return Err(SessionErrorKind::Conflict.into());
        }
        // A login may have been answered while the other holders acknowledged this commit.
        let sends_again = self.state().sends_cookie_again();
        match sends_again {
            true => self.confirm().await,
            false => Ok(()),
        }
    }

    /// Records an access to the request's current session.
    async fn use_again(self: Arc<Self>) -> Result<(), SessionError> {
        let key = self.state().stored().map(Stored::key);
        match key {
            Some(key) => self.touch(&key).await,
            None => Ok(()),
        }
    }

    async fn touch(&self, key: &Root) -> Result<(), SessionError> {
        let touched = self.config.store.touch(key);
        let touched = traced(touched, || debug_span!("session_touch", %key)).await;
        touched.map_err(|error| failed(key, error))
    }

    fn tell(&self, notice: Option<CookieAction>, headers: &mut HeaderMap) {
        self.config.carrier.vary(headers);
        let Some(notice) = notice else { return };
        let (answer, is_new, removes_other) = {
            let state = self.state();
            (state.answer(), state.is_new(), state.has_ended_rivals())
        };
        if is_new && answer.is_guess() {
            self.config.hint.issued();
        }
        let session = match &notice {
            CookieAction::Removal => None,
            CookieAction::Session(id, persistence) => Some((id, *persistence)),
        };
        let route = session.and_then(|(id, _)| self.route(&id.key()));
        let word = Word {
            id: session,
            route: route.as_ref(),
            removes_other,
        };
        self.config.carrier.write(headers, answer, word);
    }
}

impl fmt::Debug for RequestSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSession")
            .field("state", &*self.state())
            .finish_non_exhaustive()
    }
}

/// Awaits a store's answer, inside a span if debug spans are enabled.
async fn traced<T>(answer: Answer<'_, T>, span: impl FnOnce() -> Span) -> Result<T, StoreError> {
    if LevelFilter::current() < LevelFilter::DEBUG {
        return answer.await;
    }
    answer.instrument(span()).await
}

/// Logs the error of a store, which is not shown to clients. While a store is unavailable every
/// request fails in the same way, so only one line per minute is a warning.
fn failed(key: &Root, error: StoreError) -> SessionError {
    static WARNED_AT: AtomicU64 = AtomicU64::new(0);
    let is_away = matches!(
        error.kind(),
        StoreErrorKind::Unavailable | StoreErrorKind::NotReady
    );
    let now = clock::now().as_millis();
    let last = WARNED_AT.load(Relaxed);
    if !is_away || now.saturating_sub(last) >= WARN_EVERY.as_millis() as u64 {
        if is_away {
            WARNED_AT.store(now, Relaxed);
        }
        warn!(%key, error = &error as &dyn Error, "the session store has failed");
    } else {
        debug!(%key, error = &error as &dyn Error, "the session store has failed");
    }
    error.into()
}

/// The interval between warnings about an unavailable store.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// How often a running request touches its session within the idle timeout. Twice, so that the
/// session stays alive when one touch is late by up to half of the idle timeout.
const TOUCHES_PER_IDLE_TIME: u32 = 2;

/// The shortest time between two such touches, for any idle timeout.
const TOUCH_AGAIN_MIN: Duration = Duration::from_millis(50);

/// How many ids are drawn if a session with the id already exists.
const CREATE_TRIES_MAX: usize = 3;

/// Interval between reads of the store while a request waits for a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The target of events that may indicate an attack.
const SECURITY: &str = "distributable::security";
