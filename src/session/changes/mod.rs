//! The changes that one request makes to a session, and the outcome of their commit.

mod apply;
mod creation;
mod outcome;

use std::time::Duration;

use self::creation::Creation;
pub use self::outcome::Outcome;
use crate::session::{FLOOR, Login, Name, SecretHash, Value, Version};

/// The changes that one request makes to a session.
///
/// A store applies all of them in one step or none. Changes never create a session unless they are
/// marked to ([`create`](Self::create)): the writes of a slow request to a session that has ended
/// meanwhile are dropped, and the commit returns [`Outcome::Gone`]. The name `"\0"` is reserved:
/// writes to it are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    writes: Vec<(Name, Option<Value>)>,
    /// Boxed, so that rare changes cost other requests no more than a null pointer.
    rare: Option<Box<Rare>>,
}

/// Rare changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rare {
    create: Option<Creation>,
    required_version: Option<(Name, Option<Version>)>,
    idle_timeout: Option<Option<Duration>>,
    rotation: Option<Rotation>,
    /// The commit is not a use of the session.
    is_no_access: bool,
    /// Writes that restore the loaded value, and the version that it had.
    confirmed: Vec<(Name, Option<Version>)>,
}

/// A new secret for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotation {
    /// The secret that the request has presented. If it is no longer the current one, another
    /// request has rotated the id, and this one changes nothing.
    pub from: SecretHash,
    /// The secret that is current from then on.
    pub to: SecretHash,
    /// The login that is committed with the rotation.
    pub(crate) login: Option<Login>,
}

impl Changes {
    /// Creates a session with this `secret`, an idle timeout of `idle_timeout` (`None`: no limit)
    /// and an absolute timeout of `absolute`.
    #[must_use]
    pub fn create(
        secret: SecretHash,
        idle_timeout: Option<Duration>,
        absolute_timeout: Duration,
    ) -> Self {
        let mut changes = Self::default();
        changes.make_create(secret, idle_timeout, absolute_timeout);
        changes
    }

    /// Turns these changes into the creation of a session, as [`create`](Self::create) does.
    pub(crate) fn make_create(
        &mut self,
        secret: SecretHash,
        idle_timeout: Option<Duration>,
        absolute_timeout: Duration,
    ) {
        self.rare().create = Some(Creation {
            secret,
            user: None,
            idle_timeout,
            absolute_timeout,
            initial_idle_timeout: None,
        });
    }

    /// With [`create`](Self::create): sets a shorter idle timeout until a client has returned the
    /// cookie.
    pub(crate) fn initial_idle_timeout(&mut self, idle: Duration) {
        if let Some(create) = &mut self.rare().create {
            create.initial_idle_timeout = Some(idle);
        }
    }

    /// Writes an attribute.
    pub fn insert(&mut self, name: Name, value: Value) {
        self.write(name, Some(value));
    }

    /// Removes an attribute.
    pub fn remove(&mut self, name: Name) {
        self.write(name, None);
    }

    /// Restores the value that an attribute had after its last write, which carried `version`
    /// (`None`: it was never written). As long as that is still its last write, nothing is written;
    /// otherwise this is an ordinary write, later than the one in between.
    pub(crate) fn confirm(&mut self, name: Name, value: Option<Value>, version: Option<Version>) {
        self.write(name.clone(), value);
        if &*name != FLOOR {
            self.rare().confirmed.push((name, version));
        }
    }

    /// Drops the pending write of an attribute.
    pub fn unset(&mut self, name: &str) {
        self.writes.retain(|(known, _)| &**known != name);
        self.unconfirm(name);
    }

    /// Makes the commit conditional: the attribute's last write must still be the one that carries
    /// `version` (`None`: it was never written).
    pub fn require_version(&mut self, name: Name, version: Option<Version>) {
        self.rare().required_version = Some((name, version));
    }

    /// Sets the idle timeout; `None` leaves only the absolute timeout.
    pub fn set_idle_timeout(&mut self, idle: Option<Duration>) {
        self.rare().idle_timeout = Some(idle);
    }

