//! The clock of the crate: the only module that reads the time.
//!
//! The wall clock is read once, on the first call. From then on, time is that reading plus the
//! advance of the monotonic clock, plus the time for which the machine was suspended, during which
//! the monotonic clock of most systems stops. Deadlines therefore pass while a laptop sleeps. A
//! wall clock that is stepped, by an hour or a day, expires no session early or late, and time
//! never runs backwards. Under a paused tokio clock (tests) time stands still and moves with
//! `tokio::time::advance`. With the feature `testing`, a test can move the clock of its runtime.
//!
//! A hypervisor that stops a virtual machine may stop all its clocks. The guest notices when its
//! wall clock is set again. That looks like a wall clock that was wrong before, which is far more
//! common. Therefore a [`WallClock`] that steps ahead counts as a pause (the other nodes may have
//! continued without this one), but no deadline moves: a session that expires a little late on a
//! node that was stopped is deleted by the nodes that were not, while one that expires a day early
//! because an administrator has corrected the clock would be lost.
//!
//! The clocks of two nodes may differ; nothing in this crate requires them to agree.

#[cfg(feature = "replicated")]
mod leap;
#[cfg(feature = "testing")]
mod shift;
mod suspension;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::session::Timestamp;

use self::suspension::suspended;

#[cfg(feature = "replicated")]
pub(crate) use self::leap::WallClock;
#[cfg(feature = "testing")]
pub(crate) use self::shift::Shift;

impl Timestamp {
    /// Returns the current time on this node, by the clock that the middleware uses.
    #[must_use]
    pub fn now() -> Self {
        now()
    }
}

/// Returns the current time on this node.
pub(crate) fn now() -> Timestamp {
    static START: OnceLock<(Instant, Timestamp)> = OnceLock::new();
    let now = Instant::now();
    let (start, wall) = *START.get_or_init(|| (now, wall_clock()));
    let awake = match now.checked_duration_since(start) {
        Some(elapsed) => wall.plus(elapsed),
        None => wall.minus(start.duration_since(now)),
    };
    #[cfg(feature = "testing")]
    let awake = awake.plus(shift::shift());
    awake.plus(suspended())
}

/// Returns the current wall clock, for values that other processes read and to detect steps. It may
/// be stepped, also backwards.
pub(crate) fn wall_clock() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Timestamp::default().plus(since_epoch)
}
