//! The credential of a session: the secret that makes an id valid, its deadline and its user.
//!
//! A session's *credential* is one register: the hash of the current secret, the absolute deadline,
//! and the user who is logged in. A rotation replaces it as a whole, so a secret is never combined
//! with the user or the deadline of another one.
//!
//! A rotation is an ordered write: the session's owner checks that the credential is still the one
//! that the request has presented. Each credential carries the owner's version and, for each owner,
//! the last version that it follows. An owner writes the credentials of a session one after
//! another. A credential is therefore a predecessor of another if the other's history contains its
//! owner with the same version or a later one. If neither of two credentials is a predecessor, they
//! were written on the two sides of a partition, and neither is the right one: the attacker who
//! planted an id may have rotated it on one side, while the victim logged in on the other.
//! [`Credential::merge`] reports that, and the session is deleted.
//!
//! A rotation that is under way when a partition begins may be carried out on both sides, with one
//! secret and two versions. That is no fork. If one side rotates the secret again before they meet,
//! it looks like one, because a history has versions and no secrets: the session is deleted, and
//! the user has to log in again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::{SecretHash, Timestamp, UserKey, Version};

/// The current secret of a session, as a hash, and the data bound to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) hash: SecretHash,
    /// The absolute deadline.
    pub(crate) absolute_deadline: Timestamp,
    /// Present only if the session was rotated, or is bound to a user.
    details: Option<Box<Details>>,
}

/// The data that only few credentials have. The order of the fields is that of the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Details {
    /// The version that the owner gave it; the default before the first rotation.
    pub(crate) version: Version,
    /// The time of the last rotation.
    pub(crate) rotated_at: Option<Timestamp>,
    /// The user of the session.
    pub(crate) user: Option<UserKey>,
    /// The start of the absolute timeout, if it did not start with the session: the last login.
    pub(crate) began_at: Option<Timestamp>,
    /// For each owner, the last version of a predecessor, the latest first. The owner of this
    /// version is left out.
    pub(crate) history: Vec<Version>,
}

/// The login that accompanies a rotation or a creation, or a return to the previous user. The order
/// of the fields is that of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) user: Option<UserKey>,
    /// The absolute timeout, which starts with it.
    pub(crate) absolute_timeout: Duration,
}

/// The status of a presented secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    Current,
    /// Another secret, shortly after a rotation: probably the former one, in a request that was
    /// sent before the response to the rotation arrived.
    Superseded,
    Unknown,
}

/// The error of merging two credentials of which neither follows the other.
#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forked;

impl Credential {
    /// The credential of a new session.
    pub(crate) fn new(
        hash: SecretHash,
        absolute_deadline: Timestamp,
        user: Option<UserKey>,
    ) -> Self {
        let details = Details {
            user,
            ..Details::default()
        };
        Self::from_parts(hash, absolute_deadline, details)
    }

    /// Creates a credential from parts that came from outside. The caller limits the length of the
    /// history.
    pub(crate) fn from_parts(
        hash: SecretHash,
        absolute_deadline: Timestamp,
        details: Details,
    ) -> Self {
        let is_plain = details == Details::default();
        Self {
            hash,
            absolute_deadline,
            details: (!is_plain).then(|| Box::new(details)),
        }
    }

    pub(crate) fn details(&self) -> Details {
        self.details.as_deref().cloned().unwrap_or_default()
    }

    /// The details, if there are any.
    #[cfg(feature = "replicated")]
    pub(crate) fn known_details(&self) -> Option<&Details> {
        self.details.as_deref()
    }

    pub(crate) fn version(&self) -> Version {
        self.details
            .as_ref()
            .map_or_else(Version::default, |details| details.version)
    }

    pub(crate) fn user(&self) -> Option<UserKey> {
        self.details.as_ref()?.user
    }

    /// The start of the absolute timeout, if it did not start with the session.
    pub(crate) fn began_at(&self) -> Option<Timestamp> {
        self.details.as_ref()?.began_at
    }

