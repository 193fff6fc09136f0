//! Bounded send queue for one peer.

use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::clock;
use crate::cluster::replica::message::{Lane, Message};
use crate::cluster::replica::node::Node;
use crate::cluster::wire::{Credit, ProtocolVersion, SEGMENT_MAX, WireError};
use crate::session::Timestamp;
use crate::sync::lock;

use crate::cluster::transport::lanes::{Confirmed, Lanes};
use crate::cluster::transport::message_encoder::MessageEncoder;

/// The encoded messages for one address, until its link takes them.
///
/// A link takes everything that has accumulated at once, so a busy node writes many messages with
/// one system call; [`Lanes`] determines the order. If more waits than allowed, the queue is
/// cleared and its link closed: the replica sends again what is still needed.
#[derive(Debug)]
pub(crate) struct SendQueue {
    pub(super) address: SocketAddr,
    state: Mutex<QueueState>,
    /// Notified when there is something to take, or the send queue was closed.
    filled: Notify,
    /// Whether a message or a candidate has used the address recently.
    used: AtomicBool,
    /// Notified when an attempt to dial the address should be made now.
    retry: Notify,
}

#[derive(Debug)]
struct QueueState {
    /// The receiver. Messages to another incarnation of the node are dropped.
    node: Option<Node>,
    /// The protocol version in which messages are encoded.
    protocol: ProtocolVersion,
    /// Whether there is a link, or the first attempt to establish one is in progress.
    open: bool,
    /// Whether there is a link.
    linked: bool,
    lanes: Lanes,
    /// Whether the link sleeps until it is notified.
    asleep: bool,
}

