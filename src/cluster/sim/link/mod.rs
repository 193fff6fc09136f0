//! A link in one direction between two nodes: two lanes, one socket buffer, finite bandwidth.
//!
//! A link carries control messages first, then small data messages, then chunks of the one current
//! large message; at most [`SMALL_MAX`] of small data pass between two chunks. All of them go
//! through a socket buffer, which is a FIFO queue. A control message under way may overtake data;
//! there is no other overtaking. A link loses nothing while it is up; when it breaks, everything
//! that has not been delivered is lost.
//!
//! A large message is admitted as a whole by its receiver: until then only its first chunk is sent.
//! Each message carries its age: how long it has waited here when its last byte is sent.
//!
//! This is plain data: `transport` advances time and passes messages to the replicas.

use std::collections::VecDeque;

use crate::cluster::replica::message::{Lane, Message, SMALL_MAX};
use crate::cluster::replica::node::Node;

use crate::cluster::sim::report::LinkReport;

/// The rules of links that a run can disable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkRules {
    /// Control messages and chunks do not wait behind data.
    pub(super) lanes: bool,
    /// A large message is admitted by its declared length, not chunk by chunk.
    pub(super) length_reservation: bool,
    /// Messages carry the time that they have waited at their sender.
    pub(super) ages: bool,
}

impl LinkRules {
    pub(super) const ALL: Self = Self {
        lanes: true,
        length_reservation: true,
        ages: true,
    };
}

/// The unit in which a link carries data.
#[derive(Debug)]
pub(super) enum Piece {
    /// A control message or a small data message.
    Whole {
        message: Message,
        size: usize,
        /// How long it has waited at its sender, in microseconds.
        age: u64,
        /// Whether it is delivered to the receiver twice.
        twice: bool,
    },
    /// A part of a large message.
    Chunk {
        bytes: usize,
        /// The length of the whole message.
        total: usize,
        first: bool,
        /// How long the message has waited at its sender, in microseconds.
        age: u64,
        /// The message, with its last chunk.
        message: Option<Message>,
    },
}

/// A message that waits for its turn, and since when, in microseconds.
#[derive(Debug)]
struct WaitingMessage {
    message: Message,
    put_at: u64,
}

impl Piece {
    pub(super) const fn bytes(&self) -> usize {
        match self {
            Self::Whole { size, .. } => *size,
            Self::Chunk { bytes, .. } => *bytes,
        }
    }

    /// Returns `true` for pieces of the control lane.
    pub(super) const fn is_control(&self) -> bool {
        match self {
            Self::Whole { message, .. } => matches!(message.lane(), Lane::Control),
            Self::Chunk { .. } => false,
        }
    }
}

/// One direction between two nodes.
#[derive(Debug)]
pub(super) struct SimLink {
    /// Distinguishes it from earlier links between the same nodes.
    pub(super) id: u64,
    /// The identities of both ends in the handshake.
    pub(super) from: Node,
    pub(super) to: Node,
    rules: LinkRules,
    control: VecDeque<WaitingMessage>,
    small: VecDeque<WaitingMessage>,
    large: VecDeque<WaitingMessage>,
    current: Option<Sending>,
    /// Small data since the last chunk.
    small_since_chunk: usize,
    /// Whether its sender is gone, so that only the content of the socket buffer still arrives.
    pub(super) is_closing: bool,
    /// When the socket buffer will be empty.
    pub(super) busy_until: u64,
    /// Bytes per second at which the buffer empties; `None` for immediately.
    rate: Option<u64>,
    /// Pieces under way, control and data.
    on_the_way: [VecDeque<Piece>; 2],
    /// When the last piece of each lane arrives.
    last_arrival: [u64; 2],
    /// Reports that wait until the way back is open.
    pub(super) held_reports: VecDeque<LinkReport>,
    /// When the last report reaches the sender.
    pub(super) last_report: u64,
    /// Pieces that have arrived while the receiver does not read this link.
    pub(super) held: VecDeque<Piece>,
    /// Until when the receiver does not read it.
    pub(super) read_after: u64,
    /// Until when no data is sent.
    pub(super) data_after: u64,
    /// Bytes that have arrived and were not read.
    pub(super) unread: usize,
    /// When a transmission is already planned.
    pub(super) transmit_at: u64,
    /// When progress was last reported to the receiver.
    pub(super) progress_at: u64,
    /// Data that is not delivered, as far as the sender has been informed.
    pub(super) undelivered: Undelivered,
}

