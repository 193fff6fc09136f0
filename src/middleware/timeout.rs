//! How long sessions may live, as the application configures it.

use std::time::Duration;

/// A time that is long enough to be one: at most [`TIMEOUT_MAX`], and zero if it is shorter than the
/// millisecond in which time is counted.
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

    /// Returns `true` if nothing could live for so short a time.
    pub(super) const fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    pub(super) const fn get(self) -> Duration {
        self.0
    }
}

/// A hundred years: as good as for ever, and far from the end of every format's range.
const TIMEOUT_MAX: Duration = Duration::from_secs(36_525 * 24 * 60 * 60);
