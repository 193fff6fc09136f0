//! A session as a store keeps it: its attributes, its credential and its lifetime.

mod attribute_entry;
mod lifetime;
mod loaded;
mod merge;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::attribute_entry::{AttributeEntry, FLOOR};
pub(crate) use self::lifetime::Lifetime;
#[cfg(any(test, feature = "replicated"))]
pub(crate) use self::lifetime::access_version;
use self::lifetime::{next_access, touch_interval};
pub use self::loaded::Loaded;
use crate::session::{
    Credential, Login, Presented, SecretHash, Timestamp, UserKey, Value, Version, WriterId,
    is_reserved,
};

/// A live session: its attributes, each with the version of its last write, and its lifetime.
///
/// A record is a join-semilattice: merging keeps per attribute the larger version and per lifetime
/// field the value that cannot end the session early. Copies that exchange their changes converge,
/// even if messages are lost, repeated or reordered. Stores return records as `Arc<Record>`:
/// loading a session copies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub(crate) credential: Credential,
    pub(crate) lifetime: Lifetime,
    /// Sorted by name, one per name.
    attributes: Box<[AttributeEntry]>,
    /// The largest version of any write, including those of attributes that no longer exist.
    latest: Version,
    /// Versions of the last atomic updates, largest first: a repeated update is recognized by them.
    updates: Box<[Version]>,
}

impl Record {
    pub(crate) fn new(credential: Credential, lifetime: Lifetime) -> Self {
        Self {
            credential,
            lifetime,
            attributes: Box::default(),
            latest: Version::default(),
            updates: Box::default(),
        }
    }

    /// Creates a record from parts that came from outside; `None` if they are not as
    /// [`entries`](Self::entries) and [`updates`](Self::updates) return them: in order, one per
    /// name, each version with room for a later one.
    pub(crate) fn from_parts(
        credential: Credential,
        lifetime: Lifetime,
        attributes: Vec<AttributeEntry>,
        updates: Vec<Version>,
    ) -> Option<Self> {
        let ordered = attributes.is_sorted_by(|a, b| a.name < b.name)
            && updates.is_sorted_by(|a, b| a > b)
            && updates.len() <= UPDATES_MAX;
        let sane = attributes.iter().all(|r| r.version.is_valid())
            && attributes
                .iter()
                .all(|r| !r.is_floor() || r.value.is_none())
            && updates.iter().all(Version::is_valid)
            && credential.version().is_valid()
            && lifetime.access <= Version::MAX_CLOCK
            && lifetime.idle_timeout.0.is_valid();
        let latest = attributes.iter().map(|r| r.version).max();
        (ordered && sane).then_some(Self {
            credential,
            lifetime,
            latest: latest.unwrap_or_default(),
            attributes: attributes.into(),
            updates: updates.into(),
        })
    }

