//! What is to be sent to one node.

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::super::replica::message::{Message, ViewId};
use super::super::replica::node::Node;
use super::super::wire::{WireError, encode};

/// The messages for one address, as bytes, until its link takes them.
///
/// Whatever has gathered is taken at once, so that a busy node writes many messages with one system
/// call. What serves requests overtakes what moves sessions to a newcomer. A box that would
/// overflow is emptied, and its link closed: the replica repeats everything that still matters.
#[derive(Debug)]
pub(in super::super) struct Outbox {
    pub(super) address: SocketAddr,
    content: Mutex<Content>,
    /// There is something to take.
    filled: Notify,
    /// Whether somebody has wanted to reach the address lately.
    wanted: AtomicBool,
    /// There is reason to believe that the address can be reached now.
    promising: Notify,
}

#[derive(Debug)]
struct Content {
    /// Whom it is for. Messages for another life of the node are dropped.
    node: Option<Node>,
    /// Whether there is a link, or the first attempt at one is under way.
    open: bool,
    urgent: Vec<u8>,
    /// Acknowledgements of writes that came in one after the other go out together.
    acks: Option<(ViewId, Vec<u64>)>,
    /// In pieces, so that what is urgent need not wait for all of it.
    bulk: VecDeque<Vec<u8>>,
    bulk_bytes: usize,
    /// Whether the link sleeps until it is woken.
    asleep: bool,
}

