//! One request and its response: the session's state, and the store beside it.
//!
//! The layer puts an [`RequestSession`] into the request, where [`Session`](super::Session) finds it, and
//! keeps it for the response. Nothing happens until somebody asks for the session. It promises that
//! the commits of one exchange follow each other.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Extensions, HeaderMap, Uri};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span, debug, debug_span, warn};

use super::complete::Complete;
use super::cookie::{self, Candidate, Content, IsSecure};
use super::error::{SessionError, SessionErrorKind};
use super::head;
use super::layer::{Affinity, Config};
use super::route::Route;
use super::state::{CookieAction, Found, LoadedSession, PresentedId, Rest, State, Stored, Update};
use super::take_back::Undoing;
use crate::clock;
use crate::error::{StoreError, StoreErrorKind};
use crate::session::{Changes, Loaded, Outcome, Record, Root, SecretHash, SessionId};
use crate::store::erased::Answer;
use crate::store::users;

/// What a request, its handles and its response share.
pub(super) struct RequestSession {
    config: Arc<Config>,
    /// The exchange of a layer further out, whose cookie has another name.
    outer: Option<Arc<Self>>,
    /// Held for a few instructions at a time, never across an await.
    state: Mutex<State>,
    /// Held by the one commit that is under way.
    turn: tokio::sync::Mutex<()>,
}

/// How a request carries its [`RequestSession`].
#[derive(Clone)]
struct Carried(Arc<RequestSession>);

/// What the response has to wait for.
pub(super) enum Closing {
    /// Nothing, and the response has nothing to do with sessions.
    Untouched,
    /// Nothing.
    Settled,
    Storing(Complete<()>),
}

