//! Flow control: windows of bytes in flight, one for each peer.
//!
//! Messages of the data lane leave only within a window. What does not fit waits here, or, if it is
//! a question that a peer has asked, is answered only when there is room ([`Flow::defer`]). Room
//! comes back when the peer's process has received the bytes, whether it has merged them or not. So
//! the network between two nodes never holds more than a window, and control messages, which pass
//! at any time, never wait behind more than that.
//!
//! Messages up to [`SMALL_MAX`](super::message::SMALL_MAX) share one window. A larger one is a
//! stream of its own, one at a time, so that a session of many megabytes does not take the room of
//! small ones.
//!
//! It promises that messages of one kind leave in the order in which they came. It does not promise
//! that they arrive: after a break of the link everything that was in flight counts as lost, and
//! those who wait for an answer ask again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::session::{Root, Timestamp};

use super::message::{Message, OpId};
use super::roster::{PEERS_MAX, PeerIndex};

/// What is in flight to each peer, and what waits.
#[derive(Debug)]
pub(crate) struct Flow {
    windows: Vec<Window>,
    /// Whether windows are enforced.
    enforced: bool,
}

#[derive(Debug, Default)]
struct Window {
    small: Queue,
    large: Queue,
    /// Questions of the peer that are answered when there is room.
    questions: BTreeMap<Question, Message>,
    /// Accesses that are sent when there is room, the latest one of each session.
    touches: BTreeMap<Root, (Timestamp, u64)>,
    /// Since when something is in flight and nothing has been delivered.
    stalled_since: Option<Timestamp>,
    /// When a part of a large message was delivered last.
    moved_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Message>,
    /// What was sent and is not delivered: the numbers of writes, and sizes.
    in_flight: VecDeque<(Option<u64>, usize)>,
    bytes: usize,
}

/// Tells a peer's questions apart: a question that is repeated replaces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    Compare,
    Pull(u16),
    Fetch(OpId),
}

impl Question {
    const fn of(message: &Message) -> Option<Self> {
        match message {
            Message::Compare { .. } => Some(Self::Compare),
            Message::Pull { slot, .. } => Some(Self::Pull(*slot)),
            Message::Fetch { op, .. } => Some(Self::Fetch(*op)),
            _ => None,
        }
    }
}

impl Flow {
    pub(crate) fn new(enforced: bool) -> Self {
        Self {
            windows: (0..PEERS_MAX).map(|_| Window::default()).collect(),
            enforced,
        }
    }

    /// Adds a message for a peer.
    pub(crate) fn push(&mut self, peer: PeerIndex, message: Message) {
        let Some(window) = self.windows.get_mut(peer) else {
            return;
        };
        match message {
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
            message if message.is_large() => window.large.waiting.push_back(message),
            message => window.small.waiting.push_back(message),
        }
    }

    /// Keeps a question of a peer until there is room for the answer. Gives it back if there is
    /// room now, or if too many wait already. A `small` answer does not wait for large ones.
    pub(crate) fn defer(&mut self, peer: PeerIndex, message: Message, small: bool) -> Deferred {
        let (Some(window), Some(question)) = (self.windows.get_mut(peer), Question::of(&message))
        else {
            return Deferred::AnswerNow(message);
        };
        let is_free = window.questions.is_empty() && !window.is_busy();
        let passes = small && !window.small.is_full();
        if is_free || passes || !self.enforced {
            Deferred::AnswerNow(message)
        } else if window.questions.len() < QUESTIONS_MAX || !matches!(question, Question::Fetch(_))
        {
            window.questions.insert(question, message);
            Deferred::Waits
        } else {
            Deferred::Refused(message)
        }
    }

    /// Takes out the message that may leave next.
    pub(crate) fn next(&mut self, now: Timestamp, peer: PeerIndex) -> Option<Message> {
        let enforced = self.enforced;
        let window = self.windows.get_mut(peer)?;
        let message = window
            .small
            .take(SMALL_WINDOW, enforced)
            .or_else(|| window.large.take(0, enforced));
        let message = message.or_else(|| {
            let (key, (accessed_at, access)) =
                (!window.small.is_full()).then(|| window.touches.pop_first())??;
            let touch = Message::Touch {
                sent_at: now,
                key,
                accessed_at,
                access,
            };
            window.small.sent(&touch);
            Some(touch)
        })?;
        window.stalled_since.get_or_insert(now);
        Some(message.spoken_at(now))
    }

    /// Takes out a question of a peer for whose answer there is room.
    pub(crate) fn question(&mut self, peer: PeerIndex) -> Option<Message> {
        let window = self.windows.get_mut(peer)?;
        let question = (!window.is_busy()).then(|| window.questions.pop_first())??;
        Some(question.1)
    }

    /// The numbers of the writes that wait for a peer or are in flight to it.
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

