//! Flow control: one window of bytes in flight for each peer.
//!
//! Messages of the data lane are sent only within the window. What does not fit waits here; a
//! request from a peer is answered only when there is room for the response ([`Flow::defer`]). Room
//! is returned when the peer's process has received the bytes, whether or not it has merged them.
//! So a slow peer takes a bounded amount of memory from the network and the send queue. Control
//! messages are never held back; that they do not wait behind data is the link's task
//! ([`lanes`](crate::cluster::transport)).
//!
//! Messages up to [`SMALL_MAX`] share one window. A larger one is a stream of its own, one at a
//! time, so that a session of many megabytes does not take the room of small ones.
//!
//! Messages of one kind are sent in the order in which they were queued. Delivery is not
//! guaranteed: after a break of the link everything in flight counts as lost, and the senders of
//! requests repeat them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::session::{Root, Timestamp};

use crate::cluster::replica::message::{Message, SMALL_MAX};
use crate::cluster::replica::peer_table::{PEERS_MAX, PeerIndex};
use crate::cluster::replica::question::Question;

/// Messages in flight and waiting, for each peer.
#[derive(Debug)]
pub(crate) struct Flow {
    windows: Vec<Window>,
    /// Whether windows are enforced.
    enforced: bool,
}

#[derive(Debug, Default)]
struct Window {
    small: FlowQueue,
    large: FlowQueue,
    /// Requests of the peer that are answered when there is room.
    questions: BTreeMap<Question, Message>,
    /// Accesses that are sent when there is room, the latest of each session.
    touches: BTreeMap<Root, (Timestamp, u64)>,
    /// Events that wait for room.
    events: usize,
    /// Since when bytes are in flight and nothing has been delivered.
    stalled_since: Option<Timestamp>,
    /// When a part of a large message was last delivered.
    moved_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct FlowQueue {
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    /// Sent and not yet delivered: sequence numbers of writes, and sizes.
    in_flight: VecDeque<(Option<u64>, usize)>,
    bytes: usize,
}

impl Flow {
    pub(crate) fn new(enforced: bool) -> Self {
        Self {
            windows: (0..PEERS_MAX).map(|_| Window::default()).collect(),
            enforced,
        }
    }

    /// Queues a message for a peer.
    pub(crate) fn push(&mut self, peer: PeerIndex, message: Message) {
        let Some(window) = self.windows.get_mut(peer) else {
            return;
        };
        match message {
            // Only the latest access of each session waits: a slow link would otherwise carry a
            // message for every request.
            Message::Touch {
                key,
                accessed_at,
                access,
                ..
            } if window.small.is_full() => {
                if window.touches.len() < TOUCHES_MAX || window.touches.contains_key(&key) {
                    let latest = window.touches.entry(key).or_default();
                    *latest = (accessed_at, access).max(*latest);
                }
            }
            message if message.is_large() => window.large.push(message),
            message => {
                window.events += usize::from(matches!(message, Message::Happened(_)));
                window.small.push(message);
            }
        }
    }

    /// Keeps a request of a peer until there is room for the response. Returns it if there is room
    /// now, or if too many already wait. A `small` response does not wait for large ones.
    pub(crate) fn defer(&mut self, peer: PeerIndex, message: Message, small: bool) -> Deferred {
        let (Some(window), Some(question)) = (self.windows.get_mut(peer), Question::of(&message))
        else {
            return Deferred::AnswerNow(message);
        };
        // Behind those that wait: new requests would otherwise take the room that they wait for.
        let is_free = window.questions.is_empty() && !window.is_busy();
        // The owner of an update may ask the node that requested it for the session: behind large
        // ones its answer would come after the caller's timeout.
        let passes = small && !window.small.is_full();
        if is_free || passes || !self.enforced {
            Deferred::AnswerNow(message)
        } else if window.questions.len() < QUESTIONS_MAX || question.is_comparison() {
            // A comparison is not repeated while link and view hold: refused, it would leave the
            // peer incomplete.
            window.questions.insert(question, message);
            Deferred::Waits
        } else {
            Deferred::Refused(message)
        }
    }

    /// Removes and returns the next message to send, if it fits.
    pub(crate) fn next(&mut self, now: Timestamp, peer: PeerIndex) -> Option<Message> {
        let enforced = self.enforced;
        let window = self.windows.get_mut(peer)?;
        let message = window
            .small
            .take(SMALL_WINDOW, enforced)
            .or_else(|| window.large.take(0, enforced))
            .or_else(|| window.take_touch(now))?;
        window.stalled_since.get_or_insert(now);
        window.events -= usize::from(matches!(message, Message::Happened(_)));
        // Its times count from now: what has waited here would otherwise arrive with the remaining
        // times of the moment at which it was queued, and sessions would live longer.
        Some(message.spoken_at(now))
    }

