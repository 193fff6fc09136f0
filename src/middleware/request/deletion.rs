//! The deletion of a request's session, and of sessions that it must not use.

use std::sync::Arc;

use tracing::debug_span;

use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::request::RequestSession;
use crate::middleware::request::store_call::{failed, traced};
use crate::middleware::state::Stored;
use crate::session::{EndReason, Loaded, Root};
use crate::store::users;

impl RequestSession {
    /// Deletes the session. Returns `true` if there was one.
    pub(crate) async fn delete(self: Arc<Self>) -> Result<bool, SessionError> {
        let _lock = self.commit_lock().await;
        if self.belongs_to_another().await {
            // Later writes are refused as before: the cookie of a new session would replace the one
            // that the login has set.
            return Ok(false);
        }
        let (key, user, existed) = {
            let state = self.state();
            let stored = state.stored();
            let user = stored.and_then(|stored| stored.record.user());
            (stored.map(Stored::key), user, state.exists())
        };
        let rivals = self.delete_rivals().await?;
        let existed = match key {
            None => existed,
            Some(key) => self.delete_stored(&key).await?,
        };
        if let (Some(key), Some(user), true) = (key, user, existed) {
            users::forget(&*self.config.store, &user, &[key]).await;
        }
        self.state().reset();
        Ok(existed || rivals)
    }

    /// Returns `true` if another request has logged a user in to this request's session. If the
    /// store fails or has no such session, the deletion decides. A login between this look and the
    /// deletion is deleted.
    async fn belongs_to_another(&self) -> bool {
        let key = match self.state().known_key() {
            Ok(key) => key,
            Err(error) => return error.kind() == SessionErrorKind::Superseded,
        };
        let Some(key) = key else { return false };
        match self.fetch(&key, None).await {
            Ok(Loaded::Live(record)) => self.state().renew(record).is_err(),
            _ => false,
        }
    }

    /// Deletes all live sessions of a request that presented several. Returns `true` if one of them
    /// was live.
    pub(super) async fn delete_rivals(&self) -> Result<bool, SessionError> {
        let rivals = self.state().rivals();
        let mut existed = false;
        for key in &rivals {
            existed |= self.delete_stored(key).await?;
        }
        self.state().rivals_deleted();
        Ok(existed)
    }

    async fn delete_stored(&self, key: &Root) -> Result<bool, SessionError> {
        let deletion = self.config.store.delete(key, EndReason::Logout);
        let existed = traced(deletion, || debug_span!("session_end", %key)).await;
        existed.map_err(|error| failed(key, error))
    }
}
