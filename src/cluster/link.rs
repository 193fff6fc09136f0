//! Bytes between nodes: one port that listens, and one connection to each node that is dialled.
//!
//! What a node says to another goes over the connection that it has dialled itself; so there are
//! two between any two nodes, and nobody has to decide which one counts. Both ends introduce
//! themselves before the first message.
//!
//! Three lanes share the connection to a node ([`lanes`]): membership, views and acknowledgements
//! never wait behind data for longer than a few chunks, and large messages travel in chunks between
//! which others pass. The other end confirms what it has received on the same connection. A slow
//! link slows, and stays; one that makes no progress at all for ten seconds is closed ([`watch`]).
//!
//! It promises: a node that is back is dialled again within a second; a node whose process has died
//! is noticed as fast as its operating system says so; strangers, garbage and silence cost a
//! bounded amount of memory for a bounded time, and change nothing.
//!
//! It does not promise that anything arrives. The replica repeats what matters.

mod admission;
#[cfg(feature = "rustls")]
mod certificates;
mod dial;
mod duplex;
mod encoder;
#[cfg(test)]
mod exchange_tests;
mod inbox;
mod keys;
mod lanes;
mod listen;
mod mismatch;
mod obstacle;
mod outbox;
mod pace;
mod security;
mod strangers;
mod stream;
mod throttle;
mod transmit;
mod watch;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::mpsc;

use super::replica::message::Message;
use super::replica::node::Node;
use super::wire::WireError;

use admission::Admission;
pub(super) use dial::{dial, last_generation};
pub(super) use encoder::Encoder;
pub(super) use inbox::Arrival;
#[cfg(test)]
pub(super) use inbox::Inbox;
pub(super) use keys::derive;
pub(super) use listen::receive;
pub(super) use outbox::Outbox;
pub(super) use security::Security;
pub(super) use strangers::Strangers;

/// Everybody who is dialled.
#[derive(Debug)]
pub(super) struct Links {
    outboxes: RwLock<HashMap<SocketAddr, Arc<Outbox>>>,
    /// Addresses under which this node has met itself.
    mine: RwLock<HashSet<SocketAddr>>,
    /// Boxes that need somebody to dial. There are never more of them than outboxes.
    undialled: mpsc::UnboundedSender<Arc<Outbox>>,
    security: Security,
    /// Room for the large messages that arrive.
    admission: Arc<Admission>,
    /// Where others reach this node.
    advertised: SocketAddr,
}

impl Links {
    /// Nobody yet; who is to be dialled comes out of the receiver. This node listens at `bound`,
    /// and the others reach it at `advertised`.
    pub(super) fn new(
        bound: SocketAddr,
        advertised: SocketAddr,
        security: Security,
    ) -> (Self, mpsc::UnboundedReceiver<Arc<Outbox>>) {
        let (undialled, receiver) = mpsc::unbounded_channel();
        let links = Self {
            outboxes: RwLock::default(),
            mine: RwLock::new([bound, advertised].into()),
            undialled,
            security,
            admission: Arc::default(),
            advertised,
        };
        (links, receiver)
    }

    /// Sends a message, if there is or can be a link; otherwise drops it.
    ///
    /// # Errors
    ///
    /// `MessageTooLong` if no receiver would take it.
    pub(super) fn send(
        &self,
        to: &Node,
        message: &Message,
        encoder: &mut Encoder,
    ) -> Result<(), WireError> {
        match self.want(to.address) {
            Some(outbox) => outbox.put(to, message, encoder),
            None => Ok(()),
        }
    }

    /// Somebody may be at this address: it is dialled for a while, if there is room. Returns `true`
    /// if it is one that this node may dial.
    pub(super) fn suggest(&self, address: SocketAddr) -> bool {
        let may = may_dial(self.advertised, address);
        let known = may && read(&self.outboxes).contains_key(&address);
        // The rest of the room is for members.
        if known || may && read(&self.outboxes).len() < CANDIDATES_MAX {
            self.want(address);
        }
        may
    }

    /// The box for an address, which is dialled from now on.
    fn want(&self, address: SocketAddr) -> Option<Arc<Outbox>> {
        let known = read(&self.outboxes).get(&address).cloned();
        if let Some(outbox) = known {
            outbox.want();
            return Some(outbox);
        }
        if read(&self.mine).contains(&address) {
            return None;
        }
        let mut outboxes = write(&self.outboxes);
        if outboxes.len() >= DIALLED_MAX {
            return None;
        }
        let outbox = outboxes.entry(address).or_insert_with(|| {
            let outbox = Arc::new(Outbox::new(address));
            // Nobody takes it while the node stops, and nobody needs to.
            let _ = self.undialled.send(outbox.clone());
            outbox
        });
        Some(outbox.clone())
    }

    /// Ends the dialling of an address, unless somebody wants it again. Returns `true` if it has
    /// ended.
    fn give_up(&self, outbox: &Outbox) -> bool {
        let mut outboxes = write(&self.outboxes);
        let unwanted = !outbox.is_wanted();
        if unwanted {
            outboxes.remove(&outbox.address);
        }
        unwanted
    }

    /// Whoever answers at this address is this node itself.
    fn met_myself(&self, address: SocketAddr) {
        let mut mine = write(&self.mine);
        if mine.len() < DIALLED_MAX {
            mine.insert(address);
        }
        drop(mine);
        write(&self.outboxes).remove(&address);
    }

    /// Returns `true` if this node is reached at this address.
    pub(super) fn is_mine(&self, address: &SocketAddr) -> bool {
        read(&self.mine).contains(address)
    }

    /// Whoever is at this address has just been heard of: if it is being dialled, now is the time.
    fn promise(&self, address: SocketAddr) {
        if let Some(outbox) = read(&self.outboxes).get(&address) {
            outbox.promise();
        }
    }

    /// Closes the link to a node that is no member any more. It is dialled again as long as
    /// somebody wants to reach its address: a connection that has survived a broken network may
    /// sleep for minutes, a new one works as soon as the network does.
    pub(super) fn cut(&self, node: &Node) {
        if let Some(outbox) = read(&self.outboxes).get(&node.address) {
            outbox.close_for(node);
        }
    }

    /// Closes all links: they must introduce this node anew.
    pub(super) fn close_all(&self) {
        for outbox in read(&self.outboxes).values() {
            outbox.close();
        }
    }

    /// Returns `true` if everything that could be sent was sent, and all data confirmed.
    pub(super) fn is_flushed(&self) -> bool {
        read(&self.outboxes)
            .values()
            .all(|outbox| outbox.is_flushed())
    }
}

/// Returns `true` if a node that others reach at `me` may dial `address`. What is only reachable on
/// its own machine must not tell others to look for it on theirs.
fn may_dial(me: SocketAddr, address: SocketAddr) -> bool {
    is_loopback(&address) || !is_loopback(&me)
}

/// Returns `true` if an address is only reachable on its own machine.
pub(super) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// How many addresses are dialled at most: peers given by name, and members. Memory copies are for
/// clusters of a handful.
const DIALLED_MAX: usize = 256;

/// How many addresses are dialled because somebody may be there.
const CANDIDATES_MAX: usize = 128;