impl RequestSession {
    /// Begins an exchange and puts it into the request. `None` when a layer further out has begun
    /// one for a cookie of the same name: there is one session per name.
    pub(super) fn begin(config: &Arc<Config>, request: &mut Extensions) -> Option<Arc<Self>> {
        let exchange = Arc::new(Self::new(config.clone(), None));
        // Layers are seldom nested: putting it in and looking at what was there asks the map once.
        let Some(outer) = request.insert(Carried(exchange.clone())) else {
            return Some(exchange);
        };
        if outer.0.serves(config.cookie.name()) {
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

    /// An exchange that nobody has asked anything of.
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
        // Nothing under this lock can panic between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the session is loaded, and counts as used.
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

    /// Makes sure that the session is loaded.
    pub(super) async fn peek(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), SessionError> {
        if !self.state().consult()? {
            return Ok(());
        }
        self.config.check()?;
        let secure = self.config.cookie.is_secure(uri, headers);
        let found = self.look_up(headers).await?;
        if self.state().load(found, secure, &self.config) {
            self.config.turnovers.count();
        }
        Ok(())
    }

    /// Loads the session again, under what is staged.
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

    /// Makes sure that the cookie that is to be sent again has the session's id still.
    async fn confirm(self: Arc<Self>) -> Result<(), SessionError> {
        let id = self.state().stored().map(|stored| stored.id);
        let Some(id) = id else { return Ok(()) };
        let found = self.fetch(&id.key(), Some(&id.hash())).await;
        let mut state = self.state();
        match found {
            Ok(Loaded::Live(record)) => state.refresh(record),
            // An error is in the log; the next request tries again.
            Ok(Loaded::Superseded | Loaded::Absent) | Err(_) => state.keep_cookie(),
        }
        Ok(())
    }

    /// Stores what is staged, and `update` on top, if that is possible. Says whether it was: not if
    /// somebody else has written the attribute of `update` meanwhile.
    pub(super) async fn commit(
        self: Arc<Self>,
        update: Option<Update>,
        last: bool,
    ) -> Result<bool, SessionError> {
        let _turn = self.turn().await;
        let is_late = !last && self.state().is_late_write(update.is_some());
        if is_late {
            // A handle does not write to a session that another user has by now.
            self.current().await?;
        }
        for _ in 0..CREATE_TRIES_MAX {
            let batch = self.state().begin(update.as_ref(), last, &self.config)?;
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
                            // The login does not count: the session could not be ended by its user.
                            self.state().doubt(&self.config);
                            self.take_back_login(key, creates, undoing).await;
                            return Err(failed(&key, error));
                        }
                        if let Some(former) = former_user.filter(|former| former != user) {
                            users::forget(&*self.config.store, &former, &[key]).await;
                        }
                    }
                    let login = login.map(|(user, _)| user);
                    self.state().committed(Stored { id, record }, login);
                    return Ok(true);
                }
                // Two random ids are equal: once in the life of the universe, or the store errs.
                Ok(Outcome::Conflict(_)) if creates => self.state().rename(&self.config),
                Ok(Outcome::Conflict(current)) => {
                    self.state().outrun(current, &self.config)?;
                    return Ok(false);
                }
                Ok(Outcome::Superseded) => {
                    debug!(%key, "another request has rotated the session's id before");
                    if !self.state().outpaced(&self.config) {
                        return Err(SessionErrorKind::Superseded.into());
                    }
                    if update.is_some() {
                        return Ok(false);
                    }
                }
                Ok(Outcome::Gone) => {
                    self.state().end();
                    debug!(%key, "the session has ended or expired; what was written is dropped");
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

    /// Takes back a login whose session could not be listed.
    async fn take_back_login(&self, key: Root, creates: bool, undoing: Option<Undoing>) {
        if let Some(undoing) = undoing {
            undoing.begin(self.config.clone(), key);
        } else if creates && let Err(error) = self.config.store.end(&key).await {
            debug!(%key, error = &error as &dyn Error, "a session whose login failed is left to expire");
        }
    }

    /// Returns `true` if the session still is as the request has loaded it, which is as `changes`
    /// would make it.
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

    /// Ends the session. Says whether there was one.
    pub(super) async fn end(self: Arc<Self>) -> Result<bool, SessionError> {
        let _turn = self.turn().await;
        let (key, user, existed) = {
            let state = self.state();
            if state.is_superseded() {
                // It is not this request's session. What is written afterwards is refused as before:
                // a new session's cookie would replace the one of the login.
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
        if let (Some(key), Some(user)) = (key, user) {
            users::forget(&*self.config.store, &user, &[key]).await;
        }
        self.state().restart();
        Ok(existed || rivals)
    }

    /// Ends all live sessions of a request that presented several. Returns `true` if one of them
    /// was alive.
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
        let ended = self.config.store.end(key);
        let ended = traced(ended, || debug_span!("session_end", %key)).await;
        ended.map_err(|error| failed(key, error))
    }

    /// How long the running request may go on until its session has to be touched again; `None`
    /// where there is no session that could idle out.
    pub(super) fn touch_again_after(&self) -> Option<Duration> {
        let idle = {
            let state = self.state();
            let record = state.record().filter(|_| state.is_used())?;
            self.config.idle_of(record, state.is_returned())?
        };
        Some((idle / TOUCHES_PER_IDLE_TIME).max(TOUCH_AGAIN_MIN))
    }

    /// Records that the request still runs.
    pub(super) fn touch_again(self: &Arc<Self>) -> Complete<()> {
        Complete::new(self.clone().use_again())
    }

    /// Closes the session to writes and begins to store what is left to be stored.
    pub(super) fn close(self: &Arc<Self>) -> Closing {
        let rest = self.state().close();
        match rest {
            Rest::Untouched => Closing::Untouched,
            Rest::Nothing => Closing::Settled,
            Rest::Confirm => Closing::Storing(Complete::new(self.clone().confirm())),
            Rest::Commit => Closing::Storing(Complete::new(self.clone().commit_last())),
        }
    }

    /// Closes the session to writes: there will be no response to carry them.
    pub(super) fn abandon(&self) {
        self.state().abandon();
    }

    /// Logs what nobody can save any more.
    pub(super) fn warn_of_loss(&self) {
        let lost = self.state().lost();
        if let Some(key) = lost {
            warn!(%key, "a detached session was dropped with unsaved changes");
        }
    }

    /// Writes what the response's head says about the session: that it depends on the cookie, and
    /// what the cookie is from now on.
    pub(super) fn sign(&self, headers: &mut HeaderMap) {
        let notice = self.state().notice(&self.config);
        self.tell(notice, headers);
    }

    /// The same for a response that stands in for the handler's because the commit has failed.
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
    async fn look_up(&self, headers: &HeaderMap) -> Result<Found, SessionError> {
        let candidates = cookie::read(headers, self.config.cookie.name());
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

    /// Waits until no other commit is under way; mostly none is.
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

    /// Whether this exchange, or one around it, is for a cookie of that name.
    fn serves(&self, name: &str) -> bool {
        let outer = || self.outer.as_ref().is_some_and(|outer| outer.serves(name));
        self.config.cookie.name() == name || outer()
    }

    async fn commit_last(self: Arc<Self>) -> Result<(), SessionError> {
        if !self.clone().commit(None, true).await? {
            return Err(SessionErrorKind::Conflict.into());
        }
        // A login may have been answered while the other holders acknowledged this.
        let sends_again = self.state().sends_cookie_again();
        match sends_again {
            true => self.confirm().await,
            false => Ok(()),
        }
    }

    /// Records an access to the session that this request has now.
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
        head::vary(headers);
        let Some(notice) = notice else { return };
        let cookie = &self.config.cookie;
        let (IsSecure { secure, is_guess }, is_new, ended_rivals) = {
            let state = self.state();
            (state.is_secure(), state.is_new(), state.has_ended_rivals())
        };
        if is_new && is_guess {
            self.config.hint.issued();
        }
        let other = ended_rivals.then(|| cookie.removal_for_host(secure));
        let header = match notice {
            CookieAction::Removal => cookie.header(Content::Removal, secure),
            CookieAction::Session(id, persistence) => {
                let route = self.route(&id.key());
                let content = Content::Session {
                    id: &id,
                    route: route.as_ref(),
                    persistence,
                };
                cookie.header(content, secure)
            }
        };
        head::set_cookie(headers, cookie.name(), other.flatten(), header);
    }
}

impl fmt::Debug for RequestSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSession")
            .field("state", &*self.state())
            .finish_non_exhaustive()
    }
}

/// A store's answer, awaited inside a span if anybody listens to such spans.
async fn traced<T>(answer: Answer<'_, T>, span: impl FnOnce() -> Span) -> Result<T, StoreError> {
    if LevelFilter::current() < LevelFilter::DEBUG {
        return answer.await;
    }
    answer.instrument(span()).await
}

/// Logs the error of a store, which no client gets to see. While a store is away every request
/// fails in the same way: then one line a minute is a warning.
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

/// How often a store that is away is worth a warning.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// How often a request that keeps running touches its session within the idle time. Twice: when one
/// touch is late by as much as half of the idle time, the session still lives.
const TOUCHES_PER_IDLE_TIME: u32 = 2;

/// The shortest time between two of these touches, whatever the idle time is.
const TOUCH_AGAIN_MIN: Duration = Duration::from_millis(50);

/// How often a new id is drawn when a session under it exists.
const CREATE_TRIES_MAX: usize = 3;

/// The target of events that may mean an attack.
const SECURITY: &str = "distributable::security";