/// The send queue was closed; nothing can be taken any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl SendQueue {
    /// Returns an empty send queue that queues the first messages for `address` while it is dialed.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            state: Mutex::new(QueueState {
                node: None,
                protocol: ProtocolVersion::LATEST,
                open: true,
                linked: false,
                lanes: Lanes::default(),
                asleep: false,
            }),
            filled: Notify::new(),
            used: AtomicBool::new(true),
            retry: Notify::new(),
        }
    }

    /// Requests an attempt to dial now.
    pub(super) fn retry_now(&self) {
        self.retry.notify_one();
    }

    /// Waits until an attempt to dial is requested.
    ///
    /// # Cancel safety
    ///
    /// No request is lost.
    pub(super) async fn retry_requested(&self) {
        self.retry.notified().await;
    }

    /// Marks the address as used.
    pub(super) fn mark_used(&self) {
        if !self.is_used() {
            self.used.store(true, Relaxed);
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.used.load(Relaxed)
    }

    /// Marks the address as unused until it is used again.
    pub(super) fn expire(&self) {
        self.used.store(false, Relaxed);
    }

    /// Queues a message, if it can be sent to `to`.
    ///
    /// # Errors
    ///
    /// `MessageTooLong` if no receiver would accept it.
    pub(super) fn put(
        &self,
        to: &Node,
        message: &Message,
        encoder: &mut MessageEncoder,
    ) -> Result<(), WireError> {
        let now = clock::now();
        let mut state = self.state();
        if !state.open || !state.is_for(to) {
            return Ok(());
        }
        let protocol = state.protocol;
        if let Message::Ack { view, seqs } = message {
            state.lanes.put_acks(now, *view, seqs, protocol);
        } else {
            drop(state);
            // The lock is not held while a large message is encoded, so that the link can go on.
            let bytes = encoder.encode(message, protocol)?;
            let is_large = message.is_large();
            if bytes.len() > SEGMENT_MAX && !is_large {
                return Err(WireError::MessageTooLong);
            }
            state = self.state();
            // The link may have been replaced meanwhile, by one to another incarnation or with
            // another protocol version, which could not read these bytes.
            if !state.open || !state.is_for(to) || state.protocol != protocol {
                return Ok(());
            }
            let (size, lanes) = (message.size(), &mut state.lanes);
            if matches!(message, Message::View(_)) {
                // An announcement states that earlier acknowledgements have been sent.
                lanes.flush_acks(now, protocol);
            }
            match message.lane() {
                Lane::Control => lanes.put_control(now, bytes, *message == Message::Leave),
                Lane::Data if is_large => lanes.put_large(now, bytes, size),
                Lane::Data => lanes.put_small(now, bytes, size),
            }
        }
        let is_over = state.lanes.is_over();
        if is_over {
            state.close();
        }
        let wake = mem::take(&mut state.asleep) || is_over;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        if is_over {
            tracing::warn!(
                peer = %to.name,
                address = %to.address,
                "too much data waits for a replication link, which is closed and dialed again"
            );
        }
        Ok(())
    }

    /// Called when the link to `node` is up, with this protocol version.
    pub(super) fn open(&self, node: &Node, protocol: ProtocolVersion) {
        let mut state = self.state();
        // What waits was meant for another incarnation, or is encoded in another version.
        if state.node.as_ref() != Some(node) || state.protocol != protocol {
            state.close();
            state.node = Some(node.clone());
            state.protocol = protocol;
        }
        state.lanes.drop_data();
        state.open = true;
        state.linked = true;
        state.asleep = false;
    }

    /// Called when the link is down, or will be: drops the queued messages.
    pub(super) fn close(&self) {
        self.state().close();
        self.filled.notify_one();
    }

    /// Closes the link if it leads to this incarnation of the node.
    pub(super) fn close_for(&self, node: &Node) {
        let mut state = self.state();
        // The next incarnation may have connected before the removal of this one is noticed.
        if state.node.as_ref() == Some(node) {
            state.close();
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Appends to `out` what is to be sent next. Appends nothing if nothing can be sent now; then
    /// [`filled`](Self::filled) wakes the link when that changes.
    ///
    /// # Errors
    ///
    /// If the send queue was closed.
    pub(super) fn take(&self, now: Timestamp, out: &mut Vec<u8>) -> Result<(), Closed> {
        let mut state = self.state();
        if !state.open {
            return Err(Closed);
        }
        let protocol = state.protocol;
        state.lanes.take(now, protocol, out);
        state.asleep = out.is_empty();
        Ok(())
    }

    /// Waits until there may be something to take, or the send queue was closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Records the bytes that the other end has received.
    ///
    /// # Errors
    ///
    /// `BadCredit` if the credit is invalid.
    pub(super) fn confirm(&self, credit: Credit) -> Result<Confirmed, WireError> {
        let mut state = self.state();
        if !state.open {
            // The credit is for data sent before the queue was cleared, and would seem invalid.
            return Ok(Confirmed::default());
        }
        let confirmed = state.lanes.confirm(clock::now(), credit);
        confirmed.ok_or(WireError::BadCredit)
    }

    /// Returns `true` if data was sent that the other end has not confirmed.
    pub(super) fn awaits_credit(&self) -> bool {
        self.state().lanes.awaits_credit()
    }

    /// Returns `true` while there is a link, or the first attempt to establish one is in progress.
    pub(super) fn is_open(&self) -> bool {
        self.state().open
    }

    /// Returns `true` if everything has been sent, and all data was confirmed.
    pub(super) fn is_flushed(&self) -> bool {
        let state = self.state();
        // A link that does not sleep may still be writing.
        let is_quiet = state.asleep || !state.linked;
        !state.open || is_quiet && state.lanes.is_delivered()
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }
}

impl QueueState {
    fn is_for(&mut self, to: &Node) -> bool {
        match &self.node {
            Some(node) => node == to,
            None => {
                self.node = Some(to.clone());
                true
            }
        }
    }

    fn close(&mut self) {
        self.open = false;
        self.linked = false;
        self.node = None;
        self.lanes = Lanes::default();
    }
}

#[cfg(test)]
mod tests;
