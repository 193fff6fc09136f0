//! Rejected updates, remembered so that a rejection is final.
//!
//! An asker repeats an update until it is answered, so the owner may decide on it more than once.
//! By then an expired session may have been accessed, or the write that the update expects may have
//! arrived. A caller that was informed that nothing changed must be able to rely on it. Therefore
//! the first rejection of an attempt is final at this owner. Askers accept rejections from the
//! current owner only, so if an asker has turned to the next owner and that one has applied the
//! attempt, the application counts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::session::{Timestamp, Version};

use crate::cluster::replica::message::UpdateStatus;

/// Rejected attempts, by their versions.
#[derive(Debug, Default)]
pub(super) struct RejectedUpdates {
    verdicts: BTreeMap<Version, UpdateStatus>,
    /// In the order in which they are forgotten.
    ages: VecDeque<(Timestamp, Version)>,
}

impl RejectedUpdates {
    /// Remembers a rejection, and forgets the oldest if there is no room.
    pub(super) fn note(&mut self, now: Timestamp, attempt: Version, verdict: UpdateStatus) {
        if self.verdicts.insert(attempt, verdict).is_none() {
            self.ages.push_back((now, attempt));
        }
        if self.ages.len() > REJECTED_MAX
            && let Some((_, oldest)) = self.ages.pop_front()
        {
            self.verdicts.remove(&oldest);
        }
    }

    /// Returns the verdict on an attempt that was rejected.
    pub(super) fn of(&self, attempt: Option<&Version>) -> Option<UpdateStatus> {
        self.verdicts.get(attempt?).copied()
    }

    /// Forgets rejections of attempts that are not repeated any more: callers wait for `timeout`.
    pub(super) fn forget(&mut self, now: Timestamp, timeout: Duration) {
        while let Some((at, attempt)) = self.ages.front()
            && now.since(*at) >= REMEMBERED.max(timeout.saturating_mul(2))
        {
            self.verdicts.remove(attempt);
            self.ages.pop_front();
        }
    }
}

/// Far longer than an update is under way.
const REMEMBERED: Duration = Duration::from_secs(30);

/// About 9 MB. With more than 20,000 rejections a second, each is remembered for less than the
/// default timeout of a caller, five seconds.
const REJECTED_MAX: usize = 1 << 17;

#[cfg(test)]
mod tests {
    use super::*;

    fn version(clock: u64) -> Version {
        Version { clock, writer: 1 }
    }

    #[test]
    fn a_rejection_is_remembered_for_a_while() {
        let start = Timestamp::from_millis(1_000_000);
        let mut rejected = RejectedUpdates::default();
        rejected.note(start, version(1), UpdateStatus::Gone);
        rejected.forget(start.plus(REMEMBERED / 2), Duration::ZERO);
        assert_eq!(rejected.of(Some(&version(1))), Some(UpdateStatus::Gone));
        assert_eq!(rejected.of(Some(&version(2))), None);
        rejected.forget(start.plus(REMEMBERED), REMEMBERED);
        rejected.forget(start.plus(REMEMBERED), Duration::MAX);
        assert_eq!(rejected.of(Some(&version(1))), Some(UpdateStatus::Gone));
        rejected.forget(start.plus(REMEMBERED), Duration::ZERO);
        assert_eq!(rejected.of(Some(&version(1))), None);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let start = Timestamp::from_millis(1_000_000);
        let mut rejected = RejectedUpdates::default();
        for clock in 0..=REJECTED_MAX as u64 {
            rejected.note(start, version(clock), UpdateStatus::Conflict);
        }
        assert_eq!(rejected.of(Some(&version(0))), None);
        assert_eq!(rejected.of(Some(&version(1))), Some(UpdateStatus::Conflict));
        assert_eq!(rejected.verdicts.len(), REJECTED_MAX);
    }
}
