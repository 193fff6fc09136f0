//! Errors on starting a node.

use std::error::Error;
use std::fmt;
use std::io;

/// An error on starting a node. The message says what to do about it.
#[derive(Debug)]
pub struct StartError {
    kind: StartErrorKind,
    what: String,
    source: Option<io::Error>,
}

/// The kind of a [`StartError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StartErrorKind {
    /// A name or an address is invalid.
    Invalid,
    /// The address can be reached from other machines, which requires a secret.
    NotLoopback,
    /// The node looks for peers on other machines, which requires a cluster name.
    ClusterName,
    /// Binding the address failed, usually because it is already in use.
    Listen,
    /// The operating system has no random numbers, or TLS does not work here.
    Unsupported,
}

impl StartError {
    /// Returns the kind of failure.
    #[must_use]
    pub const fn kind(&self) -> StartErrorKind {
        self.kind
    }

    pub(super) const fn new(kind: StartErrorKind, what: String) -> Self {
        Self {
            kind,
            what,
            source: None,
        }
    }

    pub(super) fn listen(what: &str) -> Self {
        Self::new(StartErrorKind::Listen, what.to_owned())
    }

    pub(super) fn because(mut self, source: io::Error) -> Self {
        self.source = Some(source);
        self
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
