//! Minimum pause between two reports of the same kind.

use std::time::Duration;

use tokio::time::Instant;

/// When progress was last reported.
#[derive(Debug, Default)]
pub(super) struct Throttle(Option<Instant>);

impl Throttle {
    /// Returns `true` if a report is due, and counts it as made.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.0.is_none_or(|last| now.duration_since(last) >= PAUSE);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

/// Ten reports a second are enough for deadlines of seconds, and cost next to nothing.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_keep_their_distance() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        assert!(throttle.is_due(now));
        assert!(!throttle.is_due(now + PAUSE / 2));
        assert!(throttle.is_due(now + PAUSE));
        assert!(!throttle.is_due(now + PAUSE));
    }
}