    /// Removes and returns a request of a peer for whose response there is room.
    pub(crate) fn question(&mut self, peer: PeerIndex) -> Option<Message> {
        let window = self.windows.get_mut(peer)?;
        let (_, question) = (!window.is_busy()).then(|| window.questions.pop_first())??;
        Some(question)
    }

    /// Returns `true` if a reply of `size` bytes may wait for a peer. One may always wait.
    pub(crate) fn admits_reply(&self, peer: PeerIndex, size: usize) -> bool {
        self.windows.get(peer).is_none_or(|window| {
            let queue = if size > SMALL_MAX {
                &window.large
            } else {
                &window.small
            };
            // A session that is larger than the limit could otherwise never be returned.
            queue.waiting.is_empty() || queue.waiting_bytes + size <= REPLIES_MAX
        })
    }

    /// Returns the bytes that wait for a peer.
    #[cfg(test)]
    pub(crate) fn waiting_bytes(&self, peer: PeerIndex) -> usize {
        let window = self.windows.get(peer);
        window.map_or(0, |window| {
            window.small.waiting_bytes + window.large.waiting_bytes
        })
    }

    /// Returns the sequence numbers of the writes that wait for a peer or are in flight to it.
    pub(crate) fn writes_under_way(&self, peer: PeerIndex) -> BTreeSet<u64> {
        let queues = self
            .windows
            .get(peer)
            .into_iter()
            .flat_map(|window| [&window.small, &window.large]);
        queues
            .flat_map(|queue| {
                let in_flight = queue.in_flight.iter().filter_map(|(seq, _)| *seq);
                in_flight.chain(queue.waiting.iter().filter_map(Message::seq))
            })
            .collect()
    }

    /// Returns the number of events that wait for a peer.
    pub(crate) fn events_waiting(&self, peer: PeerIndex) -> usize {
        self.windows.get(peer).map_or(0, |window| window.events)
    }

    /// Returns `true` if no small message waits for a peer or is in flight to it.
    pub(crate) fn is_idle(&self, peer: PeerIndex) -> bool {
        let window = self.windows.get(peer);
        window.is_some_and(|window| window.small.bytes == 0 && window.small.waiting.is_empty())
    }

    /// Records that messages have arrived at a peer.
    pub(crate) fn delivered(&mut self, now: Timestamp, peer: PeerIndex, bytes: usize, large: bool) {
        if let Some(window) = self.windows.get_mut(peer) {
            let queue = if large {
                &mut window.large
            } else {
                &mut window.small
            };
            queue.delivered(bytes);
            window.restart(now);
        }
    }

    /// Records that a part of a large message has arrived at a peer.
    pub(crate) fn moved(&mut self, now: Timestamp, peer: PeerIndex) {
        if let Some(window) = self.windows.get_mut(peer) {
            window.moved_at = Some(now);
            window.restart(now);
        }
    }

    /// Records that a part of a large message has arrived from a peer.
    pub(crate) fn arriving(&mut self, now: Timestamp, peer: PeerIndex) {
        if let Some(window) = self.windows.get_mut(peer) {
            // The stall timer goes on: a peer that sends may receive nothing.
            window.moved_at = Some(now);
        }
    }

    /// Returns `true` if a large message to or from a peer has recently made progress, so that
    /// callers may continue to wait for it.
    pub(crate) fn is_moving(&self, now: Timestamp, peer: PeerIndex) -> bool {
        let moved_at = self.windows.get(peer).and_then(|window| window.moved_at);
        moved_at.is_some_and(|at| now.since(at) < MOVING_FOR)
    }

    /// Returns `true` if bytes are in flight to a peer and nothing has arrived for [`STALL_MAX`].
    pub(crate) fn is_stalled(&self, now: Timestamp, peer: PeerIndex) -> bool {
        let since = self
            .windows
            .get(peer)
            .and_then(|window| window.stalled_since);
        since.is_some_and(|since| now.since(since) >= STALL_MAX)
    }

    /// Called after a pause of this node, in which no delivery could be reported to it: restarts
    /// the stall timers.
    pub(crate) fn resume(&mut self, now: Timestamp) {
        for window in &mut self.windows {
            window.restart(now);
        }
    }

    /// Called when the link to a peer is new: clears its window. What was in flight is lost, and
    /// what waits will be requested or sent again.
    pub(crate) fn reset(&mut self, peer: PeerIndex) {
        if let Some(window) = self.windows.get_mut(peer) {
            *window = Window {
                // Until the next comparison, no other message repeats these: the sessions would
                // expire early at the peer, which then has to ask the other holders.
                touches: std::mem::take(&mut window.touches),
                ..Window::default()
            };
        }
    }

