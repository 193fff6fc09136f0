//! Read-only access to a session that does not count as a use.

use std::fmt;

use http::request::Parts;
use serde::de::DeserializeOwned;
use tracing::error;

use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::request::{MISSING_LAYER, RequestSession};
use crate::middleware::session::Session;
use crate::session::{AttributeName, AttributeOf, Root, Timestamp, UserKey};

/// A visitor's session, read without counting as a use: a page that polls must not keep an absent
/// visitor logged in.
///
/// It reads like [`Session`] and cannot write. If the same request also extracts the [`Session`],
/// that counts as a use.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use distributable::{Peek, SessionError};
///
/// async fn unread(session: Peek) -> Result<String, SessionError> {
///     Ok(session.get::<u32>("unread")?.unwrap_or(0).to_string())
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Peek(Session);

impl Peek {
    /// Returns the session of the request with this head, and loads it on the first call. The axum
    /// extractor calls this; other frameworks can call it directly.
    ///
    /// # Errors
    ///
    /// As [`Session::from_parts`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn from_parts(parts: &Parts) -> Result<Self, SessionError> {
        let Some(request) = RequestSession::of(&parts.extensions) else {
            error!(message = MISSING_LAYER);
            return Err(SessionErrorKind::MissingLayer.into());
        };
        request.peek(&parts.uri, &parts.headers).await?;
        Ok(Self(Session::of(request)))
    }

    /// Reads an attribute, as [`Session::get`].
    ///
    /// # Errors
    ///
    /// Fails if the stored value is not a `T`.
    pub fn get<T: DeserializeOwned>(
        &self,
        name: impl AttributeOf<T>,
    ) -> Result<Option<T>, SessionError> {
        self.0.get(name)
    }

    /// Returns `true` if there is an attribute of that name.
    #[must_use]
    pub fn contains(&self, name: impl AttributeName) -> bool {
        self.0.contains(name)
    }

    /// Returns the names of all attributes, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.names()
    }

    /// Returns `true` if there is a session.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.0.exists()
    }

    /// Returns the root of the session's id: its name in stores and logs, which is not a secret.
    #[must_use]
    pub fn key(&self) -> Option<Root> {
        self.0.key()
    }

    /// Returns the user who is logged in.
    #[must_use]
    pub fn user(&self) -> Option<UserKey> {
        self.0.user()
    }

    /// Returns the creation time by the clock of the creating node.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        self.0.created_at()
    }

    /// Returns the time of the last recorded access.
    #[must_use]
    pub fn last_accessed_at(&self) -> Option<Timestamp> {
        self.0.last_accessed_at()
    }
}

impl fmt::Debug for Peek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peek")
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}
