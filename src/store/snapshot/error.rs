//! Why a file could not be used, or was not written.

use std::error::Error;
use std::fmt;

/// A snapshot could not be opened or written. The message says what to do about it.
#[derive(Debug)]
pub struct SnapshotError {
    kind: SnapshotErrorKind,
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of failure a [`SnapshotError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SnapshotErrorKind {
    /// A path, a name or a time makes no sense.
    Invalid,
    /// Another process uses the file.
    Locked,
    /// The directory is missing, cannot be written, or something else stands where the lock must be.
    Unusable,
    /// The node of the replicated store could not start; the source says why.
    Start,
    /// The file could not be written: the disk is full, say. What was there before still is.
    NotWritten,
    /// The disk was too slow. Writing goes on: what was there before still is, and the new file may
    /// yet take its place.
    TimedOut,
}

impl SnapshotError {
    /// What kind of failure this is.
    #[must_use]
    pub const fn kind(&self) -> SnapshotErrorKind {
        self.kind
    }

    pub(super) fn new(kind: SnapshotErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            source: None,
        }
    }

    pub(super) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for SnapshotError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
