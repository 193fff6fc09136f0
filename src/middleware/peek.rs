//! A session that is looked at and not used.

use std::fmt;

use http::request::Parts;
use serde::de::DeserializeOwned;
use tracing::error;

use super::attribute::{AttributeName, AttributeOf};
use super::error::{SessionError, SessionErrorKind};
use super::request_session::RequestSession;
use super::session::{MISSING_LAYER, Session};
use crate::session::{Root, Timestamp, UserKey};

/// A visitor's session, read without counting as a use: a page that polls must not keep a visitor
/// logged in who is not there.
///
/// It reads what [`Session`] reads and cannot write. If the same request takes the [`Session`] as
/// well, that is a use.
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
    /// The session of the request with this head, loaded on first demand: what the axum extractor
    /// calls, for every other framework.
    ///
    /// # Errors
    ///
    /// As [`Session::from_parts`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn from_parts(parts: &Parts) -> Result<Self, SessionError> {
        let Some(exchange) = RequestSession::of(&parts.extensions) else {
            error!("{MISSING_LAYER}");
            return Err(SessionErrorKind::MissingLayer.into());
        };
        exchange.peek(&parts.uri, &parts.headers).await?;
        Ok(Self(Session::of(exchange)))
    }

    /// Reads an attribute, as [`Session::get`].
    ///
    /// # Errors
    ///
    /// When what is stored is not a `T`.
    pub fn get<T: DeserializeOwned>(
        &self,
        name: impl AttributeOf<T>,
    ) -> Result<Option<T>, SessionError> {
        self.0.get(name)
    }

    /// Whether there is an attribute of that name.
    #[must_use]
    pub fn contains(&self, name: impl AttributeName) -> bool {
        self.0.contains(name)
    }

    /// The names of all attributes, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.names()
    }

    /// Whether there is a session.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.0.exists()
    }

    /// The root of the session's id: its name in stores and logs, and no secret.
    #[must_use]
    pub fn key(&self) -> Option<Root> {
        self.0.key()
    }

    /// The user who is logged in.
    #[must_use]
    pub fn user(&self) -> Option<UserKey> {
        self.0.user()
    }

    /// When the session was created, as that node's clock said.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        self.0.created_at()
    }

    /// The last access that was recorded.
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
