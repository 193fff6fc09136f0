//! Operations on one session: questions to the server, and what its answers mean.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use redis::Value as Reply;

use crate::clock;
use crate::error::StoreError;
use crate::session::{Loaded, Record, Root, SecretHash};

use super::Shared;
use super::error::{Failure, RedisError, RedisErrorKind};
use super::near::Source;
use super::record::{self, Clock, Values};
use super::request::{Answer, Request, What};
use super::router::Unanswered;
use super::script::Script;

impl Shared {
    pub(super) async fn load(
        &self,
        key: &Root,
        secret: Option<&SecretHash>,
    ) -> Result<Loaded, StoreError> {
        // A request that has presented its secret before wants to know what others have written.
        if let Some(near) = &self.near
            && secret.is_some()
            && let Some(record) = near.get(key, secret, clock::now())
        {
            return Ok(Loaded::Live(record));
        }
        // Boxed: a hit must not reserve the memory of a request.
        Box::pin(self.fetch(key, secret)).await
    }

    /// Asks the server, and keeps a copy if configured, for any presented secret.
    async fn fetch(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        let ticket = self.near.as_ref().map(|near| near.ticket(key, false));
        let Some((record, source)) = self.read(key).await? else {
            return Ok(Loaded::Absent);
        };
        self.events.note(key, &record);
        let loaded = record.loaded(secret, clock::now());
        if let Some(ticket) = ticket {
            ticket.redeem(record, source);
        }
        Ok(loaded)
    }

    /// The session as the server has it, and the connection it came over.
    async fn read(&self, key: &Root) -> Result<Option<(Arc<Record>, Option<Source>)>, StoreError> {
        let request = Request {
            key: self.settings.prefix.key(key),
            is_index: key.is_index(),
            claim: None,
            what: What::Load,
        };
        let answered = self.router.ask(&request).await.map_err(store_error)?;
        let here = clock::now();
        let mut replies = answered.replies;
        let fields = replies.pop().unwrap_or_default();
        let there = server_time(replies.first()).map_err(|e| e.into_store_error(false))?;
        let record = self.decode(key, fields, Clock { there, here });
        let record = record.map_err(|error| error.into_store_error(false))?;
        let live = record.filter(|record| record.is_live(here));
        Ok(live.map(|record| (Arc::new(record), answered.source)))
    }

    /// Runs a script that ends with its answer, or with the number of replicas that have confirmed.
    /// `kills`: it ends a session or a secret, which a failover must not undo.
    pub(super) async fn run(
        &self,
        key: &Root,
        script: Script,
        args: Vec<Vec<u8>>,
        kills: bool,
    ) -> Result<Answer, StoreError> {
        let replicas = self.settings.replicas.filter(|_| kills);
        let redis_key = self.settings.prefix.key(key);
        let request = Request {
            claim: (script == Script::Expire).then(|| self.settings.prefix.claim(&redis_key)),
            key: redis_key,
            is_index: key.is_index(),
            what: What::Run {
                script,
                args,
                replicas,
            },
        };
        let answered = self.router.ask(&request).await.map_err(store_error)?;
        let mut replies = answered.replies;
        if let Some(replicas) = replicas {
            let confirmed = match replies.pop() {
                Some(Reply::Int(confirmed)) => confirmed,
                Some(Reply::ServerError(error)) => {
                    let error = Failure::of_reply(&error, "WAIT").into_error();
                    return Err(error.into_store_error(true));
                }
                _ => 0,
            };
            if confirmed < i64::from(replicas.count) {
                let detail = format!("{confirmed} of {}", replicas.count);
                let error = RedisError::new(RedisErrorKind::Unreplicated, detail);
                return Err(error.into_store_error(true));
            }
        }
        let answer = Answer::of(replies.pop().unwrap_or_default());
        answer.map_err(|error| error.into_store_error(true))
    }

    pub(super) fn decode(
        &self,
        key: &Root,
        fields: Reply,
        clock: Clock,
    ) -> Result<Option<Record>, RedisError> {
        let application = self.settings.application.as_deref();
        let key = self.settings.prefix.key(key);
        record::decode(fields, clock, application, self.values(&key))
    }

    /// The values of the session under this key of Redis.
    pub(super) fn values<'a>(&'a self, key: &'a [u8]) -> Values<'a> {
        let cipher = self.settings.cipher.as_ref();
        Values { key, cipher }
    }

    pub(super) fn mark(&self) -> Vec<u8> {
        self.attempts.fetch_add(1, Relaxed).to_be_bytes().to_vec()
    }
}

fn store_error(unanswered: Unanswered) -> StoreError {
    unanswered.why.into_store_error(unanswered.uncertain)
}

/// Returns the error for an answer that the script's caller does not handle.
pub(super) fn unreadable(answer: &Answer) -> StoreError {
    match answer {
        Answer::Foreign => RedisError::new(RedisErrorKind::Foreign, "").into_store_error(false),
        Answer::Unknown => {
            let detail = "it is not known whether an earlier attempt took effect";
            RedisError::new(RedisErrorKind::TimedOut, detail).into_store_error(true)
        }
        _ => {
            RedisError::new(RedisErrorKind::Unexpected, "a script's answer").into_store_error(true)
        }
    }
}

/// Converts seconds and microseconds to milliseconds.
pub(super) fn server_time(reply: Option<&Reply>) -> Result<u64, RedisError> {
    let odd = || RedisError::new(RedisErrorKind::Unexpected, "no time");
    let Some(Reply::Array(parts)) = reply else {
        return Err(odd());
    };
    let number = |part: Option<&Reply>| match part {
        Some(Reply::BulkString(text)) => str::from_utf8(text).ok()?.parse::<u64>().ok(),
        Some(Reply::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    match (number(parts.first()), number(parts.get(1))) {
        (Some(seconds), Some(micros)) => Ok(seconds * 1_000 + micros / 1_000),
        _ => Err(odd()),
    }
}
