//! Operations on one session: questions to the server, and what its answers mean.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use redis::Value as Reply;

use crate::clock;
use crate::error::StoreError;
use crate::session::{Loaded, Record, Root, SecretHash};
use crate::store::redis::RedisShared;
use crate::store::redis::attempts::RequestError;
use crate::store::redis::error::{CommandFailure, RedisError, RedisErrorKind};
use crate::store::redis::near_cache::CacheSource;
use crate::store::redis::record::{self, ServerClock, ValueCodec};
use crate::store::redis::request::{Command, ScriptReply, SessionRequest};
use crate::store::redis::script::Script;

impl RedisShared {
    pub(super) async fn load(
        &self,
        key: &Root,
        secret: Option<&SecretHash>,
    ) -> Result<Loaded, StoreError> {
        // Without a secret a session is read again, for what other requests have written.
        if let Some(near_cache) = &self.near_cache
            && secret.is_some()
            && let Some(record) = near_cache.get(key, secret, clock::now())
        {
            return Ok(Loaded::Live(record));
        }
        // Boxed: a hit must not reserve the memory of a request.
        Box::pin(self.fetch(key, secret)).await
    }

    /// Asks the server, and keeps a copy if configured, for any presented secret.
    async fn fetch(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        // Before the question is sent: an invalidation that arrives right after the answer must
        // cancel it.
        let lease = self
            .near_cache
            .as_ref()
            .map(|near_cache| near_cache.lease(key, false));
        let Some((record, source)) = self.read(key).await? else {
            return Ok(Loaded::Absent);
        };
        self.events.note(key, &record);
        let loaded = record.loaded(secret, clock::now());
        if let Some(lease) = lease {
            lease.fill(record, source);
        }
        Ok(loaded)
    }

    /// The session as the server has it, and the connection it came over.
    async fn read(
        &self,
        key: &Root,
    ) -> Result<Option<(Arc<Record>, Option<CacheSource>)>, StoreError> {
        let request = SessionRequest {
            key: self.config.prefix.key(key),
            is_index: key.is_index(),
            claim: None,
            command: Command::Load,
        };
        let reply = self.router.execute(&request).await.map_err(store_error)?;
        let here = clock::now();
        let mut replies = reply.replies;
        let fields = replies.pop().unwrap_or_default();
        let there = server_time(replies.first()).map_err(|e| e.into_store_error(false))?;
        let record = self
            .decode(key, fields, ServerClock { there, here })
            .map_err(|error| error.into_store_error(false))?;
        let live = record.filter(|record| record.is_live(here));
        Ok(live.map(|record| (Arc::new(record), reply.source)))
    }

    /// Runs a script that ends with its answer, or with the number of replicas that have confirmed.
    /// `invalidates`: the script deletes a session or replaces a secret, which a failover must
    /// not undo.
    pub(super) async fn run(
        &self,
        key: &Root,
        script: Script,
        args: Vec<Vec<u8>>,
        invalidates: bool,
    ) -> Result<ScriptReply, StoreError> {
        let replicas = self.config.replicas.filter(|_| invalidates);
        let redis_key = self.config.prefix.key(key);
        let request = SessionRequest {
            claim: (script == Script::Expire).then(|| self.config.prefix.claim(&redis_key)),
            key: redis_key,
            is_index: key.is_index(),
            command: Command::Run {
                script,
                args,
                replicas,
            },
        };
        let reply = self.router.execute(&request).await.map_err(store_error)?;
        let mut replies = reply.replies;
        if let Some(replicas) = replicas {
            let confirmed = match replies.pop() {
                Some(Reply::Int(confirmed)) => confirmed,
                // The script before the `WAIT` has been executed.
                Some(Reply::ServerError(error)) => {
                    let error = CommandFailure::of_reply(&error, "WAIT").into_error();
                    return Err(error.into_store_error(true));
                }
                _ => 0,
            };
            if confirmed < i64::from(replicas.count) {
                let message = format!("{confirmed} of {}", replicas.count);
                let error = RedisError::new(RedisErrorKind::Unreplicated, message);
                return Err(error.into_store_error(true));
            }
        }
        let answer = ScriptReply::of(replies.pop().unwrap_or_default());
        answer.map_err(|error| error.into_store_error(true))
    }

    pub(super) fn decode(
        &self,
        key: &Root,
        fields: Reply,
        clock: ServerClock,
    ) -> Result<Option<Record>, RedisError> {
        let application = self.config.application.as_deref();
        let key = self.config.prefix.key(key);
        record::decode(fields, clock, application, self.values(&key))
    }

    /// The values of the session under this key of Redis.
    pub(super) fn values<'a>(&'a self, key: &'a [u8]) -> ValueCodec<'a> {
        let cipher = self.config.cipher.as_ref();
        ValueCodec { key, cipher }
    }

    pub(super) fn mark(&self) -> Vec<u8> {
        self.attempts.fetch_add(1, Relaxed).to_be_bytes().to_vec()
    }
}

fn store_error(failed: RequestError) -> StoreError {
    failed.error.into_store_error(failed.uncertain)
}

/// Returns the error for an answer that the script's caller does not handle.
pub(super) fn unreadable(answer: &ScriptReply) -> StoreError {
    match answer {
        ScriptReply::Foreign => {
            RedisError::new(RedisErrorKind::Foreign, "").into_store_error(false)
        }
        ScriptReply::Unknown => {
            let message = "it is not known whether an earlier attempt took effect";
            RedisError::new(RedisErrorKind::TimedOut, message).into_store_error(true)
        }
        _ => {
            RedisError::new(RedisErrorKind::Unexpected, "a script's answer").into_store_error(true)
        }
    }
}

/// Converts seconds and microseconds to milliseconds.
pub(super) fn server_time(reply: Option<&Reply>) -> Result<u64, RedisError> {
    let unexpected = || RedisError::new(RedisErrorKind::Unexpected, "no time");
    let Some(Reply::Array(parts)) = reply else {
        return Err(unexpected());
    };
    let number = |part: Option<&Reply>| match part {
        Some(Reply::BulkString(text)) => str::from_utf8(text).ok()?.parse::<u64>().ok(),
        Some(Reply::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    match (number(parts.first()), number(parts.get(1))) {
        (Some(seconds), Some(micros)) => Ok(seconds * 1_000 + micros / 1_000),
        _ => Err(unexpected()),
    }
}
