//! The lifetime of a session: its recorded accesses, their versions, and the idle deadline.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::idle::Idle;
use crate::session::{Timestamp, Version, WriterId};

/// The lifetime of a session. Points in time are on the holder's clock. The order of the fields is
/// that of the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lifetime {
    /// The creation time, by its creator's clock.
    pub(crate) created_at: Timestamp,
    /// The time of the last recorded request.
    pub(crate) accessed_at: Timestamp,
    /// The version of the last access, which orders the accesses that different holders have
    /// recorded; larger is later.
    pub(crate) access: u64,
    /// The idle timeout; `None`: only the absolute deadline counts.
    pub(crate) idle_timeout: (Version, Idle),
    /// A shorter idle timeout until a client has returned the cookie.
    pub(crate) initial_idle_timeout: Idle,
    /// A client has returned the cookie.
    pub(crate) returned: bool,
}

impl Lifetime {
    /// The idle timeout in force.
    pub(crate) fn idle(&self) -> Option<Duration> {
        self.idle_if(self.returned)
    }

    /// The idle timeout in force for a browser that has `returned`, or has not.
    pub(super) fn idle_if(&self, returned: bool) -> Option<Duration> {
        let max = self.idle_timeout.1.get();
        match self.initial_idle_timeout.get() {
            Some(first) if !returned => Some(max.map_or(first, |max| max.min(first))),
            _ => max,
        }
    }

    pub(super) fn idle_deadline(&self, idle: Duration) -> Timestamp {
        self.accessed_at.plus(idle).plus(touch_interval(idle))
    }

    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    pub(super) fn merge(&mut self, other: &Self) {
        // Each copy has it later by the delays of the messages that brought it: the earliest is
        // nearest.
        self.created_at = self.created_at.min(other.created_at);
        self.merge_access(other.accessed_at, other.access);
        self.idle_timeout = self.idle_timeout.max(other.idle_timeout);
        self.initial_idle_timeout = self.initial_idle_timeout.max(other.initial_idle_timeout);
        self.returned |= other.returned;
    }

    /// Merges an access that another holder has recorded.
    ///
    /// Equal versions are one access, whose times differ by the time that the message took: the
    /// earlier counts. A later time with a smaller version, caused by clock differences, gets a new
    /// version, the same on every holder; otherwise a holder that has only the larger version would
    /// not receive it.
    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    pub(crate) fn merge_access(&mut self, at: Timestamp, version: u64) {
        let (ours, theirs) = ((self.access, self.accessed_at), (version, at));
        if ours.0 == theirs.0 {
            self.accessed_at = ours.1.min(theirs.1);
            return;
        }
        let ((behind, smaller), (larger, with_larger)) = (ours.min(theirs), ours.max(theirs));
        self.access = if smaller > with_larger.plus(ACCESS_TOLERANCE) {
            raised(larger, behind)
        } else {
            larger
        };
        self.accessed_at = smaller.max(with_larger);
    }
}

/// Returns the new version of an access with version `behind` that is later than the one with the
/// larger version `seen`.
///
/// It depends on both. If it were the next one after `seen`, two later accesses, each of which one
/// holder has merged first, would have the same version: they would count as one, the earlier, and
/// the session would end early on all holders.
#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
const fn raised(seen: u64, behind: u64) -> u64 {
    let distinct = behind.wrapping_mul(MIXER) >> RAISED_SHIFT;
    seen.saturating_add(1).saturating_add(distinct)
}

/// The part of the idle timeout that may pass before another access is recorded: a tenth, at most a
/// minute.
///
/// A session therefore lives up to this much longer than its idle timeout, and never shorter.
pub(super) fn touch_interval(idle: Duration) -> Duration {
    (idle / 10).min(TOUCH_INTERVAL_MAX)
}

/// The version of an access at `now`. The clock of a version has room for 65,536 writes in a
/// millisecond; here these bits distinguish writers.
pub(crate) fn access_version(now: Timestamp, writer: WriterId) -> u64 {
    Version::next(0, now, writer).clock | u64::from(writer) & WRITER_BITS
}

/// The version of an access at `now` that is larger than `seen`.
///
/// It contains the writer also if `seen` is ahead of this writer's clock. Otherwise two nodes that
/// record an access at the same time would give both the same version, and the earlier access
/// would replace the later one.
pub(super) fn next_access(seen: u64, now: Timestamp, writer: WriterId) -> u64 {
    let after = (seen | WRITER_BITS).saturating_add(1);
    let next = after.saturating_add(u64::from(writer) & WRITER_BITS);
    let version = access_version(now, writer);
    if version > seen { version } else { next }
}

const TOUCH_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// How much later an access with a smaller version must be to count: more than the delays of
/// messages between nodes differ.
#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
const ACCESS_TOLERANCE: Duration = Duration::from_millis(200);

/// An odd number without a pattern, by which a product differs in its upper bits.
#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Leaves 24 bits: two raised versions are equal in one of 16 million cases, and a version is ahead
/// of the clock by at most a quarter of a second more.
#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
const RAISED_SHIFT: u32 = 40;

/// The bits of an access's version that distinguish writers.
const WRITER_BITS: u64 = 0xffff;
