//! A pipelined request for one session.

use redis::{Pipeline, Value};

use crate::store::redis::config::Replicas;
use crate::store::redis::connection::RedisConnection;
use crate::store::redis::error::{CommandFailure, RedisError, RedisErrorKind};
use crate::store::redis::script::Script;

/// A request for one session.
#[derive(Debug)]
pub(super) struct SessionRequest {
    /// The session's key.
    pub(super) key: Vec<u8>,
    /// The key is that of a user's index, which belongs to all applications with the prefix.
    pub(super) is_index: bool,
    /// Another key of a script, in the same slot.
    pub(super) claim: Option<Vec<u8>>,
    pub(super) command: Command,
}

#[derive(Debug)]
pub(super) enum Command {
    /// The time, and the fields of a hash.
    Load,
    /// A script with its arguments, after those that all scripts have: a mark of retries, and the
    /// application's name.
    Run {
        script: Script,
        args: Vec<Vec<u8>>,
        /// How many replicas must confirm.
        replicas: Option<Replicas>,
    },
}

/// Encoding options of one attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestOptions {
    /// It may have been applied already.
    pub(super) retry: bool,
    /// The server does not have the scripts: sends them along.
    pub(super) send_source: bool,
    /// The server may have the key although another one owns the slot.
    pub(super) asking: bool,
}

impl SessionRequest {
    pub(super) const fn writes(&self) -> bool {
        matches!(self.command, Command::Run { .. })
    }

    pub(super) const fn replicas(&self) -> Option<Replicas> {
        match self.command {
            Command::Run { replicas, .. } => replicas,
            Command::Load => None,
        }
    }

    pub(super) fn pipeline(
        &self,
        options: RequestOptions,
        connection: &RedisConnection,
        application: &str,
    ) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(3);
        match &self.command {
            Command::Load => {
                // `ASKING` is for the next command alone, so `TIME` goes first.
                pipeline.cmd("TIME");
                if options.asking {
                    pipeline.cmd("ASKING");
                }
                pipeline.cmd("HGETALL").arg(&self.key);
            }
            Command::Run {
                script,
                args,
                replicas,
            } => {
                // In one write with the script: a command of another task in between would use it
                // up.
                if options.asking {
                    pipeline.cmd("ASKING");
                }
                if options.send_source {
                    pipeline.cmd("EVAL").arg(script.source())
                } else {
                    pipeline.cmd("EVALSHA").arg(connection.hash(*script))
                };
                pipeline
                    .arg(1 + usize::from(self.claim.is_some()))
                    .arg(&self.key)
                    .arg(&self.claim)
                    .arg(if options.retry { "1" } else { "0" })
                    .arg(application)
                    .arg(args);
                if let Some(replicas) = replicas {
                    pipeline.cmd("WAIT").arg(replicas.count);
                    pipeline.arg(replicas.within.as_millis() as u64);
                }
            }
        }
        pipeline
    }

    /// The failure that the replies to a pipeline indicate. The commands beside a script do not
    /// change whether the script was run.
    pub(super) fn failure(
        &self,
        options: RequestOptions,
        replies: &[Value],
    ) -> Option<CommandFailure> {
        let failed = |reply: Option<&Value>, command| match reply? {
            Value::ServerError(error) => Some(CommandFailure::of_reply(error, command)),
            _ => None,
        };
        let asking = usize::from(options.asking);
        match &self.command {
            Command::Load => failed(replies.first(), "TIME")
                .or_else(|| failed(replies.get(1 + asking), "HGETALL")),
            Command::Run { .. } => {
                let command = if options.send_source {
                    "EVAL"
                } else {
                    "EVALSHA"
                };
                failed(replies.get(asking), command)
            }
        }
    }
}

/// The answer of a script: a letter, and the values behind it.
#[derive(Debug)]
pub(super) enum ScriptReply {
    /// Carried out, with what follows from it (`O`).
    Done(Vec<Value>),
    /// Carried out, or the session is live; with the server's time and the session (`F`).
    Whole(Vec<Value>),
    /// The session has another value than the change expects, or exists already; with the server's
    /// time and the session (`E`).
    Conflict(Vec<Value>),
    /// There is no such session (`G`).
    Gone,
    /// The presented secret was replaced (`S`).
    Superseded,
    /// The key has no session of this format (`B`).
    Foreign,
    /// It is not known whether an earlier attempt took effect (`U`).
    Unknown,
}

impl ScriptReply {
    pub(super) fn of(reply: Value) -> Result<Self, RedisError> {
        let unexpected = || RedisError::new(RedisErrorKind::Unexpected, "a script's answer");
        let Value::Array(mut rest) = reply else {
            return Err(unexpected());
        };
        if rest.is_empty() {
            return Err(unexpected());
        }
        let Value::BulkString(letter) = rest.remove(0) else {
            return Err(unexpected());
        };
        match &*letter {
            b"O" => Ok(Self::Done(rest)),
            b"F" => Ok(Self::Whole(rest)),
            b"E" => Ok(Self::Conflict(rest)),
            b"G" => Ok(Self::Gone),
            b"S" => Ok(Self::Superseded),
            b"B" => Ok(Self::Foreign),
            b"U" => Ok(Self::Unknown),
            _ => Err(unexpected()),
        }
    }
}
