//! The rule by which a store applies changes to a session.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::session::changes::{Changes, Outcome, Rotation};
use crate::session::{AttributeEntry, Record, Timestamp, Version, WriterId};

impl Changes {
    /// Returns `true` if the session already is as these changes would make it.
    pub(crate) fn are_in(&self, record: &Record) -> bool {
        !self.is_empty()
            && !self.is_create()
            && self.required_version().is_none()
            && self.rotation().is_none()
            && self.idle_timeout().is_none_or(|idle| has_set(record, idle))
            && self.writes.iter().all(|(name, _)| self.is_in(name, record))
    }

    /// Returns `true` if a write confirms the attribute's last one.
    pub(crate) fn is_in(&self, name: &str, record: &Record) -> bool {
        self.confirmed(name)
            .is_some_and(|version| version == record.version(name))
    }

    /// Applies the changes to the session as a store holds it. This is the rule for every store
    /// that can read and write in one step (under a lock, in a transaction).
    ///
    /// If the session already contains the changes, it stays as it is, including its last access.
    ///
    /// `current` is the session under the commit's key, if there is one; an expired one counts as
    /// none. `base` is the session as the request loaded it. After `Committed` the store replaces
    /// `current` by the record. `now` is [`Timestamp::now`].
    #[must_use]
    pub fn apply(
        &self,
        current: Option<&Arc<Record>>,
        base: Option<&Record>,
        now: Timestamp,
    ) -> Outcome {
        // One step follows another, so there are no writers to distinguish.
        self.apply_as(current, base, now, 0)
    }

    /// The same on the node identified by `writer`.
    pub(crate) fn apply_as(
        &self,
        current: Option<&Arc<Record>>,
        base: Option<&Record>,
        now: Timestamp,
        writer: WriterId,
    ) -> Outcome {
        let mut outcome = self.apply_marked(current, base, now, writer);
        if let Outcome::Committed(record) = &mut outcome
            && self.writes.iter().any(|(_, value)| value.is_none())
        {
            Arc::make_mut(record).forget_removed();
        }
        outcome
    }

    /// The same for a store that merges records: removed attributes stay in them as marks.
    pub(crate) fn apply_marked(
        &self,
        current: Option<&Arc<Record>>,
        base: Option<&Record>,
        now: Timestamp,
        writer: WriterId,
    ) -> Outcome {
        let current = current.filter(|record| record.is_live(now));
        let mut record = match (self.creation(), current) {
            (Some(_), Some(current)) => return Outcome::Conflict(current.clone()),
            (None, None) => return Outcome::Gone,
            (Some(create), None) => create.record(now),
            (None, Some(current)) => {
                if let Some((name, version)) = self.required_version()
                    && current.version(name) != version
                {
                    return Outcome::Conflict(current.clone());
                }
                let rotation = self.rotation();
                if rotation.is_some_and(|rotation| !current.is_current(&rotation.from)) {
                    return Outcome::Superseded;
                }
                if self.are_in(current) {
                    return Outcome::Committed(current.clone());
                }
                let mut record = Record::clone(current);
                if self.is_access() {
                    record.touch_as(now, writer);
                }
                record
            }
        };
        // The request may have read a later state, at another node: without it, the change could
        // lose against what the request has seen.
        let seen = record.clock().max(base.map_or(0, Record::clock));
        let version = Version::next(seen, now, writer);
        if let Some(Rotation { to, login, .. }) = self.rotation() {
            record.rotate(to, login, version, now);
        }
        for entry in self.entries(version) {
            if !self.is_in(&entry.name, &record) {
                record.merge_entry(Cow::Owned(entry));
            }
        }
        if let Some(idle) = self.idle_timeout()
            && (self.is_create() || !has_set(&record, idle))
        {
            record.lifetime.idle_timeout = (version, idle.into());
            record.note_latest(version);
        }
        Outcome::Committed(Arc::new(record))
    }

    /// The writes as entries that carry `version`.
    pub(crate) fn entries(&self, version: Version) -> impl Iterator<Item = AttributeEntry> {
        self.writes.iter().map(move |(name, value)| AttributeEntry {
            name: name.clone(),
            version,
            value: value.clone(),
        })
    }
}

/// Returns `true` if this idle timeout was set for the session. One that the session was created
/// with is not the same, even if it is equal: a layer with a shorter one applies its own.
fn has_set(record: &Record, idle: Option<Duration>) -> bool {
    record.has_own_idle_timeout() && record.idle_timeout() == idle
}
