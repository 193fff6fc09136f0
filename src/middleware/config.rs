//! The configuration that all requests of one layer share, and what follows from it for a session.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{SessionError, SessionErrorKind, StoreError};
use crate::middleware::carrier::Carrier;
use crate::middleware::commit_when::CommitWhen;
use crate::middleware::cookie::SessionCookie;
use crate::middleware::cookie::route::{Affinity, Route};
use crate::middleware::hint::Hint;
use crate::middleware::limits::Limits;
use crate::middleware::misrouted::MisroutedRequests;
use crate::middleware::timeout::Timeout;
use crate::session::{Changes, Login, Record, Root, SecretHash, Timestamp, UserKey};
use crate::store::erased::ErasedStore;
use crate::store::users::{self, NewLogin};

/// State shared by all requests of one layer.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) store: Arc<dyn ErasedStore>,
    pub(super) carrier: Carrier,
    pub(super) commit_when: CommitWhen,
    pub(super) route: Option<Route>,
    pub(super) affinity: Affinity,
    pub(super) idle_timeout: Option<Timeout>,
    pub(super) absolute_timeout: Timeout,
    pub(super) initial_idle_timeout: Option<Timeout>,
    pub(super) limits: Limits,
    /// Number of sessions that a user may have. `refuses_excess` decides what happens to more.
    pub(super) user_sessions: usize,
    pub(super) refuses_excess: bool,
    pub(super) misrouted_requests: MisroutedRequests,
    pub(super) hint: Hint,
}

impl Config {
    /// The default settings.
    pub(super) fn new(store: Arc<dyn ErasedStore>) -> Self {
        Self {
            store,
            carrier: Carrier::Cookie(SessionCookie::default()),
            commit_when: CommitWhen::default(),
            route: None,
            affinity: Affinity::default(),
            idle_timeout: Some(Timeout::new(IDLE)),
            absolute_timeout: Timeout::new(ABSOLUTE),
            initial_idle_timeout: None,
            limits: Limits::default(),
            user_sessions: USER_SESSIONS,
            refuses_excess: false,
            misrouted_requests: MisroutedRequests::default(),
            hint: Hint::default(),
        }
    }

    /// Turns the changes into the creation of a session.
    pub(super) fn make_create(&self, secret: SecretHash, changes: &mut Changes) {
        changes.make_create(
            secret,
            self.idle_timeout.map(Timeout::get),
            self.absolute_timeout.get(),
        );
        if let Some(idle) = self.initial_idle_timeout {
            changes.initial_idle_timeout(idle.get());
        }
    }

    /// Fails if the user has too many sessions for another login, and the layer refuses excess
    /// logins.
    pub(super) async fn check_excess(
        &self,
        user: &UserKey,
        key: &Root,
    ) -> Result<(), SessionError> {
        if !self.refuses_excess {
            return Ok(());
        }
        if users::has_room(&*self.store, user, key, self.user_sessions).await? {
            Ok(())
        } else {
            Err(SessionErrorKind::TooManySessions.into())
        }
    }

    /// Adds a session to the index of the user who has logged in with it.
    pub(super) async fn register(
        &self,
        key: Root,
        user: UserKey,
        label: Option<String>,
        record: &Arc<Record>,
    ) -> Result<(), StoreError> {
        let login = NewLogin {
            user,
            key,
            label,
            absolute_timeout: self.absolute_timeout.get(),
            record: record.clone(),
            max_sessions: self.user_sessions,
        };
        users::register(&*self.store, login).await
    }

    /// The login of this user, which restarts the absolute timeout.
    pub(super) fn login(&self, user: UserKey) -> Login {
        Login {
            user: Some(user),
            absolute_timeout: self.absolute_timeout.get(),
        }
    }

    /// Fails if the configuration has a timeout of zero, with which no session could be used.
    pub(super) fn check(&self) -> Result<(), SessionError> {
        let times = [
            self.idle_timeout,
            self.initial_idle_timeout,
            Some(self.absolute_timeout),
        ];
        if times.into_iter().flatten().any(Timeout::is_zero) {
            return Err(SessionErrorKind::InvalidTimeout.into());
        }
        Ok(())
    }

    /// Returns `true` if a session that the store has found is also within this layer's timeouts,
    /// which may have become shorter since the session was created.
    pub(super) fn is_within_timeouts(&self, record: &Record, now: Timestamp) -> bool {
        let idle = self.idle_timeout_of(record, false);
        now < record.began_at().plus(self.absolute_timeout.get()) && record.is_live_with(idle, now)
    }

    /// Returns `true` if another access is to be recorded.
    pub(super) fn is_touch_due(&self, record: &Record, now: Timestamp) -> bool {
        let idle = self.idle_timeout_of(record, true);
        record.is_touch_due_with(idle, now)
    }

    /// The idle timeout in force for a session. `returned` is `true` if its browser has presented
    /// the cookie, as it does with this request. The result is the value set for the session or,
    /// without one, the shorter of the timeout that it was created with and the configured one.
    pub(super) fn idle_timeout_of(&self, record: &Record, returned: bool) -> Option<Duration> {
        let made_with = record.idle_timeout_for(returned);
        if record.has_own_idle_timeout() {
            return made_with;
        }
        let configured = if returned || record.has_returned() {
            self.idle_timeout.map(Timeout::get)
        } else {
            self.idle_timeout_of_new()
        };
        shorter(made_with, configured)
    }

    /// The idle timeout of a session that is created now.
    pub(super) fn idle_timeout_of_new(&self) -> Option<Duration> {
        let (idle, first) = (
            self.idle_timeout.map(Timeout::get),
            self.initial_idle_timeout.map(Timeout::get),
        );
        shorter(idle, first)
    }
}

/// The shorter of two times; `None` is no limit.
fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// Default number of sessions that a user may have.
const USER_SESSIONS: usize = 1_000;

/// The default of Tomcat and of other servlet containers.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// One day.
const ABSOLUTE: Duration = Duration::from_secs(24 * 60 * 60);
