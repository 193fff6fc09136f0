//! Connections that have not completed the handshake.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use tokio::sync::oneshot;

/// Incoming connections before the handshake.
///
/// Their number is limited. When the limit is reached one is evicted: the oldest one of the machine
/// with the most connections. A node completes the handshake within milliseconds, so an old
/// connection here is not from a node, and one machine with many connections does not keep other
/// machines out.
#[derive(Debug, Default)]
pub(crate) struct Handshaking(VecDeque<(IpAddr, oneshot::Sender<()>)>);

/// Resolves when the connection is evicted.
pub(crate) type Evicted = oneshot::Receiver<()>;

impl Handshaking {
    /// Adds a connection from this machine, and evicts another one if necessary.
    pub(crate) fn admit(&mut self, from: IpAddr) -> Evicted {
        if self.0.len() >= HANDSHAKING_MAX {
            self.0.retain(|(_, connection)| !connection.is_closed());
        }
        if self.0.len() >= HANDSHAKING_MAX {
            self.0.remove(self.eviction_candidate());
        }
        let (connection, evicted) = oneshot::channel();
        self.0.push_back((from, connection));
        evicted
    }

    /// Returns the index of the oldest connection of the machine with the most; 0 if there are
    /// none.
    fn eviction_candidate(&self) -> usize {
        let mut counts: HashMap<IpAddr, (usize, usize)> = HashMap::new();
        for (at, (from, _)) in self.0.iter().enumerate() {
            counts.entry(*from).or_insert((0, at)).0 += 1;
        }
        let most = counts.into_values().max_by_key(|(count, _)| *count);
        most.map_or(0, |(_, oldest)| oldest)
    }
}

/// Most connections before the handshake: each takes a few KiB.
const HANDSHAKING_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn is_over(evicted: &mut Evicted) -> bool {
        evicted.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    /// N-06.
    #[test]
    fn a_machine_that_makes_many_connections_keeps_no_other_out() {
        let mut connections = Handshaking::default();
        let mut quiet = connections.admit(ip(1));
        let mut loud: Vec<_> = (0..HANDSHAKING_MAX + 10)
            .map(|_| connections.admit(ip(2)))
            .collect();
        assert!(!is_over(&mut quiet));
        for (i, connection) in loud.iter_mut().enumerate() {
            assert_eq!(is_over(connection), i < 11, "connection {i}");
        }
        assert_eq!(connections.0.len(), HANDSHAKING_MAX);
    }

    #[test]
    fn a_connection_that_has_ended_takes_no_room() {
        let mut connections = Handshaking::default();
        let mut first = connections.admit(ip(1));
        for _ in 0..3 * HANDSHAKING_MAX {
            drop(connections.admit(ip(1)));
        }
        assert!(!is_over(&mut first));
    }
}
