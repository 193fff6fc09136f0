//! Helpers of the tests that drive real processes: nodes, browsers, and waiting with a deadline.

#![allow(
    dead_code,
    unused_imports,
    reason = "every test binary uses its own part of this"
)]

mod browser;
pub(crate) mod namespace;
mod node;
pub(crate) mod ports;
pub(crate) mod redis;
mod scratch;
pub(crate) mod stream;

use std::env;
use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(crate) use browser::{Browser, Reply};
pub(crate) use node::{Node, Start, cluster, cluster_starts, example, meet};
pub(crate) use scratch::Scratch;

/// Polls until `condition` holds; panics with `what` if it does not within [`PATIENCE`].
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// Polls until `condition` holds; panics with `what` if it does not within `limit`. It has failed
/// when a check that began after the limit finds that it does not hold: on a busy machine, a check
/// that began in time may return late.
pub(crate) fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    loop {
        let is_late = Instant::now() >= deadline;
        if condition() {
            return;
        }
        assert!(!is_late, "not within {limit:?}: {what}");
        sleep(POLL);
    }
}

/// Waits until a point in time: for cases whose steps are *after that many milliseconds*.
pub(crate) fn until(point: Instant) {
    sleep(point.saturating_duration_since(Instant::now()));
}

/// A small generator of pseudo-random numbers (splitmix64): the same seed gives the same test.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// The position in a range of ports at which this process starts to look for free ones. Test
/// programs that run concurrently have different numbers in `DISTRIBUTABLE_TEST_SLOT`, and start
/// far from each other: a port that one of them has found free is in use only a moment later.
pub(crate) fn first_port(range: &Range<u16>, per_process: usize) -> usize {
    let slot = env::var("DISTRIBUTABLE_TEST_SLOT").ok();
    match slot.and_then(|slot| slot.parse::<usize>().ok()) {
        Some(slot) => slot % SLOTS * (range.len() / SLOTS),
        None => std::process::id() as usize * per_process,
    }
}

/// The time limit for events that happen *soon*: generous, for machines under load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const POLL: Duration = Duration::from_millis(10);

const SLOTS: usize = 6;
