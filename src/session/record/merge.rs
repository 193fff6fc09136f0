//! The merge of two copies of a session, and the marks of removed attributes.
//!
//! A copy keeps a removed attribute as a *mark*, its name and version without a value. Without the
//! mark, an older write of that name on another copy would bring the attribute back. Marks do not
//! stay forever: a record may have a *floor*, a version at or below which this copy has seen every
//! write that any copy has. Marks at or below the floor are dropped. An attribute that the other
//! copy has at or below the floor, and this copy does not have, was removed here, and is dropped as
//! well.
//!
//! A floor that is raised too early therefore loses writes. The store that merges records decides
//! when it may be raised (`cluster::replica::floors`). As long as floors are correct, merging is
//! associative. If one was raised although the copy had not seen everything, the order of merges
//! decides which writes are lost, and the copies still converge once all have been merged.
//!
//! The floor is kept as an entry under a name that no attribute has. A session from which nothing
//! was removed has none.

use std::borrow::Cow;
use std::mem;

#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
use crate::session::Forked;
use crate::session::Version;
#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
use crate::session::record::UPDATES_MAX;
use crate::session::record::{AttributeEntry, FLOOR, Record};

impl Record {
    /// Merges everything that `other`, a copy of the same session, has seen and this copy has not.
    ///
    /// Commutative, associative and idempotent. Fails if both copies were rotated independently:
    /// then the session is to be deleted.
    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Forked> {
        self.credential.merge(&other.credential)?;
        self.lifetime.merge(&other.lifetime);
        self.note_latest(other.latest);
        // Compared with the previous floors: the other's applies to what this copy lacks, and this
        // copy's to what the other lacks.
        let theirs = other.floor();
        if theirs.is_some() {
            self.retain(|r| r.is_floor() || Some(r.version) > theirs || other.has(&r.name));
        }
        for entry in other.attributes.iter().filter(|r| !r.is_floor()) {
            self.merge_write(entry);
        }
        if let Some(floor) = theirs {
            self.raise_floor(floor);
        }
        for version in &other.updates {
            self.note_update(*version);
        }
        Ok(())
    }

    /// Merges one write, unless a later one is already here or was dropped below the floor. Returns
    /// `true` if it was merged.
    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    pub(crate) fn merge_write(&mut self, entry: &AttributeEntry) -> bool {
        self.merge_entry(Cow::Borrowed(entry))
    }

    /// The same; a write that is owned is moved, not cloned.
    pub(crate) fn merge_entry(&mut self, entry: Cow<'_, AttributeEntry>) -> bool {
        if entry.is_floor() {
            return self.raise_floor(entry.version);
        }
        self.note_latest(entry.version);
        let is_below = || Some(entry.version) <= self.floor();
        match self.position(&entry.name) {
            Ok(at) if self.attributes[at].precedence() >= entry.precedence() => false,
            // Removed without a mark, which the floor would drop: what is not here at or below it
            // counts as removed.
            Ok(_) if entry.value.is_none() && is_below() => {
                self.retain(|r| r.name != entry.name);
                true
            }
            Ok(at) => {
                self.attributes[at] = entry.into_owned();
                true
            }
            Err(_) if is_below() => false,
            Err(at) => {
                insert(&mut self.attributes, at, entry.into_owned());
                true
            }
        }
    }

    /// The version at or below which this copy has seen every write; an attribute that is not here
    /// was removed.
    pub(crate) fn floor(&self) -> Option<Version> {
        self.version(FLOOR)
    }

    /// The largest version below which marks are or may be dropped: a write that is not later could
    /// be mistaken for one that was removed.
    #[cfg(feature = "replicated")]
    pub(crate) fn last_removal(&self) -> Option<Version> {
        let marks = self.marks().map(|mark| mark.version);
        marks.max().max(self.floor())
    }

    /// The marks of removed attributes.
    #[cfg(feature = "replicated")]
    pub(crate) fn marks(&self) -> impl Iterator<Item = &AttributeEntry> {
        self.attributes.iter().filter(|r| r.is_mark())
    }

    /// Raises the floor, and drops the marks at or below it. Returns `true` if it was lower.
    fn raise_floor(&mut self, floor: Version) -> bool {
        // The next write here gets a later version. One at or below the floor would count as
        // removed on every copy.
        self.note_latest(floor);
        if self.floor() >= Some(floor) {
            return false;
        }
        self.retain(|r| r.value.is_some() || r.version > floor);
        let (Ok(at) | Err(at)) = self.position(FLOOR);
        insert(&mut self.attributes, at, AttributeEntry::floor(floor));
        true
    }

    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    fn has(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// Drops the marks of removed attributes: for stores that merge changes into one record, and
    /// never two records.
    pub(crate) fn forget_removed(&mut self) {
        self.retain(|entry| entry.value.is_some());
    }

    fn retain(&mut self, wanted: impl Fn(&AttributeEntry) -> bool) {
        if !self.attributes.iter().all(&wanted) {
            let mut attributes = mem::take(&mut self.attributes).into_vec();
            attributes.retain(wanted);
            self.attributes = attributes.into();
        }
    }

    /// Records the version of an atomic update, and drops the oldest beyond [`UPDATES_MAX`].
    #[cfg(any(test, feature = "replicated", feature = "snapshot"))]
    pub(crate) fn note_update(&mut self, version: Version) {
        if let Err(at) = self.updates.binary_search_by(|known| version.cmp(known))
            && at < UPDATES_MAX
        {
            if self.updates.len() < UPDATES_MAX {
                insert(&mut self.updates, at, version);
            } else {
                self.updates[at..].rotate_right(1);
                self.updates[at] = version;
            }
        }
    }
}

/// Makes room for exactly one more: there are many sessions, each with few attributes.
fn insert<T>(slice: &mut Box<[T]>, at: usize, item: T) {
    let mut all = mem::take(slice).into_vec();
    all.reserve_exact(1);
    all.insert(at, item);
    *slice = all.into();
}
