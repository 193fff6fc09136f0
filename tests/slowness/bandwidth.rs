//! Large sessions over links of 20 to 100 Mbit/s.

use std::panic::resume_unwind;
use std::thread::scope;
use std::time::{Duration, Instant};

use crate::common::{Browser, Node, eventually, meet, until, within};
use crate::load::{arrives, assert_whole, under_load, write_large};
use crate::measured::measured_in_namespace;
use crate::network::{Network, Shape, start_all};

/// a short queue, then a long one.
#[test]
fn eight_megabytes_over_20_mbit_delay_no_small_write() {
    measured_in_namespace(eight_megabytes_over_20_mbit_delay_no_small_write, || {
        let network = Network::new(2);
        let nodes = start_all(&network.starts(&[]));
        for shape in [SHORT_QUEUE, LONG_QUEUE] {
            network.shape(shape);
            write_under_load(&nodes, &[0], 8_000_000, PROMPT);
        }
    });
}

/// in both directions at once.
#[test]
fn eight_megabytes_each_way_over_50_mbit_delay_no_small_write() {
    measured_in_namespace(
        eight_megabytes_each_way_over_50_mbit_delay_no_small_write,
        || {
            let network = Network::new(2);
            let nodes = start_all(&network.starts(&[]));
            for (burst, latency) in [("32kbit", "50ms"), ("64kb", "400ms")] {
                network.shape(Shape {
                    rate: "50mbit",
                    burst,
                    latency,
                });
                write_under_load(&nodes, &[0, 1], 8_000_000, PROMPT);
            }
        },
    );
}

///
#[test]
fn six_users_with_fifteen_megabytes_each_at_100_mbit_delay_no_small_write() {
    measured_in_namespace(
        six_users_with_fifteen_megabytes_each_at_100_mbit_delay_no_small_write,
        || {
            let network = Network::new(3);
            let nodes = start_all(&network.starts(&["--copies", "all"]));
            network.shape(Shape {
                rate: "100mbit",
                burst: "64kb",
                latency: "50ms",
            });
            write_under_load(&nodes, &[0, 1, 2, 0, 1, 2], 15_000_000, PROMPT_WHEN_BUSY);
        },
    );
}

/// A user at each of these nodes writes a large value, which arrives everywhere, while the small
/// writes of others go on.
fn write_under_load(nodes: &[Node], at: &[usize], bytes: usize, limit: Duration) {
    let all: Vec<_> = nodes.iter().collect();
    let (users, load) = under_load(&all, || {
        let began = Instant::now();
        let user = |turn: u32, node: &Node| {
            until(began + BETWEEN_USERS * turn);
            let mut user = Browser::new();
            write_large(&mut user, node, bytes);
            for node in nodes {
                arrives(&user, node);
            }
            user
        };
        scope(|scope| {
            let user = &user;
            let users = (0..).zip(at);
            let users = users.map(|(turn, &at)| scope.spawn(move || user(turn, &nodes[at])));
            let users: Vec<_> = users.collect();
            let users = users.into_iter().map(|user| user.join());
            let users = users.map(|user| user.unwrap_or_else(|panic| resume_unwind(panic)));
            let users: Vec<_> = users.collect();
            until(began + OBSERVED);
            users
        })
    });
    load.assert_unharmed(limit);
    for user in &users {
        for node in nodes {
            assert_whole(user, node, bytes);
        }
    }
}

/// Q-01, 56: one node joins while sessions of 1 to 15 MB exist.
#[test]
fn a_node_joins_over_20_mbit_and_has_all_large_sessions() {
    measured_in_namespace(a_node_joins_over_20_mbit_and_has_all_large_sessions, || {
        let network = Network::new(3);
        let starts = network.starts(&["--copies", "all"]);
        let nodes = start_all(&starts[..2]);
        let sizes = [1, 2, 4, 8, 15].map(|size| size * 1_000_000);
        let users: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(at, &bytes)| {
                let mut user = Browser::new();
                write_large(&mut user, &nodes[at % 2], bytes);
                user
            })
            .collect();
        network.shape(LONG_QUEUE);
        let [one, two] = [&nodes[0], &nodes[1]];
        let (three, load) = under_load(&[one, two], || {
            let three = starts[2].start();
            within(JOINED_WITHIN, "the new node is ready", || three.is_ready());
            three
        });
        load.assert_unharmed(PROMPT);
        meet(&[one, two, &three]);
        eventually("the new node has all sessions", || {
            three.sessions() == one.sessions()
        });
        // From the copies of the new node: there is no other.
        drop(nodes);
        for (user, bytes) in users.iter().zip(sizes) {
            arrives(user, &three);
            assert_whole(user, &three, bytes);
        }
    });
}

const SHORT_QUEUE: Shape = Shape {
    rate: "20mbit",
    burst: "32kbit",
    latency: "50ms",
};

const LONG_QUEUE: Shape = Shape {
    rate: "20mbit",
    burst: "64kb",
    latency: "400ms",
};

/// The slowest write of a hundred, while a link is full of something else.
const PROMPT: Duration = Duration::from_secs(1);

/// The same where each large value takes all of a processor for half a second, at each node.
const PROMPT_WHEN_BUSY: Duration = Duration::from_secs(3);

/// From one user's large value to the next one's: a fraction of what it takes.
const BETWEEN_USERS: Duration = Duration::from_millis(500);

/// How long small writes go on at least: one in a hundred is to be seen.
const OBSERVED: Duration = Duration::from_secs(4);

/// Thirty megabytes take twelve seconds.
const JOINED_WITHIN: Duration = Duration::from_secs(60);
