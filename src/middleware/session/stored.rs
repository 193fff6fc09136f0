//! The session as the store has it: saving, loading again, waiting for a change, and deletion.

use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::run_to_completion::RunToCompletion;
use crate::middleware::session::Session;
use crate::middleware::state::AttributeUpdate;

impl Session {
    /// Deletes the session. Returns `true` if there was one; a request with a former id has none.
    /// Once this returns, no node accepts the session, whatever `Ack` is; only the near-cache of
    /// Redis may return it for a moment longer.
    ///
    /// Unsaved writes are dropped; later writes create a new session. This may be called at any
    /// time. After the response is sent the cookie can no longer be removed; the browser keeps one
    /// that is not valid.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot confirm the deletion. Treat the session as still valid.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled, the deletion continues even if the future is dropped.
    #[doc(alias = "destroy")]
    #[doc(alias = "flush")]
    #[doc(alias = "logout")]
    pub async fn invalidate(&self) -> Result<bool, SessionError> {
        RunToCompletion::new(self.request.clone().delete()).await
    }

    /// Stores all writes so far, without waiting for the end of the request.
    ///
    /// # Errors
    ///
    /// Fails if the store fails or the session has ended meanwhile. If the store fails, the changes
    /// are kept and included in the next attempt.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled, the changes are stored even if the future is dropped.
    pub async fn save(&self) -> Result<(), SessionError> {
        if self.commit(None).await? {
            Ok(())
        } else {
            Err(SessionErrorKind::Conflict.into())
        }
    }

    /// Loads what other requests have stored meanwhile. Unsaved writes of this request stay in
    /// place on top of it.
    ///
    /// # Errors
    ///
    /// Fails if the store fails or the session has ended meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled, the session is loaded even if the future is dropped.
    pub async fn reload(&self) -> Result<(), SessionError> {
        RunToCompletion::new(self.request.clone().reload()).await
    }

    /// Waits until another request has written the session or given it another id, and loads it, as
    /// [`reload`](Self::reload) does. For a [`detached`](Self::detached) handle that serves a
    /// stream or a WebSocket.
    ///
    /// A change is noticed at once on a memory store, and on a replicated store where this node
    /// holds the session or makes the change itself. On other stores and nodes it is noticed up to
    /// a second later, when the store is asked again. Changes that follow each other may be noticed
    /// as one. A change counts if another request has made it since this handle last loaded, saved
    /// or waited. Waiting does not count as a use of the session.
    ///
    /// # Errors
    ///
    /// Fails if the session has ended or expired ([`Invalidated`](SessionErrorKind::Invalidated)),
    /// if another request has logged in another user
    /// ([`Superseded`](SessionErrorKind::Superseded)), if there is no stored session, and if the
    /// store fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no change.
    pub async fn changed(&self) -> Result<(), SessionError> {
        self.request.changed().await
    }

    pub(super) fn commit(&self, update: Option<AttributeUpdate>) -> RunToCompletion<bool> {
        RunToCompletion::new(self.request.clone().commit(update, false))
    }
}
