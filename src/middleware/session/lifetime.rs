//! The lifetime of a session and of its cookie.

use std::time::Duration;

use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::cookie::Persistence;
use crate::middleware::run_to_completion::RunToCompletion;
use crate::middleware::session::Session;
use crate::middleware::timeout::Timeout;
use crate::session::Timestamp;

impl Session {
    /// Returns the creation time by the clock of the creating node; `None` while the session is not
    /// stored.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        Some(self.state().record()?.created_at())
    }

    /// Returns the time of the last access recorded before this request; `None` while the session
    /// is not stored.
    ///
    /// An access is recorded if a tenth of the idle timeout (at most a minute) has passed since the
    /// last recorded one.
    #[must_use]
    pub fn last_accessed_at(&self) -> Option<Timestamp> {
        Some(self.state().record()?.last_accessed_at())
    }

    /// Returns the idle timeout in force; `None` if the session has no idle timeout. A session
    /// whose browser has not returned the cookie yet has the layer's initial idle timeout. A layer
    /// whose idle timeout is shorter than the one that the session was created with applies its
    /// own.
    #[doc(alias = "max_inactive_interval")]
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.state().idle_timeout(self.request.config())
    }

    /// Sets the idle timeout of this session; `None` for no idle timeout. It takes precedence over
    /// the layer's timeouts, including the initial one. This alone creates no session:
    /// without one, the setting applies to the session that this request may still create. Values
    /// above 100 years count as 100 years.
    ///
    /// # Errors
    ///
    /// Fails if the time is less than a millisecond, or if the change can no longer be stored.
    #[doc(alias = "set_max_inactive_interval")]
    pub fn set_idle_timeout(&self, idle: Option<Duration>) -> Result<(), SessionError> {
        let idle = idle.map(Timeout::new);
        if idle.is_some_and(Timeout::is_zero) {
            return Err(SessionErrorKind::InvalidTimeout.into());
        }
        self.writable_state()?
            .set_idle_timeout(idle.map(Timeout::get));
        Ok(())
    }

    /// Sets how long the browser keeps the cookie of this session: "remember me". This alone
    /// creates no session: without one, the setting applies to the session that this request may
    /// still create.
    ///
    /// The setting is stored in the session: the cookie has the same age whenever it is sent again,
    /// with a new id or from another node. A browser that keeps returning receives a fresh cookie
    /// in time, so it keeps the cookie for at least this long after its last visit. Setting an age
    /// sends a fresh cookie now, even if the age is unchanged. It does not extend the session; the
    /// idle and absolute timeouts apply as before.
    ///
    /// # Errors
    ///
    /// Fails if the age is zero, or if a cookie can no longer be sent.
    pub fn set_persistence(&self, persistence: Persistence) -> Result<(), SessionError> {
        if persistence == Persistence::MaxAge(Duration::ZERO) {
            return Err(SessionErrorKind::InvalidTimeout.into());
        }
        self.writable_state()?
            .set_persistence(persistence, self.request.config())
    }

    /// Records a use of the session now, if a tenth of the idle timeout (at most a minute) has
    /// passed since the last recorded use. Every request is a use already; this is for a
    /// [`detached`](Self::detached) handle of a long-lived stream or WebSocket.
    ///
    /// # Errors
    ///
    /// Fails if the store fails, or if the session has ended or expired
    /// ([`Invalidated`](SessionErrorKind::Invalidated)): end the stream or WebSocket then.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled, the use is recorded even if the future is dropped.
    pub async fn touch(&self) -> Result<(), SessionError> {
        RunToCompletion::new(self.request.clone().use_now()).await
    }
}
