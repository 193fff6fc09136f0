//! When this process is asked to end.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};

/// Waits until somebody wants this process to end: SIGTERM, as service managers and Kubernetes send
/// it, or Ctrl-C. For `axum::serve(..).with_graceful_shutdown(..)`, mostly by way of
/// [`ReplicatedStore::drain_on`](crate::ReplicatedStore::drain_on).
///
/// It listens from the call on, not from the first poll: a signal that comes in between would
/// otherwise end the process at once.
///
/// # Errors
///
/// When the operating system lets nobody listen for the signals.
///
/// # Panics
///
/// Outside a tokio runtime.
#[cfg(unix)]
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("asked to end"),
            _ = interrupt.recv() => tracing::info!("interrupted"),
        }
    })
}

/// Waits until somebody wants this process to end: Ctrl-C.
///
/// # Errors
///
/// When the operating system lets nobody listen for it.
///
/// # Panics
///
/// Outside a tokio runtime.
#[cfg(not(unix))]
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
        tracing::info!("interrupted");
    })
}
