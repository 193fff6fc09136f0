//! Links over an ocean: 200 ms there and back, and lost packets.

use std::thread::scope;
use std::time::{Duration, Instant};

use crate::common::{Browser, until};
use crate::load::{arrives, under_load, write_large};
use crate::measured::measured_in_namespace;
use crate::network::{Network, start_all};
use crate::relay::{Conditions, Relays};

/// Q-01, K-07.
#[test]
fn small_writes_succeed_over_long_links_that_lose_packets() {
    measured_in_namespace(
        small_writes_succeed_over_long_links_that_lose_packets,
        || {
            let network = Network::new(3);
            let relays = Relays::start(3);
            let nodes = start_all(&network.relayed(&["--copies", "all"]));
            let all: Vec<_> = nodes.iter().collect();
            relays.set_all(OCEAN);
            let began = Instant::now();
            let ((), load) = under_load(&all, || {
                scope(|scope| {
                    for node in &nodes {
                        let nodes = &nodes;
                        scope.spawn(move || {
                            let mut user = Browser::new();
                            write_large(&mut user, node, 2_000_000);
                            for node in nodes {
                                arrives(&user, node);
                            }
                        });
                    }
                });
                until(began + OBSERVED);
            });
            load.assert_unharmed(PROMPT);
        },
    );
}

const OCEAN: Conditions = Conditions {
    delay: Duration::from_millis(100),
    bytes_per_second: Some(6_250_000),
    loss: 2,
};

/// How long writes go on at least.
const OBSERVED: Duration = Duration::from_secs(10);

/// The slowest write of a hundred: a round trip, and two retransmissions, one behind the other.
const PROMPT: Duration = Duration::from_secs(2);
