//! The errors of stores, of sessions and of their setup.
//!
//! [`StoreError`] is returned by stores; handlers receive a [`SessionError`]. A failing store
//! always causes an error, never an empty session. An invalid setting is a [`SetupError`].

mod session;
mod setup;

use std::error::Error;
use std::fmt;

pub use session::{SessionError, SessionErrorKind};
pub use setup::{SetupError, SetupErrorKind};

/// The error of a store operation.
///
/// Third-party stores create one with the constructor named after the kind; `source()` keeps the
/// cause.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kind of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached, or did not answer in time, and nothing was changed.
    Unavailable,
    /// This node has not caught up yet, or is leaving. Another node may serve.
    NotReady,
    /// The store is at its limit: it refuses new sessions rather than evicting live ones.
    Full,
    /// The session as a whole, the number of its attributes or the name of one would exceed a limit
    /// of the store.
    TooLarge,
    /// A write was sent, and it is unknown whether it took effect everywhere.
    Indeterminate,
    /// The stored data of this session cannot be read.
    Corrupt,
    /// The store cannot do this at all.
    Unsupported,
    /// The cursor of a list is not this store's, or the list has changed in a way that it cannot be
    /// continued: start it again.
    InvalidCursor,
}

impl StoreError {
    /// The store cannot be reached, or did not answer in time; nothing was changed.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::with_source(StoreErrorKind::Unavailable, source)
    }

    /// The stored data of this session cannot be read.
    pub fn corrupt(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::with_source(StoreErrorKind::Corrupt, source)
    }

    /// A write was sent, and it is unknown whether it took effect everywhere.
    pub fn indeterminate(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::with_source(StoreErrorKind::Indeterminate, source)
    }

    /// This node has not caught up yet, or is leaving.
    #[must_use]
    pub const fn not_ready() -> Self {
        Self::bare(StoreErrorKind::NotReady)
    }

    /// The store is at its limit.
    #[must_use]
    pub const fn full() -> Self {
        Self::bare(StoreErrorKind::Full)
    }

    /// The session would exceed the store's size limit.
    #[must_use]
    pub const fn too_large() -> Self {
        Self::bare(StoreErrorKind::TooLarge)
    }

    /// The store cannot do this at all.
    #[must_use]
    pub const fn unsupported() -> Self {
        Self::bare(StoreErrorKind::Unsupported)
    }

    /// The cursor is not this store's, or the list has to be started again.
    #[must_use]
    pub const fn invalid_cursor() -> Self {
        Self::bare(StoreErrorKind::InvalidCursor)
    }

    /// Returns the kind of this error.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    const fn bare(kind: StoreErrorKind) -> Self {
        Self { kind, source: None }
    }

    fn with_source(kind: StoreErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            source: Some(source.into()),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Unavailable => "the session store is unavailable",
            StoreErrorKind::NotReady => "this node is not ready to serve sessions",
            StoreErrorKind::Full => "the session store is full",
            StoreErrorKind::TooLarge => "the session exceeds the store's size limit",
            StoreErrorKind::Indeterminate => {
                "it is unknown whether the session was stored everywhere"
            }
            StoreErrorKind::Corrupt => "the stored session cannot be read",
            StoreErrorKind::Unsupported => "the session store cannot do this",
            StoreErrorKind::InvalidCursor => "the list of sessions cannot be continued here",
        })
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
