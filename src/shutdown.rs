//! Signals that request a shutdown of this process.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};

/// Waits for a request to shut down: SIGTERM, as sent by service managers and Kubernetes, or
/// Ctrl-C. For `axum::serve(..).with_graceful_shutdown(..)`. With a replicated store, pass it to
/// [`ReplicatedStore::drain_on`](crate::guide::operations#graceful-shutdown).
///
/// Available with any of the features `redis`, `replicated` and `snapshot`.
///
/// Signals are handled from the call on, not from the first poll: one that arrives in between would
/// otherwise end the process at once.
///
/// # Errors
///
/// Fails if the operating system does not allow a handler for the signals.
///
/// # Panics
///
/// Panics outside a tokio runtime.
#[cfg(unix)]
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "shutdown requested"),
            _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "shutdown requested"),
        }
    })
}

/// Waits for a request to shut down: Ctrl-C.
///
/// # Errors
///
/// Fails if the operating system does not allow a handler for it.
///
/// # Panics
///
/// Panics outside a tokio runtime.
#[cfg(not(unix))]
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
        tracing::info!(signal = "Ctrl-C", "shutdown requested");
    })
}
