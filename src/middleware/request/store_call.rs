//! One call of the store: its span, and the log line of its failure.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span, debug, debug_span, warn};

use crate::clock;
use crate::error::{SessionError, StoreError, StoreErrorKind};
use crate::middleware::request::RequestSession;
use crate::session::{Loaded, Root, SecretHash, Timestamp};
use crate::store::erased::StoreFuture;

impl RequestSession {
    /// The session as the store has it.
    pub(super) async fn fetch(
        &self,
        key: &Root,
        secret: Option<&SecretHash>,
    ) -> Result<Loaded, SessionError> {
        Ok(self.fetch_timed(key, secret).await?.0)
    }

    /// The session as the store has it, and the time of the answer.
    pub(super) async fn fetch_timed(
        &self,
        key: &Root,
        secret: Option<&SecretHash>,
    ) -> Result<(Loaded, Timestamp), SessionError> {
        let load = self.config.store.load(key, secret);
        let answer = traced(load, || debug_span!("session_load", %key)).await;
        let now = clock::now();
        let loaded = match answer.map_err(|error| failed(key, error))? {
            Loaded::Live(record) if !self.config.is_within_timeouts(&record, now) => Loaded::Absent,
            loaded => loaded,
        };
        Ok((loaded, now))
    }
}

/// Awaits a store's answer, inside a span if debug spans are enabled.
pub(super) async fn traced<T>(
    answer: StoreFuture<'_, T>,
    span: impl FnOnce() -> Span,
) -> Result<T, StoreError> {
    if LevelFilter::current() < LevelFilter::DEBUG {
        return answer.await;
    }
    answer.instrument(span()).await
}

/// Logs the error of a store, which is not shown to clients. While a store is unavailable every
/// request fails in the same way, so only one line per minute is a warning.
pub(super) fn failed(key: &Root, error: StoreError) -> SessionError {
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
        warn!(%key, cause = &error as &dyn Error, "the session store has failed");
    } else {
        debug!(%key, cause = &error as &dyn Error, "the session store has failed");
    }
    error.into()
}

/// The interval between warnings about an unavailable store.
const WARN_EVERY: Duration = Duration::from_secs(60);
