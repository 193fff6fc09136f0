//! Who has connected, and has not said who it is.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use tokio::sync::oneshot;

/// Connections that have not introduced themselves yet.
///
/// There is room for a number of them. When it is used up one has to go: the oldest of the machine
/// that has the most. A node introduces itself within milliseconds, whoever is old among strangers
/// is none; and one machine that makes many connections keeps no other out.
#[derive(Debug, Default)]
pub(crate) struct Handshaking(VecDeque<(IpAddr, oneshot::Sender<()>)>);

/// The right of a stranger to be listened to; over when somebody else needs the room.
pub(crate) type Patience = oneshot::Receiver<()>;

impl Handshaking {
    /// Makes room for one more, from this machine.
    pub(crate) fn admit(&mut self, from: IpAddr) -> Patience {
        if self.0.len() >= STRANGERS_MAX {
            self.0.retain(|(_, stranger)| !stranger.is_closed());
        }
        if self.0.len() >= STRANGERS_MAX {
            self.0.remove(self.least_wanted());
        }
        let (stranger, patience) = oneshot::channel();
        self.0.push_back((from, stranger));
        patience
    }

    /// The oldest of the machine that has the most, if there is anybody.
    fn least_wanted(&self) -> usize {
        let mut counts: HashMap<IpAddr, (usize, usize)> = HashMap::new();
        for (at, (from, _)) in self.0.iter().enumerate() {
            counts.entry(*from).or_insert((0, at)).0 += 1;
        }
        let most = counts.into_values().max_by_key(|(count, _)| *count);
        most.map_or(0, |(_, oldest)| oldest)
    }
}

/// How many connections may be about to introduce themselves: each holds a few KiB.
const STRANGERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn is_over(patience: &mut Patience) -> bool {
        patience.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    /// N-06.
    #[test]
    fn a_machine_that_makes_many_connections_keeps_no_other_out() {
        let mut strangers = Handshaking::default();
        let mut quiet = strangers.admit(ip(1));
        let mut loud: Vec<_> = (0..STRANGERS_MAX + 10)
            .map(|_| strangers.admit(ip(2)))
            .collect();
        assert!(!is_over(&mut quiet));
        for (i, stranger) in loud.iter_mut().enumerate() {
            assert_eq!(is_over(stranger), i < 11, "stranger {i}");
        }
        assert_eq!(strangers.0.len(), STRANGERS_MAX);
    }

    #[test]
    fn who_has_left_takes_no_room() {
        let mut strangers = Handshaking::default();
        let mut first = strangers.admit(ip(1));
        for _ in 0..3 * STRANGERS_MAX {
            drop(strangers.admit(ip(1)));
        }
        assert!(!is_over(&mut first));
    }
}
