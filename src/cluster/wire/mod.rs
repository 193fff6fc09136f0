//! Messages as bytes, and back.
//!
//! A stream begins with a [`Hello`] and its [`HelloReply`], which agree on a [`Protocol`] version;
//! then [`Segment`]s follow, which carry [`Message`]s in postcard's encoding. What travels is
//! written down here once more, as [`Body`] and what it is made of: **the order of their variants
//! and fields is the format**. Within a protocol version a message only grows at its end, and kinds
//! of messages are only added; an older node skips both. Anything else is a new version, and the
//! version that two nodes agreed on decides what is written. The committed bytes in the tests hold
//! them still.
//!
//! It promises: decoding never panics, takes no more memory than a small multiple of the bytes that
//! have really arrived, and lets nothing through that the replica could not live with (names too
//! long, attributes out of order, stamps that nothing could follow). It does not judge whether a
//! message makes sense now: that is the replica's business.

mod body;
mod frame;
mod hello;
mod segment;
mod session;

use postcard::ser_flavors::Flavor;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::replica::message::Message;

use self::body::Body;

pub(super) use frame::{HEAD, INTRODUCTION_MAX, frame, next_frame};
pub(super) use hello::{
    Hello, HelloReply, NAME_MAX as NODE_NAME_MAX, Protocol, Refusal, RefusalDetails, Rival,
    is_node_name,
};
pub(super) use segment::{Credit, SEGMENT_HEAD, SEGMENT_MAX, Segment, SegmentKind};
pub(super) use session::ATTRIBUTE_NAME_MAX;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireError {
    /// A frame is longer than this side takes, or would send.
    FrameTooLong,
    /// A message is longer than [`MESSAGE_MAX`], or a whole one longer than a segment.
    MessageTooLong,
    /// The bytes are no message of this protocol version.
    Malformed,
    /// The message is of a kind that only a later version knows.
    UnknownKind,
    /// Chunks that belong to no large message, or more than the message has.
    StrayChunk,
    /// More bytes of a large message than were credited.
    BeyondWindow,
    /// A credit for bytes that were never sent, or that takes back an earlier one.
    BadCredit,
    /// More members, slots or attributes than there can be.
    TooMany,
    /// An attribute's name is too long.
    NameTooLong,
    /// Attributes or stamps out of order, or twice.
    Disorder,
    /// A stamp that no later write could follow.
    StampTooFar,
    /// A value under the name under which a session keeps its floor.
    FloorWithValue,
    /// There is no such slot.
    NoSuchSlot,
    /// A node with a name or an address that no node can have.
    BadNode,
}

/// Appends a message to `out`, as `protocol` writes it.
///
/// # Errors
///
/// `MessageTooLong` if no receiver would take it; `out` is as before.
pub(super) fn encode(
    message: &Message,
    protocol: Protocol,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    encode_within(message, protocol, MESSAGE_MAX, out)
}

fn encode_within(
    message: &Message,
    protocol: Protocol,
    max: usize,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let start = out.len();
    match protocol {
        Protocol::V2 => put(&Body::from(message), out),
    }
    if out.len() - start > max {
        out.truncate(start);
        return Err(WireError::MessageTooLong);
    }
    Ok(())
}

/// Reads what [`encode`] has written. Fields that later versions add at the end are skipped.
///
/// # Errors
///
/// `UnknownKind` if only a later version knows the message: the receiver may skip it. Other errors
/// if the bytes are no message, or one that the replica could not live with.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, WireError> {
    match postcard::take_from_bytes::<Body<'_>>(bytes) {
        Ok((body, _later)) => body.try_into(),
        Err(_) if is_unknown_kind(bytes) => Err(WireError::UnknownKind),
        Err(_) => Err(WireError::Malformed),
    }
}

/// Returns `true` if the bytes begin with a kind of message that this version does not know.
fn is_unknown_kind(bytes: &[u8]) -> bool {
    let kind = postcard::take_from_bytes::<u32>(bytes);
    kind.is_ok_and(|(kind, _)| kind >= body::KINDS)
}

fn at_most(count: usize, max: usize) -> Result<(), WireError> {
    match count <= max {
        true => Ok(()),
        false => Err(WireError::TooMany),
    }
}

/// Encodes plain data at the end of `out`.
fn put(data: &impl Serialize, out: &mut Vec<u8>) {
    postcard::serialize_with_flavor(data, End(out))
        .expect("sequences of known length into a growing buffer always encode");
}

/// Writes at the end of a buffer that is shared by many messages.
struct End<'a>(&'a mut Vec<u8>);

impl Flavor for End<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Bytes that are encoded as a whole, where a slice would go byte by byte.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;

        impl<'de> Visitor<'de> for Borrow {
            type Value = Bytes<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_borrowed_bytes<E: de::Error>(
                self,
                bytes: &'de [u8],
            ) -> Result<Self::Value, E> {
                Ok(Bytes(bytes))
            }
        }

        deserializer.deserialize_bytes(Borrow)
    }
}

/// The longest message, in bytes. A session of many attributes that two sides of a split have each
/// filled up to the limit, several times over, still travels; a declared length beyond is nonsense.
pub(super) const MESSAGE_MAX: usize = 256 << 20;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
