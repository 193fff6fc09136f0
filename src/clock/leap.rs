//! Detection of steps of the wall clock.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::clock::suspension::suspended;
use crate::clock::wall_clock;

/// The wall clock, compared with the monotonic clock.
///
/// Both are slewed alike, so only steps make a difference. Steps below [`LEAP_MIN`] are followed
/// silently, as a time server makes them.
#[derive(Debug)]
pub(crate) struct WallClock {
    start: Instant,
    /// How many milliseconds it was ahead, from an arbitrary point, when that was last accepted.
    lead: AtomicI64,
}

/// A step of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leap {
    to: i64,
    /// The size of the step.
    pub(crate) by: Duration,
    /// It was a step forward, as after a pause of a virtual machine.
    pub(crate) is_ahead: bool,
}

impl WallClock {
    pub(crate) fn new() -> Self {
        let clock = Self {
            start: Instant::now(),
            lead: AtomicI64::new(0),
        };
        clock.lead.store(clock.lead_now(), Relaxed);
        clock
    }

    /// Returns a step that has not been [accepted](Self::accept) yet.
    pub(crate) fn leap(&self) -> Option<Leap> {
        let to = self.lead_now();
        let leap = leap(self.lead.load(Relaxed), to);
        if leap.is_none() {
            self.lead.store(to, Relaxed);
        }
        leap
    }

    /// Accepts a step, so that it is not reported again.
    pub(crate) fn accept(&self, leap: Leap) {
        self.lead.store(leap.to, Relaxed);
    }

    fn lead_now(&self) -> i64 {
        // In this order, a process that is stopped in between appears to have stepped ahead, which
        // is right: it was paused.
        let steady = self.start.elapsed() + suspended();
        let wall = wall_clock().as_millis() as i64;
        wall.saturating_sub(steady.as_millis() as i64)
    }
}

fn leap(from: i64, to: i64) -> Option<Leap> {
    let by = Duration::from_millis(to.abs_diff(from));
    (by >= LEAP_MIN).then_some(Leap {
        to,
        by,
        is_ahead: to > from,
    })
}

/// The time after which the other nodes may have continued without a silent one.
const LEAP_MIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_two_seconds_is_a_leap_and_a_shorter_one_is_not() {
        assert_eq!(leap(-500, 1_499), None);
        let ahead = leap(-500, 1_500).expect("two seconds");
        assert!(ahead.is_ahead && ahead.by == Duration::from_secs(2));
        let back = leap(0, -3_600_000).expect("an hour");
        assert!(!back.is_ahead && back.by == Duration::from_secs(3600));
    }

    #[test]
    fn a_leap_is_reported_until_it_is_accepted() {
        let clock = WallClock::new();
        assert_eq!(clock.leap(), None);
        // As if the wall clock had been an hour behind until now.
        clock.lead.fetch_sub(3_600_000, Relaxed);
        let leap = clock.leap().expect("an hour");
        assert!(leap.is_ahead);
        assert!(clock.leap().is_some());
        clock.accept(leap);
        assert_eq!(clock.leap(), None);
    }
}
