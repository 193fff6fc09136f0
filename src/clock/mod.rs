//! The one place that asks what time it is.
//!
//! The wall clock is read once, when the process first asks; from then on time is that reading plus
//! what the monotonic clock has advanced, plus the time for which the machine was suspended, in
//! which the monotonic clock of most systems stands still. So deadlines pass while a laptop sleeps,
//! a wall clock that is stepped, by an hour or a day, expires no session early or late, and time
//! never runs backwards. Under a paused tokio clock (tests) time stands still and moves with
//! `tokio::time::advance`.
//!
//! A hypervisor that stops a virtual machine may stop all its clocks. The guest finds out when its
//! wall clock is set again. That looks like a wall clock that was wrong before, which is far more
//! common; so a [`WallClock`] that leaps ahead counts as a pause (the other nodes may have gone on
//! without this one), but no deadline moves: a session that expires a little late on a node that
//! was stopped is deleted by the nodes that were not, and one that expires a day early because an
//! administrator has corrected the clock is lost.
//!
//! It does not promise that two nodes agree: nothing in this crate needs that.

#[cfg(feature = "replicated")]
mod leap;
mod suspension;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::session::Timestamp;

use self::suspension::suspended;

#[cfg(feature = "replicated")]
pub(crate) use self::leap::WallClock;

/// The time on this node: the clock that a store written against [`Changes::apply`] reads, because
/// everything else here reads it too.
///
/// [`Changes::apply`]: crate::session::Changes::apply
#[must_use]
pub fn now() -> Timestamp {
    static START: OnceLock<(Instant, Timestamp)> = OnceLock::new();
    let now = Instant::now();
    let (start, wall) = *START.get_or_init(|| (now, wall_clock()));
    let awake = match now.checked_duration_since(start) {
        Some(elapsed) => wall.plus(elapsed),
        None => wall.minus(start.duration_since(now)),
    };
    awake.plus(suspended())
}

/// What the wall clock says at this moment: for what another process must understand, and to notice
/// leaps. It may be stepped, backwards too.
pub(crate) fn wall_clock() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Timestamp::default().plus(since_epoch)
}
