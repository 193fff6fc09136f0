//! Touches of a session whose request takes long.
//!
//! A request is a use of its session from the moment when its handler takes the session until the
//! response is ready. One that takes a large part of the idle time (an upload, a report) touches the
//! session again and again meanwhile, so that the session does not idle out under it.
//!
//! A request whose handler never waits costs nothing, one that waits costs a timer. A touch that
//! fails is logged and tried again when the next one is due.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep};

use super::complete::Complete;
use super::request_session::RequestSession;

/// What a handler that waits has to do for its session.
#[derive(Default)]
pub(super) struct KeepAlive(Option<Step>);

enum Step {
    Wait(Pin<Box<Sleep>>),
    Touch(Complete<()>),
}

impl KeepAlive {
    /// Makes progress; the handler is polled again when this can.
    pub(super) fn poll(&mut self, exchange: &Arc<RequestSession>, cx: &mut Context<'_>) {
        while self.poll_step(exchange, cx).is_ready() {}
    }

    /// Takes the next step; pending also when there is none.
    fn poll_step(&mut self, exchange: &Arc<RequestSession>, cx: &mut Context<'_>) -> Poll<()> {
        self.0 = Some(match &mut self.0 {
            Some(Step::Wait(timer)) => {
                ready!(timer.as_mut().poll(cx));
                Step::Touch(exchange.touch_again())
            }
            Some(Step::Touch(touch)) => {
                // An error is in the log already.
                let _ = ready!(Pin::new(touch).poll(cx));
                match wait(exchange) {
                    Some(wait) => wait,
                    None => return self.stop(),
                }
            }
            None => match wait(exchange) {
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
fn wait(exchange: &RequestSession) -> Option<Step> {
    let after = exchange.touch_again_after()?;
    Handle::try_current().ok()?;
    Some(Step::Wait(Box::pin(sleep(after))))
}