    /// Returns the value of an attribute; `None` if it is absent or removed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entry(name)?.value.as_ref()
    }

    /// Returns the version of an attribute's last write, which may have been its removal.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<Version> {
        Some(self.entry(name)?.version)
    }

    /// Returns the attributes of the application, in the order of their names. What this crate
    /// keeps under names of its own is left out: a store keeps [`to_bytes`](Self::to_bytes).
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &Value)> {
        let live = self.attributes.iter().filter_map(|entry| {
            let value = entry.value.as_ref()?;
            Some((entry.name.as_str(), value))
        });
        live.filter(|(name, _)| !is_reserved(name))
    }

    /// All attributes in the order of their names; in a replicated store this includes removed ones
    /// and, under the name `"\0"`, the store's bookkeeping about them.
    pub(crate) fn entries(&self) -> &[AttributeEntry] {
        &self.attributes
    }

    /// The highest clock of any write in this session.
    pub(crate) fn clock(&self) -> u64 {
        self.latest().clock
    }

    /// The largest version of any write in this session.
    pub(crate) fn latest(&self) -> Version {
        let latest = self.latest.max(self.lifetime.idle_timeout.0);
        latest.max(self.credential.version())
    }

    /// Records the version of a write whose attribute may not be here.
    pub(crate) fn note_latest(&mut self, version: Version) {
        self.latest = self.latest.max(version);
    }

    /// Returns `true` if `other`, the same session at another time, has been written or has another
    /// secret. Accesses do not count.
    pub(crate) fn was_changed_in(&self, other: &Self) -> bool {
        let live = |entry: &&AttributeEntry| entry.value.is_some();
        let written = |entry: &AttributeEntry| (entry.name.clone(), entry.version);
        let ours = self.attributes.iter().filter(live).map(written);
        let theirs = other.attributes.iter().filter(live).map(written);
        self.latest() != other.latest()
            || self.credential.hash != other.credential.hash
            || ours.ne(theirs)
    }

    /// Returns the creation time, by the creator's clock.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.lifetime.created_at
    }

    /// Returns the time of the last recorded request. Accesses are recorded when a tenth of the
    /// idle timeout, at most a minute, has passed since the last recorded one.
    #[must_use]
    pub const fn last_accessed_at(&self) -> Timestamp {
        self.lifetime.accessed_at
    }

    /// Returns the idle timeout; `None`: only the absolute timeout counts.
    #[must_use]
    pub const fn idle_timeout(&self) -> Option<Duration> {
        self.lifetime.idle_timeout.1.get()
    }

    /// Returns when the session expires unless it is used: the earlier of the idle and the absolute
    /// deadline.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_with(&self.lifetime)
    }

    fn expires_with(&self, lifetime: &Lifetime) -> Timestamp {
        let idle_deadline = lifetime
            .idle()
            .map_or(Timestamp::NEVER, |idle| lifetime.idle_deadline(idle));
        idle_deadline.min(self.absolute_deadline())
    }

    /// When it would expire if it was used now.
    #[cfg(feature = "replicated")]
    pub(crate) fn expires_if_used(&self, now: Timestamp) -> Timestamp {
        let used = Lifetime {
            accessed_at: now,
            returned: true,
            ..self.lifetime.clone()
        };
        self.expires_with(&used)
    }

    /// Returns the absolute deadline, which only a login moves.
    #[must_use]
    pub const fn absolute_deadline(&self) -> Timestamp {
        self.credential.absolute_deadline
    }

    /// The start of the absolute timeout: the creation, or the last login.
    pub(crate) fn began_at(&self) -> Timestamp {
        self.credential
            .began_at()
            .unwrap_or(self.lifetime.created_at)
    }

    /// Returns the user of the session, after a login.
    #[must_use]
    pub fn user(&self) -> Option<UserKey> {
        self.credential.user()
    }

    /// Returns `true` if `secret` is the session's current one.
    #[must_use]
    pub fn is_current(&self, secret: &SecretHash) -> bool {
        self.credential.hash == *secret
    }

    /// Returns the answer of a store that has found this session, for a request that presents
    /// `secret`, or for one that has presented its secret before (`None`).
    #[must_use]
    pub fn loaded(self: &Arc<Self>, secret: Option<&SecretHash>, now: Timestamp) -> Loaded {
        if !self.is_live(now) {
            return Loaded::Absent;
        }
        match secret.map_or(Presented::Current, |hash| self.credential.check(hash, now)) {
            Presented::Current => Loaded::Live(self.clone()),
            Presented::Superseded => Loaded::Superseded,
            Presented::Unknown => Loaded::Absent,
        }
    }

    /// Returns `true` if the session may still be used.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at()
    }

    /// Returns `true` if enough time has passed since the recorded access to record another.
    #[cfg(test)]
    pub(crate) fn is_touch_due(&self, now: Timestamp) -> bool {
        self.is_touch_due_with(self.lifetime.idle(), now)
    }

    /// The idle timeout in force; for a browser that has `returned` now, not the initial one.
    pub(crate) fn idle_timeout_for(&self, returned: bool) -> Option<Duration> {
        self.lifetime.idle_if(returned || self.lifetime.returned)
    }

    /// Returns `true` if the browser has returned the session's cookie.
    pub(crate) const fn has_returned(&self) -> bool {
        self.lifetime.returned
    }

    /// Returns `true` if the idle timeout was set for this session, and is not the one that it was
    /// created with.
    pub(crate) fn has_own_idle_timeout(&self) -> bool {
        self.lifetime.idle_timeout.0 != Version::default()
    }

    /// Like [`is_live`](Self::is_live), with another idle timeout.
    pub(crate) fn is_live_with(&self, idle: Option<Duration>, now: Timestamp) -> bool {
        let idle = idle.map_or(Timestamp::NEVER, |idle| self.lifetime.idle_deadline(idle));
        now < idle.min(self.absolute_deadline())
    }

    /// Returns `true` if enough time has passed since the recorded access to record another, with
    /// this idle timeout.
    pub(crate) fn is_touch_due_with(&self, idle: Option<Duration>, now: Timestamp) -> bool {
        let first = !self.lifetime.returned && self.lifetime.initial_idle_timeout.get().is_some();
        let since = now.since(self.lifetime.accessed_at);
        first || idle.is_some_and(|idle| since >= touch_interval(idle))
    }

    /// Records an access by a client that has returned the session's id.
    pub fn touch(&mut self, now: Timestamp) {
        self.touch_as(now, 0);
    }

    /// The same on the node identified by `writer`.
    pub(crate) fn touch_as(&mut self, now: Timestamp, writer: WriterId) {
        let lifetime = &mut self.lifetime;
        lifetime.accessed_at = lifetime.accessed_at.max(now);
        lifetime.returned = true;
        lifetime.access = next_access(lifetime.access, now, writer);
    }

    /// Replaces the secret. `version` is the owner's next one for this session.
    pub(crate) fn rotate(
        &mut self,
        secret: SecretHash,
        login: Option<Login>,
        version: Version,
        now: Timestamp,
    ) {
        self.credential = self.credential.rotated(secret, login, version, now);
    }

    /// The size of names and values together, in bytes, which the limits of a store count.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.attributes
            .iter()
            .map(AttributeEntry::payload_bytes)
            .sum()
    }

    /// How many attributes there are, and the bytes of their names and values; removed ones do not
    /// count.
    pub(crate) fn live_size(&self) -> (usize, usize) {
        let live = self.attributes.iter().filter_map(|entry| {
            let value = entry.value.as_ref()?;
            Some(entry.name.len() + value.as_bytes().len())
        });
        live.fold((0, 0), |(names, bytes), size| (names + 1, bytes + size))
    }

    /// The approximate size of this session in the memory of a node, in bytes, which memory limits
    /// count.
    pub(crate) fn footprint(&self) -> usize {
        SESSION_BYTES + self.attributes.len() * ATTRIBUTE_BYTES + self.payload_bytes()
    }

    /// Versions of the last atomic updates, largest first.
    pub(crate) fn updates(&self) -> &[Version] {
        &self.updates
    }

    /// The last write of a name.
    pub(crate) fn entry(&self, name: &str) -> Option<&AttributeEntry> {
        self.position(name).ok().map(|at| &self.attributes[at])
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.attributes.binary_search_by(|r| (*r.name).cmp(name))
    }
}

/// How many atomic updates of a session are remembered. A repeated update is recognized unless more
/// than this many others have been applied since; then its outcome is indeterminate.
pub(crate) const UPDATES_MAX: usize = 16;

/// The size of a session without attributes: the record, its entry in a map, the allocator's
/// overhead.
const SESSION_BYTES: usize = 192;

/// The size of an attribute in addition to its name and value: its entry and an allocation.
const ATTRIBUTE_BYTES: usize = 96;

#[cfg(test)]
mod tests;
