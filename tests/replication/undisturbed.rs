//! Tests that are repeated after a pause of a node, and only then.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use distributable::testing::TestClock;

use super::*;

/// The number of rounds of a case of which so many fail, after a pause or without one; and whether
/// the last one has failed.
fn rounds(threads: usize, failures: usize, is_paused: bool) -> (usize, bool) {
    let rounds = Cell::new(0);
    let case = async || {
        rounds.set(rounds.get() + 1);
        let (log, _guard) = Log::begin();
        let clock = TestClock::new();
        let [one, _two] = cluster(["node1", "node2"]).await;
        if is_paused {
            clock.advance(HOUR);
            // It reports the pause before it serves again.
            eventually("it was paused", || !one.is_ready()).await;
            settled(&one, 2).await;
        }
        assert!(rounds.get() > failures, "{:?}", log.lines());
    };
    let result = catch_unwind(AssertUnwindSafe(|| undisturbed(threads, case)));
    (rounds.get(), result.is_err())
}

#[test]
fn a_failure_is_repeated_after_a_pause_and_only_then() {
    // A log that is begun in the case has the lines of its thread, and no other ones.
    for threads in [1, 2] {
        assert_eq!(rounds(threads, 1, false), (1, true), "{threads}");
        assert_eq!(rounds(threads, 1, true), (2, false), "{threads}");
    }
}
