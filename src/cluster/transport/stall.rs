//! Progress of a link's sending side.

use std::time::Duration;

use tokio::time::Instant;

/// The time of the last progress, or when the link was last idle.
#[derive(Debug)]
pub(super) struct StallDetector(Instant);

impl StallDetector {
    pub(super) const fn new(now: Instant) -> Self {
        Self(now)
    }

    /// Called when the connection has accepted bytes. While data is unconfirmed that is no
    /// progress: it only fills the system's buffers.
    pub(super) const fn wrote(&mut self, now: Instant, awaits_credit: bool) {
        if !awaits_credit {
            self.0 = now;
        }
    }

    /// Called when a credit has arrived. One that confirms nothing comes from a node at which a
    /// large message waits for room.
    pub(super) const fn credited(&mut self, now: Instant) {
        self.0 = now;
    }

    /// Returns `true` if the link must be closed. Called at intervals; `is_busy` is `true` if bytes
    /// are unsent or unconfirmed.
    pub(super) fn is_stalled(&mut self, now: Instant, is_busy: bool) -> bool {
        if !is_busy {
            self.0 = now;
        }
        now.duration_since(self.0) >= PROGRESS_MAX
    }
}

/// Longest time without progress for a link with something to do. Longer than any pause of a
/// working network, and longer than a silent node remains a member.
pub(super) const PROGRESS_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_link_is_closed_when_it_has_stood_still_and_not_when_it_is_slow_or_idle() {
        let began = Instant::now();
        let mut stall = StallDetector::new(began);
        // Idle for a minute.
        assert!((1..60).all(|second| !stall.is_stalled(began + second * SECOND, false)));
        // Slow: one credit every nine seconds.
        let mut now = began + 59 * SECOND;
        for _ in 0..10 {
            for _ in 0..9 {
                now += SECOND;
                assert!(!stall.is_stalled(now, true));
            }
            stall.credited(now);
        }
        let stalled = (1..20).find(|second| stall.is_stalled(now + *second * SECOND, true));
        assert_eq!(stalled, Some(10));
    }

    #[test]
    fn bytes_that_only_fill_buffers_are_no_progress() {
        let began = Instant::now();
        let mut stall = StallDetector::new(began);
        stall.wrote(began + 9 * SECOND, true);
        assert!(stall.is_stalled(began + 10 * SECOND, true));
        stall.wrote(began + 9 * SECOND, false);
        assert!(!stall.is_stalled(began + 10 * SECOND, true));
    }
}