    /// Called when a peer is removed.
    pub(crate) fn forget(&mut self, peer: PeerIndex) {
        if let Some(window) = self.windows.get_mut(peer) {
            *window = Window::default();
        }
    }

    /// Removes the waiting messages for which `wanted` returns `false`.
    pub(crate) fn retain(&mut self, peer: PeerIndex, wanted: impl Fn(&Message) -> bool) {
        if let Some(window) = self.windows.get_mut(peer) {
            window.small.retain(&wanted);
            window.large.retain(&wanted);
        }
    }
}

/// The handling of a peer's request.
#[derive(Debug)]
pub(crate) enum Deferred {
    AnswerNow(Message),
    /// It is answered later.
    Waits,
    /// Too many requests wait.
    Refused(Message),
}

impl Window {
    /// Removes and returns an access, if there is room for it.
    fn take_touch(&mut self, now: Timestamp) -> Option<Message> {
        let (key, (accessed_at, access)) =
            (!self.small.is_full()).then(|| self.touches.pop_first())??;
        let touch = Message::Touch {
            sent_at: now,
            key,
            accessed_at,
            access,
        };
        self.small.sent(&touch);
        Some(touch)
    }

    /// Returns `true` if responses have to wait.
    fn is_busy(&self) -> bool {
        self.small.is_full() || !self.large.waiting.is_empty()
    }

    /// Called on progress: restarts the stall timer if bytes are in flight.
    fn restart(&mut self, now: Timestamp) {
        let in_flight = self.small.bytes + self.large.bytes;
        self.stalled_since = (in_flight > 0).then_some(now);
    }
}

impl FlowQueue {
    fn is_full(&self) -> bool {
        self.bytes >= SMALL_WINDOW || !self.waiting.is_empty()
    }

    fn push(&mut self, message: Message) {
        self.waiting_bytes += message.size();
        self.waiting.push_back(message);
    }

    fn retain(&mut self, wanted: impl Fn(&Message) -> bool) {
        self.waiting.retain(wanted);
        self.waiting_bytes = self.waiting.iter().map(Message::size).sum();
    }

    /// Removes and returns the first message if it fits into the window, or if the window is empty.
    fn take(&mut self, window: usize, enforced: bool) -> Option<Message> {
        let size = self.waiting.front()?.size();
        // One message is allowed into an empty window, or one larger than the window would never
        // leave.
        if enforced && self.bytes > 0 && self.bytes + size > window {
            return None;
        }
        let message = self.waiting.pop_front()?;
        self.waiting_bytes -= size;
        self.sent(&message);
        Some(message)
    }

    fn sent(&mut self, message: &Message) {
        let size = message.size();
        self.in_flight.push_back((message.seq(), size));
        self.bytes += size;
    }

    /// Records that this many bytes have arrived: the oldest messages, since a link keeps their
    /// order.
    fn delivered(&mut self, mut bytes: usize) {
        // Otherwise a message that the link had given up was reported.
        let is_one = |(_, size): &(Option<u64>, usize)| *size == bytes;
        if !self.is_prefix(bytes)
            && let Some(at) = self.in_flight.iter().position(is_one)
        {
            self.in_flight.remove(at);
            self.bytes -= bytes;
            return;
        }
        while let Some((_, size)) = self.in_flight.front()
            && *size <= bytes
        {
            bytes -= size;
            self.bytes -= size;
            self.in_flight.pop_front();
        }
    }

    /// Returns `true` if the oldest messages have exactly this many bytes in total.
    fn is_prefix(&self, bytes: usize) -> bool {
        let sizes = self.in_flight.iter().map(|(_, size)| *size);
        let mut sums = sizes.scan(0, |sum, size| {
            *sum += size;
            Some(*sum)
        });
        sums.find(|sum| *sum >= bytes) == Some(bytes)
    }
}

/// Bytes that may wait for one peer when a reply with a session is added to them.
const REPLIES_MAX: usize = 16 << 20;

/// Small messages in flight to one peer, in bytes: less than two seconds at 20 Mbit/s.
pub(crate) const SMALL_WINDOW: usize = 4 << 20;

/// Reads of one peer that wait for room: twice as many as a peer has open at once. Comparisons add
/// at most one request for each slot.
const QUESTIONS_MAX: usize = 32_768;

/// Accesses for one peer that wait for room. Further ones are dropped; the session's next access is
/// sent instead.
const TOUCHES_MAX: usize = 65_536;

/// How long after its last progress a large message counts as moving. Links report progress every
/// 100 ms.
const MOVING_FOR: Duration = Duration::from_secs(2);

/// Longest time without a delivery while bytes are in flight. A member that answers but receives
/// nothing, for example behind a link that drops large packets, would make every write wait.
const STALL_MAX: Duration = Duration::from_secs(10);
