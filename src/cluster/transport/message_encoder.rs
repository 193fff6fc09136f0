//! Encoding of outgoing messages, once for all receivers.

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::replica::message::{Message, Write};
use crate::cluster::wire::{ProtocolVersion, WireError, encode};

/// Encodes messages, and caches the last write: the replica sends the same write to all holders,
/// one after the other, and their send queues share its bytes.
#[derive(Debug, Default)]
pub(crate) struct MessageEncoder {
    /// The buffer in which small messages are encoded, to be copied at their length.
    scratch: Vec<u8>,
    last: Option<(Write, ProtocolVersion, Bytes)>,
}

impl MessageEncoder {
    /// # Errors
    ///
    /// `MessageTooLong` if no receiver would take it.
    pub(super) fn encode(
        &mut self,
        message: &Message,
        protocol: ProtocolVersion,
    ) -> Result<Bytes, WireError> {
        let Message::Write(write) = message else {
            return self.encode_anew(message, protocol);
        };
        if let Some((last, version, bytes)) = &self.last
            && *version == protocol
            && is_same(last, write)
        {
            return Ok(bytes.clone());
        }
        let bytes = self.encode_anew(message, protocol)?;
        self.last = Some((write.clone(), protocol, bytes.clone()));
        Ok(bytes)
    }

    /// Clears the cache. Called when no more receivers of the last write follow.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    fn encode_anew(
        &mut self,
        message: &Message,
        protocol: ProtocolVersion,
    ) -> Result<Bytes, WireError> {
        if message.is_large() {
            let mut bytes = Vec::with_capacity(message.size());
            encode(message, protocol, &mut bytes)?;
            return Ok(bytes.into());
        }
        self.scratch.clear();
        encode(message, protocol, &mut self.scratch)?;
        Ok(Bytes::copy_from_slice(&self.scratch))
    }
}

/// Returns `true` if both are the same write; the sessions in them are not compared.
fn is_same(one: &Write, other: &Write) -> bool {
    // `behind` may differ: an earlier value only makes the receiver keep acknowledgements longer.
    Arc::ptr_eq(&one.entries, &other.entries)
        && one.seq == other.seq
        && one.view == other.view
        && one.strict == other.strict
        && one.sent_at == other.sent_at
}

#[cfg(test)]
mod tests {
    use crate::session::Timestamp;

    use super::*;
    use crate::cluster::replica::message::ViewId;

    fn write(seq: u64) -> Write {
        Write {
            seq,
            behind: 0,
            view: ViewId::default(),
            strict: false,
            sent_at: Timestamp::from_millis(1),
            entries: Arc::new([]),
        }
    }

    fn encoded(encoder: &mut MessageEncoder, write: &Write) -> Bytes {
        let message = Message::Write(write.clone());
        encoder.encode(&message, ProtocolVersion::V2).unwrap()
    }

    #[test]
    fn a_write_to_several_nodes_is_encoded_once() {
        let mut encoder = MessageEncoder::default();
        let one = write(1);
        let first = encoded(&mut encoder, &one);
        let again = encoded(&mut encoder, &one);
        assert_eq!(first.as_ptr(), again.as_ptr());
        encoder.forget();
        assert_ne!(first.as_ptr(), encoded(&mut encoder, &one).as_ptr());
    }

    #[test]
    fn another_write_is_not_taken_for_the_last() {
        let mut encoder = MessageEncoder::default();
        let first = encoded(&mut encoder, &write(1));
        let second = encoded(&mut encoder, &write(2));
        assert_ne!(first, second);
        // Equal content at another address: contents are not compared.
        let third = encoded(&mut encoder, &write(2));
        assert_eq!(second, third);
        assert_ne!(second.as_ptr(), third.as_ptr());
    }
}
