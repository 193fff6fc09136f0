//! The creation of a session: the lifetime and the secret that it begins with.

use std::time::Duration;

use crate::session::changes::Changes;
use crate::session::{Credential, Lifetime, Record, SecretHash, Timestamp, UserKey, Version};

/// The lifetime of a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Creation {
    pub(super) secret: SecretHash,
    pub(super) user: Option<UserKey>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) absolute_timeout: Duration,
    pub(super) initial_idle_timeout: Option<Duration>,
}

impl Creation {
    pub(super) fn record(self, now: Timestamp) -> Record {
        let credential = Credential::new(self.secret, now.plus(self.absolute_timeout), self.user);
        let lifetime = Lifetime {
            created_at: now,
            accessed_at: now,
            access: 0,
            idle_timeout: (Version::default(), self.idle_timeout.into()),
            initial_idle_timeout: self.initial_idle_timeout.into(),
            returned: false,
        };
        Record::new(credential, lifetime)
    }
}

impl Changes {
    /// The lifetime of the session that these changes create, if they do, as of `now`.
    #[cfg(feature = "redis")]
    pub(crate) fn birth(&self, now: Timestamp) -> Option<(Credential, Lifetime)> {
        let Record {
            credential,
            lifetime,
            ..
        } = self.creation()?.record(now);
        Some((credential, lifetime))
    }

    /// The creation that these changes are, if they are one.
    pub(super) fn creation(&self) -> Option<Creation> {
        let create = self.rare.as_ref()?.create?;
        // A timeout set for this session takes precedence over the general one.
        let initial_idle_timeout = create
            .initial_idle_timeout
            .filter(|_| self.idle_timeout().is_none());
        Some(Creation {
            initial_idle_timeout,
            ..create
        })
    }
}
