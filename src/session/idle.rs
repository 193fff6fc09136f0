//! An idle timeout in eight bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An idle timeout, or none, in eight bytes: every session has two.
///
/// In nanoseconds, plus one; 0 means no limit. Timeouts beyond 584 years count as no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Option<Duration>", into = "Option<Duration>")]
pub(crate) struct Idle(u64);

impl Idle {
    pub(crate) const fn get(self) -> Option<Duration> {
        match self.0.checked_sub(1) {
            Some(nanos) => Some(Duration::from_nanos(nanos)),
            None => None,
        }
    }
}

impl From<Option<Duration>> for Idle {
    fn from(idle: Option<Duration>) -> Self {
        let nanos = |idle: Duration| u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX);
        Self(idle.map_or(0, |idle| nanos(idle).saturating_add(1)))
    }
}

impl From<Idle> for Option<Duration> {
    fn from(idle: Idle) -> Self {
        idle.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for idle in [
            Duration::ZERO,
            Duration::new(1800, 5),
            Duration::from_nanos(1),
        ] {
            assert_eq!(Idle::from(Some(idle)).get(), Some(idle));
        }
        assert_eq!(Idle::from(None).get(), None);
    }

    #[test]
    fn no_idle_time_is_too_long() {
        let years = Duration::from_secs(584 * 365 * 24 * 3600);
        for long in [years, Duration::MAX] {
            assert!(Idle::from(Some(long)).get() >= Some(years));
        }
    }

    #[test]
    fn the_order_is_that_of_idle_times() {
        let idles = [
            None,
            Some(Duration::ZERO),
            Some(Duration::from_secs(1)),
            Some(Duration::MAX),
        ];
        assert!(idles.map(Idle::from).is_sorted());
    }
}
