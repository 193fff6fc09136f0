//! Deltas: the part of a session that one request wrote.
//!
//! A delta is replicated instead of the session, so that concurrent writes of different attributes
//! both survive. Applied to the session it has the effect that the request had.

use crate::session::{
    AttributeEntry, Credential, Forked, Idle, Record, Timestamp, UPDATES_MAX, Version,
};

/// A delta: the part of a session that one request wrote.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delta {
    /// Sorted by name, one per name.
    pub(crate) entries: Vec<AttributeEntry>,
    pub(crate) idle_timeout: Option<(Version, Idle)>,
    pub(crate) accessed_at: Timestamp,
    /// The version of that access. 0 if the delta is no access; `accessed_at` is then the time of
    /// the write, which decides how long a delta without its session is kept.
    pub(crate) access: u64,
    /// The new secret, after a rotation.
    pub(crate) credential: Option<Credential>,
    /// The versions that name the atomic updates in it.
    pub(crate) updates: Vec<Version>,
}

impl Delta {
    /// Returns a delta with an access only.
    pub(crate) const fn of_access(accessed_at: Timestamp, access: u64) -> Self {
        Self {
            entries: Vec::new(),
            idle_timeout: None,
            accessed_at,
            access,
            credential: None,
            updates: Vec::new(),
        }
    }

    /// Returns a delta with a floor only. It is no access: it repeats the session's last one.
    pub(crate) fn of_floor(floor: Version, record: &Record) -> Self {
        let lifetime = &record.lifetime;
        Self {
            entries: vec![AttributeEntry::floor(floor)],
            ..Self::of_access(lifetime.accessed_at, lifetime.access)
        }
    }

    /// Returns `true` if it is a floor alone, or what is [sent] of a session to a request with
    /// another secret, neither of which is an access: both have the last one of the session.
    /// Changes [without an access](crate::session::Changes::without_access) have none.
    ///
    /// [sent]: super::entry::Entry::shown_to
    fn is_no_access(&self) -> bool {
        let is_shown = self.entries.is_empty() && self.credential.is_some();
        let is_floor = matches!(&self.entries[..], [register] if register.is_floor())
            && self.credential.is_none();
        let repeats = is_shown || is_floor;
        self.access == 0 || repeats && self.updates.is_empty() && self.idle_timeout.is_none()
    }

    /// Applies the delta to a session.
    pub(crate) fn apply(&self, record: &mut Record) -> Result<(), Forked> {
        if let Some(credential) = &self.credential {
            record.credential.merge(credential)?;
        }
        // The floor applies to earlier writes, not to those in the same delta.
        let (floor, writes): (Vec<_>, Vec<_>) = self.entries.iter().partition(|r| r.is_floor());
        for register in writes.into_iter().chain(floor) {
            record.merge_write(register);
        }
        if let Some(idle_timeout) = self.idle_timeout {
            record.lifetime.idle_timeout = record.lifetime.idle_timeout.max(idle_timeout);
        }
        for version in &self.updates {
            record.note_update(*version);
        }
        if self.access > 0 {
            record.lifetime.merge_access(self.accessed_at, self.access);
        }
        record.lifetime.returned |= !self.is_no_access();
        Ok(())
    }

    pub(super) fn merge(&mut self, other: &Self) -> Result<(), Forked> {
        match (&mut self.credential, &other.credential) {
            (Some(ours), Some(theirs)) => ours.merge(theirs)?,
            (ours @ None, theirs) => ours.clone_from(theirs),
            (Some(_), None) => {}
        }
        for register in &other.entries {
            match self
                .entries
                .binary_search_by(|r| r.name.cmp(&register.name))
            {
                Ok(at) if self.entries[at].precedence() >= register.precedence() => {}
                Ok(at) => self.entries[at] = register.clone(),
                Err(at) => self.entries.insert(at, register.clone()),
            }
        }
        self.idle_timeout = self.idle_timeout.max(other.idle_timeout);
        self.accessed_at = self.accessed_at.max(other.accessed_at);
        self.access = self.access.max(other.access);
        self.updates.extend(&other.updates);
        // As many as the session will keep. A delta that waits for its session would grow with each
        // update.
        keep_latest(&mut self.updates);
        Ok(())
    }

    /// Returns how many bytes a session grows by at most when the delta is applied.
    pub(crate) fn payload_bytes(&self) -> usize {
        let size =
            |r: &AttributeEntry| r.name.len() + r.value.as_ref().map_or(0, |v| v.as_bytes().len());
        self.entries.iter().map(|r| size(r) + ATTRIBUTE_BYTES).sum()
    }
}

/// Sorts the versions of updates and keeps as many of the latest as a record does.
pub(crate) fn keep_latest(updates: &mut Vec<Version>) {
    updates.sort_unstable();
    updates.dedup();
    let older = updates.len().saturating_sub(UPDATES_MAX);
    updates.drain(..older);
}

/// Bytes of an attribute in addition to its payload, as measured.
pub(super) const ATTRIBUTE_BYTES: usize = 96;
