//! Bounds of the data under way to a peer.

use std::fmt::Arguments;

use crate::cluster::replica::message::{Lane, Message};

use crate::cluster::sim::link::Undelivered;

/// A node has at most one large message under way to a peer, and sends small data only while less
/// than a window of it is under way.
pub(crate) fn queues_are_bounded(sent: Undelivered, message: &Message, place: Arguments<'_>) {
    if message.is_large() {
        assert!(
            sent.large_messages == 0,
            "a large message of {} bytes is sent {place} while {} are under way",
            message.size(),
            sent.large_messages
        );
    } else if message.lane() == Lane::Data {
        assert!(
            sent.small_bytes <= WINDOW,
            "a small message is sent {place} while {} bytes are under way",
            sent.small_bytes
        );
    }
}

/// The bytes of small data that may be under way to one peer.
const WINDOW: usize = 4 << 20;
