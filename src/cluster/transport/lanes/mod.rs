//! Schedule of one link: the order of sending, and the record of what has been delivered.
//!
//! Three queues share a link. *Control* messages (membership, views, acknowledgements) are sent
//! first. *Small* messages of the data lane follow, up to [`SMALL_TURN`] at a time; then one chunk
//! of the *large* message at the head of its queue. So control messages wait for no more than one
//! turn, small messages wait for one chunk, and neither kind of data starves the other.
//!
//! The receiver confirms bytes of data with [`Credit`]s. The unconfirmed bytes are limited so that
//! the queues of a slow path stay short: to what the [`Pace`] allows, and to [`LARGE_WINDOW`] bytes
//! of chunks. The replica decides how many small and large messages are under way: it sends within
//! a window per peer.
//!
//! The schedule does no I/O and reads no clock. The waiting bytes are limited for each lane; the
//! send queue closes the link when [`is_over`](Lanes::is_over) returns `true`.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use crate::cluster::replica::message::{Message, ViewId};
use crate::cluster::wire::{
    Credit, ProtocolVersion, SEGMENT_HEAD, SEGMENT_MAX, Segment, SegmentKind, encode,
};
use crate::session::Timestamp;

use crate::cluster::transport::pace::Pace;

/// The queues of one link, and the data that the other end has not confirmed.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    control: LaneQueue,
    /// Pending acknowledgements of one view, which become one message.
    acks: Option<(ViewId, Vec<u64>)>,
    small: LaneQueue,
    large: VecDeque<Large>,
    large_bytes: usize,
    /// The last control messages of a node that leaves: they are sent when all data is confirmed.
    leave: Option<LaneQueue>,
    small_sent: SentBytes,
    large_sent: SentBytes,
    /// The limit for unconfirmed bytes of both.
    pace: Pace,
}

/// Whole messages that wait.
#[derive(Debug, Default)]
struct LaneQueue {
    messages: VecDeque<QueuedMessage>,
    bytes: usize,
}

#[derive(Debug)]
struct QueuedMessage {
    put_at: Timestamp,
    content: Bytes,
    /// The message's [`Message::size`].
    size: usize,
}

/// A message that is sent in chunks.
#[derive(Debug)]
struct Large {
    waiting: QueuedMessage,
    sent: usize,
}

/// The bytes of one kind of data on a link since it was opened.
#[derive(Debug, Default)]
struct SentBytes {
    sent: u64,
    confirmed: u64,
    /// The end position of each unconfirmed message, and its [`Message::size`].
    ends: VecDeque<(u64, usize)>,
}

/// The messages that a credit has confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Confirmed {
    /// The sums of the sizes of the small and of the large messages that have arrived.
    pub(super) small: usize,
    pub(super) large: usize,
    /// Whether a large message is or was under way.
    pub(super) is_large: bool,
}

impl Lanes {
    /// Queues a message for the control lane. A [`Message::Leave`] and all later messages are sent
    /// when all data is confirmed.
    pub(super) fn put_control(&mut self, now: Timestamp, content: Bytes, is_bye: bool) {
        if is_bye {
            self.leave.get_or_insert_default();
        }
        let queue = self.leave.as_mut().unwrap_or(&mut self.control);
        queue.put(now, content, 0);
    }

    /// Queues acknowledgements of writes, combined with those that already wait.
    pub(super) fn put_acks(
        &mut self,
        now: Timestamp,
        view: ViewId,
        seqs: &[u64],
        protocol: ProtocolVersion,
    ) {
        match &mut self.acks {
            Some((pending, all)) if *pending == view && all.len() < ACKS_MAX => all.extend(seqs),
            _ => {
                self.flush_acks(now, protocol);
                self.acks = Some((view, seqs.to_vec()));
            }
        }
    }

    /// Queues a whole message of the data lane.
    pub(super) fn put_small(&mut self, now: Timestamp, content: Bytes, size: usize) {
        self.small.put(now, content, size);
    }

    /// Queues a message of the data lane that is sent in chunks.
    pub(super) fn put_large(&mut self, now: Timestamp, content: Bytes, size: usize) {
        self.large_bytes += content.len();
        self.large.push_back(Large {
            waiting: QueuedMessage {
                put_at: now,
                content,
                size,
            },
            sent: 0,
        });
    }

