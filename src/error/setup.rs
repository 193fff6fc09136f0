//! The error of setting up sessions: an invalid setting, or a node that cannot start.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;

/// The error of setting up sessions: a setting is invalid, or a node of a replicated store cannot
/// start with it. The message explains what to do about it.
///
/// ```
/// use distributable::{Route, SetupErrorKind};
///
/// let error = Route::new("node.1").unwrap_err();
/// assert_eq!(error.kind(), SetupErrorKind::Route);
/// assert_eq!(error.to_string(), "a route is 1 to 32 letters, digits and underscores");
/// ```
#[derive(Debug)]
pub struct SetupError {
    kind: SetupErrorKind,
    message: Cow<'static, str>,
    source: Option<io::Error>,
}

/// The kind of a [`SetupError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SetupErrorKind {
    /// The name of a cookie is not a token, or is too long.
    CookieName,
    /// The path of a cookie does not start with `/`, or cannot be sent in a header.
    CookiePath,
    /// The domain of a cookie is not a host name.
    CookieDomain,
    /// The age of a cookie is zero.
    CookieAge,
    /// The cookie is never `Secure`, which a name prefix, `SameSite=None` and `Partitioned`
    /// require.
    CookieInsecure,
    /// A cookie with the name prefix `__Host-` has a domain, or a path other than `/`.
    CookieHostPrefix,
    /// The name of a header is not one, or HTTP gives it another meaning.
    Header,
    /// A route has other characters than letters, digits and underscores, or not 1 to 32 of them.
    Route,
    /// The number of copies is not one from 1 to 255, or is smaller than `min_copies`.
    Copies,
    /// The file or the environment variable of a secret does not exist, or cannot be read.
    SecretMissing,
    /// A secret is shorter than 32 bytes.
    SecretTooShort,
    /// A secret is longer than 4096 bytes: probably the wrong file.
    SecretTooLong,
    /// A secret repeats a few characters, so it is not random.
    SecretWeak,
    /// A name or an address of a node, its peers, its multicast group or its cluster is invalid.
    Node,
    /// The address of a node can be reached from other machines, which requires a secret.
    NotLoopback,
    /// A node looks for peers on other machines, which requires a cluster name.
    ClusterName,
    /// Binding the address of a node failed, usually because it is already in use; or its multicast
    /// group could not be joined.
    Listen,
    /// The operating system has no random numbers, or TLS does not work here.
    Unsupported,
}

impl SetupError {
    pub(crate) fn new(kind: SetupErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    #[cfg(feature = "replicated")]
    pub(crate) fn with_source(mut self, source: io::Error) -> Self {
        self.source = Some(source);
        self
    }

    /// Returns the kind of this error.
    #[must_use]
    pub const fn kind(&self) -> SetupErrorKind {
        self.kind
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
