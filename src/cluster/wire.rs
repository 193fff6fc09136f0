//! Messages as bytes, and back.
//!
//! A stream begins with a [`Hello`] and its [`HelloReply`], which agree on a protocol version; then
//! frames follow, each a length and one [`Message`] in postcard's encoding. What travels is written
//! down here once more, as [`Body`] and what it is made of: **the order of their variants and
//! fields is the format**. Within a protocol version they only grow at the end; anything else is a
//! new version. The committed bytes in the tests hold them still.
//!
//! It promises: decoding never panics, takes no more memory than a small multiple of the bytes that
//! have really arrived, and lets nothing through that the replica could not live with (names too
//! long, attributes out of order, stamps that nothing could follow). It does not judge whether a
//! message makes sense now: that is the replica's business.

mod body;
mod frame;
mod hello;
mod session;

use postcard::ser_flavors::Flavor;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::replica::message::Message;

use self::body::Body;

pub(super) use frame::{FRAME_MAX, HEAD, INTRODUCTION_MAX, frame, next_frame};
pub(super) use hello::{Hello, HelloReply, NAME_MAX as NODE_NAME_MAX, Refusal, is_node_name};
pub(super) use session::ATTRIBUTE_NAME_MAX;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireError {
    /// A frame is longer than this side takes, or would send.
    FrameTooLong,
    /// The bytes are no message of this protocol version.
    Malformed,
    /// There is more than one message in the frame.
    Trailing,
    /// More members, slots or attributes than there can be.
    TooMany,
    /// An attribute's name is too long.
    NameTooLong,
    /// Attributes or stamps out of order, or twice.
    Disorder,
    /// A stamp that no later write could follow.
    StampTooFar,
    /// There is no such slot.
    NoSuchSlot,
    /// A node with a name or an address that no node can have.
    BadNode,
}

/// Appends a message to `out`, as a frame.
///
/// # Errors
///
/// `FrameTooLong` when no receiver would take it; `out` is as before.
pub(super) fn encode(message: &Message, out: &mut Vec<u8>) -> Result<(), WireError> {
    frame(out, |out| put(&Body::from(message), out))
}

/// Reads what [`encode`] has put into one frame.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, WireError> {
    match postcard::take_from_bytes::<Body<'_>>(bytes) {
        Ok((body, [])) => body.try_into(),
        Ok(_) => Err(WireError::Trailing),
        Err(_) => Err(WireError::Malformed),
    }
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

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
