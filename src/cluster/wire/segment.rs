//! Segments: the frames of a link after the handshake.
//!
//! ```text
//!  0       1                 4                     8
//!  +-------+-----------------+---------------------+------------------
//!  | kind  | content length  | age in milliseconds | content
//!  +-------+-----------------+---------------------+------------------
//! ```
//!
//! Numbers are big-endian. The *age* is the time that a message has waited in the sender's queues
//! until its last byte was sent; the receiver needs it to rebase the times in the message. The node
//! that dialed sends messages: whole ones of either lane, and large ones in chunks. The other one
//! returns [`Credit`]s. A kind that this version does not know has a length like any other, so that
//! it can be skipped.

use std::time::Duration;

use crate::cluster::wire::WireError;

/// The kind of a segment's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentKind {
    /// A whole message of the control lane.
    Control,
    /// A whole message of the data lane.
    Small,
    /// The length of a large message as four bytes, and its beginning.
    FirstChunk,
    /// The next bytes of the large message that was begun.
    NextChunk,
    /// A [`Credit`].
    Credit,
    /// A kind of a later version.
    Unknown,
}

/// One segment, without its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) kind: SegmentKind,
    pub(crate) age: Duration,
    pub(crate) content: &'a [u8],
}

/// Bytes of each data stream that a node has received over a link since it was opened, including
/// heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    pub(crate) small: u64,
    pub(crate) large: u64,
}

impl SegmentKind {
    const fn number(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Small => 1,
            Self::FirstChunk => 2,
            Self::NextChunk => 3,
            Self::Credit => 4,
            Self::Unknown => u8::MAX,
        }
    }

    const fn of(number: u8) -> Self {
        match number {
            0 => Self::Control,
            1 => Self::Small,
            2 => Self::FirstChunk,
            3 => Self::NextChunk,
            4 => Self::Credit,
            _ => Self::Unknown,
        }
    }
}

impl<'a> Segment<'a> {
    /// Splits the first segment off `bytes`. Returns `None` while it is incomplete.
    ///
    /// # Errors
    ///
    /// `FrameTooLong` as soon as the head declares more than [`SEGMENT_MAX`].
    pub(crate) fn next(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, WireError> {
        let Some((head, rest)) = bytes.split_first_chunk::<SEGMENT_HEAD>() else {
            return Ok(None);
        };
        let [kind, len @ .., a, b, c, d] = *head;
        let len = u32::from_be_bytes([0, len[0], len[1], len[2]]) as usize;
        if len > SEGMENT_MAX {
            return Err(WireError::FrameTooLong);
        }
        Ok(rest.split_at_checked(len).map(|(content, rest)| {
            let segment = Self {
                kind: SegmentKind::of(kind),
                age: Duration::from_millis(u32::from_be_bytes([a, b, c, d]).into()),
                content,
            };
            (segment, rest)
        }))
    }

    /// Returns the kind of the incomplete segment at the beginning of `bytes`, once its head is
    /// complete.
    pub(crate) fn kind_of_part(bytes: &[u8]) -> Option<SegmentKind> {
        (bytes.len() >= SEGMENT_HEAD).then(|| SegmentKind::of(bytes[0]))
    }

    /// Appends the segment to `out`. Its content must not be longer than [`SEGMENT_MAX`].
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        Self::encode_parts(self.kind, self.age, [self.content, &[]], out);
    }

    /// Appends a segment to `out` whose content is the two parts in sequence.
    pub(crate) fn encode_parts(
        kind: SegmentKind,
        age: Duration,
        parts: [&[u8]; 2],
        out: &mut Vec<u8>,
    ) {
        let len = parts[0].len() + parts[1].len();
        debug_assert!(len <= SEGMENT_MAX);
        let age = u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
        out.push(kind.number());
        out.extend_from_slice(&(len as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&age.to_be_bytes());
        out.extend_from_slice(parts[0]);
        out.extend_from_slice(parts[1]);
    }
}

impl Credit {
    /// Appends the credit to `out`, as a segment.
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        let mut content = [0; CREDIT];
        content[..8].copy_from_slice(&self.small.to_be_bytes());
        content[8..].copy_from_slice(&self.large.to_be_bytes());
        let segment = Segment {
            kind: SegmentKind::Credit,
            age: Duration::ZERO,
            content: &content,
        };
        segment.encode(out);
    }

