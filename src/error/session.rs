//! The error of a session operation.
//!
//! A [`SessionError`] has a kind, an HTTP status and a fixed message that is safe to show to
//! clients. It never shows a client the text of the store's or the codec's error.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use http::StatusCode;

use crate::error::{StoreError, StoreErrorKind};
use crate::session::Name;
use crate::session::codec::{DecodeError, EncodeError};

/// The error of a session operation.
///
/// Cheap to clone. With the feature `axum` it is a response: its [`status`](Self::status) and its
/// own fixed message. The errors of the store and the codec are in `source()`, for logs only.
#[derive(Clone, Debug)]
pub struct SessionError {
    kind: SessionErrorKind,
    attribute: Option<Name>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a [`SessionError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionErrorKind {
    /// The value cannot be encoded; the session is unchanged.
    Encode,
    /// The attribute exists, but is not of the requested type. Others stay readable.
    Decode,
    /// Names that begin with a NUL are reserved for this crate.
    ReservedName,
    /// A name, a value, the number of attributes or the session would exceed its limit; the session
    /// is unchanged.
    TooLarge,
    /// The response has been sent, so the write cannot be stored with it, or its cookie cannot be
    /// sent.
    TooLate,
    /// The operation needs a session, and there is none.
    NoSession,
    /// The session has no attribute that [`SessionData`](crate::SessionData) could read.
    NoAttribute,
    /// The session has ended meanwhile: another request has deleted it, or it has expired.
    Invalidated,
    /// The session id has been rotated: this request was sent with the former one, before the
    /// response with the new id arrived, or it was about to rotate the id and another request was
    /// first. Nothing was changed, and the response sets no cookie. After another login, handles
    /// from before it get this error as well.
    Superseded,
    /// Other requests kept changing the attribute, or one has changed it since
    /// [`SessionDataMut`](crate::SessionDataMut) has read it; nothing was changed.
    Conflict,
    /// The store failed.
    Store(StoreErrorKind),
    /// An idle timeout, an absolute timeout or a cookie's age of zero, or of less than a
    /// millisecond: the session would expire before it is used. Set by the handler, or configured
    /// in the layer; then every request that extracts the session gets this error.
    InvalidTimeout,
    /// The user has the maximum number of sessions, and the layer refuses more.
    TooManySessions,
    /// The request has not passed a `SessionLayer`; the log explains the order in which layers are
    /// added.
    MissingLayer,
}

impl SessionError {
    pub(crate) fn with_attribute(mut self, name: &str) -> Self {
        self.attribute = Some(name.into());
        self
    }

    pub(crate) fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Returns the kind of this error.
    #[must_use]
    pub const fn kind(&self) -> SessionErrorKind {
        self.kind
    }

    /// Returns the name of the attribute that the error concerns, if any.
    #[must_use]
    pub fn attribute(&self) -> Option<&str> {
        self.attribute.as_deref()
    }

    /// Returns the HTTP status for a client: 409 for `NoSession`, `NoAttribute`, `Invalidated`,
    /// `Superseded`, `TooManySessions` and `Conflict`, 413 for `TooLarge`, 503 if the store fails,
    /// otherwise 500.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self.kind {
            SessionErrorKind::NoSession
            | SessionErrorKind::NoAttribute
            | SessionErrorKind::Invalidated
            | SessionErrorKind::Superseded
            | SessionErrorKind::TooManySessions
            | SessionErrorKind::Conflict => StatusCode::CONFLICT,
            SessionErrorKind::TooLarge | SessionErrorKind::Store(StoreErrorKind::TooLarge) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            SessionErrorKind::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            SessionErrorKind::Encode
            | SessionErrorKind::Decode
            | SessionErrorKind::ReservedName
            | SessionErrorKind::TooLate
            | SessionErrorKind::InvalidTimeout
            | SessionErrorKind::MissingLayer => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        Self::from(SessionErrorKind::Store(error.kind())).with_source(error)
    }
}

impl From<SessionErrorKind> for SessionError {
    fn from(kind: SessionErrorKind) -> Self {
        Self {
            kind,
            attribute: None,
            source: None,
        }
    }
}

impl From<EncodeError> for SessionError {
    fn from(error: EncodeError) -> Self {
        let kind = match error {
            EncodeError::TooLarge => SessionErrorKind::TooLarge,
            _ => SessionErrorKind::Encode,
        };
        Self::from(kind).with_source(error)
    }
}

impl From<DecodeError> for SessionError {
    fn from(error: DecodeError) -> Self {
        Self::from(SessionErrorKind::Decode).with_source(error)
    }
}

impl SessionErrorKind {
    /// The fixed message, which is safe to show to clients.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Encode => "a session attribute cannot be encoded",
            Self::Decode => "a session attribute is not of the expected type",
            Self::ReservedName => "a session attribute's name must not begin with a NUL",
            Self::TooLarge => "the session or one of its attributes would be too large",
            Self::TooLate => "the response has been sent, the session cannot be changed any more",
            Self::NoSession => "there is no session",
            Self::NoAttribute => "the session has no such attribute",
            Self::Invalidated => "the session has ended meanwhile",
            Self::Superseded => "the session id has been rotated",
            Self::Conflict => "other requests have changed this session attribute",
            Self::Store(StoreErrorKind::TooLarge) => "the session exceeds the store's size limit",
            Self::Store(_) => "sessions are unavailable at the moment",
            Self::InvalidTimeout => "a session's time must not be zero",
            Self::TooManySessions => "the user has too many sessions",
            Self::MissingLayer => "no session layer for this route",
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.message())?;
        match &self.attribute {
            Some(name) => write!(f, ": {name:?}"),
            None => Ok(()),
        }
    }
}

impl Error for SessionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
