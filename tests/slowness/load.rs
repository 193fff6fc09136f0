//! Clients that write while something else goes on, and the effects on them and on the nodes.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::common::{Browser, Node, within};
use crate::measured::{holds_within, in_time};

/// The observations of clients and nodes.
pub(crate) struct Load {
    /// How long each write took, also those that failed.
    took: Vec<Duration>,
    failures: Vec<String>,
    gaps: Vec<String>,
}

/// Runs `body` while several clients of each node write small values, and the nodes are asked for
/// each other.
pub(crate) fn under_load<T>(nodes: &[&Node], body: impl FnOnce() -> T) -> (T, Load) {
    let stop = AtomicBool::new(false);
    let (took, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let began = Instant::now();
    let write = |node: &Node| {
        let mut client = Browser::new();
        for turn in 0.. {
            let asked = Instant::now();
            let reply = client.try_get(node, &format!("/set?k=n&v={turn}"));
            took.lock().expect("no writer panics").push(asked.elapsed());
            let failure = match reply {
                Ok(reply) if reply.status == 200 => None,
                Ok(reply) => Some(reply.text()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(failure) = failure {
                let at = began.elapsed();
                let failure = format!("{} after {at:.1?}: {failure}", node.route());
                failures.lock().expect("no writer panics").push(failure);
            }
            if stop.load(Relaxed) {
                break;
            }
            sleep(PACE);
        }
    };
    let (value, gaps) = scope(|scope| {
        for node in nodes {
            for _ in 0..CLIENTS_PER_NODE {
                scope.spawn(|| write(node));
            }
        }
        let _guard = SetOnDrop(&stop);
        // A test that fails shows the figures as well.
        watched(nodes, || catch_unwind(AssertUnwindSafe(body)))
    });
    let mut took = took.into_inner().expect("no writer panics");
    took.sort_unstable();
    let failures = failures.into_inner().expect("no writer panics");
    let load = Load {
        took,
        failures,
        gaps,
    };
    println!("{load}");
    (value.unwrap_or_else(|panic| resume_unwind(panic)), load)
}

impl Load {
    /// At least 99 of 100 writes have succeeded, and took no longer; no node lost sight of another.
    pub(crate) fn assert_unharmed(&self, limit: Duration) {
        let failed = &self.failures[..self.failures.len().min(SHOWN)];
        in_time(
            self.failures.len() * 100 <= self.took.len(),
            format!("{self}: {failed:#?}"),
        );
        let enough = self.took.len() >= WRITES_MIN;
        in_time(enough, format!("too few writes: {self}"));
        in_time(self.p99() <= limit, format!("too slow: {self}"));
        assert_no_gaps(&self.gaps);
    }

    fn p99(&self) -> Duration {
        self.took[(self.took.len() * 99).div_ceil(100) - 1]
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (writes, failed, gaps) = (self.took.len(), self.failures.len(), self.gaps.len());
        let (p99, slowest) = (self.p99(), self.took[writes - 1]);
        write!(
            f,
            "{failed} of {writes} writes failed, p99 {p99:.1?}, slowest {slowest:.1?}; a node was \
             missing {gaps} times"
        )
    }
}

/// Runs `body` while each of these nodes is asked whether it lists all of them as members that
/// serve; every time that one did not.
pub(crate) fn watched<T>(nodes: &[&Node], body: impl FnOnce() -> T) -> (T, Vec<String>) {
    let stop = AtomicBool::new(false);
    let gaps = Mutex::new(Vec::new());
    let began = Instant::now();
    let watch = |node: &Node| {
        while !stop.load(Relaxed) {
            if !node.sees(nodes) {
                let at = began.elapsed();
                let gap = format!("{} after {at:.1?}", node.route());
                gaps.lock().expect("no watcher panics").push(gap);
            }
            sleep(WATCH_INTERVAL);
        }
    };
    let value = scope(|scope| {
        for node in nodes {
            scope.spawn(|| watch(node));
        }
        let _guard = SetOnDrop(&stop);
        body()
    });
    (value, gaps.into_inner().expect("no watcher panics"))
}

pub(crate) fn assert_no_gaps(gaps: &[String]) {
    let shown = &gaps[..gaps.len().min(SHOWN)];
    let what = format!("a node was missing {} times: {shown:#?}", gaps.len());
    in_time(gaps.is_empty(), what);
}

/// Writes a large value, again for as long as the store is busy.
pub(crate) fn write_large(client: &mut Browser, node: &Node, bytes: usize) {
    let began = Instant::now();
    let mut attempts = 0;
    let what = format!("{} takes {bytes} bytes", node.route());
    holds_within(LARGE_WITHIN, &what, || {
        attempts += 1;
        let reply = client.get(node, &format!("/set?k=large&bytes={bytes}"));
        assert!(matches!(reply.status, 200 | 503), "{}", reply.text());
        reply.status == 200
    });
    let took = began.elapsed();
    println!(
        "{bytes} bytes at {}: {took:.1?}, {attempts} attempts",
        node.route()
    );
}

/// Waits until a node has the large value of this client.
pub(crate) fn arrives(client: &Browser, node: &Node) {
    let mut client = client.twin();
    let what = format!("a large value is at {}", node.route());
    within(LARGE_WITHIN, &what, || {
        let reply = client.get(node, "/has?k=large");
        reply.status == 200 && reply.json()["has"] == true
    });
}

/// Reads it. This keeps the node busy.
pub(crate) fn assert_whole(client: &Browser, node: &Node, bytes: usize) {
    let value = client.twin().value(node, "large");
    let length = value.map(|value| value.len());
    assert_eq!(length, Some(bytes), "at {}", node.route());
}

/// Ends threads also when the test fails.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

pub(crate) const MIB: usize = 1 << 20;

const CLIENTS_PER_NODE: usize = 4;
const PACE: Duration = Duration::from_millis(40);
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// Fewer writes than this are no measure of the slowest one in a hundred.
const WRITES_MIN: usize = 50;
const SHOWN: usize = 10;
/// Several times what the slowest link of these tests needs.
const LARGE_WITHIN: Duration = Duration::from_secs(60);