    /// Takes note that messages have arrived at a peer.
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

    /// Takes note that a part of a large message has arrived at a peer, or from it.
    pub(crate) fn moved(&mut self, now: Timestamp, peer: PeerIndex) {
        if let Some(window) = self.windows.get_mut(peer) {
            window.moved_at = Some(now);
            window.restart(now);
        }
    }

    /// Returns `true` if a large message to or from a peer has made progress lately, so that
    /// whoever waits for one may go on waiting.
    pub(crate) fn is_moving(&self, now: Timestamp, peer: PeerIndex) -> bool {
        let moved_at = self.windows.get(peer).and_then(|window| window.moved_at);
        moved_at.is_some_and(|at| now.since(at) < MOVING_FOR)
    }

    /// Returns `true` if something is in flight to a peer and nothing has arrived for so long that
    /// nothing will.
    pub(crate) fn is_stalled(&self, now: Timestamp, peer: PeerIndex) -> bool {
        let since = self
            .windows
            .get(peer)
            .and_then(|window| window.stalled_since);
        since.is_some_and(|since| now.since(since) >= STALL_MAX)
    }

    /// A new link to a peer begins with an empty window: what was in flight is lost, and what waits
    /// will be asked for or sent again.
    pub(crate) fn reset(&mut self, peer: PeerIndex) {
        if let Some(window) = self.windows.get_mut(peer) {
            *window = Window {
                touches: std::mem::take(&mut window.touches),
                ..Window::default()
            };
        }
    }

    /// Forgets a peer that has gone.
    pub(crate) fn forget(&mut self, peer: PeerIndex) {
        if let Some(window) = self.windows.get_mut(peer) {
            *window = Window::default();
        }
    }

    /// Drops what waits for a peer and is not wanted any more.
    pub(crate) fn retain(&mut self, peer: PeerIndex, wanted: impl Fn(&Message) -> bool) {
        if let Some(window) = self.windows.get_mut(peer) {
            window.small.waiting.retain(&wanted);
            window.large.waiting.retain(&wanted);
        }
    }
}

/// What becomes of a peer's question.
#[derive(Debug)]
pub(crate) enum Deferred {
    AnswerNow(Message),
    /// It is answered later.
    Waits,
    /// There are too many.
    Refused(Message),
}

impl Window {
    /// Returns `true` if answers have to wait.
    fn is_busy(&self) -> bool {
        self.small.is_full() || !self.large.waiting.is_empty()
    }

    /// Progress was made: the time without any begins anew, if something is in flight.
    fn restart(&mut self, now: Timestamp) {
        let in_flight = self.small.bytes + self.large.bytes;
        self.stalled_since = (in_flight > 0).then_some(now);
    }
}

impl Queue {
    fn is_full(&self) -> bool {
        self.bytes >= SMALL_WINDOW || !self.waiting.is_empty()
    }

    /// Takes out the first message if it fits into the window, or if nothing else is in it.
    fn take(&mut self, window: usize, enforced: bool) -> Option<Message> {
        let size = self.waiting.front()?.size();
        if enforced && self.bytes > 0 && self.bytes + size > window {
            return None;
        }
        let message = self.waiting.pop_front()?;
        self.sent(&message);
        Some(message)
    }

    fn sent(&mut self, message: &Message) {
        let size = message.size();
        self.in_flight.push_back((message.seq(), size));
        self.bytes += size;
    }

    /// So many bytes have arrived: the oldest messages, since a link keeps their order.
    fn delivered(&mut self, mut bytes: usize) {
        // Unless it was one that was given up.
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

    /// Returns `true` if the oldest messages are so many bytes.
    fn is_prefix(&self, bytes: usize) -> bool {
        let sizes = self.in_flight.iter().map(|(_, size)| *size);
        let mut sums = sizes.scan(0, |sum, size| {
            *sum += size;
            Some(*sum)
        });
        sums.find(|sum| *sum >= bytes) == Some(bytes)
    }
}

/// Small messages in flight to one peer, in bytes: at 20 Mbit/s, less than two seconds.
pub(crate) const SMALL_WINDOW: usize = 4 << 20;

/// Reads of one peer that wait for room: twice as many as a peer has open at once. Comparisons add
/// one question for each slot at most.
const QUESTIONS_MAX: usize = 32_768;

/// Accesses for one peer that wait for room. Beyond that, the next access counts.
const TOUCHES_MAX: usize = 65_536;

/// How long after its last progress a large message counts as moving. Links report progress every
/// 100 ms.
const MOVING_FOR: Duration = Duration::from_secs(2);

/// How long nothing may arrive while something is in flight. A member that answers and receives
/// nothing, for example behind a link that drops large packets, would make every write wait.
const STALL_MAX: Duration = Duration::from_secs(10);
