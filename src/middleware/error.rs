//! What a handler sees when its session cannot do what it was asked.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use http::StatusCode;

use crate::error::{StoreError, StoreErrorKind};
use crate::session::Name;
use crate::session::json::{DecodeError, EncodeError};

/// A session could not do what it was asked.
///
/// Cheap to clone. With the feature `axum` it is a response: [`status`](Self::status) and the
/// error's own words, never those of the store or of a codec (they are in `source()`, for logs).
#[derive(Clone, Debug)]
pub struct SessionError {
    kind: SessionErrorKind,
    attribute: Option<Name>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kind of failure a [`SessionError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionErrorKind {
    /// The value cannot be encoded; the session is as it was before.
    Encode,
    /// The attribute is there, but it is not of the type asked for. The others are readable.
    Decode,
    /// Names that begin with a NUL are ours.
    ReservedName,
    /// A name, a value, the number of attributes or the session would be over its limit; the
    /// session is as it was before.
    TooLarge,
    /// The response has left, so the write could not be stored with it, or its cookie not be sent.
    TooLate,
    /// There is no session to do that to.
    NoSession,
    /// The session has ended meanwhile: another request has ended it, or it has expired.
    Invalidated,
    /// The session has another id by now: this request was sent with the former one, before the
    /// answer to the rotation arrived, or it was to rotate the id and another request was first.
    /// Nothing was changed, and the response sets no cookie. After another login it is also what a
    /// handle of the time before gets.
    Superseded,
    /// Others kept changing the attribute; nothing was changed.
    Conflict,
    /// The store failed.
    Store(StoreErrorKind),
    /// An idle time, an absolute lifetime or a cookie's age of zero, or of less than a millisecond:
    /// the session would end before it is used. Set by the handler, or configured in the layer; then
    /// every request that takes the session gets this error.
    InvalidTimeout,
    /// The user has as many sessions as are allowed, and the layer refuses more.
    TooManySessions,
    /// The request has not passed a `SessionLayer`; the log says in which order layers are added.
    MissingLayer,
}

impl SessionError {
    pub(super) fn with_attribute(mut self, name: &str) -> Self {
        self.attribute = Some(name.into());
        self
    }

    pub(super) fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What kind of failure this is.
    #[must_use]
    pub const fn kind(&self) -> SessionErrorKind {
        self.kind
    }

    /// The attribute that this is about, if it is about one.
    #[must_use]
    pub fn attribute(&self) -> Option<&str> {
        self.attribute.as_deref()
    }

    /// The status that says so to a client: 409 for `NoSession`, `Invalidated`, `Superseded`,
    /// `TooManySessions` and `Conflict`, 413 for what is too large, 503 when the store fails, otherwise 500.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self.kind {
            SessionErrorKind::NoSession
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
    /// The error's words: fixed, so that they can be shown to anybody.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Encode => "a session attribute cannot be encoded",
            Self::Decode => "a session attribute is not of the expected type",
            Self::ReservedName => "a session attribute's name must not begin with a NUL",
            Self::TooLarge => "the session or one of its attributes would be too large",
            Self::TooLate => "the response has left, the session cannot be changed any more",
            Self::NoSession => "there is no session",
            Self::Invalidated => "the session has been ended meanwhile",
            Self::Superseded => "the session has another id by now",
            Self::Conflict => "the session attribute is being changed by too many others",
            Self::Store(StoreErrorKind::TooLarge) => "the session is larger than the store takes",
            Self::Store(_) => "sessions are unavailable at the moment",
            Self::InvalidTimeout => "a session's time must not be zero",
            Self::TooManySessions => "the user has too many sessions",
            Self::MissingLayer => "there are no sessions here",
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.words())?;
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
