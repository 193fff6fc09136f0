//! Tens of megabytes for a node that takes a trickle, nothing, or stands still.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::common::{Browser, Node, POLL, cluster, eventually, meet, until};
use crate::load::{MIB, SetOnDrop, assert_no_gaps, watched};
use crate::measured::{holds_within, measured, measured_in_namespace};
use crate::network::{Network, start_all};
use crate::relay::{Conditions, FAST, Relays};

///
#[test]
fn a_backlog_is_worked_off_soon_after_a_slow_link_is_fast_again() {
    measured_in_namespace(
        a_backlog_is_worked_off_soon_after_a_slow_link_is_fast_again,
        || {
            recovers_from(Conditions {
                bytes_per_second: Some(200_000),
                ..FAST
            });
        },
    );
}

///
#[test]
fn a_backlog_is_worked_off_soon_after_a_silent_link_works_again() {
    measured_in_namespace(
        a_backlog_is_worked_off_soon_after_a_silent_link_works_again,
        || {
            recovers_from(Conditions {
                bytes_per_second: Some(0),
                ..FAST
            });
        },
    );
}

/// Two of three nodes are under pressure while their links to the third are like this.
fn recovers_from(conditions: Conditions) {
    let network = Network::new(3);
    let relays = Relays::start(3);
    let nodes = start_all(&network.relayed(&["--copies", "all", "--max-bytes", MAX_BYTES]));
    let [one, two, three] = &nodes[..] else {
        unreachable!("there are three");
    };
    let memory = Memory::of(&[one, two]);
    let (writers, gaps) = watched(&[one, two], || {
        let clients = Clients {
            spread: PACE,
            ..MANY
        };
        under_pressure(&[one, two], clients, |pressure| {
            for node in [1, 2] {
                relays.set(node, 3, conditions);
            }
            pressure.begin();
            until(Instant::now() + SLOW_FOR);
            pressure.end();
            let offered = pressure.offered.load(Relaxed);
            assert!(offered > 64 * MIB, "only {offered} bytes");
            relays.set_all(FAST);
            let restored = Instant::now();
            holds_within(RECOVERED_WITHIN, "all nodes serve together", || {
                [one, two, three].iter().all(|node| serves(node, &nodes))
            });
            println!("recovered after {:.1?}", restored.elapsed());
        })
    });
    assert_no_gaps(&gaps);
    memory.assert_bounded(&[one, two]);
    for writer in writers {
        writer.assert_found_at(three);
    }
}

/// Q-02, K-04.
#[test]
fn one_of_three_nodes_that_stops_takes_no_other_down() {
    measured(|| outlives_a_stop::<3>(LARGE));
}

/// Q-02, K-04.
#[test]
fn one_of_four_nodes_that_stops_takes_no_other_down() {
    measured(|| outlives_a_stop::<4>(MANY));
}

fn outlives_a_stop<const N: usize>(clients: Clients) {
    let nodes: [Node; N] = cluster(&["--copies", "all", "--max-bytes", MAX_BYTES]);
    let (stopped, healthy) = nodes.split_last().expect("there are several");
    let healthy: Vec<_> = healthy.iter().collect();
    let memory = Memory::of(&healthy);
    let (writers, gaps) = watched(&healthy, || {
        under_pressure(&healthy, clients, |pressure| {
            stopped.signal("STOP");
            pressure.begin();
            holds_within(DETECTED_WITHIN, "the stopped node is taken out", || {
                healthy.iter().all(|node| node.members() == N - 1)
            });
            let detected = Instant::now();
            pressure.all_write_within(WRITES_AFTER_DETECTION);
            println!("all wrote {:.1?} after the detection", detected.elapsed());
            pressure.end();
            stopped.signal("CONT");
            meet(&nodes.each_ref());
        })
    });
    assert_no_gaps(&gaps);
    memory.assert_bounded(&healthy);
    eventually("the node that was stopped serves", || {
        serves(stopped, &nodes)
    });
    for writer in writers {
        writer.assert_found_at(stopped);
    }
}

/// Returns `true` if a node sees all others and takes a write.
fn serves(node: &Node, nodes: &[Node]) -> bool {
    let all: Vec<_> = nodes.iter().collect();
    let reply = Browser::new().try_get(node, "/set?k=n&v=1");
    node.sees(&all) && reply.is_ok_and(|reply| reply.status == 200)
}

/// Runs `body` while many clients of these nodes wait to write large values over and over, each to
/// a session of its own.
fn under_pressure(nodes: &[&Node], clients: Clients, body: impl FnOnce(&Pressure)) -> Vec<Writer> {
    let writer = |_| Writer {
        browser: Browser::new(),
        acknowledged: 0,
    };
    let mut writers: Vec<_> = (0..clients.count).map(writer).collect();
    for (at, writer) in writers.iter_mut().enumerate() {
        let node = nodes[at % nodes.len()];
        eventually("a session is made", || {
            let reply = writer.browser.get(node, "/set?k=n&v=1");
            reply.status == 200
        });
    }
    let pressure = Pressure {
        clients,
        ..Pressure::default()
    };
    scope(|scope| {
        for (at, writer) in writers.iter_mut().enumerate() {
            let (node, pressure) = (nodes[at % nodes.len()], &pressure);
            let turn = clients.spread * at as u32 / clients.count as u32;
            scope.spawn(move || writer.write(node, pressure, turn));
        }
        let _end = SetOnDrop(&pressure.ended);
        let _begin = SetOnDrop(&pressure.begun);
        body(&pressure);
    });
    writers
}