    /// Makes the commit one that does not count as an access: it leaves the session's idle deadline
    /// as it is. For work that is not a request of the session's visitor.
    pub fn without_access(&mut self) {
        self.rare().is_no_access = true;
    }

    /// Replaces the session's secret, if it still is `from`, which is no longer valid afterward.
    pub fn rotate(&mut self, from: SecretHash, to: SecretHash) {
        self.rare().rotation = Some(Rotation {
            from,
            to,
            login: None,
        });
    }

    /// Binds the session to a user, together with the new secret of [`rotate`](Self::rotate) or
    /// with the creation of the session.
    pub(crate) fn log_in(&mut self, login: Login) {
        let rare = self.rare();
        if let Some(create) = &mut rare.create {
            create.user = login.user;
        } else if let Some(rotation) = &mut rare.rotation {
            rotation.login = Some(login);
        }
    }

    /// Returns `true` if these changes create a session.
    #[must_use]
    pub fn is_create(&self) -> bool {
        self.creation().is_some()
    }

    /// Returns `true` unless the commit is [without an access](Self::without_access).
    #[must_use]
    pub fn is_access(&self) -> bool {
        !self.rare.as_ref().is_some_and(|rare| rare.is_no_access)
    }

    /// Returns `true` if there are no changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.rare.is_none()
    }

    /// Returns the written names with their values, or `None` for removed ones.
    #[must_use]
    pub fn writes(&self) -> &[(Name, Option<Value>)] {
        &self.writes
    }

    /// Returns the pending write of an attribute: `None` if there is none, `Some(None)` if it is
    /// removed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Option<&Value>> {
        let (_, value) = self.writes.iter().find(|(known, _)| &**known == name)?;
        Some(value.as_ref())
    }

    /// Returns the attribute that the commit depends on, and the expected version of its last
    /// write.
    #[must_use]
    pub fn required_version(&self) -> Option<(&Name, Option<Version>)> {
        let (name, version) = self.rare.as_ref()?.required_version.as_ref()?;
        Some((name, *version))
    }

    /// The version of the attribute's last write that makes this write unnecessary, if it is one
    /// that [confirms](Self::confirm).
    pub(crate) fn confirmed(&self, name: &str) -> Option<Option<Version>> {
        let confirmed = &self.rare.as_ref()?.confirmed;
        let (_, version) = confirmed.iter().find(|(known, _)| &**known == name)?;
        Some(*version)
    }

    /// The same changes, with confirming writes turned into ordinary ones.
    #[cfg(feature = "replicated")]
    pub(crate) fn insist(&self) -> Self {
        let mut changes = self.clone();
        for (name, _) in &self.writes {
            changes.unconfirm(name);
        }
        changes
    }

    /// Returns the new idle timeout, if it changes.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Option<Duration>> {
        self.rare.as_ref()?.idle_timeout
    }

    /// Returns the rotation of the secret, if there is one.
    #[must_use]
    pub fn rotation(&self) -> Option<Rotation> {
        self.rare.as_ref()?.rotation
    }

    /// The size of the written names and values, in bytes.
    #[cfg(any(feature = "redis", feature = "replicated"))]
    pub(crate) fn payload_bytes(&self) -> usize {
        let size = |(name, value): &(Name, Option<Value>)| {
            name.len() + value.as_ref().map_or(0, |v| v.as_bytes().len())
        };
        self.writes.iter().map(size).sum()
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn unconfirm(&mut self, name: &str) {
        if let Some(rare) = &mut self.rare {
            rare.confirmed.retain(|(known, _)| &**known != name);
            if **rare == Rare::default() {
                self.rare = None;
            }
        }
    }

    fn write(&mut self, name: Name, value: Option<Value>) {
        if &*name == FLOOR {
            return;
        }
        self.unconfirm(&name);
        match self.writes.iter_mut().find(|(known, _)| *known == name) {
            Some(write) => write.1 = value,
            None => self.writes.push((name, value)),
        }
    }
}

#[cfg(test)]
mod tests;
