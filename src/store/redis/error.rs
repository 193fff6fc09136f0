//! The errors of Redis operations, and the classification of failed commands.

use std::error::Error;
use std::fmt;

use crate::error::StoreError;

/// The error of a [`RedisStore`](crate::RedisStore): it could not be created, or an operation
/// failed. It is the `source()` of a [`StoreError`]. The message explains what to fix, and never
/// contains a password.
#[derive(Debug)]
pub struct RedisError {
    kind: RedisErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kind of a [`RedisError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RedisErrorKind {
    /// A setting is not valid: a URL, a prefix, a certificate.
    Config,
    /// There is no connection to a server that could answer.
    Unreachable,
    /// No answer arrived within the operation timeout.
    TimedOut,
    /// The maximum number of operations is already running.
    Overloaded,
    /// The server requires other credentials.
    Unauthenticated,
    /// The server refuses a command that the store needs: its user lacks the permission, or the
    /// command is disabled. The message names the command; the guide lists all of them.
    Denied,
    /// The server is a replica, too few replicas are connected to it, or it cannot save to its
    /// disk. Nothing is read from a replica either.
    ReadOnly,
    /// The server is loading its data.
    Loading,
    /// The cluster does not serve this session's slot.
    ClusterDown,
    /// The server has reached its `maxmemory`.
    Full,
    /// The value under a session's key is not a session in a format of this version.
    Foreign,
    /// A value is encrypted with another key, is not encrypted although this store expects it, or
    /// was damaged. It is still there, and its session as well.
    Encryption,
    /// The change is stored, but fewer replicas than required have confirmed it in time.
    Unreplicated,
    /// The server sent an unexpected answer.
    Unexpected,
}

impl RedisError {
    /// Returns the kind of this error.
    #[must_use]
    pub const fn kind(&self) -> RedisErrorKind {
        self.kind
    }

    pub(super) fn new(kind: RedisErrorKind, message: impl Into<String>) -> Self {
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

    /// Returns a copy of the error whose message includes the source.
    pub(super) fn flattened(&self) -> Self {
        let message = match &self.source {
            Some(source) => format!("{}: {source}", self.message),
            None => self.message.clone(),
        };
        Self::new(self.kind, message)
    }

    /// Converts the error for the store's caller. `uncertain`: a write may have taken effect.
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
        let summary = match self.kind {
            RedisErrorKind::Config => "a setting of the Redis store is not valid",
            RedisErrorKind::Unreachable => "the Redis server cannot be reached",
            RedisErrorKind::TimedOut => "the Redis server did not answer in time",
            RedisErrorKind::Overloaded => "too many concurrent Redis operations",
            RedisErrorKind::Unauthenticated => "the Redis server does not accept the credentials",
            RedisErrorKind::Denied => "the Redis server refuses a command that the store needs",
            RedisErrorKind::ReadOnly => "the Redis server accepts no writes",
            RedisErrorKind::Loading => "the Redis server is loading its data",
            RedisErrorKind::ClusterDown => "the Redis cluster does not serve this slot",
            RedisErrorKind::Full => "the Redis server has reached its memory limit",
            RedisErrorKind::Foreign => "a session key has a value of another format",
            RedisErrorKind::Encryption => "a value in Redis cannot be decrypted",
            RedisErrorKind::Unreplicated => "too few Redis replicas have confirmed",
            RedisErrorKind::Unexpected => "the Redis server gave an unexpected answer",
        };
        if self.message.is_empty() {
            f.write_str(summary)
        } else {
            write!(f, "{summary}: {}", self.message)
        }
    }
}

impl Error for RedisError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// The consequence of a failed command for the next attempt.
#[derive(Debug)]
pub(super) enum CommandFailure {
    /// Another node owns the slot.
    Moved(String),
    /// Another node may have the key already.
    Ask(String),
    /// The server does not have the scripts.
    NoScript,
    /// The server is not a primary; it has changed nothing. Its connection cannot be used any more.
    Demoted(RedisError),
    /// The server cannot execute the command now; it has changed nothing.
    Later(RedisError),
    /// The connection is closed. Whether the command took effect is unknown.
    Broken(RedisError),
    /// A retry does not help.
    Final(RedisError),
}

impl CommandFailure {
    /// The failure of a connection or of its greeting.
    pub(super) fn of(error: &redis::RedisError) -> Self {
        match error.code() {
            Some(code) => Self::of_words(code, error.detail().unwrap_or_default(), "the greeting"),
            None => {
                let source = std::io::Error::other(error.to_string());
                let kind = RedisErrorKind::Unreachable;
                Self::Broken(RedisError::new(kind, "the connection broke").with_source(source))
            }
        }
    }

    /// The failure of a command that the server has answered with an error.
    pub(super) fn of_reply(error: &redis::ServerError, command: &str) -> Self {
        Self::of_words(error.code(), error.details().unwrap_or_default(), command)
    }

    /// The failure of the greeting of a new connection.
    pub(super) fn of_greeting(error: &redis::RedisError) -> Self {
        match error.kind() {
            redis::ErrorKind::AuthenticationFailed => Self::Final(unauthenticated()),
            _ => Self::of(error),
        }
    }

    /// The error alone, if there is no next attempt.
    pub(super) fn into_error(self) -> RedisError {
        match self {
            Self::Demoted(error)
            | Self::Later(error)
            | Self::Broken(error)
            | Self::Final(error) => error,
            Self::Moved(_) | Self::Ask(_) => {
                let message = "a redirection that cannot be followed";
                RedisError::new(RedisErrorKind::Unexpected, message)
            }
            Self::NoScript => {
                RedisError::new(RedisErrorKind::Unexpected, "it has dropped a script")
            }
        }
    }

    fn of_words(code: &str, detail: &str, command: &str) -> Self {
        // The scripts report `<COMMAND> error`; servers add words before and behind that.
        let (command, code, detail) = inner(detail).unwrap_or((command, code, detail));
        // Servers repeat the arguments of a command that they do not know: data of a session.
        let detail = detail.split(", with args").next().unwrap_or_default();
        let new = |kind, text: &str| RedisError::new(kind, text);
        let redirect = || detail.split_ascii_whitespace().nth(1).map(str::to_owned);
        match code {
            "MOVED" => redirect().map_or_else(|| unexpected(command, code, detail), Self::Moved),
            "ASK" => redirect().map_or_else(|| unexpected(command, code, detail), Self::Ask),
            "NOSCRIPT" => Self::NoScript,
            "CLUSTERDOWN" => Self::Later(new(RedisErrorKind::ClusterDown, detail)),
            "LOADING" => Self::Later(new(RedisErrorKind::Loading, "")),
            "READONLY" => Self::Demoted(new(RedisErrorKind::ReadOnly, "the server is a replica")),
            "MASTERDOWN" => {
                let message = "the server is a replica without a connection to its primary";
                Self::Demoted(new(RedisErrorKind::ReadOnly, message))
            }
            "UNBLOCKED" => Self::Demoted(new(
                RedisErrorKind::ReadOnly,
                "the server has become a replica",
            )),
            "BUSY" => Self::Later(new(RedisErrorKind::Unreachable, detail)),
            "NOREPLICAS" => Self::Later(new(RedisErrorKind::ReadOnly, detail)),
            "MISCONF" => Self::Later(new(
                RedisErrorKind::ReadOnly,
                "the server cannot save to its disk, and accepts no writes until it can (MISCONF)",
            )),
            "OOM" => Self::Final(new(
                RedisErrorKind::Full,
                "raise `maxmemory`, or shorten the timeouts of sessions",
            )),
            "WRONGTYPE" => Self::Final(new(RedisErrorKind::Foreign, "")),
            "NOAUTH" | "WRONGPASS" => Self::Final(unauthenticated()),
            _ if code == "NOPERM" || is_refusal(detail) => {
                let text = format!("{command} ({detail})");
                Self::Final(RedisError::new(RedisErrorKind::Denied, text))
            }
            _ => unexpected(command, code, detail),
        }
    }
}

/// The command inside a script that failed, its error's code and its error's text.
fn inner(detail: &str) -> Option<(&str, &str, &str)> {
    let (_, rest) = detail.split_once('<')?;
    let (command, error) = rest.split_once("> ")?;
    let name = |b: u8| b.is_ascii_uppercase() || b == b'_';
    if command.is_empty() || !command.bytes().all(name) {
        return None;
    }
    // Redis 7.0 appends the script and the line; earlier ones put the line before some errors.
    let error = match error.rsplit_once(" script: ") {
        Some((error, place)) if place.contains(", on @") => error,
        _ => error,
    };
    let error = match error.strip_prefix("@user_script: ") {
        Some(rest) => rest.split_once(": ").map_or(rest, |(_line, error)| error),
        None => error,
    };
    let error = error.trim_start_matches('-').trim_end();
    let (code, text) = error.split_once(' ').unwrap_or((error, ""));
    if code.bytes().all(|b| b.is_ascii_uppercase()) {
        Some((command, code, text))
    } else {
        // Before 7.0 some errors have no code.
        Some((command, "ERR", error))
    }
}

/// Returns `true` if this is the message of a server or a proxy that does not run a command.
fn is_refusal(detail: &str) -> bool {
    let words = detail.to_ascii_lowercase();
    let refused = [
        "unknown",
        "disabled",
        "not allowed",
        "not supported",
        "unsupported",
        "forbidden",
        "not permitted",
        "denied",
    ];
    words.contains("can't run this command")
        || words.contains("no permissions")
        || words.contains("command") && refused.iter().any(|word| words.contains(word))
}

fn unauthenticated() -> RedisError {
    let advice = "give the user and password that the server expects";
    RedisError::new(RedisErrorKind::Unauthenticated, advice)
}

fn unexpected(command: &str, code: &str, detail: &str) -> CommandFailure {
    let text = format!("{command}: {code} {detail}");
    CommandFailure::Final(RedisError::new(RedisErrorKind::Unexpected, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The failure for an error line.
    fn failure(line: &str) -> CommandFailure {
        let (code, detail) = line.split_once(' ').unwrap_or((line, ""));
        CommandFailure::of_words(code, detail, "EVALSHA")
    }

    ///
    #[test]
    fn a_refused_command_is_named_in_every_wording() {
        let lines = [
            "ERR unknown command 'EVALSHA', with args beginning with: 'secret' ",
            "ERR unknown command `EVALSHA`, with args beginning with: `secret`, ",
            "ERR unknown command",
            "ERR command is disabled",
            "ERR This command is not supported by the proxy",
            "ERR Command not allowed",
            "NOPERM this user has no permissions to run the 'evalsha' command or its subcommand",
            "NOPERM User shop has no permissions to run the 'evalsha' command",
        ];
        for line in lines {
            let CommandFailure::Final(error) = failure(line) else {
                panic!("{line}");
            };
            assert_eq!(error.kind(), RedisErrorKind::Denied, "{line}");
            let text = error.to_string();
            assert!(
                text.contains("EVALSHA") && !text.contains("secret"),
                "{text}"
            );
        }
    }

    ///
    #[test]
    fn a_command_that_failed_inside_a_script_is_named_and_keeps_its_kind() {
        let sha = "f_0123456789";
        let wrapped = |inner: &str| {
            [
                format!("ERR {inner} script: {sha}, on @user_script:12."),
                format!("ERR Error running script (call to {sha}): @user_script: 12: {inner}"),
            ]
        };
        let expected = [
            (
                "<HSET> ERR The user executing the script can't run this command or subcommand",
                RedisErrorKind::Denied,
            ),
            (
                "<HSET> NOPERM User shop has no permissions to run the 'hset' command",
                RedisErrorKind::Denied,
            ),
            (
                "<HSET> ERR ACL failure in script: User shop has no permissions to run the \
                 'hset' command",
                RedisErrorKind::Denied,
            ),
            (
                "<HSET> ERR Unknown Redis command called from script",
                RedisErrorKind::Denied,
            ),
            (
                "<HSET> @user_script: 3: Unknown Redis command called from Lua script",
                RedisErrorKind::Denied,
            ),
            (
                "<HSET> @user_script: 3: -READONLY You can't write against a read only replica. ",
                RedisErrorKind::ReadOnly,
            ),
            (
                "<HSET> OOM command not allowed when used memory > 'maxmemory'.",
                RedisErrorKind::Full,
            ),
            (
                "<HSET> READONLY You can't write against a read only replica.",
                RedisErrorKind::ReadOnly,
            ),
            (
                "<HSET> WRONGTYPE Operation against a key",
                RedisErrorKind::Foreign,
            ),
            (
                "<HSET> MISCONF Redis is configured to save",
                RedisErrorKind::ReadOnly,
            ),
        ];
        for (inner, kind) in expected {
            for line in wrapped(inner) {
                let error = failure(&line).into_error();
                assert_eq!(error.kind(), kind, "{line}");
                if kind == RedisErrorKind::Denied {
                    assert!(error.to_string().contains("HSET"), "{error}");
                }
            }
        }
    }

    ///
    #[test]
    fn a_redirection_keeps_what_it_says() {
        for node in ["127.0.0.1:7000", "?:7000", ":7000"] {
            let moved = failure(&format!("MOVED 3999 {node}"));
            assert!(matches!(moved, CommandFailure::Moved(to) if to == node));
            let ask = failure(&format!("ASK 3999 {node}"));
            assert!(matches!(ask, CommandFailure::Ask(to) if to == node));
        }
    }
}
