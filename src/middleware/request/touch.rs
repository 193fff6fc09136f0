//! The accesses of a request that the store records.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug_span;

use crate::clock;
use crate::error::SessionError;
use crate::middleware::request::RequestSession;
use crate::middleware::request::store_call::{failed, traced};
use crate::middleware::run_to_completion::RunToCompletion;
use crate::session::Root;

impl RequestSession {
    /// Records a use of the session.
    pub(crate) async fn use_now(self: Arc<Self>) -> Result<(), SessionError> {
        let _lock = self.commit_lock().await;
        match self.current().await? {
            Some((key, record)) if self.config.is_touch_due(&record, clock::now()) => {
                self.touch(&key).await
            }
            _ => Ok(()),
        }
    }

    /// How long the running request may continue before its session is to be touched again; `None`
    /// if there is no session that could expire by its idle timeout.
    pub(crate) fn touch_again_after(&self) -> Option<Duration> {
        let idle = {
            let state = self.state();
            let record = state.record().filter(|_| state.is_used())?;
            self.config.idle_timeout_of(record, state.is_returned())?
        };
        Some((idle / TOUCHES_PER_IDLE_TIME).max(TOUCH_AGAIN_MIN))
    }

    /// Records that the request is still running.
    pub(crate) fn touch_again(self: &Arc<Self>) -> RunToCompletion<()> {
        RunToCompletion::new(self.clone().use_again())
    }

    /// Records an access to the request's current session, unless another request has logged a
    /// user in to it meanwhile.
    async fn use_again(self: Arc<Self>) -> Result<(), SessionError> {
        let known = {
            let state = self.state();
            let stored = state.stored();
            stored.map(|stored| (stored.key(), stored.record.user()))
        };
        let Some((key, user)) = known else {
            return Ok(());
        };
        match self.fetch(&key, None).await?.into_live() {
            Some(record) if record.user() == user => self.touch(&key).await,
            _ => Ok(()),
        }
    }

    pub(super) async fn touch(&self, key: &Root) -> Result<(), SessionError> {
        let touch = self.config.store.touch(key);
        let touched = traced(touch, || debug_span!("session_touch", %key)).await;
        touched.map_err(|error| failed(key, error))
    }
}

/// How often a running request touches its session within the idle timeout. Twice, so that the
/// session stays alive when one touch is late by up to half of the idle timeout.
const TOUCHES_PER_IDLE_TIME: u32 = 2;

/// The shortest time between two such touches, for any idle timeout.
const TOUCH_AGAIN_MIN: Duration = Duration::from_millis(50);
