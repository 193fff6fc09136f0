//! Minimum time between two log lines or reports of the same kind.

use std::time::Duration;

use crate::session::Timestamp;

/// When something was last logged or reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttle {
    every: Duration,
    last: Option<Timestamp>,
}

impl Throttle {
    /// Returns a throttle that lets one line pass in this time, the first one at once.
    pub(super) const fn new(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// Returns `true` if a line is due, and counts it as written.
    pub(super) fn is_due(&mut self, now: Timestamp) -> bool {
        let is_due = self.last.is_none_or(|last| now.since(last) >= self.every);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

/// Interval at which a problem that continues is logged.
pub(super) const LOG_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_distance() {
        let mut throttle = Throttle::new(Duration::from_millis(100));
        let after = |ms: u64| Timestamp::from_millis(1_700_000_000_000 + ms);
        assert!(throttle.is_due(after(0)));
        assert!(!throttle.is_due(after(99)));
        assert!(throttle.is_due(after(100)));
        assert!(!throttle.is_due(after(100)));
        assert!(throttle.is_due(after(250)));
    }
}
