//! Receiving side of one link: segments in, messages and credit out.
//!
//! Data is credited when it is received, byte by byte, whatever happens to it later. Only a large
//! message that is not yet [admitted](super::receive_budget) holds credit back: its first chunk is
//! credited, the rest when there is room for all of it. Small messages pass it meanwhile.
//!
//! Memory is allocated for bytes that have arrived, never for a declared length.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};

use crate::cluster::replica::message::Message;
use crate::cluster::wire::{
    Credit, MESSAGE_MAX, SEGMENT_HEAD, Segment, SegmentKind, WireError, decode,
};

use crate::cluster::transport::lanes::{CHUNK, LARGE_WINDOW};
use crate::cluster::transport::receive_budget::{BudgetClaim, ReceiveBudget};

/// The state of the receiving side.
#[derive(Debug)]
pub(crate) struct Inbox {
    budget: Arc<ReceiveBudget>,
    /// Whether the sender also speaks a later version of the protocol: unknown messages are
    /// skipped.
    is_later: bool,
    large: Option<PartialMessage>,
    /// Bytes of data in complete segments.
    complete: Credit,
    /// Bytes of data received, including the incomplete segment at the end.
    received: Credit,
    /// The last credit sent.
    credited: Credit,
    /// Whether a large message was completed since then: its sender waits to send the next one.
    is_urgent: bool,
}

/// A large message that is being received.
#[derive(Debug)]
struct PartialMessage {
    declared: usize,
    bytes: Vec<u8>,
    claim: BudgetClaim,
    /// The bytes of the stream that are credited until the message is admitted.
    credited: u64,
}

/// A received message, and how long it has waited at its sender.
#[derive(Debug, PartialEq)]
pub(crate) struct Arrival {
    pub(crate) age: Duration,
    pub(crate) message: Message,
}

impl Inbox {
    pub(crate) fn new(budget: Arc<ReceiveBudget>, is_later: bool) -> Self {
        Self {
            budget,
            is_later,
            large: None,
            complete: Credit::default(),
            received: Credit::default(),
            credited: Credit::default(),
            is_urgent: false,
        }
    }

    /// Removes the complete segments from the beginning of `bytes`, and appends the messages that
    /// they complete to `arrived`.
    ///
    /// # Errors
    ///
    /// The link must be closed; messages before the error are in `arrived`.
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
        self.large = Some(PartialMessage {
            declared,
            bytes: Vec::new(),
            claim: self.budget.request(declared),
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
        // A sender that ignores credit would otherwise take memory for which there is no room.
        if len > AHEAD_MAX && !large.claim.is_admitted() {
            return Err(WireError::BeyondWindow);
        }
        if len > large.bytes.capacity() {
            // At most twice the bytes that have arrived, and never more than the declared length.
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

    /// Decodes a message. Returns `None` if only a later version defines it.
    fn decode(&self, content: &[u8]) -> Result<Option<Message>, WireError> {
        match decode(content) {
            Ok(message) => Ok(Some(message)),
            Err(WireError::UnknownKind) if self.is_later => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the bytes that the sender may count as received.
    pub(crate) fn credit(&self) -> Credit {
        let waiting = self
            .large
            .as_ref()
            .filter(|large| !large.claim.is_admitted());
        let mut credit = self.received;
        if let Some(large) = waiting {
            credit.large = credit.large.min(large.credited);
        }
        credit
    }

    /// Returns `true` if there is credit to send.
    pub(super) fn is_owing(&self) -> bool {
        self.credit() != self.credited
    }

    /// Returns `true` if there is credit that the sender may be waiting for.
    pub(super) fn is_pressed(&self) -> bool {
        let credit = self.credit();
        let small = credit.small - self.credited.small;
        let large = credit.large - self.credited.large;
        small.max(large) >= CREDIT_AT_ONCE || self.is_urgent && self.is_owing()
    }

    /// Returns the credit to send, and counts it as sent.
    pub(super) fn take_credit(&mut self) -> Credit {
        self.is_urgent = false;
        self.credited = self.credit();
        self.credited
    }

    /// Returns the received bytes of large messages.
    pub(super) const fn large_bytes(&self) -> u64 {
        self.received.large
    }

    /// Returns `true` if a large message is incomplete.
    pub(super) const fn is_assembling(&self) -> bool {
        self.large.is_some()
    }

    /// Returns `true` if a large message waits for admission.
    pub(super) fn is_waiting(&self) -> bool {
        let large = self.large.as_ref();
        large.is_some_and(|large| !large.claim.is_admitted())
    }

    /// Waits until the large message that waits is admitted.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn admitted(&self) {
        if let Some(large) = &self.large {
            large.claim.admitted().await;
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
    /// Returns the allocated bytes for an incomplete large message.
    pub(crate) fn assembled(&self) -> usize {
        self.large
            .as_ref()
            .map_or(0, |large| large.bytes.capacity())
    }
}

/// Bytes that may arrive of a large message that is not admitted: its first chunk, which is
/// credited, and the rest of the sender's window.
const AHEAD_MAX: usize = CHUNK + LARGE_WINDOW as usize;

/// Received bytes that are credited immediately. Fewer wait for [`CREDIT_DELAY`]: a credit for each
/// message would double the number of packets. An eighth of the sender's window for chunks.
const CREDIT_AT_ONCE: u64 = LARGE_WINDOW / 8;

/// Longest time before a received byte is credited. With the replica's window of 4 MiB this still
/// allows 200 MB/s of small messages; larger ones do not wait.
pub(super) const CREDIT_DELAY: Duration = Duration::from_millis(20);