/// Data messages of which the sender has no delivery report.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Undelivered {
    pub(super) small_bytes: usize,
    pub(super) large_messages: usize,
}

/// A large message that is being sent.
#[derive(Debug)]
struct Sending {
    waiting: WaitingMessage,
    size: usize,
    sent: usize,
    /// How much may be sent.
    admitted: usize,
}

/// The next action of a link.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum NextPiece {
    /// Put this into the socket buffer.
    Piece(Piece),
    /// Nothing until another event.
    Nothing,
    /// The socket buffer is full until this time.
    FullUntil(u64),
}

impl SimLink {
    pub(super) fn new(id: u64, from: Node, to: Node, rules: LinkRules, now: u64) -> Self {
        Self {
            id,
            from,
            to,
            rules,
            control: VecDeque::new(),
            small: VecDeque::new(),
            large: VecDeque::new(),
            current: None,
            small_since_chunk: 0,
            is_closing: false,
            busy_until: now,
            rate: None,
            on_the_way: Default::default(),
            last_arrival: [0; 2],
            held_reports: VecDeque::new(),
            last_report: 0,
            held: VecDeque::new(),
            read_after: 0,
            data_after: 0,
            unread: 0,
            transmit_at: 0,
            progress_at: 0,
            undelivered: Undelivered::default(),
        }
    }

    /// Queues a message.
    pub(super) fn put(&mut self, now: u64, message: Message) {
        let is_control = message.lane() == Lane::Control;
        let is_large = message.is_large();
        if is_large {
            self.undelivered.large_messages += 1;
        } else if !is_control {
            self.undelivered.small_bytes += message.size();
        }
        let queue = if !self.rules.lanes {
            &mut self.small
        } else if is_control {
            &mut self.control
        } else if is_large {
            &mut self.large
        } else {
            &mut self.small
        };
        let put_at = now;
        queue.push_back(WaitingMessage { message, put_at });
    }

