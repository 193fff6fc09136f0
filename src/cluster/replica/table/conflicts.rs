//! Detection of conflicting writes after a partition, in order to count them.
//!
//! Two writes of one attribute are *concurrent* when neither writer had seen the other write. While
//! members are missing, this records for every session changed here the highest clock that it had
//! before; everything that both sides had in common is not later than that. When the partition
//! heals, a write from the other side and one from this side that are both later are concurrent:
//! one of them is kept, the other is discarded and counted.
//!
//! This module only counts. The merge decides which of the two is kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::session::{AttributeEntry, Record, Root, WriterId};

/// One side of a partition.
#[derive(Debug, Default)]
pub(crate) struct ConflictTracker {
    /// The writers on this side.
    side: BTreeSet<WriterId>,
    /// The clocks of changed sessions before their first change on this side.
    before: BTreeMap<Root, u64>,
}

impl ConflictTracker {
    /// Adds a writer on this side.
    pub(crate) fn add_writer(&mut self, writer: WriterId) {
        self.side.insert(writer);
    }

    /// Called before a session is changed.
    pub(crate) fn before_change(&mut self, key: Root, before: &Record) {
        // Only the first change is recorded: later states are not common to both sides.
        if self.before.len() < SESSIONS_MAX {
            self.before.entry(key).or_insert_with(|| before.clock());
        }
    }

    /// Returns the number of attributes that both sides have written concurrently, or that one side
    /// has written and the other drops because of its floor.
    pub(crate) fn concurrent(&self, key: &Root, ours: &Record, theirs: &Record) -> u64 {
        let Some(common) = self.before.get(key).copied() else {
            return 0;
        };
        let is_ours = |register: &AttributeEntry| self.side.contains(&register.version.writer);
        // A floor is not written by a client, so nothing of a client is lost with it.
        let is_later =
            |register: &AttributeEntry| register.version.clock > common && !register.is_floor();
        let collides = |register: &&AttributeEntry| {
            let mine = ours.version(&register.name);
            mine.is_some_and(|mine| mine != register.version && mine.clock > common)
        };
        let foreign = theirs
            .entries()
            .iter()
            .filter(|r| is_later(r) && !is_ours(r));
        let own = ours.entries().iter().filter(|r| is_later(r) && is_ours(r));
        let count = foreign.clone().filter(collides).count()
            + foreign.filter(|r| is_dropped_by(ours, r)).count()
            + own.filter(|r| is_dropped_by(theirs, r)).count();
        count as u64
    }
}

/// Returns `true` if a record drops this attribute of another copy when it is merged.
fn is_dropped_by(record: &Record, register: &AttributeEntry) -> bool {
    register.value.is_some()
        && record.version(&register.name).is_none()
        && Some(register.version) <= record.floor()
}

/// Sessions recorded; beyond this the count is a lower bound.
const SESSIONS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::{Changes, Outcome, SecretHash, Timestamp, Value};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const KEY: [u8; 12] = [1; 12];

    fn written(base: Option<&Record>, name: &str, writer: WriterId) -> Record {
        let mut changes = match base {
            None => Changes::create(
                SecretHash::from_bytes([1; 16]),
                None,
                Duration::from_secs(3600),
            ),
            Some(_) => Changes::default(),
        };
        changes.insert(name.into(), Value::from_bytes(&b"1"[..]));
        let base = base.cloned().map(std::sync::Arc::new);
        match changes.apply_as(base.as_ref(), None, NOW, writer) {
            Outcome::Committed(record) => std::sync::Arc::unwrap_or_clone(record),
            other => panic!("{other:?}"),
        }
    }

    /// K-05.
    #[test]
    fn only_writes_that_did_not_know_of_each_other_are_counted() {
        let key = Root::from_bytes(KEY);
        let common = written(None, "a", 1);
        let mut conflicts = ConflictTracker::default();
        conflicts.add_writer(1);
        let theirs = written(Some(&common), "a", 2);
        assert_eq!(
            conflicts.concurrent(&key, &common, &theirs),
            0,
            "we wrote nothing"
        );

        conflicts.before_change(key, &common);
        let other = written(Some(&common), "b", 1);
        assert_eq!(
            conflicts.concurrent(&key, &other, &theirs),
            0,
            "other attributes"
        );
        let ours = written(Some(&common), "a", 1);
        assert_eq!(conflicts.concurrent(&key, &ours, &theirs), 1);
        assert_eq!(conflicts.concurrent(&key, &ours, &common), 0, "seen before");
        assert_eq!(conflicts.concurrent(&key, &ours, &ours), 0, "the same");
    }
}
