//! The order of two writes of one attribute: a hybrid logical clock.

use serde::{Deserialize, Serialize};

use crate::session::Timestamp;

/// The identity of a writer: a hash of a node's address and incarnation, or 0 in a store that
/// applies one change after the other.
///
/// It only has to distinguish concurrent writers; writes of two nodes with the same number are
/// ordered by the written bytes.
pub(crate) type WriterId = u32;

/// The version of a write, which does not depend on synchronized clocks.
///
/// It is a clock and the number of the writer. The clock is the larger of the writer's wall clock
/// (milliseconds, shifted left by 16 bits) and one more than the highest clock that the writer had
/// *seen* in this session: a hybrid logical clock. A write that follows a read therefore has a
/// larger version than what it read, regardless of the wall clocks; these only order concurrent
/// writes. Garage orders its registers the same way.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Version {
    /// The order of writes; larger is later.
    pub(crate) clock: u64,
    /// The writer; decides between equal clocks.
    pub(crate) writer: WriterId,
}

impl Version {
    /// The highest clock accepted from outside: half the range, some 4,000 years from now.
    ///
    /// A larger one could not be followed by a later write and is rejected on input.
    pub(crate) const MAX_CLOCK: u64 = u64::MAX >> 1;

    /// The version of a write at `now` by a writer that has seen clocks up to `seen`.
    pub(crate) fn next(seen: u64, now: Timestamp, writer: WriterId) -> Self {
        let wall = now.as_millis().min(Self::MAX_CLOCK >> WALL_SHIFT) << WALL_SHIFT;
        Self {
            clock: wall.max(seen.saturating_add(1)),
            writer,
        }
    }

    /// Returns `true` if a later write can still follow this one.
    pub(crate) const fn is_valid(&self) -> bool {
        self.clock <= Self::MAX_CLOCK
    }
}

/// Room for 65,536 writes in one millisecond before the clock runs ahead of the wall.
const WALL_SHIFT: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_beats_what_its_writer_has_seen_whatever_the_clock_says() {
        let early = Timestamp::from_millis(1);
        let seen = Version::next(0, Timestamp::from_millis(1_000_000), 1);
        assert!(Version::next(seen.clock, early, 0) > seen);
    }

    #[test]
    fn the_end_of_time_is_still_sane() {
        assert!(Version::next(0, Timestamp::NEVER, 1).is_valid());
        assert!(
            !Version {
                clock: u64::MAX,
                writer: 0
            }
            .is_valid()
        );
    }
}
