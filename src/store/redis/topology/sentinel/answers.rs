//! The primaries that the sentinels currently name, and the precedence of their answers.

use crate::store::redis::url::Address;

/// The answers of all sentinels.
#[derive(Debug)]
pub(super) struct SentinelAnswers(Vec<SentinelState>);

/// A sentinel's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedPrimary {
    /// The election that made this server the primary. Larger is later, among the answers of one
    /// set of sentinels.
    pub(super) epoch: u64,
    pub(super) address: Address,
}

#[derive(Debug, Default)]
struct SentinelState {
    /// `None` while the sentinel cannot be asked.
    named: Option<NamedPrimary>,
    /// The epoch of the last answer.
    epoch: u64,
    /// The number of times that the sentinel has restarted its count of elections.
    restarts: u32,
}

/// A server, and the answers that name it.
struct PrimaryCandidate {
    address: Address,
    epoch: u64,
    votes: usize,
    is_known: bool,
}

impl SentinelAnswers {
    pub(super) fn new(sentinels: usize) -> Self {
        Self((0..sentinels).map(|_| SentinelState::default()).collect())
    }

    /// Records an answer. Returns `true` if it differs from the previous one.
    pub(super) fn record(&mut self, sentinel: usize, named: NamedPrimary) -> bool {
        let state = &mut self.0[sentinel];
        if named.epoch < state.epoch {
            state.restarts += 1;
        }
        state.epoch = named.epoch;
        let changed = state.named.as_ref() != Some(&named);
        state.named = Some(named);
        changed
    }

    /// Records that the sentinel cannot be asked. Returns `true` if it had an answer.
    pub(super) fn withdraw(&mut self, sentinel: usize) -> bool {
        self.0[sentinel].named.take().is_some()
    }