    /// Appends what is sent next to `out`: all control messages, a turn of small ones and one
    /// chunk. Appends nothing if nothing waits, or if the window has no room for what waits.
    pub(super) fn take(&mut self, now: Timestamp, protocol: ProtocolVersion, out: &mut Vec<u8>) {
        self.flush_acks(now, protocol);
        while let Some(waiting) = self.control.pop() {
            waiting.segment(SegmentKind::Control, now).encode(out);
        }
        self.take_small(now, out);
        self.take_chunk(now, out);
        // The other end removes this node when it reads `Leave`, and ignores messages of a node
        // that is no member: data still under way would be lost.
        if self.is_confirmed()
            && let Some(leave) = &mut self.leave
        {
            while let Some(waiting) = leave.pop() {
                waiting.segment(SegmentKind::Control, now).encode(out);
            }
        }
    }

    fn take_small(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        let mut taken = 0;
        // Each limit lets one message pass: one that is longer than the limit would never leave.
        while let Some(next) = self.small.messages.front()
            && (taken == 0 || taken + next.content.len() <= SMALL_TURN)
            && (self.small_sent.unconfirmed() == 0 || next.content.len() as u64 <= self.pace.room())
            && let Some(waiting) = self.small.pop()
        {
            taken += waiting.content.len();
            waiting.segment(SegmentKind::Small, now).encode(out);
            let bytes = SEGMENT_HEAD + waiting.content.len();
            self.pace.send(now, bytes as u64);
            self.small_sent.send(bytes);
            self.small_sent.end(waiting.size);
        }
    }

    fn take_chunk(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        let Some(large) = self.large.front_mut() else {
            return;
        };
        let QueuedMessage {
            put_at,
            ref content,
            size,
        } = large.waiting;
        let is_first = large.sent == 0;
        // Small messages always have half of the window.
        let window = (self.pace.window() / 2).min(LARGE_WINDOW);
        let room = window.saturating_sub(self.large_sent.unconfirmed()) as usize;
        if room < CHUNK_MIN && self.large_sent.unconfirmed() > 0 {
            return;
        }
        let rest = &content[large.sent..];
        let chunk = &rest[..rest.len().min(room.clamp(CHUNK_MIN, CHUNK))];
        let length = (content.len() as u32).to_be_bytes();
        let declared: &[u8] = if is_first { &length } else { &[] };
        let bytes = SEGMENT_HEAD + declared.len() + chunk.len();
        let kind = if is_first {
            SegmentKind::FirstChunk
        } else {
            SegmentKind::NextChunk
        };
        // The other end uses the age of the last chunk. With that of the first one, sessions would
        // live longer by the time for which the rest of their message waits here.
        let age = now.since(put_at);
        Segment::encode_parts(kind, age, [declared, chunk], out);
        self.pace.send(now, bytes as u64);
        self.large_sent.send(bytes);
        self.large_bytes -= chunk.len();
        large.sent += chunk.len();
        if large.sent == content.len() {
            self.large_sent.end(size);
            self.large.pop_front();
        }
    }

    /// Called on a new link: drops the data, which is requested or sent again when the link is up.
    pub(super) fn drop_data(&mut self) {
        self.small = LaneQueue::default();
        self.large.clear();
        self.large_bytes = 0;
    }

    /// Records the bytes of data that the other end has received.
    ///
    /// Returns `None` if the credit is invalid: more than was sent, or less than before.
    pub(super) fn confirm(&mut self, now: Timestamp, credit: Credit) -> Option<Confirmed> {
        let is_large = self.large_sent.unconfirmed() > 0;
        let before = self.unconfirmed();
        let small = self.small_sent.confirm(credit.small)?;
        let large = self.large_sent.confirm(credit.large)?;
        self.pace.confirm(now, before - self.unconfirmed());
        Some(Confirmed {
            small,
            large,
            is_large,
        })
    }

    /// Returns `true` if data was sent that the other end has not confirmed.
    pub(super) const fn awaits_credit(&self) -> bool {
        self.small_sent.unconfirmed() > 0 || self.large_sent.unconfirmed() > 0
    }

    /// Returns `true` if nothing waits and all data is confirmed.
    pub(super) fn is_delivered(&self) -> bool {
        let has_left = |queue: &LaneQueue| queue.messages.is_empty();
        self.is_confirmed()
            && self.acks.is_none()
            && has_left(&self.control)
            && self.leave.as_ref().is_none_or(has_left)
    }

    const fn unconfirmed(&self) -> u64 {
        self.small_sent.unconfirmed() + self.large_sent.unconfirmed()
    }

    fn is_confirmed(&self) -> bool {
        self.small.messages.is_empty() && self.large.is_empty() && !self.awaits_credit()
    }

