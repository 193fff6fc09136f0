//! Tests that are repeated after a pause of a node, and only then.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use crate::certainty::Clocks;
use crate::common::{Start, cluster, cluster_starts, meet, undisturbed};

/// The number of rounds, and whether the last one has failed.
fn rounds(case: impl Fn(usize)) -> (usize, bool) {
    let rounds = Cell::new(0);
    let result = catch_unwind(AssertUnwindSafe(|| {
        undisturbed(|| {
            rounds.set(rounds.get() + 1);
            case(rounds.get());
        });
    }));
    (rounds.get(), result.is_err())
}

#[test]
fn a_failure_without_a_pause_is_one_at_once() {
    let failed = rounds(|_| {
        let _nodes = cluster::<2>(&[]);
        panic!("it always fails");
    });
    assert_eq!(failed, (1, true));
    let failed = rounds(|_| {
        let [one, mut two] = cluster::<2>(&[]);
        two.kill();
        one.wait_log("a member is down");
        panic!("a member is down because of the test");
    });
    assert_eq!(failed, (1, true));
    let failed = rounds(|_| {
        let node = Start::memory("node1").ready();
        node.signal("STOP");
        panic!("{node:?} is suspended");
    });
    assert_eq!(failed, (1, true));
}

#[test]
fn a_failure_after_a_pause_that_the_test_has_caused_is_one_at_once() {
    let failed = rounds(|_| {
        let [one, two] = cluster::<2>(&[]);
        two.signal("STOP");
        one.wait_log("a member is down");
        two.signal("CONT");
        two.wait_log("was paused for so long");
        panic!("a node was suspended");
    });
    assert_eq!(failed, (1, true));
}

#[test]
fn a_failure_after_another_pause_is_repeated() {
    let paused = |round, failures| {
        let clocks = Clocks::new();
        let [one, two] = cluster_starts::<2>(&[]);
        let (one, two) = (one.start(), clocks.on(&two).start());
        meet(&[&one, &two]);
        // The machine was suspended for so long.
        clocks.set(1800, 0);
        two.wait_log("was paused for so long");
        assert!(round > failures, "round {round} fails");
    };
    assert_eq!(rounds(|round| paused(round, 1)), (2, false));
    assert_eq!(rounds(|round| paused(round, usize::MAX)), (4, true));
}

/// The frozen node has not logged anything yet.
#[test]
fn a_failure_while_another_node_is_paused_is_repeated() {
    let failed = rounds(|round| {
        let [one, two] = cluster::<2>(&[]);
        if round == 1 {
            let stopped = Command::new("kill").args(["-STOP", &two.pid()]).status();
            assert!(stopped.expect("there is a `kill` command").success());
            one.wait_log("a member is down");
            panic!("{two:?} is frozen");
        }
    });
    assert_eq!(failed, (2, false));
}
