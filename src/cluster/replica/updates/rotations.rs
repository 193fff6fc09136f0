//! Rotations that this node has ordered, remembered so that a repeated one gets the same
//! credential.
//!
//! An owner abandons what it orders when the view changes, and decides again when the asker repeats
//! it. Meanwhile a member that is not in the new view may have merged the first decision, and its
//! clients may have rotated the session again. If the second decision had another version, the next
//! credential over there would not follow it: the two would count as a fork, and the session would
//! be deleted although its clients have rotated it one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::session::{Credential, Record, Root, Rotation, Timestamp, Version, WriterId};

/// The last rotation of each session that this node has ordered lately.
#[derive(Debug, Default)]
pub(super) struct Rotations {
    last: BTreeMap<Root, Ordered>,
    /// In the order in which they are forgotten.
    ages: VecDeque<(Timestamp, Root)>,
}

#[derive(Debug)]
struct Ordered {
    at: Timestamp,
    attempt: Version,
    credential: Credential,
}

impl Rotations {
    /// Returns the credential after a rotation of `current`, the one that the same attempt got
    /// before if it still follows.
    pub(super) fn order(
        &mut self,
        now: Timestamp,
        key: Root,
        attempt: Version,
        rotation: &Rotation,
        current: &Record,
        writer: WriterId,
    ) -> Credential {
        let mut seen = current.clock();
        if let Some(last) = self.last.get(&key) {
            // After another rotation in between, all holders would drop the former credential, and
            // the caller would be given a secret that opens nothing.
            if last.attempt == attempt && last.credential.follows(&current.credential) {
                return last.credential.clone();
            }
            // Two credentials with one version would be a fork.
            seen = seen.max(last.credential.version().clock);
        }
        let version = Version::next(seen, now, writer);
        let (secret, login) = (rotation.to, rotation.login);
        let credential = current.credential.rotated(secret, login, version, now);
        self.note(now, key, attempt, credential.clone());
        credential
    }

    fn note(&mut self, now: Timestamp, key: Root, attempt: Version, credential: Credential) {
        let ordered = Ordered {
            at: now,
            attempt,
            credential,
        };
        self.last.insert(key, ordered);
        self.ages.push_back((now, key));
        if self.ages.len() > ROTATIONS_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets rotations that are not repeated any more: callers wait for `timeout`.
    pub(super) fn forget(&mut self, now: Timestamp, timeout: Duration) {
        while let Some((at, _)) = self.ages.front()
            && now.since(*at) >= REMEMBERED.max(timeout.saturating_mul(2))
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((at, key)) = self.ages.pop_front()
            && self.last.get(&key).is_some_and(|last| last.at == at)
        {
            self.last.remove(&key);
        }
    }
}

/// Far longer than an update is under way.
const REMEMBERED: Duration = Duration::from_secs(30);

/// About 8 MB. With more than 1,000 rotations a second, each is remembered for less than 30
/// seconds.
const ROTATIONS_MAX: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Changes, Outcome, SecretHash};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const KEY: Root = Root::from_bytes([0; 12]);

    fn secret(number: u8) -> SecretHash {
        SecretHash::from_bytes([number; 16])
    }

    fn record() -> Record {
        let changes = Changes::create(secret(1), None, Duration::from_secs(3600));
        match changes.apply_as(None, None, NOW, 9) {
            Outcome::Committed(record) => Record::clone(&record),
            outcome => panic!("{outcome:?}"),
        }
    }

    fn to(number: u8) -> Rotation {
        Rotation {
            from: secret(1),
            to: secret(number),
            login: None,
        }
    }

    const fn attempt(clock: u64) -> Version {
        Version { clock, writer: 5 }
    }

    #[test]
    fn a_repeated_rotation_gets_the_same_credential_as_long_as_it_follows() {
        let mut rotations = Rotations::default();
        let mut current = record();
        let first = rotations.order(NOW, KEY, attempt(1), &to(2), &current, 7);
        let later = NOW.plus(Duration::from_secs(3));
        let again = rotations.order(later, KEY, attempt(1), &to(2), &current, 7);
        assert_eq!(again, first);
        // Another rotation was carried out and rolled back in between.
        for number in [3, 1] {
            current.rotate(
                secret(number),
                None,
                Version {
                    clock: 50,
                    writer: 8,
                },
                NOW,
            );
        }
        let other = rotations.order(later, KEY, attempt(1), &to(2), &current, 7);
        assert!(other.version() > first.version());
        assert!(other.follows(&current.credential));
    }

    /// The clock of the session is ahead of this node's, so the time does not distinguish them.
    #[test]
    fn two_rotations_by_one_owner_never_have_the_same_version() {
        let mut rotations = Rotations::default();
        let current = record();
        let early = Timestamp::from_millis(1);
        let first = rotations.order(early, KEY, attempt(1), &to(2), &current, 7);
        let second = rotations.order(early, KEY, attempt(2), &to(3), &current, 7);
        assert!(second.follows(&first));
    }

    #[test]
    fn rotations_are_forgotten_after_a_while_and_the_oldest_first() {
        let mut rotations = Rotations::default();
        let current = record();
        for number in 0..=ROTATIONS_MAX {
            let mut bytes = [0; 12];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            let key = Root::from_bytes(bytes);
            rotations.order(NOW, key, attempt(1), &to(2), &current, 7);
        }
        assert_eq!(rotations.last.len(), ROTATIONS_MAX);
        assert!(!rotations.last.contains_key(&KEY));
        let later = NOW.plus(REMEMBERED / 2);
        rotations.order(later, KEY, attempt(1), &to(2), &current, 7);
        rotations.forget(NOW.plus(REMEMBERED), Duration::ZERO);
        assert_eq!(rotations.last.len(), 1);
        rotations.forget(later.plus(REMEMBERED), Duration::ZERO);
        assert!(rotations.last.is_empty() && rotations.ages.is_empty());
    }
}
