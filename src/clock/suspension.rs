//! The time for which the machine was suspended since the first call.
//!
//! Linux has a clock that continues during suspension (`CLOCK_BOOTTIME`), and so has macOS (its
//! `CLOCK_MONOTONIC`; Rust's `Instant` uses another clock there). Its advance over the clock that
//! stops is the time of suspension. If the operating system does not distinguish the two, the
//! result is zero, and a suspension appears as a step of the wall clock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Returns how long the machine was suspended since the first call. Never decreases.
pub(super) fn suspended() -> Duration {
    static START: OnceLock<ClockPair> = OnceLock::new();
    static NANOS: AtomicU64 = AtomicU64::new(0);
    // Between the two readings of the first call, and of a later one, the process may be stopped
    // for any time. In this order that makes the result smaller: no stop looks like a suspension.
    let start = START.get_or_init(|| {
        let awake = Instant::now();
        ClockPair {
            awake,
            boot: boot_time(),
        }
    });
    let boot = boot_time();
    let gained = gained(boot.saturating_sub(start.boot), start.awake.elapsed());
    let nanos = u64::try_from(gained.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(nanos.max(NANOS.fetch_max(nanos, Relaxed)))
}

/// Both clocks at about the same moment.
struct ClockPair {
    awake: Instant,
    boot: Duration,
}

/// The advance of the clock that continues. Less than a millisecond is the time between two
/// readings.
fn gained(boot: Duration, awake: Duration) -> Duration {
    let gained = boot.saturating_sub(awake);
    if gained < RESOLUTION {
        Duration::ZERO
    } else {
        gained
    }
}

/// A clock that continues during suspension, if there is one.
#[cfg(unix)]
fn boot_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    #[cfg(any(target_os = "linux", target_os = "android"))]
    const BOOT: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const BOOT: ClockId = ClockId::Monotonic;
    let time = clock_gettime(BOOT);
    let secs = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(secs, nanos)
}

#[cfg(not(unix))]
const fn boot_time() -> Duration {
    Duration::ZERO
}

const RESOLUTION: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    ///
    #[test]
    fn what_the_boot_time_clock_gains_is_the_time_of_suspension() {
        let hour = Duration::from_secs(3600);
        let minute = Duration::from_secs(60);
        assert_eq!(gained(hour + minute, minute), hour);
        // A process that is stopped between the two readings, and the time that reading takes.
        assert_eq!(gained(minute, hour), Duration::ZERO);
        assert_eq!(
            gained(minute + Duration::from_micros(9), minute),
            Duration::ZERO
        );
    }

    #[test]
    fn a_machine_that_is_awake_is_not_suspended() {
        for _ in 0..1000 {
            assert_eq!(suspended(), Duration::ZERO);
        }
    }
}