    /// Returns `true` if more bytes wait than allowed.
    pub(super) fn is_over(&self) -> bool {
        let acks = self.acks.as_ref().map_or(0, |(_, seqs)| seqs.len());
        let leave = self.leave.as_ref().map_or(0, |queue| queue.bytes);
        // A large message may have any length if it is alone: otherwise its link would be closed
        // each time that it is sent again.
        self.control.bytes + leave + acks * size_of::<u64>() > CONTROL_MAX
            || self.small.bytes > SMALL_MAX
            || self.large.len() > 1 && self.large_bytes > LARGE_MAX
    }

    /// Queues the pending acknowledgements, so that they are sent before the messages that follow.
    pub(super) fn flush_acks(&mut self, now: Timestamp, protocol: ProtocolVersion) {
        if let Some((view, seqs)) = self.acks.take() {
            let mut content = Vec::new();
            // A list of this length always fits into a message.
            if encode(&Message::Ack { view, seqs }, protocol, &mut content).is_ok() {
                self.put_control(now, content.into(), false);
            }
        }
    }
}

impl LaneQueue {
    fn put(&mut self, now: Timestamp, content: Bytes, size: usize) {
        debug_assert!(content.len() <= SEGMENT_MAX);
        self.bytes += SEGMENT_HEAD + content.len();
        self.messages.push_back(QueuedMessage {
            put_at: now,
            content,
            size,
        });
    }

    fn pop(&mut self) -> Option<QueuedMessage> {
        let waiting = self.messages.pop_front()?;
        self.bytes -= SEGMENT_HEAD + waiting.content.len();
        if self.messages.is_empty() && self.messages.capacity() > KEPT {
            mem::take(&mut self.messages);
        }
        Some(waiting)
    }
}

impl QueuedMessage {
    fn segment(&self, kind: SegmentKind, now: Timestamp) -> Segment<'_> {
        Segment {
            kind,
            age: now.since(self.put_at),
            content: &self.content,
        }
    }
}

impl SentBytes {
    const fn unconfirmed(&self) -> u64 {
        self.sent - self.confirmed
    }

    const fn send(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Records the end of a message.
    fn end(&mut self, size: usize) {
        self.ends.push_back((self.sent, size));
    }

    /// Returns the sum of the sizes of the messages that are newly confirmed.
    fn confirm(&mut self, received: u64) -> Option<usize> {
        if received < self.confirmed || received > self.sent {
            return None;
        }
        self.confirmed = received;
        let mut sizes = 0;
        while let Some(&(end, size)) = self.ends.front()
            && end <= received
        {
            self.ends.pop_front();
            sizes += size;
        }
        Some(sizes)
    }
}

#[cfg(test)]
impl Lanes {
    pub(super) const fn unconfirmed_large(&self) -> u64 {
        self.large_sent.unconfirmed()
    }

    /// Simulates a sender that ignores credit.
    pub(super) fn pretend_confirmed(&mut self) {
        self.large_sent.confirmed = self.large_sent.sent;
        self.pace = Pace::default();
    }
}

/// Bytes of small messages that are sent before a chunk has its turn.
pub(super) const SMALL_TURN: usize = 64 << 10;

/// Bytes of a large message that are sent at a time: 13 ms at 20 Mbit/s, and still few system calls
/// on a fast network.
pub(super) const CHUNK: usize = 32 << 10;

/// Bytes of a large message that are sent at a time on a slow path.
const CHUNK_MIN: usize = 4 << 10;

/// Most unconfirmed bytes of chunks, heads included. At 20 Mbit/s they queue for 200 ms on the
/// path; with a round trip of 200 ms they still carry 2.6 MB/s.
pub(super) const LARGE_WINDOW: u64 = 512 << 10;

/// Most bytes of control messages that may wait. The peer of a link so far behind is about to be
/// declared down: a busy cluster acknowledges about 100 KB a second.
const CONTROL_MAX: usize = 4 << 20;

/// Most bytes of small messages that may wait. The replica's window per peer is 4 MiB, so the bound
/// is only reached if the window is not enforced.
const SMALL_MAX: usize = 64 << 20;

/// Most bytes of large messages that may wait if there are several. The replica sends one at a
/// time.
const LARGE_MAX: usize = 64 << 20;

/// Acknowledgements in one message: 36 KB at most.
const ACKS_MAX: usize = 4096;

/// Entries for which an empty queue keeps room.
const KEPT: usize = 1024;

#[cfg(test)]
mod tests;
