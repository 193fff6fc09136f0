//! Transport between nodes: one listening port, and one outgoing connection to each peer.
//!
//! A node sends its messages on the connection that it has dialed itself. So there are two
//! connections between two nodes, and no rule is needed to choose one. Both ends identify
//! themselves in a handshake before the first message.
//!
//! Three lanes share a connection ([`lanes`]): membership, views and acknowledgements never wait
//! behind data for longer than a few chunks, and large messages are sent in chunks between which
//! other messages pass. The other end confirms what it has received on the same connection. A slow
//! link stays open; one that makes no progress at all for ten seconds is closed ([`stall`]).
//!
//! A node that has returned is dialed again within a second. A node whose process has failed is
//! detected as fast as its operating system reports it. Unauthenticated peers, invalid data and
//! silence cost a bounded amount of memory for a bounded time, and change nothing.
//!
//! Delivery is not guaranteed. The replica repeats what is still needed.

mod address;
mod connect_problem;
mod dial;
mod dial_result;
mod duplex;
#[cfg(test)]
mod exchange_tests;
mod handshaking;
mod inbox;
mod lanes;
mod listen;
mod message_encoder;
mod mismatch;
mod pace;
mod receive_budget;
mod send_queue;
mod stall;
mod stream;
mod tls;
mod transmit;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use tokio::sync::mpsc;

use crate::cluster::replica::message::Message;
use crate::cluster::replica::node::Node;
use crate::cluster::wire::WireError;
use crate::sync::{read, write};

pub(super) use address::{Lookup, look_up};
pub(super) use dial::{dial, last_incarnation};
pub(super) use dial_result::{DialResult, Rejection};
pub(super) use handshaking::Handshaking;
pub(super) use inbox::Arrival;
#[cfg(test)]
pub(super) use inbox::Inbox;
pub(super) use listen::serve_connection;
pub(super) use message_encoder::MessageEncoder;
use receive_budget::ReceiveBudget;
pub(super) use send_queue::SendQueue;
pub(super) use tls::Security;
pub(super) use tls::derive;

/// All outgoing links.
#[derive(Debug)]
pub(super) struct Links {
    send_queues: RwLock<HashMap<SocketAddr, Arc<SendQueue>>>,
    /// Addresses that have turned out to be this node's own.
    mine: RwLock<HashSet<SocketAddr>>,
    /// Send queues to dial. There are never more of them than send queues.
    dial_requests: mpsc::UnboundedSender<Arc<SendQueue>>,
    security: Security,
    /// Room for large messages that are being received.
    receive_budget: Arc<ReceiveBudget>,
    /// The address at which other nodes reach this one.
    advertised: SocketAddr,
}

impl Links {
    /// Returns an empty set of links, and a receiver of the send queues to dial. This node listens
    /// on `bound`, and other nodes reach it at `advertised`.
    pub(super) fn new(
        bound: SocketAddr,
        advertised: SocketAddr,
        security: Security,
    ) -> (Self, mpsc::UnboundedReceiver<Arc<SendQueue>>) {
        let (dial_requests, receiver) = mpsc::unbounded_channel();
        let links = Self {
            send_queues: RwLock::default(),
            mine: RwLock::new([bound, advertised].into()),
            dial_requests,
            security,
            receive_budget: Arc::default(),
            advertised,
        };
        (links, receiver)
    }

    /// Sends a message if there is a link or one can be made; otherwise drops it.
    ///
    /// # Errors
    ///
    /// `MessageTooLong` if no receiver would accept it.
    pub(super) fn send(
        &self,
        to: &Node,
        message: &Message,
        encoder: &mut MessageEncoder,
    ) -> Result<(), WireError> {
        match self.queue_for(to.address) {
            Some(send_queue) => send_queue.put(to, message, encoder),
            None => Ok(()),
        }
    }

    /// Adds a candidate address, which is dialed for a while if there is room. Returns `true` if
    /// this node may dial it.
    pub(super) fn add_candidate(&self, address: SocketAddr) -> bool {
        let may = may_dial(self.advertised, address);
        let known = may && read(&self.send_queues).contains_key(&address);
        // The rest of the room is reserved for members.
        if known || may && read(&self.send_queues).len() < CANDIDATES_MAX {
            self.queue_for(address);
        }
        may
    }

    /// Returns the send queue for an address, which is dialed from now on.
    fn queue_for(&self, address: SocketAddr) -> Option<Arc<SendQueue>> {
        let known = read(&self.send_queues).get(&address).cloned();
        if let Some(send_queue) = known {
            send_queue.mark_used();
            return Some(send_queue);
        }
        if read(&self.mine).contains(&address) {
            return None;
        }
        let mut send_queues = write(&self.send_queues);
        if send_queues.len() >= DIALED_MAX {
            return None;
        }
        let send_queue = send_queues.entry(address).or_insert_with(|| {
            let send_queue = Arc::new(SendQueue::new(address));
            // The receiver is gone only while the node stops.
            let _ = self.dial_requests.send(send_queue.clone());
            send_queue
        });
        Some(send_queue.clone())
    }

    /// Stops dialing an address unless it has been used again meanwhile. Returns `true` if it has
    /// stopped.
    fn remove_unused(&self, send_queue: &SendQueue) -> bool {
        let mut send_queues = write(&self.send_queues);
        let is_unused = !send_queue.is_used();
        if is_unused {
            send_queues.remove(&send_queue.address);
        }
        is_unused
    }

    /// Records that an address is this node's own.
    fn mark_self(&self, address: SocketAddr) {
        let mut mine = write(&self.mine);
        if mine.len() < DIALED_MAX {
            mine.insert(address);
        }
        drop(mine);
        write(&self.send_queues).remove(&address);
    }

    /// Returns `true` if the address is this node's own.
    pub(super) fn is_mine(&self, address: &SocketAddr) -> bool {
        read(&self.mine).contains(address)
    }

    /// Called when the node at this address has been active: an attempt to dial it is made now.
    fn retry_now(&self, address: SocketAddr) {
        if let Some(send_queue) = read(&self.send_queues).get(&address) {
            send_queue.retry_now();
        }
    }

    /// Closes the link to a node that is not a member any more. It is dialed again while its
    /// address is used: a connection that has survived a network failure may stay silent for
    /// minutes, a new one works as soon as the network does.
    pub(super) fn cut(&self, node: &Node) {
        if let Some(send_queue) = read(&self.send_queues).get(&node.address) {
            send_queue.close_for(node);
        }
    }

    /// Closes all links: this node has to identify itself again.
    pub(super) fn close_all(&self) {
        for send_queue in read(&self.send_queues).values() {
            send_queue.close();
        }
    }

    /// Returns `true` if everything was sent and all data is confirmed.
    pub(super) fn is_flushed(&self) -> bool {
        read(&self.send_queues)
            .values()
            .all(|send_queue| send_queue.is_flushed())
    }
}

/// Returns `true` if a node that others reach at `me` may dial `address`. A node that can only be
/// reached on its own machine must not announce that address to other machines.
fn may_dial(me: SocketAddr, address: SocketAddr) -> bool {
    is_loopback(&address) || !is_loopback(&me)
}

/// Returns `true` if an address can only be reached on its own machine.
pub(super) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Most addresses dialed at the same time: configured peers, candidates and members.
const DIALED_MAX: usize = 256;

/// Most candidate addresses dialed at the same time.
const CANDIDATES_MAX: usize = 128;