    /// Decodes the content of a segment. Fields that later versions add at the end are skipped.
    ///
    /// # Errors
    ///
    /// `Malformed` if the content is too short.
    pub(crate) fn decode(content: &[u8]) -> Result<Self, WireError> {
        let (small, rest) = content.split_first_chunk().ok_or(WireError::Malformed)?;
        let large = rest.first_chunk().ok_or(WireError::Malformed)?;
        Ok(Self {
            small: u64::from_be_bytes(*small),
            large: u64::from_be_bytes(*large),
        })
    }
}

/// The length of a segment's head.
pub(crate) const SEGMENT_HEAD: usize = 8;

/// The longest content of a segment, in bytes: the most that a receiver buffers for a link before
/// it decodes a message. A message that is not sent in chunks has at most about 64 KiB; the rest is
/// room for a long list in the control lane.
pub(crate) const SEGMENT_MAX: usize = 1 << 20;

/// The length of a credit.
const CREDIT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(kind: SegmentKind, age_ms: u64, content: &[u8]) -> Segment<'_> {
        Segment {
            kind,
            age: Duration::from_millis(age_ms),
            content,
        }
    }

    #[test]
    fn segments_come_out_as_they_went_in_wherever_the_stream_is_cut() {
        let all = [
            segment(SegmentKind::Control, 0, b"one"),
            segment(SegmentKind::Small, 7, b""),
            segment(SegmentKind::FirstChunk, 70_000, b"three"),
            segment(SegmentKind::Unknown, 1, b"later"),
        ];
        let mut stream = Vec::new();
        for segment in &all {
            segment.encode(&mut stream);
        }
        for cut in 0..=stream.len() {
            let mut out = Vec::new();
            let mut rest = &stream[..cut];
            while let Some((segment, more)) = Segment::next(rest).unwrap() {
                out.push(segment);
                rest = more;
            }
            assert_eq!(out, all[..out.len()]);
            assert_eq!(out.len() == all.len(), cut == stream.len());
        }
    }

    /// N-02, N-04, N-07.
    #[test]
    fn a_length_over_the_limit_is_refused_before_its_content_arrives() {
        let len = (SEGMENT_MAX as u32 + 1).to_be_bytes();
        let head = [0, len[1], len[2], len[3], 0, 0, 0, 0];
        assert_eq!(Segment::next(&head), Err(WireError::FrameTooLong));
    }

    #[test]
    fn a_credit_arrives_as_it_was_sent_and_may_grow_at_the_end() {
        let credit = Credit {
            small: 1 << 40,
            large: u64::MAX,
        };
        let mut out = Vec::new();
        credit.encode(&mut out);
        let (segment, rest) = Segment::next(&out).unwrap().unwrap();
        assert_eq!(segment.kind, SegmentKind::Credit);
        assert_eq!(rest, b"");
        assert_eq!(Credit::decode(segment.content), Ok(credit));
        let later = [segment.content, b"later"].concat();
        assert_eq!(Credit::decode(&later), Ok(credit));
        assert_eq!(Credit::decode(&later[..15]), Err(WireError::Malformed));
    }

    #[test]
    fn an_age_of_weeks_saturates() {
        let mut out = Vec::new();
        segment(SegmentKind::Small, u64::MAX, b"").encode(&mut out);
        let (segment, _) = Segment::next(&out).unwrap().unwrap();
        assert_eq!(segment.age, Duration::from_millis(u32::MAX.into()));
    }
}