    pub(crate) fn rotated_at(&self) -> Option<Timestamp> {
        self.details.as_ref()?.rotated_at
    }

    /// The status of a secret with this hash at `now`.
    pub(crate) fn check(&self, hash: &SecretHash, now: Timestamp) -> Presented {
        let is_recent = |at: Timestamp| now < at.plus(STRAGGLER_TIME);
        if self.hash == SecretHash::NONE {
            // Not a session. Clients must not learn when it was changed.
            Presented::Unknown
        } else if self.hash == *hash {
            Presented::Current
        } else if self.rotated_at().is_some_and(is_recent) {
            // Any other secret counts as superseded. After two rotations within the minute, a tab
            // with the first id would otherwise get a new session, whose cookie would replace that
            // of the login.
            Presented::Superseded
        } else {
            Presented::Unknown
        }
    }

    /// The next credential, with the given `version`: it has another secret and, after a login, the
    /// new user and a new deadline.
    pub(crate) fn rotated(
        &self,
        hash: SecretHash,
        login: Option<Login>,
        version: Version,
        now: Timestamp,
    ) -> Self {
        let known = self.details();
        let mut history = known.history;
        history.retain(|former| former.writer != version.writer);
        if known.version != Version::default() && known.version.writer != version.writer {
            history.insert(0, known.version);
            history.truncate(HISTORY_MAX);
        }
        let details = Details {
            version,
            rotated_at: Some(now),
            user: login.map_or(known.user, |login| login.user),
            began_at: login.map(|_| now).or(known.began_at),
            history,
        };
        Self {
            hash,
            absolute_deadline: login.map_or(self.absolute_deadline, |login| {
                now.plus(login.absolute_timeout)
            }),
            details: Some(Box::new(details)),
        }
    }

    /// Keeps the later of two credentials of one session.
    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Forked> {
        if self == other {
            return Ok(());
        }
        if self.hash == other.hash && self.version() == other.version() {
            // Deadlines that were sent over different paths differ by the delay of the messages.
            self.absolute_deadline = self.absolute_deadline.min(other.absolute_deadline);
            return Ok(());
        }
        match (self.follows(other), other.follows(self)) {
            (true, _) => {}
            (_, true) => *self = other.clone(),
            // Two owners have carried out one rotation: the first one failed meanwhile.
            _ if self.hash == other.hash => {
                if self.version() < other.version() {
                    *self = other.clone();
                }
            }
            _ => return Err(Forked),
        }
        Ok(())
    }

    /// Returns `true` if `other` is a predecessor.
    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    pub(crate) fn follows(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.version(), other.version());
        if mine == Version::default() {
            return false;
        }
        let reaches =
            |known: &Version| known.writer == theirs.writer && known.clock >= theirs.clock;
        theirs == Version::default()
            || mine.writer == theirs.writer && mine.clock > theirs.clock
            || self
                .details
                .as_ref()
                .is_some_and(|details| details.history.iter().any(reaches))
    }

    /// Converts the points in time from another clock to this node's.
    #[cfg(feature = "replicated")]
    pub(crate) fn rebase(&mut self, rebased: impl Fn(Timestamp) -> Timestamp) {
        self.absolute_deadline = rebased(self.absolute_deadline);
        if let Some(details) = &mut self.details {
            details.rotated_at = details.rotated_at.map(&rebased);
            details.began_at = details.began_at.map(rebased);
        }
    }
}

/// How long after a rotation other secrets count as superseded and not as unknown.
pub(crate) const STRAGGLER_TIME: Duration = Duration::from_secs(60);

