//! Calls that wait for their reply.
//!
//! Another thread may take a reply out of the replica before the caller waits for it; the reply is
//! kept until then. A caller that stops waiting marks its call as abandoned, and the reply is
//! dropped.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::oneshot;

use crate::cluster::replica::event::Reply;
use crate::cluster::replica::message::OpId;
use crate::sync::lock;

/// The pending calls of one node.
///
/// Every call that starts to wait gets exactly one reply, so the number of entries is bounded by
/// the operations in progress in the replica.
#[derive(Debug, Default)]
pub(super) struct PendingCalls {
    table: Mutex<CallTable>,
}

#[derive(Debug, Default)]
struct CallTable {
    closed: bool,
    calls: HashMap<OpId, CallState>,
}

#[derive(Debug)]
enum CallState {
    /// The reply arrived before the caller waited.
    Answered(Reply),
    Waiting(oneshot::Sender<Reply>),
    /// The caller has stopped waiting.
    Abandoned,
}

impl PendingCalls {
    /// Waits for the reply to a call that is in progress in the replica. Returns `None` if there
    /// will be none because the node has stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not cancel the operation.
    pub(super) async fn reply(&self, op: OpId) -> Option<Reply> {
        let receiver = {
            let mut table = self.table();
            if table.closed {
                return None;
            }
            match table.calls.entry(op) {
                Entry::Occupied(call) => match call.remove() {
                    CallState::Answered(reply) => return Some(reply),
                    CallState::Waiting(_) | CallState::Abandoned => return None,
                },
                Entry::Vacant(place) => {
                    let (sender, receiver) = oneshot::channel();
                    place.insert(CallState::Waiting(sender));
                    receiver
                }
            }
        };
        let mut interest = CancelGuard {
            calls: self,
            op: Some(op),
        };
        let reply = receiver.await.ok();
        interest.op = None;
        reply
    }

    /// Passes a reply to the caller that waits for it, or keeps it until the caller does.
    pub(super) fn answer(&self, op: OpId, reply: Reply) {
        let waiting = {
            let mut table = self.table();
            if table.closed {
                return;
            }
            match table.calls.entry(op) {
                Entry::Occupied(call) => call.remove(),
                Entry::Vacant(place) => {
                    place.insert(CallState::Answered(reply));
                    return;
                }
            }
        };
        if let CallState::Waiting(sender) = waiting {
            // The caller may have stopped waiting at this moment.
            let _ = sender.send(reply);
        }
    }

    /// Wakes all callers: there will be no more replies.
    pub(super) fn close(&self) {
        let mut table = self.table();
        table.closed = true;
        table.calls.clear();
    }

    fn table(&self) -> MutexGuard<'_, CallTable> {
        lock(&self.table)
    }
}

/// A waiting caller; dropping it early abandons the call.
struct CancelGuard<'a> {
    calls: &'a PendingCalls,
    op: Option<OpId>,
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        if let Some(op) = self.op
            && let Some(call) = self.calls.table().calls.get_mut(&op)
        {
            *call = CallState::Abandoned;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::session::Loaded;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_reply_finds_its_call_whichever_comes_first() {
        let calls = PendingCalls::default();
        let mut first = pin!(calls.reply(1));
        assert_eq!(poll(first.as_mut()), Poll::Pending);
        calls.answer(1, Reply::Written);
        assert_eq!(poll(first), Poll::Ready(Some(Reply::Written)));

        calls.answer(2, Reply::Found(Loaded::Absent));
        assert_eq!(
            poll(pin!(calls.reply(2))),
            Poll::Ready(Some(Reply::Found(Loaded::Absent)))
        );
        assert!(calls.table().calls.is_empty());
    }

    #[test]
    fn a_caller_that_gives_up_leaves_nothing_behind_after_its_reply() {
        let calls = PendingCalls::default();
        {
            let mut call = pin!(calls.reply(1));
            assert_eq!(poll(call.as_mut()), Poll::Pending);
        }
        calls.answer(1, Reply::Written);
        assert!(calls.table().calls.is_empty());
    }

    #[test]
    fn no_call_waits_for_a_node_that_has_stopped() {
        let calls = PendingCalls::default();
        let mut early = pin!(calls.reply(1));
        assert_eq!(poll(early.as_mut()), Poll::Pending);
        calls.close();
        assert_eq!(poll(early), Poll::Ready(None));
        assert_eq!(poll(pin!(calls.reply(2))), Poll::Ready(None));
    }
}
