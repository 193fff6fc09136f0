//! What was refused, so that it stays refused.
//!
//! An asker repeats a question until it is answered, so the owner may judge it more than once. By
//! then a session that had run out may have been used again, or a write may have arrived that the
//! question expects. Whoever was told that nothing was changed must be able to rely on it: the first
//! refusal of an attempt is its last word, at this owner. Askers listen to no other; so where an
//! asker has turned to the next owner, and that one has applied the attempt, it counts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::session::{Stamp, Timestamp};

use crate::cluster::replica::message::UpdateStatus;

/// Refused attempts, by their stamps.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    verdicts: BTreeMap<Stamp, UpdateStatus>,
    /// In the order in which they are forgotten.
    ages: VecDeque<(Timestamp, Stamp)>,
}

impl Refusals {
    /// Remembers a refusal, and forgets the oldest when there is no room.
    pub(super) fn note(&mut self, now: Timestamp, attempt: Stamp, verdict: UpdateStatus) {
        if self.verdicts.insert(attempt, verdict).is_none() {
            self.ages.push_back((now, attempt));
        }
        if self.ages.len() > REFUSALS_MAX
            && let Some((_, oldest)) = self.ages.pop_front()
        {
            self.verdicts.remove(&oldest);
        }
    }

    /// What was said of an attempt that was refused.
    pub(super) fn of(&self, attempt: Option<&Stamp>) -> Option<UpdateStatus> {
        self.verdicts.get(attempt?).copied()
    }

    /// Forgets what nobody asks any more: callers wait for `timeout`.
    pub(super) fn forget(&mut self, now: Timestamp, timeout: Duration) {
        while let Some((at, attempt)) = self.ages.front()
            && now.since(*at) >= REMEMBERED.max(timeout.saturating_mul(2))
        {
            self.verdicts.remove(attempt);
            self.ages.pop_front();
        }
    }
}

/// Far longer than a question is under way.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Some 9 MB. Where more than 20,000 updates a second meet another write, each is remembered for less
/// than the five seconds that a caller waits unless told otherwise.
const REFUSALS_MAX: usize = 1 << 17;

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(clock: u64) -> Stamp {
        Stamp { clock, writer: 1 }
    }

    #[test]
    fn a_refusal_is_remembered_for_a_while() {
        let start = Timestamp::from_millis(1_000_000);
        let mut refusals = Refusals::default();
        refusals.note(start, stamp(1), UpdateStatus::Gone);
        refusals.forget(start.plus(REMEMBERED / 2), Duration::ZERO);
        assert_eq!(refusals.of(Some(&stamp(1))), Some(UpdateStatus::Gone));
        assert_eq!(refusals.of(Some(&stamp(2))), None);
        refusals.forget(start.plus(REMEMBERED), REMEMBERED);
        refusals.forget(start.plus(REMEMBERED), Duration::MAX);
        assert_eq!(refusals.of(Some(&stamp(1))), Some(UpdateStatus::Gone));
        refusals.forget(start.plus(REMEMBERED), Duration::ZERO);
        assert_eq!(refusals.of(Some(&stamp(1))), None);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let start = Timestamp::from_millis(1_000_000);
        let mut refusals = Refusals::default();
        for clock in 0..=REFUSALS_MAX as u64 {
            refusals.note(start, stamp(clock), UpdateStatus::Conflict);
        }
        assert_eq!(refusals.of(Some(&stamp(0))), None);
        assert_eq!(refusals.of(Some(&stamp(1))), Some(UpdateStatus::Conflict));
        assert_eq!(refusals.verdicts.len(), REFUSALS_MAX);
    }
}