    /// Called when the sender is gone: everything outside the socket buffer is lost.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
        self.control.clear();
        self.small.clear();
        self.large.clear();
        self.current = None;
    }

    /// Removes and returns the next piece that may enter the socket buffer.
    pub(super) fn next(&mut self, now: u64) -> NextPiece {
        let backlog = self.backlog(now);
        if self.unread + backlog < SOCKET_BUFFER {
            return self
                .next_piece(now)
                .map_or(NextPiece::Nothing, NextPiece::Piece);
        }
        match self.rate {
            Some(rate) if self.unread < SOCKET_BUFFER && !self.is_idle() => {
                // Sleeps until there is room for more than one message.
                let room = (SOCKET_BUFFER - self.unread) / 2;
                NextPiece::FullUntil(self.busy_until - room as u64 * 1_000_000 / rate)
            }
            _ => NextPiece::Nothing,
        }
    }

    /// Bytes in the socket buffer.
    fn backlog(&self, now: u64) -> usize {
        let time = self.busy_until.saturating_sub(now);
        (time * self.rate.unwrap_or(0) / 1_000_000) as usize
    }

    fn is_idle(&self) -> bool {
        self.control.is_empty()
            && self.small.is_empty()
            && self.large.is_empty()
            && self.current.is_none()
    }

    fn next_piece(&mut self, now: u64) -> Option<Piece> {
        if let Some(waiting) = self.control.pop_front() {
            return Some(waiting.whole(now));
        }
        if now < self.data_after {
            return None;
        }
        if self.current.is_none() {
            self.begin_large();
        }
        let has_chunk = self.current.as_ref().is_some_and(Sending::has_chunk);
        let takes_small = self.small.front().is_some_and(|waiting| {
            if self.rules.lanes {
                let size = waiting.message.size();
                !has_chunk || self.small_since_chunk + size <= SMALL_MAX
            } else {
                self.current.is_none()
            }
        });
        if takes_small {
            let waiting = self.small.pop_front()?;
            self.small_since_chunk += waiting.message.size();
            return Some(waiting.whole(now));
        }
        if !has_chunk {
            return None;
        }
        self.small_since_chunk = 0;
        self.next_chunk(now)
    }

    fn begin_large(&mut self) {
        let queue = if self.rules.lanes {
            &mut self.large
        } else {
            &mut self.small
        };
        let is_large = |waiting: &WaitingMessage| waiting.message.is_large();
        if !queue.front().is_some_and(is_large) {
            return;
        }
        self.current = queue.pop_front().map(|waiting| Sending {
            size: waiting.message.size(),
            waiting,
            sent: 0,
            admitted: CHUNK,
        });
    }

    fn next_chunk(&mut self, now: u64) -> Option<Piece> {
        let sending = self.current.as_mut()?;
        let first = sending.sent == 0;
        let bytes = CHUNK.min(sending.size - sending.sent);
        let total = sending.size;
        sending.sent += bytes;
        let age = now.saturating_sub(sending.waiting.put_at);
        let message = if sending.sent == total {
            self.current.take().map(|sending| sending.waiting.message)
        } else {
            None
        };
        Some(Piece::Chunk {
            bytes,
            total,
            first,
            age,
            message,
        })
    }

    /// Called when the receiver has admitted the current large message, or one more chunk of it.
    pub(super) fn admit(&mut self) {
        if let Some(sending) = &mut self.current {
            sending.admitted = if self.rules.length_reservation {
                sending.size
            } else {
                sending.admitted + CHUNK
            };
        }
    }

    /// Puts a piece into the socket buffer, and returns when it arrives. `delay` is the time from
    /// the buffer to the receiver.
    pub(super) fn transmit(
        &mut self,
        now: u64,
        rate: Option<u64>,
        delay: u64,
        piece: Piece,
    ) -> u64 {
        self.rate = rate;
        let bytes = piece.bytes() as u64;
        let takes = rate.map_or(0, |rate| bytes * 1_000_000 / rate);
        self.busy_until = self.busy_until.max(now) + takes;
        let [control, data] = self.last_arrival;
        let lane = usize::from(!piece.is_control());
        let after = if lane == 0 && self.rules.lanes {
            control
        } else {
            control.max(data)
        };
        let arrival = after.max(self.busy_until + delay);
        self.last_arrival[lane] = arrival;
        self.on_the_way[lane].push_back(piece);
        arrival
    }

    /// Removes and returns the next piece of a lane, which has arrived.
    pub(super) fn arrived(&mut self, is_control: bool) -> Option<Piece> {
        self.on_the_way[usize::from(!is_control)].pop_front()
    }
}

impl Sending {
    const fn has_chunk(&self) -> bool {
        self.sent < self.admitted
    }
}

impl WaitingMessage {
    /// Returns the message as it is sent.
    fn whole(self, now: u64) -> Piece {
        Piece::Whole {
            size: self.message.size(),
            age: now.saturating_sub(self.put_at),
            message: self.message,
            twice: false,
        }
    }
}

/// Bytes of one connection that the operating systems at both ends buffer.
const SOCKET_BUFFER: usize = 256 << 10;

/// Bytes of a large message that are sent at once.
pub(super) const CHUNK: usize = SMALL_MAX;

#[cfg(test)]
mod tests;
