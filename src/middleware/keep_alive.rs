//! Periodic touches of a session while its request runs.
//!
//! A request uses its session from the moment when its handler extracts it until the response is
//! ready. A request that takes a large part of the idle timeout (an upload, a report) touches the
//! session repeatedly, so that the session does not expire while it runs.
//!
//! A handler that never waits costs nothing, one that waits costs a timer. A failed touch is logged
//! and tried again when the next one is due.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep};

use crate::middleware::request::RequestSession;
use crate::middleware::run_to_completion::RunToCompletion;

/// The pending touch, or the timer before it, of a handler that waits.
#[derive(Default)]
pub(super) struct KeepAlive(Option<KeepAliveStep>);

enum KeepAliveStep {
    Wait(Pin<Box<Sleep>>),
    Touch(RunToCompletion<()>),
}

impl KeepAlive {
    /// Makes progress; wakes the task of the handler when more can be done.
    pub(super) fn poll(&mut self, session: &Arc<RequestSession>, cx: &mut Context<'_>) {
        while self.poll_step(session, cx).is_ready() {}
    }

    /// Takes the next step; also returns pending if there is none.
    fn poll_step(&mut self, session: &Arc<RequestSession>, cx: &mut Context<'_>) -> Poll<()> {
        self.0 = Some(match &mut self.0 {
            Some(KeepAliveStep::Wait(timer)) => {
                ready!(timer.as_mut().poll(cx));
                KeepAliveStep::Touch(session.touch_again())
            }
            Some(KeepAliveStep::Touch(touch)) => {
                // The error is already logged.
                let _ = ready!(Pin::new(touch).poll(cx));
                match wait(session) {
                    Some(wait) => wait,
                    None => return self.stop(),
                }
            }
            None => match wait(session) {
                Some(wait) => wait,
                None => return Poll::Pending,
            },
        });
        Poll::Ready(())
    }

    fn stop(&mut self) -> Poll<()> {
        self.0 = None;
        Poll::Pending
    }
}

/// The wait before the next touch, if there is a session that needs one. Outside a tokio runtime
/// there are no timers.
fn wait(session: &RequestSession) -> Option<KeepAliveStep> {
    let after = session.touch_again_after()?;
    Handle::try_current().ok()?;
    Some(KeepAliveStep::Wait(Box::pin(sleep(after))))
}
