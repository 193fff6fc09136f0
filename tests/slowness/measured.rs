//! Tests that measure time, on a machine that may stall meanwhile.
//!
//! A virtual machine may get no processor for a second. Writes then take a second, and nodes get no
//! answers from each other, whatever the code does. A thread that sleeps for a moment, over and
//! over, measures that: a test that was late is repeated if that thread was late as well. A test
//! that fails in another way, such as a lost write, is not.

use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::process::{self, Command};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::common::POLL;
use crate::common::namespace::{is_isolated, isolate};
use crate::load::SetOnDrop;

/// The failure of a test in which something took too long.
#[derive(Debug)]
struct Late(String);

/// Runs a test that measures time, beside no other one that gives the processors something to do.
pub(crate) fn measured(test: impl Fn()) {
    let _alone = BUSY.write().unwrap_or_else(PoisonError::into_inner);
    repeated(|| watched(|| late(&test)));
}

/// The same for the body of a test that needs a network namespace of its own.
pub(crate) fn measured_in_namespace(test: impl Fn() + Copy, body: impl Fn()) {
    let _alone = BUSY.write().unwrap_or_else(PoisonError::into_inner);
    repeated(|| {
        watched(|| match isolate(test) {
            // This is the process with the namespace.
            None => late(&body).inspect_err(|Late(what)| {
                eprintln!("{what}");
                process::exit(IS_LATE);
            }),
            Some(status) if status.code() == Some(IS_LATE) => Err(Late("see above".to_owned())),
            Some(status) => {
                assert!(status.success(), "in a namespace of its own: {status}");
                Ok(())
            }
        })
    });
}

/// Held by tests that give the processors something to do, and may run beside each other, but not
/// beside one that measures time.
pub(crate) fn not_beside_measurements() -> RwLockReadGuard<'static, ()> {
    BUSY.read().unwrap_or_else(PoisonError::into_inner)
}

/// Fails the test as late if this does not hold.
pub(crate) fn in_time(holds: bool, what: impl fmt::Display) {
    if !holds {
        panic_any(Late(what.to_string()));
    }
}

/// Polls until `condition` holds; the test is late if it does not within `limit`.
pub(crate) fn holds_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    loop {
        let is_over = Instant::now() >= deadline;
        if condition() {
            return;
        }
        in_time(!is_over, format!("not within {limit:?}: {what}"));
        sleep(POLL);
    }
}

static BUSY: RwLock<()> = RwLock::new(());

/// Runs a test that may be late; panics in any other way are passed on.
fn late(test: impl FnOnce()) -> Result<(), Late> {
    catch_unwind(AssertUnwindSafe(test)).or_else(|panic| match panic.downcast::<Late>() {
        Ok(late) => Err(*late),
        Err(panic) => resume_unwind(panic),
    })
}

/// Runs a round, and again while it is late and the machine stalled.
fn repeated(mut round: impl FnMut() -> (Result<(), Late>, Duration)) {
    for left in (0..ROUNDS_MAX).rev() {
        let (result, stalled) = round();
        println!("the machine stalled for {stalled:.1?}");
        let Err(Late(what)) = result else {
            return;
        };
        assert!(
            stalled >= DISTURBANCE && left > 0,
            "{what} (the machine stalled for {stalled:.1?})"
        );
        // Also if the test passes then.
        let _ = writeln!(
            io::stderr(),
            "repeated, as the machine stalled for {stalled:.1?}: {what}"
        );
    }
}

/// Runs `body`; the longest time for which the machine stalled meanwhile.
fn watched<T>(body: impl FnOnce() -> T) -> (T, Duration) {
    let stop = AtomicBool::new(false);
    let watch = || {
        let mut longest = Duration::ZERO;
        while !stop.load(Relaxed) {
            let due = Instant::now() + NAP;
            sleep(NAP);
            longest = longest.max(due.elapsed());
        }
        longest
    };
    scope(|scope| {
        let watcher = scope.spawn(watch);
        let value = {
            let _guard = SetOnDrop(&stop);
            body()
        };
        (value, watcher.join().expect("it only sleeps"))
    })
}

#[test]
fn only_what_is_late_while_the_machine_stalled_is_repeated() {
    let rounds = |test: fn(), stalled| {
        let mut rounds = 0;
        let passed = catch_unwind(AssertUnwindSafe(|| {
            repeated(|| {
                rounds += 1;
                (late(test), stalled)
            });
        }));
        (rounds, passed.is_ok())
    };
    let too_late = || in_time(false, "an example of a test that is late");
    assert_eq!(rounds(too_late, DISTURBANCE / 2), (1, false));
    assert_eq!(rounds(too_late, DISTURBANCE), (ROUNDS_MAX, false));
    assert_eq!(rounds(|| panic!("a lost write"), DISTURBANCE), (1, false));
    assert_eq!(rounds(|| in_time(true, "fast"), DISTURBANCE), (1, true));
}

#[test]
fn a_process_notices_that_it_stalled() {
    if !is_isolated(a_process_notices_that_it_stalled) {
        return;
    }
    let (_, stalled) = watched(|| {
        let pid = process::id();
        let pause = format!("kill -STOP {pid}; sleep 1; kill -CONT {pid}");
        let paused = Command::new("sh").args(["-c", &pause]).status();
        assert!(paused.expect("there is a shell").success());
    });
    assert!(stalled >= DISTURBANCE, "{stalled:?}");
}

/// How long the machine must have stalled: more than these tests make a thread wait for a
/// processor by themselves, which is up to 70 ms on two processors.
const DISTURBANCE: Duration = Duration::from_millis(100);
const NAP: Duration = Duration::from_millis(20);
/// Rounds before a test fails although the machine stalled in each of them.
const ROUNDS_MAX: usize = 3;
/// The exit status of a process whose test was late; that of one that panicked is 101.
const IS_LATE: i32 = 77;
