//! The one place that asks what time it is.
//!
//! The wall clock is read once, when the process first asks; from then on time is that reading plus
//! what the monotonic clock has advanced. So a wall clock that is stepped, by an hour or a day,
//! expires nobody early or late, and time never runs backwards. Under a paused tokio clock (tests)
//! time stands still and moves with `tokio::time::advance`.
//!
//! It does not promise that two nodes agree: nothing in this crate needs that.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::session::Timestamp;

/// The time on this node: the clock that a store written against [`Changes::apply`] reads, because
/// everything else here reads it too.
///
/// [`Changes::apply`]: crate::session::Changes::apply
#[must_use]
pub fn now() -> Timestamp {
    static START: OnceLock<(Instant, Timestamp)> = OnceLock::new();
    let now = Instant::now();
    let (start, wall) = *START.get_or_init(|| (now, wall_clock()));
    match now.checked_duration_since(start) {
        Some(elapsed) => wall.plus(elapsed),
        None => wall.minus(start.duration_since(now)),
    }
}

/// What the wall clock says at this moment: for what must be told to another life of this process,
/// and for nothing else. It may be stepped, backwards too.
pub(crate) fn wall_clock() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Timestamp::default().plus(since_epoch)
}