    /// The servers that are currently named, once for each sentinel.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let named = self.0.iter().filter_map(|state| state.named.as_ref());
        named.map(|named| named.address.clone()).collect()
    }

    /// The servers that are currently named, by descending precedence, without those that were
    /// replaced since. A server for which `are_one` finds that it is the `known` one keeps its
    /// address.
    pub(super) fn ranking(
        &mut self,
        known: Option<&Address>,
        are_one: impl Fn(&Address, &Address) -> bool,
    ) -> Vec<Address> {
        let current = self.current();
        let mut candidates: Vec<PrimaryCandidate> = Vec::new();
        for named in current
            .iter()
            .filter_map(|number| self.0[*number].named.as_ref())
        {
            let same = candidates
                .iter_mut()
                .find(|candidate| are_one(&candidate.address, &named.address));
            if let Some(candidate) = same {
                candidate.votes += 1;
                candidate.epoch = candidate.epoch.max(named.epoch);
                continue;
            }
            let known = known.filter(|known| are_one(known, &named.address));
            candidates.push(PrimaryCandidate {
                address: known.unwrap_or(&named.address).clone(),
                epoch: named.epoch,
                votes: 1,
                is_known: known.is_some(),
            });
        }
        if candidates.len() == 1 {
            self.agree();
        }
        let by_epoch = self.count_together(&current);
        candidates.sort_by_key(|candidate| {
            let support = if by_epoch {
                (candidate.epoch, candidate.votes as u64)
            } else {
                (candidate.votes as u64, candidate.epoch)
            };
            // Of two names of one server that cannot be compared, the choice must not alternate:
            // each change drops all copies and connects anew.
            std::cmp::Reverse((support.0, candidate.is_known, support.1))
        });
        let addresses = candidates.into_iter().map(|candidate| candidate.address);
        addresses.collect()
    }

    /// Called when the sentinels whose answers count name one server: from here on their epochs are
    /// compared again. Those of sentinels that cannot be asked may be from before a restart of the
    /// count, and are not.
    pub(super) fn agree(&mut self) {
        let current = self.current();
        let restarts = current.iter().map(|number| self.0[*number].restarts).max();
        for number in current {
            self.0[number].restarts = restarts.unwrap_or_default();
        }
    }

    /// The numbers of the sentinels whose answers count. An answer from before an election that a
    /// sentinel without an answer has already named does not: that server was replaced, although it
    /// may not know it yet.
    fn current(&self) -> Vec<usize> {
        let answered = || self.0.iter().filter(|state| state.named.is_some());
        let is_before = |state: &SentinelState, other: &SentinelState| {
            state.restarts == other.restarts && state.epoch < other.epoch
        };
        // An election that a majority does not know has failed: the sentinel that named it is lost.
        let counts = |other: &&SentinelState| {
            let behind = answered().filter(|state| is_before(state, other));
            other.named.is_none() && 2 * behind.count() <= self.0.len()
        };
        let withdrawn: Vec<_> = self.0.iter().filter(counts).collect();
        let is_current = |(_, state): &(usize, &SentinelState)| {
            let mut later = withdrawn.iter();
            state.named.is_some() && !later.any(|other| is_before(state, other))
        };
        let current = self.0.iter().enumerate().filter(is_current);
        current.map(|(number, _)| number).collect()
    }

    /// Returns `true` if the epochs of these sentinels can be compared.
    fn count_together(&self, sentinels: &[usize]) -> bool {
        let mut restarts = sentinels.iter().map(|number| self.0[*number].restarts);
        let first = restarts.next();
        restarts.all(|restarts| Some(restarts) == first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> Address {
        Address::parse(name, 1).expect("it is one")
    }

    fn named(epoch: u64, name: &str) -> NamedPrimary {
        NamedPrimary {
            epoch,
            address: address(name),
        }
    }

    fn ranking(answers: &mut SentinelAnswers, known: &str) -> Vec<String> {
        let ranking = answers.ranking(Some(&address(known)), |one, other| one == other);
        ranking.into_iter().map(|address| address.host).collect()
    }

    ///
    #[test]
    fn after_a_failover_the_latest_election_counts() {
        let mut answers = SentinelAnswers::new(3);
        for sentinel in 0..3 {
            assert!(answers.record(sentinel, named(7, "old")));
        }
        assert!(!answers.record(0, named(7, "old")));
        assert_eq!(ranking(&mut answers, "old"), ["old"]);
        assert!(answers.record(1, named(8, "new")));
        assert_eq!(ranking(&mut answers, "old"), ["new", "old"]);
    }

    ///
    #[test]
    fn repaired_sentinels_count_anew() {
        let mut answers = SentinelAnswers::new(3);
        for sentinel in 0..3 {
            answers.record(sentinel, named(7, "old"));
        }
        answers.record(0, named(0, "new"));
        assert_eq!(ranking(&mut answers, "old"), ["old", "new"]);
        answers.record(1, named(0, "new"));
        assert_eq!(ranking(&mut answers, "old"), ["new", "old"]);
        answers.record(2, named(0, "new"));
        assert_eq!(ranking(&mut answers, "old"), ["new"]);
        // From then on elections are compared again.
        answers.record(2, named(1, "newer"));
        assert_eq!(ranking(&mut answers, "new"), ["newer", "new"]);
    }

    ///
    #[test]
    fn sentinels_that_cannot_be_asked_do_not_count() {
        let mut answers = SentinelAnswers::new(3);
        for sentinel in 0..3 {
            answers.record(sentinel, named(7, "old"));
        }
        assert!(answers.withdraw(1));
        assert!(!answers.withdraw(1));
        answers.withdraw(2);
        answers.record(0, named(0, "new"));
        assert_eq!(ranking(&mut answers, "old"), ["new"]);
        // Nor do the elections that they named before.
        assert_eq!(ranking(&mut answers, "new"), ["new"]);
        answers.record(0, named(1, "newer"));
        assert_eq!(ranking(&mut answers, "new"), ["newer"]);
    }

    /// two sentinels name the new primary and then cannot be asked; the third one still names
    /// the old one.
    #[test]
    fn a_primary_that_was_replaced_is_not_named_again() {
        let mut answers = SentinelAnswers::new(3);
        answers.record(0, named(7, "old"));
        answers.record(1, named(8, "new"));
        answers.record(2, named(8, "new"));
        answers.withdraw(1);
        assert_eq!(ranking(&mut answers, "new"), ["new"]);
        answers.withdraw(2);
        assert!(ranking(&mut answers, "new").is_empty());
        answers.record(0, named(9, "newer"));
        assert_eq!(ranking(&mut answers, "new"), ["newer"]);
        // It has been repaired.
        answers.record(0, named(0, "old"));
        assert_eq!(ranking(&mut answers, "newer"), ["old"]);
    }

    /// the count of one sentinel has restarted, without a disagreement, before the election.
    #[test]
    fn a_sentinel_that_was_repaired_while_all_agreed_does_not_name_a_replaced_primary() {
        let mut answers = SentinelAnswers::new(3);
        for sentinel in 0..3 {
            answers.record(sentinel, named(7, "old"));
        }
        answers.record(0, named(0, "old"));
        answers.record(0, named(7, "old"));
        answers.agree();
        for sentinel in [1, 2] {
            answers.record(sentinel, named(8, "new"));
        }
        assert_eq!(ranking(&mut answers, "old"), ["new", "old"]);
        answers.withdraw(1);
        answers.withdraw(2);
        assert!(ranking(&mut answers, "new").is_empty());
    }

    /// one sentinel alone has named an election, and is lost with the new primary.
    #[test]
    fn one_lost_sentinel_does_not_outvote_the_majority() {
        let mut answers = SentinelAnswers::new(3);
        for sentinel in 0..3 {
            answers.record(sentinel, named(7, "old"));
        }
        answers.record(2, named(8, "new"));
        answers.withdraw(2);
        assert_eq!(ranking(&mut answers, "new"), ["old"]);
    }

    ///
    #[test]
    fn one_server_with_two_names_keeps_the_one_that_is_known() {
        let mut answers = SentinelAnswers::new(3);
        answers.record(0, named(3, "host"));
        answers.record(1, named(3, "10.0.0.1"));
        answers.record(2, named(3, "host"));
        for known in ["host", "10.0.0.1"] {
            let ranking = answers.ranking(Some(&address(known)), |_, _| true);
            assert_eq!(ranking, [address(known)]);
        }
        // If that cannot be determined, the choice does not alternate.
        for known in ["host", "10.0.0.1"] {
            assert_eq!(ranking(&mut answers, known)[0], known);
        }
    }
}
