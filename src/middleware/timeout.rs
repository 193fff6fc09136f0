//! Session timeouts as configured by the application.

use std::time::Duration;

/// A timeout of at most [`TIMEOUT_MAX`]. It is zero if shorter than a millisecond, the unit in
/// which time is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeout(Duration);

impl Timeout {
    pub(super) const fn new(time: Duration) -> Self {
        if time.as_millis() == 0 {
            Self(Duration::ZERO)
        } else if time.as_secs() > TIMEOUT_MAX.as_secs() {
            Self(TIMEOUT_MAX)
        } else {
            Self(time)
        }
    }

    /// Returns `true` if the timeout is zero, so that no session could be used.
    pub(super) const fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    pub(super) const fn get(self) -> Duration {
        self.0
    }
}

/// A hundred years: practically unlimited, and far from the end of every format's range.
const TIMEOUT_MAX: Duration = Duration::from_secs(36_525 * 24 * 60 * 60);
