//! One request and its response: the session's state and the store calls.
//!
//! The layer puts a [`RequestSession`] into the request, where [`Session`](crate::Session) finds
//! it, and keeps it for the response. Nothing happens until the session is extracted. The commits
//! of one request run one after another.

mod commit;
mod deletion;
mod presented;
mod response;
mod store_call;
mod touch;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::{Extensions, HeaderMap, Uri};
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::carrier::Carrier;
use crate::middleware::config::Config;
use crate::middleware::state::{SessionState, Stored};
use crate::session::{Record, Root, Timestamp};
use crate::sync::lock;

/// State shared by a request, its handles and its response.
pub(super) struct RequestSession {
    config: Arc<Config>,
    /// The session of an outer layer whose cookie has another name.
    outer: Option<Arc<Self>>,
    /// Held for a few instructions at a time, never across an await.
    state: Mutex<SessionState>,
    /// Held by the commit that is in progress.
    commit_lock: tokio::sync::Mutex<()>,
}

/// The request extension that carries a [`RequestSession`].
#[derive(Clone)]
struct RequestExtension(Arc<RequestSession>);

impl RequestSession {
    /// Creates the request's session state and stores it in the extensions. Returns `None` if an
    /// outer layer has done so for a cookie of the same name: there is one session per name.
    pub(super) fn begin(config: &Arc<Config>, extensions: &mut Extensions) -> Option<Arc<Self>> {
        let session = Self::new(config.clone(), None);
        // Layers are rarely nested: inserting and looking at the previous value takes one access.
        let Some(outer) = extensions.insert(RequestExtension(session.clone())) else {
            return Some(session);
        };
        if outer.0.serves(&config.carrier) {
            if !outer.0.is_of(config) {
                config.hint.nested();
            }
            extensions.insert(outer);
            return None;
        }
        let session = Self::new(config.clone(), Some(outer.0));
        extensions.insert(RequestExtension(session.clone()));
        Some(session)
    }

    /// Returns the session of the innermost layer that the request has passed.
    pub(super) fn of(extensions: &Extensions) -> Option<Arc<Self>> {
        extensions
            .get::<RequestExtension>()
            .map(|extension| extension.0.clone())
    }

    /// Creates the state of a session that has not been extracted.
    pub(super) fn new(config: Arc<Config>, outer: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self {
            config,
            outer,
            state: Mutex::default(),
            commit_lock: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn state(&self) -> MutexGuard<'_, SessionState> {
        // No code under this lock can panic between two changes that belong together.
        lock(&self.state)
    }

    /// Ensures that the session is loaded, and counts as used.
    pub(super) async fn load(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), SessionError> {
        let found_at = self.find(uri, headers).await?;
        let due = {
            let mut state = self.state();
            let is_first = state.note_use(&self.config);
            let stored = state.stored().filter(|_| is_first);
            let is_due = |stored: &&Stored| {
                let now = found_at.unwrap_or_else(clock::now);
                self.config.is_touch_due(&stored.record, now)
            };
            stored.filter(is_due).map(Stored::key)
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
        self.find(uri, headers).await?;
        Ok(())
    }

    /// Ensures that the session is loaded. Returns the time of the store's answer if this call has
    /// loaded it.
    async fn find(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<Timestamp>, SessionError> {
        if !self.state().mark_extracted()? {
            return Ok(None);
        }
        self.config.check()?;
        let (candidates, placement) = self.config.carrier.read(uri, headers);
        let (found, found_at) = self.look_up(&candidates).await?;
        if self.state().load(found, placement) {
            self.config.misrouted_requests.count();
        }
        Ok(found_at)
    }

    /// Loads the session again, below the staged changes.
    pub(super) async fn reload(self: Arc<Self>) -> Result<(), SessionError> {
        let _lock = self.commit_lock().await;
        self.current().await?;
        Ok(())
    }

    /// Waits until the store has a newer record than this request.
    pub(super) async fn changed(&self) -> Result<(), SessionError> {
        let key = self.state().known_key()?;
        // Before the session is read, so that no change is missed.
        let mut watch = key.and_then(|key| self.config.store.watch(&key));
        loop {
            let lock = self.commit_lock().await;
            let known = self.state().record().cloned();
            let current = self.current().await?;
            drop(lock);
            let (Some(known), Some((_, record))) = (known, current) else {
                return Err(SessionErrorKind::NoSession.into());
            };
            if known.was_changed_in(&record) {
                return Ok(());
            }
            match &mut watch {
                // Reads again without a notification as well: another node may have written.
                Some(watch) => _ = timeout(POLL_INTERVAL, watch.changed()).await,
                None => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// The session as the store has it now; `None` if this request has none.
    async fn current(&self) -> Result<Option<(Root, Arc<Record>)>, SessionError> {
        let key = self.state().known_key()?;
        let Some(key) = key else { return Ok(None) };
        let Some(record) = self.fetch(&key, None).await?.into_live() else {
            self.state().invalidate();
            return Err(SessionErrorKind::Invalidated.into());
        };
        self.state().renew(record.clone())?;
        Ok(Some((key, record)))
    }

    /// Waits until no other commit is in progress, and locks out others; usually none is.
    async fn commit_lock(&self) -> tokio::sync::MutexGuard<'_, ()> {
        match self.commit_lock.try_lock() {
            Ok(commit_lock) => commit_lock,
            Err(_) => self.commit_lock.lock().await,
        }
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
}

impl fmt::Debug for RequestSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSession")
            .field("state", &*self.state())
            .finish_non_exhaustive()
    }
}

/// Interval between reads of the store while a request waits for a change.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Includes the version, because two versions of this crate in one program do not share sessions.
pub(super) const MISSING_LAYER: &str = concat!(
    "a route takes a distributable::Session (version ",
    env!("CARGO_PKG_VERSION"),
    "), but its requests do not pass a distributable::SessionLayer of that version first. With axum, \
     call `.layer(SessionLayer::new(store))` on the router after the route, and after every layer \
     that takes the session: the layer that is added last runs first. In a tower::ServiceBuilder, \
     call it before the layers that take the session: there, the layer that is added first runs \
     first. A layer in between must keep the request's extensions"
);
