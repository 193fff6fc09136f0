//! Why a node could not start.

use std::error::Error;
use std::fmt;
use std::io;

/// A node could not start. The message says what to do about it.
#[derive(Debug)]
pub struct StartError {
    kind: StartErrorKind,
    what: String,
    source: Option<io::Error>,
}

/// What kind of failure a [`StartError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StartErrorKind {
    /// A name or an address makes no sense.
    Invalid,
    /// The address can be reached from other machines, which is not safe without a secret.
    NotLoopback,
    /// The node looks for others on other machines, and was given no name of a cluster.
    ClusterName,
    /// The address cannot be listened on: mostly, somebody else does.
    Listen,
    /// The operating system has no random numbers to give, or TLS does not work here.
    Unsupported,
}

impl StartError {
    /// What kind of failure this is.
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
