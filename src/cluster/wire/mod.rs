//! Wire format of messages.
//!
//! A connection begins with a [`Hello`] and its [`HelloReply`], which agree on a
//! [`ProtocolVersion`]; then [`Segment`]s follow, which carry [`Message`]s in postcard's encoding.
//! The format is defined by [`Message`] and the types in it: **the order of their variants and
//! fields is the format**. Within a protocol version fields are only added at the end of a message,
//! and kinds of messages are only added; an older node skips both. Any other change is a new
//! version, and the version on which two nodes have agreed determines the encoding. Golden bytes in
//! the tests check this.
//!
//! Decoding never panics, takes no more memory than a small multiple of the bytes that have
//! arrived, and rejects everything that the replica cannot handle: names that are too long,
//! attributes out of order, versions that no later one could follow. Whether a message is valid in
//! the current state is decided by the replica.

mod frame;
mod handshake;
mod list;
mod record;
mod segment;
mod update;
mod validate;

use postcard::ser_flavors::Flavor;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cluster::replica::message::{KINDS, Message};

use self::validate::{put_later, read_later, validate};

pub(super) use frame::{HANDSHAKE_MAX, HEAD, frame, next_frame};
pub(super) use handshake::{
    Hello, HelloReply, NAME_MAX as NODE_NAME_MAX, ProtocolVersion, RefusalDetails, RefusalReason,
    Rival, is_node_name,
};
pub(super) use record::{ATTRIBUTE_NAME_MAX, ATTRIBUTES_MAX};
pub(super) use segment::{Credit, SEGMENT_HEAD, SEGMENT_MAX, Segment, SegmentKind};

/// Why bytes are not a valid message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireError {
    /// A frame is longer than this side accepts or sends.
    FrameTooLong,
    /// A message is longer than [`MESSAGE_MAX`], or a whole one longer than a segment.
    MessageTooLong,
    /// The bytes are not a message of this protocol version.
    Malformed,
    /// The message is of a kind that only a later version defines.
    UnknownKind,
    /// A chunk without a large message, or more chunks than the message has.
    StrayChunk,
    /// More bytes of a large message than were credited.
    BeyondWindow,
    /// A credit for bytes that were never sent, or smaller than an earlier one.
    BadCredit,
    /// More members or slots than possible.
    TooMany,
    /// A session, or a change to one, that no node sends: an attribute's name is too long,
    /// attributes are out of order or too many, a version is one that no later write could follow,
    /// or there is a value under the name that is reserved for the floor.
    InvalidContent,
    /// The slot does not exist.
    NoSuchSlot,
    /// A node with an invalid name or address.
    BadNode,
}

/// Appends a message to `out`, encoded for `protocol`.
///
/// # Errors
///
/// `MessageTooLong` if no receiver would accept it; `out` is unchanged.
pub(super) fn encode(
    message: &Message,
    protocol: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    encode_within(message, protocol, MESSAGE_MAX, out)
}

fn encode_within(
    message: &Message,
    protocol: ProtocolVersion,
    max: usize,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let start = out.len();
    match protocol {
        ProtocolVersion::V2 => {
            put(message, out);
            put_later(message, out);
        }
    }
    if out.len() - start > max {
        out.truncate(start);
        return Err(WireError::MessageTooLong);
    }
    Ok(())
}

/// Decodes a message. Fields that later versions add at the end are skipped.
///
/// # Errors
///
/// `UnknownKind` if only a later version defines the message: the receiver may skip it. Other
/// errors if the bytes are not a message, or one that the replica cannot handle.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, WireError> {
    match postcard::take_from_bytes::<Message>(bytes) {
        Ok((mut message, later)) => {
            validate(&message)?;
            read_later(&mut message, later);
            Ok(message)
        }
        Err(_) if is_unknown_kind(bytes) => Err(WireError::UnknownKind),
        // Bytes that are not of the type have errors of their own.
        Err(postcard::Error::SerdeDeCustom) => Err(WireError::InvalidContent),
        Err(_) => Err(WireError::Malformed),
    }
}

/// Returns `true` if the bytes begin with a kind of message that this version does not know.
fn is_unknown_kind(bytes: &[u8]) -> bool {
    let kind = postcard::take_from_bytes::<u32>(bytes);
    kind.is_ok_and(|(kind, _)| kind >= KINDS)
}

fn at_most(count: usize, max: usize) -> Result<(), WireError> {
    if count <= max {
        Ok(())
    } else {
        Err(WireError::TooMany)
    }
}

/// Encodes data at the end of `out`.
fn put(data: &impl Serialize, out: &mut Vec<u8>) {
    postcard::serialize_with_flavor(data, VecFlavor(out))
        .expect("sequences of known length into a growing buffer always encode");
}

/// Writes at the end of a buffer that many messages share.
struct VecFlavor<'a>(&'a mut Vec<u8>);

impl Flavor for VecFlavor<'_> {
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

/// Bytes that are encoded as a whole, where a slice would be encoded byte by byte.
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

/// The longest message, in bytes. A session of many attributes that both sides of a partition have
/// filled to the limit several times over still fits; a longer declared length is invalid.
pub(super) const MESSAGE_MAX: usize = 256 << 20;

#[cfg(test)]
#[path = "../../../tests/fuzz/wire.rs"]
mod fuzz;
#[cfg(test)]
mod tests;
