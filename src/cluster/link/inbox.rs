//! Receiving side of one link: segments in, messages and credit out.
//!
//! Data is credited when it is received, byte by byte, whatever becomes of it later. Only a large
//! message that is not [admitted](super::admission) yet holds credit back: its first chunk is
//! credited, the rest when there is room for all of it. Small messages pass it meanwhile.
//!
//! No memory is taken for a declared length, only for bytes that have arrived.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};

use crate::cluster::replica::message::Message;
use crate::cluster::wire::{
    Credit, MESSAGE_MAX, SEGMENT_HEAD, Segment, SegmentKind, WireError, decode,
};

use super::admission::{Admission, Ticket};
use super::lanes::{CHUNK, LARGE_WINDOW};

/// What a link has received so far.
#[derive(Debug)]
pub(crate) struct Inbox {
    admission: Arc<Admission>,
    /// Whether the sender also speaks a later version of the protocol: what is not known here is
    /// skipped.
    is_later: bool,
    large: Option<Assembly>,
    /// Bytes of data in complete segments.
    complete: Credit,
    /// Bytes of data received, the part of a segment at the end included.
    received: Credit,
    /// What was credited last.
    credited: Credit,
    /// Whether a large message was completed since then: its sender waits to send the next.
    is_urgent: bool,
}

/// A large message, as far as it has arrived.
#[derive(Debug)]
struct Assembly {
    declared: usize,
    bytes: Vec<u8>,
    ticket: Ticket,
    /// Until the message is admitted, so much of the stream is credited.
    credited: u64,
}

/// A message, and how long it has waited at its sender.
#[derive(Debug, PartialEq)]
pub(crate) struct Arrival {
    pub(crate) age: Duration,
    pub(crate) message: Message,
}

impl Inbox {
    pub(crate) fn new(admission: Arc<Admission>, is_later: bool) -> Self {
        Self {
            admission,
            is_later,
            large: None,
            complete: Credit::default(),
            received: Credit::default(),
            credited: Credit::default(),
            is_urgent: false,
        }
    }

