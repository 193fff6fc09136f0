//! The error of opening or writing a snapshot.

use std::error::Error;
use std::fmt;

/// A snapshot could not be opened or written. The message explains what to do.
#[derive(Debug)]
pub struct SnapshotError {
    kind: SnapshotErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kind of a [`SnapshotError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SnapshotErrorKind {
    /// A path, a name or a time is not valid.
    Invalid,
    /// Another process uses the file.
    Locked,
    /// The directory is missing or cannot be written, or another kind of file is at the lock's
    /// path.
    Unusable,
    /// The node of the replicated store could not start; see the source.
    Start,
    /// The file could not be written, for example because the disk is full. The earlier file stays.
    NotWritten,
    /// The disk was too slow. Writing continues: the earlier file stays, unless the new file still
    /// replaces it.
    TimedOut,
}

impl SnapshotError {
    /// Returns the kind of this error.
    #[must_use]
    pub const fn kind(&self) -> SnapshotErrorKind {
        self.kind
    }

    pub(super) fn new(kind: SnapshotErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub(super) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SnapshotError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
