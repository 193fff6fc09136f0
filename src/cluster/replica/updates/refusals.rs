//! What was refused, so that it stays refused.
//!
//! An asker repeats a question until it is answered, so the owner may judge it more than once. By
//! then a session that had run out may have been used again, or a write may have arrived that the
//! question expects. Whoever was told that nothing was changed must be able to rely on it: the first
//! refusal of an attempt is its last word, at this owner. Askers listen to no other.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::session::{Stamp, Timestamp};

use super::super::message::Verdict;

/// Refused attempts, by their stamps.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    verdicts: BTreeMap<Stamp, Verdict>,
    /// In the order in which they are forgotten.
    ages: VecDeque<(Timestamp, Stamp)>,
}

impl Refusals {
    /// Remembers a refusal. Gives what is to be said: when there is no room to remember it, that
    /// nobody knows.
    pub(super) fn note(&mut self, now: Timestamp, attempt: Stamp, verdict: Verdict) -> Verdict {
        if self.ages.len() >= REFUSALS_MAX {
            return Verdict::Unknown;
        }
        if self.verdicts.insert(attempt, verdict).is_none() {
            self.ages.push_back((now, attempt));
        }
        verdict
    }

    /// What was said of an attempt that was refused.
    pub(super) fn of(&self, attempt: Option<&Stamp>) -> Option<Verdict> {
        self.verdicts.get(attempt?).copied()
    }

    /// Forgets what nobody asks any more: callers wait for `timeout`.
    pub(super) fn forget(&mut self, now: Timestamp, timeout: Duration) {
        while let Some((at, attempt)) = self.ages.front()
            && now.since(*at) >= REMEMBERED.max(timeout * 2)
        {
            self.verdicts.remove(attempt);
            self.ages.pop_front();
        }
    }
}

/// Far longer than a question is under way.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Some 6 MB, and more refusals in half a minute than an owner has reason for: two thousand a
/// second.
const REFUSALS_MAX: usize = 65_536;

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
        assert_eq!(refusals.note(start, stamp(1), Verdict::Gone), Verdict::Gone);
        refusals.forget(start.plus(REMEMBERED / 2), Duration::ZERO);
        assert_eq!(refusals.of(Some(&stamp(1))), Some(Verdict::Gone));
        assert_eq!(refusals.of(Some(&stamp(2))), None);
        refusals.forget(start.plus(REMEMBERED), REMEMBERED);
        assert_eq!(refusals.of(Some(&stamp(1))), Some(Verdict::Gone));
        refusals.forget(start.plus(REMEMBERED), Duration::ZERO);
        assert_eq!(refusals.of(Some(&stamp(1))), None);
    }

    #[test]
    fn what_cannot_be_remembered_is_not_said() {
        let start = Timestamp::from_millis(1_000_000);
        let mut refusals = Refusals::default();
        for clock in 0..REFUSALS_MAX as u64 {
            refusals.note(start, stamp(clock), Verdict::Conflict);
        }
        let last = stamp(REFUSALS_MAX as u64);
        assert_eq!(
            refusals.note(start, last, Verdict::Conflict),
            Verdict::Unknown
        );
        let later = start.plus(REMEMBERED);
        refusals.forget(later, Duration::ZERO);
        assert_eq!(
            refusals.note(later, last, Verdict::Conflict),
            Verdict::Conflict
        );
    }
}