/// How many clients write values of at least this size.
#[derive(Clone, Copy, Debug, Default)]
struct Clients {
    count: usize,
    bytes: usize,
    /// The time over which their first writes are spread.
    spread: Duration,
}

#[derive(Default)]
struct Pressure {
    clients: Clients,
    begun: AtomicBool,
    ended: AtomicBool,
    /// Bytes that were asked to be written.
    offered: AtomicUsize,
    /// Counts the calls of [`all_write_within`](Self::all_write_within).
    round: AtomicUsize,
    /// The writers that have written in this round.
    written: AtomicUsize,
}

impl Pressure {
    fn begin(&self) {
        self.begun.store(true, Relaxed);
    }

    /// Writers stop after the write that they are at.
    fn end(&self) {
        self.ended.store(true, Relaxed);
    }

    /// Waits until each writer has written something that it began after now.
    fn all_write_within(&self, limit: Duration) {
        self.written.store(0, Relaxed);
        self.round.fetch_add(1, Relaxed);
        holds_within(limit, "all writers write", || {
            self.written.load(Relaxed) == self.clients.count
        });
    }
}

/// A client with a session of its own.
struct Writer {
    browser: Browser,
    /// The length of the latest value whose write was acknowledged; they grow.
    acknowledged: usize,
}

impl Writer {
    /// Writes at this pace, beginning with the writer's turn: a burst of all would keep nodes busy
    /// with requests alone.
    fn write(&mut self, node: &Node, pressure: &Pressure, turn: Duration) {
        while !pressure.begun.load(Relaxed) {
            sleep(POLL);
        }
        until(Instant::now() + turn);
        let mut round = 0;
        for bytes in pressure.clients.bytes.. {
            if pressure.ended.load(Relaxed) {
                break;
            }
            let next = Instant::now() + PACE;
            let current = pressure.round.load(Relaxed);
            pressure.offered.fetch_add(bytes, Relaxed);
            let path = format!("/set?k=large&bytes={bytes}");
            let reply = self.browser.try_get(node, &path);
            if reply.is_ok_and(|reply| reply.status == 200) {
                self.acknowledged = bytes;
                if round < current {
                    round = current;
                    pressure.written.fetch_add(1, Relaxed);
                }
            }
            while Instant::now() < next && !pressure.ended.load(Relaxed) {
                sleep(POLL);
            }
        }
    }

    /// What was acknowledged is there, or a later value.
    fn assert_found_at(mut self, node: &Node) {
        if self.acknowledged > 0 {
            let value = self.browser.value(node, "large").unwrap_or_default();
            assert!(value.len() >= self.acknowledged, "{} bytes", value.len());
        }
    }
}

/// The peak of nodes' memory before something happens, in KiB.
struct Memory(Vec<u64>);

impl Memory {
    fn of(nodes: &[&Node]) -> Self {
        Self(nodes.iter().map(|node| node.memory(PEAK)).collect())
    }

    /// A node takes what its limit allows, and 64 MiB.
    fn assert_bounded(&self, nodes: &[&Node]) {
        let limit = MAX_BYTES.parse::<u64>().expect("a number") / 1024 + 64 * 1024;
        for (node, before) in nodes.iter().zip(&self.0) {
            let more = node.memory(PEAK) - before;
            println!("{}: {} MiB more than before", node.route(), more / 1024);
            assert!(more <= limit, "{more} KiB more at {}", node.route());
        }
    }
}

const PEAK: &str = "VmHWM";

/// 160 MiB: twice what the sessions take, and a little.
const MAX_BYTES: &str = "167772160";
/// Together, they write 72 MiB at once.
const MANY: Clients = Clients {
    count: 72,
    bytes: MIB,
    spread: BEFORE_DETECTION,
};
const LARGE: Clients = Clients {
    count: 9,
    bytes: 8 * MIB,
    spread: BEFORE_DETECTION,
};
/// Less than it takes to find out that a node is silent.
const BEFORE_DETECTION: Duration = Duration::from_millis(2200);

/// From one write of a writer to its next one.
const PACE: Duration = Duration::from_secs(5);

const SLOW_FOR: Duration = Duration::from_secs(12);
const RECOVERED_WITHIN: Duration = Duration::from_secs(5);
const DETECTED_WITHIN: Duration = Duration::from_secs(15);
/// More than the five seconds that a write waits for acknowledgements, and one attempt more.
const WRITES_AFTER_DETECTION: Duration = Duration::from_secs(15);