/// Why nothing can be taken any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl Outbox {
    /// An empty box that takes the first messages for `address` while it is dialled.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            content: Mutex::new(Content {
                node: None,
                open: true,
                urgent: Vec::new(),
                acks: None,
                bulk: VecDeque::new(),
                bulk_bytes: 0,
                asleep: false,
            }),
            filled: Notify::new(),
            wanted: AtomicBool::new(true),
            promising: Notify::new(),
        }
    }

    /// There is reason to believe that the address can be reached now.
    pub(super) fn promise(&self) {
        self.promising.notify_one();
    }

    /// Waits until there is reason to dial before it is due.
    ///
    /// # Cancel safety
    ///
    /// No reason is lost.
    pub(super) async fn promised(&self) {
        self.promising.notified().await;
    }

    /// Somebody wants to reach this address.
    pub(super) fn want(&self) {
        if !self.is_wanted() {
            self.wanted.store(true, Relaxed);
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    /// From now on somebody must want it again.
    pub(super) fn age(&self) {
        self.wanted.store(false, Relaxed);
    }

    /// Puts a message in, if it can be sent to `to`.
    ///
    /// # Errors
    ///
    /// `FrameTooLong` when it can be sent to nobody.
    pub(super) fn put(&self, to: &Node, message: &Message) -> Result<(), WireError> {
        let wake = {
            let mut content = self.content();
            if !content.open || !content.is_for(to) {
                return Ok(());
            }
            content.put(message)?;
            if content.bytes() > OUTBOX_MAX {
                content.close();
            }
            mem::take(&mut content.asleep)
        };
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// The link to `node` is up.
    pub(super) fn open(&self, node: &Node) {
        let mut content = self.content();
        if content.node.as_ref() != Some(node) {
            content.close();
            content.node = Some(node.clone());
        }
        content.open = true;
    }

    /// The link is down, or will be: what could not be sent is dropped.
    pub(super) fn close(&self) {
        self.content().close();
        self.filled.notify_one();
    }

    /// The link to `node` will be down, if there is one.
    pub(super) fn close_for(&self, node: &Node) {
        let mut content = self.content();
        if content.node.as_ref() == Some(node) {
            content.close();
            drop(content);
            self.filled.notify_one();
        }
    }

    /// Moves what is to be sent next to `out`; waits until there is something.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    ///
    /// # Errors
    ///
    /// When the box was closed.
    pub(super) async fn take(&self, out: &mut Vec<u8>) -> Result<(), Closed> {
        loop {
            {
                let mut content = self.content();
                if !content.open {
                    return Err(Closed);
                }
                content.take(out);
                content.asleep = out.is_empty();
                if !content.asleep {
                    return Ok(());
                }
            }
            self.filled.notified().await;
        }
    }

    /// Whether everything has been sent: the link has come back for more and found nothing.
    pub(super) fn is_flushed(&self) -> bool {
        let content = self.content();
        !content.open || content.asleep
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn is_for(&mut self, to: &Node) -> bool {
        match &self.node {
            Some(node) => node == to,
            None => {
                self.node = Some(to.clone());
                true
            }
        }
    }

    fn put(&mut self, message: &Message) -> Result<(), WireError> {
        match message {
            Message::Ack { view, seqs } => {
                match &mut self.acks {
                    Some((pending, all)) if pending == view && all.len() < ACKS_MAX => {
                        all.extend(seqs);
                    }
                    _ => {
                        self.flush_acks();
                        self.acks = Some((*view, seqs.clone()));
                    }
                }
                Ok(())
            }
            Message::Compare { .. }
            | Message::Differ { .. }
            | Message::Pull { .. }
            | Message::Push { .. } => {
                if self.bulk.back().is_none_or(|last| last.len() >= PIECE) {
                    self.bulk.push_back(Vec::new());
                }
                let last = self.bulk.back_mut().expect("there is one now");
                let before = last.len();
                encode(message, last)?;
                self.bulk_bytes += last.len() - before;
                Ok(())
            }
            Message::Swim(_)
            | Message::View(_)
            | Message::Write(_)
            | Message::Refuse { .. }
            | Message::Busy { .. }
            | Message::Touch { .. }
            | Message::Fetch { .. }
            | Message::Fetched { .. }
            | Message::Update(_)
            | Message::Updated { .. }
            | Message::Bye => encode(message, &mut self.urgent),
        }
    }

    fn flush_acks(&mut self) {
        if let Some((view, seqs)) = self.acks.take() {
            let ack = Message::Ack { view, seqs };
            encode(&ack, &mut self.urgent).expect("it was kept short");
        }
    }

    /// Appends what comes next to `out`: everything urgent, and a piece of the rest.
    fn take(&mut self, out: &mut Vec<u8>) {
        self.flush_acks();
        if out.is_empty() {
            mem::swap(out, &mut self.urgent);
        } else {
            out.append(&mut self.urgent);
        }
        if let Some(mut piece) = self.bulk.pop_front() {
            self.bulk_bytes -= piece.len();
            out.append(&mut piece);
        }
    }

    fn close(&mut self) {
        self.open = false;
        self.node = None;
        self.urgent = Vec::new();
        self.acks = None;
        self.bulk.clear();
        self.bulk_bytes = 0;
    }

    fn bytes(&self) -> usize {
        let acks = self.acks.as_ref().map_or(0, |(_, seqs)| seqs.len());
        self.urgent.len() + self.bulk_bytes + acks * size_of::<u64>()
    }
}

/// What may wait for one node. More than the largest frame, and more than a peer that is alive
/// leaves lying for the time that it takes to declare it down.
const OUTBOX_MAX: usize = 64 << 20;

/// Acknowledgements in one message.
const ACKS_MAX: usize = 4096;

/// How much of the bulk goes out before urgent messages get their turn.
const PIECE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::super::super::wire::{FRAME_MAX, decode, next_frame};
    use super::*;

    fn node(generation: u64) -> Node {
        Node {
            address: ([127, 0, 0, 1], 4000).into(),
            generation,
            name: "node1".into(),
        }
    }

    fn outbox() -> Outbox {
        let outbox = Outbox::new(node(1).address);
        outbox.open(&node(1));
        outbox
    }

    fn taken(outbox: &Outbox) -> Poll<Result<Vec<Message>, Closed>> {
        let mut bytes = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        let poll = pin!(outbox.take(&mut bytes)).poll(&mut context);
        poll.map_ok(|()| {
            let mut messages = Vec::new();
            let mut rest = &bytes[..];
            while let Some((content, more)) = next_frame(rest, FRAME_MAX).unwrap() {
                messages.push(decode(content).unwrap());
                rest = more;
            }
            messages
        })
    }

    fn swim(byte: u8, len: usize) -> Message {
        Message::Swim(vec![byte; len])
    }

    fn push(slot: u16) -> Message {
        Message::Pull {
            view: view(1),
            round: 1,
            slot,
            after: None,
            known: Vec::new(),
        }
    }

    fn view(members: u64) -> ViewId {
        ViewId { epoch: 1, members }
    }

    fn ack(members: u64, seqs: &[u64]) -> Message {
        let (view, seqs) = (view(members), seqs.to_vec());
        Message::Ack { view, seqs }
    }

    #[test]
    fn what_gathers_is_taken_at_once_and_what_is_urgent_first() {
        let outbox = outbox();
        for message in [push(1), swim(1, 1), push(2), swim(2, 1)] {
            outbox.put(&node(1), &message).unwrap();
        }
        let all = vec![swim(1, 1), swim(2, 1), push(1), push(2)];
        assert_eq!(taken(&outbox), Poll::Ready(Ok(all)));
        assert_eq!(taken(&outbox), Poll::Pending);
    }

    #[test]
    fn acknowledgements_of_one_view_become_one() {
        let outbox = outbox();
        for message in [ack(1, &[1]), ack(1, &[2, 3]), ack(2, &[4])] {
            outbox.put(&node(1), &message).unwrap();
        }
        let all = vec![ack(1, &[1, 2, 3]), ack(2, &[4])];
        assert_eq!(taken(&outbox), Poll::Ready(Ok(all)));
    }

    #[test]
    fn another_life_of_the_node_gets_nothing_of_this_one() {
        let outbox = outbox();
        outbox.put(&node(1), &swim(1, 1)).unwrap();
        outbox.put(&node(2), &swim(2, 1)).unwrap();
        outbox.open(&node(2));
        outbox.put(&node(2), &swim(3, 1)).unwrap();
        assert_eq!(taken(&outbox), Poll::Ready(Ok(vec![swim(3, 1)])));
    }

    #[test]
    fn what_is_said_before_the_link_is_up_is_kept() {
        let outbox = Outbox::new(node(1).address);
        outbox.put(&node(1), &swim(1, 1)).unwrap();
        outbox.open(&node(1));
        assert_eq!(taken(&outbox), Poll::Ready(Ok(vec![swim(1, 1)])));
    }

    #[test]
    fn nothing_is_kept_for_a_link_that_is_down() {
        let outbox = outbox();
        outbox.close();
        outbox.put(&node(1), &swim(1, 1)).unwrap();
        assert_eq!(taken(&outbox), Poll::Ready(Err(Closed)));
        outbox.open(&node(1));
        assert_eq!(taken(&outbox), Poll::Pending);
    }

    #[test]
    fn a_box_that_would_overflow_is_emptied_and_closed() {
        let outbox = outbox();
        for _ in 0..3 {
            outbox.put(&node(1), &swim(0, OUTBOX_MAX / 3)).unwrap();
        }
        assert_eq!(taken(&outbox), Poll::Ready(Err(Closed)));
        assert_eq!(outbox.content().bytes(), 0);
    }
}