/// The number of owners in a history. A credential that followed more of them counts as forked when
/// it is merged with a copy from before, and the user has to log in again.
pub(crate) const HISTORY_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn hash(n: u8) -> SecretHash {
        SecretHash::from_bytes([n + 100; 16])
    }

    fn fresh() -> Credential {
        Credential::new(hash(0), NOW.plus(HOUR), None)
    }

    fn rotated(before: &Credential, to: u8, writer: u32, clock: u64) -> Credential {
        before.rotated(hash(to), None, Version { clock, writer }, NOW)
    }

    fn merged(one: &Credential, two: &Credential) -> Result<Credential, Forked> {
        let mut both = one.clone();
        both.merge(two)?;
        let mut reverse = two.clone();
        reverse.merge(one)?;
        assert_eq!(both, reverse);
        Ok(both)
    }

    #[test]
    fn another_secret_is_a_straggler_for_a_minute_after_a_rotation_only() {
        let first = fresh();
        assert_eq!(first.check(&hash(0), NOW), Presented::Current);
        assert_eq!(first.check(&hash(1), NOW), Presented::Unknown);
        let second = rotated(&first, 1, 7, 5);
        let third = rotated(&second, 2, 7, 6);
        for other in [0, 1, 9] {
            assert_eq!(third.check(&hash(other), NOW), Presented::Superseded);
            let late = NOW.plus(STRAGGLER_TIME);
            assert_eq!(third.check(&hash(other), late), Presented::Unknown);
        }
        assert_eq!(third.check(&hash(2), NOW), Presented::Current);
    }

    #[test]
    fn the_later_of_a_chain_wins_whatever_owners_made_it() {
        let mut chain = vec![fresh()];
        for (to, writer) in [(1, 7), (2, 8), (3, 7), (4, 9), (5, 9), (6, 7)] {
            let before = &chain[chain.len() - 1];
            // Clocks of versions do not order different owners.
            chain.push(rotated(before, to, writer, 100 + u64::from(to)));
        }
        let last = &chain[chain.len() - 1];
        for former in &chain {
            assert_eq!(merged(former, last).as_ref(), Ok(last));
        }
    }

    #[test]
    fn rotations_on_two_sides_of_a_partition_are_a_fork() {
        let base = rotated(&fresh(), 1, 7, 5);
        let ours = rotated(&rotated(&base, 2, 7, 6), 3, 7, 9);
        let theirs = rotated(&base, 4, 8, 7);
        assert_eq!(merged(&ours, &theirs), Err(Forked));
        assert_eq!(merged(&ours, &base).as_ref(), Ok(&ours));
        assert_eq!(merged(&theirs, &base).as_ref(), Ok(&theirs));
    }

    #[test]
    fn one_rotation_that_two_owners_carried_out_is_no_fork() {
        let base = fresh();
        let (one, two) = (rotated(&base, 1, 7, 5), rotated(&base, 1, 8, 6));
        assert_eq!(merged(&one, &two).as_ref(), Ok(&two));
    }

    #[test]
    fn a_login_takes_secret_user_and_deadline_together() {
        let (user, absolute_timeout) = (Some(UserKey::of("ada")), 8 * HOUR);
        let version = Version {
            clock: 3,
            writer: 7,
        };
        let login = Some(Login {
            user,
            absolute_timeout,
        });
        let later = NOW.plus(HOUR / 2);
        let bound = fresh().rotated(hash(1), login, version, later);
        assert_eq!(bound.user(), user);
        assert_eq!(bound.absolute_deadline, later.plus(absolute_timeout));
        let next = rotated(&bound, 2, 7, 4);
        assert_eq!(
            (next.user(), next.absolute_deadline),
            (user, bound.absolute_deadline)
        );
        assert_eq!(merged(&fresh(), &next).as_ref(), Ok(&next));
    }

    #[test]
    fn what_more_owners_have_written_than_are_remembered_is_an_uncertain_fork() {
        let base = rotated(&fresh(), 1, 1, 1);
        let mut last = base.clone();
        for owner in 2..=6 {
            last = rotated(&last, 1 + owner as u8, owner, u64::from(owner));
        }
        assert_eq!(merged(&base, &last), Err(Forked));
    }
}
