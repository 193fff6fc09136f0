//! Work that runs to completion once it has started.

use std::panic;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::error::{SessionError, StoreError};

/// A future whose work continues after the caller has dropped it.
///
/// The work is polled once in place, which completes it with the memory store. If it has to wait,
/// it moves to a task of its own, and dropping this future no longer stops it. Outside a tokio
/// runtime there are no tasks, and it behaves as an ordinary future.
pub(super) struct RunToCompletion<T> {
    work: Option<Work<T>>,
    task: Option<JoinHandle<Result<T, SessionError>>>,
}

type Work<T> = Pin<Box<dyn Future<Output = Result<T, SessionError>> + Send>>;

impl<T> RunToCompletion<T> {
    pub(super) fn new(
        work: impl Future<Output = Result<T, SessionError>> + Send + 'static,
    ) -> Self {
        Self {
            work: Some(Box::pin(work)),
            task: None,
        }
    }
}

impl<T: Send + 'static> Future for RunToCompletion<T> {
    type Output = Result<T, SessionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(work) = &mut self.work {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            if let Ok(runtime) = Handle::try_current() {
                let work = self.work.take();
                self.task = work.map(|work| runtime.spawn(work.in_current_span()));
            }
        }
        let Some(task) = &mut self.task else {
            return Poll::Pending;
        };
        Poll::Ready(match ready!(Pin::new(task).poll(cx)) {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => panic::resume_unwind(payload),
                // The runtime is shutting down; the store may or may not have completed the call.
                Err(error) => Err(StoreError::indeterminate(error).into()),
            },
        })
    }
}
