//! What can go wrong between this process and Redis, and what a failed command says to do.

use std::error::Error;
use std::fmt;

use crate::error::StoreError;

/// Why a [`RedisStore`](crate::RedisStore) cannot be had, or could not do what it was asked: the
/// `source()` of a [`StoreError`]. It says what to fix, and never a password.
#[derive(Debug)]
pub struct RedisError {
    kind: RedisErrorKind,
    detail: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of failure a [`RedisError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RedisErrorKind {
    /// A setting cannot work: a URL, a prefix, a certificate.
    Config,
    /// There is no connection to a server that could answer.
    Unreachable,
    /// No answer came within the deadline.
    TimedOut,
    /// As many operations as are allowed are under way already.
    Overloaded,
    /// The server wants other credentials.
    Unauthenticated,
    /// The server's user may not do this: see the list of commands in the README.
    Denied,
    /// The server is a replica, replicas that it needs are missing, or it cannot save to its disk.
    ReadOnly,
    /// The server is loading its data.
    Loading,
    /// The cluster does not serve this session's slot.
    ClusterDown,
    /// The server has reached its `maxmemory`.
    Full,
    /// What is stored under a session's key is not a session of a version that this one knows.
    Foreign,
    /// The change is in, but fewer replicas than wanted have confirmed it in time.
    Unreplicated,
    /// The server answered what it never should.
    Unexpected,
}

impl RedisError {
    /// What kind of failure this is.
    #[must_use]
    pub const fn kind(&self) -> RedisErrorKind {
        self.kind
    }

    pub(super) fn new(kind: RedisErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            source: None,
        }
    }

    pub(super) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same failure once more, for another caller; its source stays with the first.
    pub(super) fn again(&self) -> Self {
        let detail = match &self.source {
            Some(source) => format!("{}: {source}", self.detail),
            None => self.detail.clone(),
        };
        Self::new(self.kind, detail)
    }

    /// As the store's caller sees it. `uncertain`: a write may have taken effect.
    pub(super) fn into_store_error(self, uncertain: bool) -> StoreError {
        match self.kind {
            _ if uncertain => StoreError::indeterminate(self),
            RedisErrorKind::Full => StoreError::full(),
            RedisErrorKind::Foreign => StoreError::corrupt(self),
            RedisErrorKind::Unreplicated => StoreError::indeterminate(self),
            _ => StoreError::unavailable(self),
        }
    }
}

impl fmt::Display for RedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            RedisErrorKind::Config => "a setting of the Redis store cannot work",
            RedisErrorKind::Unreachable => "Redis cannot be reached",
            RedisErrorKind::TimedOut => "Redis did not answer in time",
            RedisErrorKind::Overloaded => "too many operations on Redis are under way",
            RedisErrorKind::Unauthenticated => "Redis does not accept the credentials",
            RedisErrorKind::Denied => "the Redis user lacks a permission",
            RedisErrorKind::ReadOnly => "Redis takes no writes",
            RedisErrorKind::Loading => "Redis is loading its data",
            RedisErrorKind::ClusterDown => "the Redis cluster does not serve this slot",
            RedisErrorKind::Full => "Redis has reached its memory limit",
            RedisErrorKind::Foreign => "a key of ours holds something else",
            RedisErrorKind::Unreplicated => "too few replicas of Redis have confirmed",
            RedisErrorKind::Unexpected => "Redis gave an unexpected answer",
        };
        match self.detail.is_empty() {
            true => f.write_str(what),
            false => write!(f, "{what}: {}", self.detail),
        }
    }
}

impl Error for RedisError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// What a command that failed says about the next attempt.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another node owns the slot.
    Moved(String),
    /// Another node may have the key already.
    Ask(String),
    /// The server has forgotten our scripts.
    NoScript,
    /// The keys of one command are on two servers.
    Apart(RedisError),
    /// This server cannot now; it has changed nothing.
    Later(RedisError),
    /// The connection is gone. Whether the command took effect is unknown.
    Broken(RedisError),
    /// Trying again does not help.
    Final(RedisError),
}

impl Failure {
    pub(super) fn of(error: &redis::RedisError) -> Self {
        let Some(code) = error.code() else {
            let source = std::io::Error::other(error.to_string());
            let kind = RedisErrorKind::Unreachable;
            return Self::Broken(RedisError::new(kind, "the connection broke").because(source));
        };
        let detail = error.detail().unwrap_or_default();
        let redirect = || error.redirect_node().map(|(node, _)| node.to_owned());
        let says = |word: &str| code == word || detail.contains(word);
        let new = |kind, text: &str| RedisError::new(kind, text);
        match code {
            "MOVED" => redirect().map_or_else(|| Self::odd(code, detail), Self::Moved),
            "ASK" => redirect().map_or_else(|| Self::odd(code, detail), Self::Ask),
            "NOSCRIPT" => Self::NoScript,
            "TRYAGAIN" => Self::Apart(new(RedisErrorKind::ClusterDown, "its slot is moving")),
            _ if says("non local key") => {
                Self::Later(new(RedisErrorKind::ClusterDown, "its slot is moving"))
            }
            "CLUSTERDOWN" => Self::Later(new(RedisErrorKind::ClusterDown, detail)),
            "LOADING" => Self::Later(new(RedisErrorKind::Loading, "")),
            "MASTERDOWN" | "BUSY" | "UNBLOCKED" => {
                Self::Later(new(RedisErrorKind::Unreachable, detail))
            }
            "NOREPLICAS" => Self::Later(new(RedisErrorKind::ReadOnly, detail)),
            "NOAUTH" | "WRONGPASS" => {
                let advice = "give the user and password that the server expects";
                Self::Final(new(RedisErrorKind::Unauthenticated, advice))
            }
            // A script says it in words only.
            _ if code == "NOPERM" || says("can't run this command") => {
                Self::Final(new(RedisErrorKind::Denied, detail))
            }
            // Servers before 7.0 wrap what a script fails with.
            _ if says("READONLY") => Self::Later(new(RedisErrorKind::ReadOnly, "it is a replica")),
            _ if says("OOM") => {
                let advice = "raise `maxmemory`, or let sessions end sooner";
                Self::Final(new(RedisErrorKind::Full, advice))
            }
            _ if says("WRONGTYPE") => Self::Final(new(RedisErrorKind::Foreign, "")),
            _ if says("MISCONF") => Self::Later(new(
                RedisErrorKind::ReadOnly,
                "it cannot save to its disk, and takes no writes until it can (MISCONF)",
            )),
            _ => Self::odd(code, detail),
        }
    }

    /// What the greeting of a new connection failed with.
    pub(super) fn of_greeting(error: &redis::RedisError) -> Self {
        match error.kind() {
            redis::ErrorKind::AuthenticationFailed => Self::Final(RedisError::new(
                RedisErrorKind::Unauthenticated,
                "give the user and password that the server expects",
            )),
            redis::ErrorKind::RESP3NotSupported => Self::Final(RedisError::new(
                RedisErrorKind::Config,
                "this server does not speak RESP3: turn the near-cache off",
            )),
            _ => Self::of(error),
        }
    }

    fn odd(code: &str, detail: &str) -> Self {
        let text = format!("{code} {detail}");
        Self::Final(RedisError::new(RedisErrorKind::Unexpected, text))
    }
}
