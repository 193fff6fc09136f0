//! The user of a session: login and logout.

use crate::error::SessionError;
use crate::middleware::session::Session;
use crate::session::UserKey;

impl Session {
    /// Logs a user in: rotates the session id, binds the session to the user and restarts its
    /// absolute timeout, in one step with the writes of this request. Creates a session if there
    /// is none.
    ///
    /// `user` is the application's id of the user. The session stores a one-way hash of it, which
    /// [`user`](Self::user) returns. If the request carries an outdated id (double click on login),
    /// a separate session is created.
    ///
    /// All attributes of the session are kept. If another user may have been logged in to it
    /// before, call [`clear`](Self::clear) first, or log that user out.
    ///
    /// # Errors
    ///
    /// Fails if the session has ended meanwhile, or if a cookie can no longer be sent. If another
    /// request has rotated the id first, the commit creates a separate session, as for an outdated
    /// id.
    ///
    /// [`TooManySessions`](crate::SessionErrorKind::TooManySessions) is an error of the commit: its
    /// response replaces the handler's, even if [`save`](Self::save) has returned the error before.
    /// To show a page of your own, replace that response in a layer around the session layer, as
    /// the guide's [recipe](crate::guide::recipes) does.
    ///
    /// ```
    /// # use distributable::{Session, SessionError, UserKey};
    /// # fn example(session: &Session) -> Result<(), SessionError> {
    /// session.log_in("ada@example.com")?;
    /// assert_eq!(session.user(), Some(UserKey::of("ada@example.com")));
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "testing")]
    /// # example(&Session::for_test()).unwrap();
    /// ```
    pub fn log_in(&self, user: &str) -> Result<(), SessionError> {
        let (user, config) = (UserKey::of(user), self.request.config());
        self.state().log_in(user, None, config)
    }

    /// Like [`log_in`](Self::log_in), with a label of at most 256 bytes, for example the device.
    /// [`sessions_of`](crate::SessionStore::sessions_of) lists the session under it.
    ///
    /// # Errors
    ///
    /// As [`log_in`](Self::log_in), and if the label is too long.
    pub fn log_in_with_label(&self, user: &str, label: &str) -> Result<(), SessionError> {
        let (user, config) = (UserKey::of(user), self.request.config());
        self.state().log_in(user, Some(label), config)
    }

    /// Logs the user out. Equivalent to [`invalidate`](Self::invalidate).
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn log_out(&self) -> Result<bool, SessionError> {
        self.invalidate().await
    }

    /// Returns the user who is [logged in](Self::log_in).
    #[must_use]
    pub fn user(&self) -> Option<UserKey> {
        self.state().user()
    }
}