    /// Takes the complete segments off the beginning of `bytes`, and appends the messages that they
    /// complete to `arrived`.
    ///
    /// # Errors
    ///
    /// The link must be closed; messages before the fault are in `arrived`.
    pub(crate) fn advance(
        &mut self,
        bytes: &mut BytesMut,
        arrived: &mut Vec<Arrival>,
    ) -> Result<(), WireError> {
        let mut rest = &bytes[..];
        let understood = loop {
            match Segment::next(rest) {
                Ok(Some((segment, more))) => {
                    if let Err(error) = self.take(&segment, arrived) {
                        break Err(error);
                    }
                    rest = more;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.received = self.complete;
        if let Some(kind) = Segment::kind_of_part(rest) {
            count(&mut self.received, kind, rest.len());
        }
        let taken = bytes.len() - rest.len();
        bytes.advance(taken);
        understood
    }

    fn take(&mut self, segment: &Segment<'_>, arrived: &mut Vec<Arrival>) -> Result<(), WireError> {
        let bytes = SEGMENT_HEAD + segment.content.len();
        count(&mut self.complete, segment.kind, bytes);
        let message = match segment.kind {
            SegmentKind::Control | SegmentKind::Small => self.decode(segment.content)?,
            SegmentKind::FirstChunk => self.begin(segment.content)?,
            SegmentKind::NextChunk => self.go_on(segment.content)?,
            SegmentKind::Credit | SegmentKind::Unknown if self.is_later => None,
            SegmentKind::Credit | SegmentKind::Unknown => return Err(WireError::UnknownKind),
        };
        let age = segment.age;
        arrived.extend(message.map(|message| Arrival { age, message }));
        Ok(())
    }

    fn begin(&mut self, content: &[u8]) -> Result<Option<Message>, WireError> {
        let (declared, chunk) = content.split_first_chunk().ok_or(WireError::Malformed)?;
        let declared = u32::from_be_bytes(*declared) as usize;
        if declared > MESSAGE_MAX {
            return Err(WireError::MessageTooLong);
        }
        if self.large.is_some() {
            return Err(WireError::StrayChunk);
        }
        self.large = Some(Assembly {
            declared,
            bytes: Vec::new(),
            ticket: self.admission.request(declared),
            credited: self.complete.large,
        });
        self.go_on(chunk)
    }

    fn go_on(&mut self, chunk: &[u8]) -> Result<Option<Message>, WireError> {
        let large = self.large.as_mut().ok_or(WireError::StrayChunk)?;
        let len = large.bytes.len() + chunk.len();
        if len > large.declared {
            return Err(WireError::StrayChunk);
        }
        if len > AHEAD_MAX && !large.ticket.is_admitted() {
            return Err(WireError::BeyondWindow);
        }
        if len > large.bytes.capacity() {
            // At most twice of what has arrived, and never more than it will be.
            let room = (2 * len).min(large.declared);
            large.bytes.reserve_exact(room - large.bytes.len());
        }
        large.bytes.extend_from_slice(chunk);
        if len < large.declared {
            return Ok(None);
        }
        self.is_urgent = true;
        match self.large.take() {
            Some(large) => self.decode(&large.bytes),
            None => Ok(None),
        }
    }

    /// `None`: only a later version knows the message.
    fn decode(&self, content: &[u8]) -> Result<Option<Message>, WireError> {
        match decode(content) {
            Ok(message) => Ok(Some(message)),
            Err(WireError::UnknownKind) if self.is_later => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the sender should know of.
    pub(crate) fn credit(&self) -> Credit {
        let waiting = self
            .large
            .as_ref()
            .filter(|large| !large.ticket.is_admitted());
        let mut credit = self.received;
        if let Some(large) = waiting {
            credit.large = credit.large.min(large.credited);
        }
        credit
    }

    /// Returns `true` if the sender does not know of everything.
    pub(super) fn is_owing(&self) -> bool {
        self.credit() != self.credited
    }

    /// Returns `true` if the sender should know of more at once, because it may wait for it.
    pub(super) fn is_pressed(&self) -> bool {
        let credit = self.credit();
        let small = credit.small - self.credited.small;
        let large = credit.large - self.credited.large;
        small.max(large) >= CREDIT_AT_ONCE || self.is_urgent && self.is_owing()
    }

    /// What the sender is to know of; from now on it does.
    pub(super) fn take_credit(&mut self) -> Credit {
        self.is_urgent = false;
        self.credited = self.credit();
        self.credited
    }

    /// How much has arrived of large messages.
    pub(super) const fn large_bytes(&self) -> u64 {
        self.received.large
    }

    /// Returns `true` if a large message has begun and not ended.
    pub(super) const fn is_assembling(&self) -> bool {
        self.large.is_some()
    }

    /// Returns `true` if a large message waits for being admitted.
    pub(super) fn is_waiting(&self) -> bool {
        let large = self.large.as_ref();
        large.is_some_and(|large| !large.ticket.is_admitted())
    }

    /// Waits until the large message is admitted that waits for it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn admitted(&self) {
        if let Some(large) = &self.large {
            large.ticket.admitted().await;
        }
    }
}

const fn count(credit: &mut Credit, kind: SegmentKind, bytes: usize) {
    match kind {
        SegmentKind::Small => credit.small += bytes as u64,
        SegmentKind::FirstChunk | SegmentKind::NextChunk => credit.large += bytes as u64,
        SegmentKind::Control | SegmentKind::Credit | SegmentKind::Unknown => {}
    }
}

#[cfg(test)]
impl Inbox {
    /// How many bytes are kept of a large message that is incomplete.
    pub(crate) fn assembled(&self) -> usize {
        self.large
            .as_ref()
            .map_or(0, |large| large.bytes.capacity())
    }
}

/// How many bytes may arrive of a large message that is not admitted: its first chunk, which is
/// credited, and what the sender's window allows beyond.
const AHEAD_MAX: usize = CHUNK + LARGE_WINDOW as usize;

/// How many received bytes are credited at once. Less waits for [`CREDIT_DELAY`]: a credit for each
/// message would double the number of packets. An eighth of the sender's window for chunks.
const CREDIT_AT_ONCE: u64 = LARGE_WINDOW / 8;

/// How long a received byte waits to be credited. With the replica's window of 4 MiB this still
/// allows 200 MB/s of small messages, and larger ones do not wait.
pub(super) const CREDIT_DELAY: Duration = Duration::from_millis(20);
