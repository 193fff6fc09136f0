//! Commits: the encoding of changes as arguments of a script, and of its answer as an outcome.

use std::sync::Arc;

use redis::Value as Reply;

use crate::clock;
use crate::error::StoreError;
use crate::session::{Changes, Outcome, Record, Root, SecretHash, Timestamp};
use crate::store::redis::RedisShared;
use crate::store::redis::error::{RedisError, RedisErrorKind};
use crate::store::redis::operations::unreadable;
use crate::store::redis::record::{self, ServerClock, ValueCodec};
use crate::store::redis::request::ScriptReply;
use crate::store::redis::script::Script;

impl RedisShared {
    pub(super) async fn commit(
        &self,
        key: &Root,
        base: Option<&Record>,
        changes: &Changes,
    ) -> Result<Outcome, StoreError> {
        let adds = changes.writes().iter().any(|(_, value)| value.is_some());
        // A commit that only removes is never refused: it makes a session smaller that is above a
        // limit that was lowered.
        if adds && bytes_after(base, changes) > self.config.max_session_bytes {
            return Err(StoreError::too_large());
        }
        let rotates = changes.rotation().is_some();
        let is_event = changes.is_create() || rotates || changes.idle_timeout().is_some();
        let redis_key = self.config.prefix.key(key);
        let origin = if is_event && !key.is_index() {
            self.events.origin(&redis_key)
        } else {
            Vec::new()
        };
        let args = arguments(base, changes, self.mark(), origin);
        let args = append(args, changes, self.values(&redis_key))
            .map_err(|error| error.into_store_error(false))?;
        // Dropped when the commit is over, with any result: no copy is older than this.
        let _lease = self
            .near_cache
            .as_ref()
            .map(|near_cache| near_cache.lease(key, true));
        let answer = self.run(key, Script::Commit, args, rotates).await?;
        let outcome = self
            .outcome(key, answer, base, changes)?
            .map_err(|error| error.into_store_error(true))?;
        if let Outcome::Committed(record) = &outcome {
            self.events.note(key, record);
        }
        Ok(outcome)
    }

    /// The outer error is the server's, the inner one is of an answer that cannot be decoded.
    fn outcome(
        &self,
        key: &Root,
        answer: ScriptReply,
        base: Option<&Record>,
        changes: &Changes,
    ) -> Result<Result<Outcome, RedisError>, StoreError> {
        match answer {
            ScriptReply::Gone => Ok(Ok(Outcome::Gone)),
            ScriptReply::Superseded => Ok(Ok(Outcome::Superseded)),
            ScriptReply::Done(rest) => Ok(composed(rest, base, changes).map(Outcome::Committed)),
            ScriptReply::Whole(rest) => Ok(self.whole(key, rest).map(Outcome::Committed)),
            ScriptReply::Conflict(rest) => match self.whole(key, rest) {
                Ok(record) => Ok(Ok(Outcome::Conflict(record))),
                // Nothing was written.
                Err(error) => Err(error.into_store_error(false)),
            },
            ScriptReply::Foreign | ScriptReply::Unknown => Err(unreadable(&answer)),
        }
    }

    /// Decodes the whole session.
    fn whole(&self, key: &Root, rest: Vec<Reply>) -> Result<Arc<Record>, RedisError> {
        let (clock, fields) = timed(rest)?;
        self.decode(key, fields, clock)?
            .map(Arc::new)
            .ok_or_else(unexpected)
    }
}

/// Returns the bytes of the names and values of a session after these changes.
fn bytes_after(base: Option<&Record>, changes: &Changes) -> usize {
    let Some(base) = base else {
        return changes.payload_bytes();
    };
    let names = changes.writes().iter().map(|(name, _)| name);
    let replaced: usize = names
        .filter_map(|name| base.entry(name))
        .map(|entry| entry.payload_bytes())
        .sum();
    base.payload_bytes() - replaced + changes.payload_bytes()
}

/// The script's arguments, after the one that marks a retry and before the attributes.
fn arguments(
    base: Option<&Record>,
    changes: &Changes,
    mark: Vec<u8>,
    origin: Vec<u8>,
) -> Vec<Vec<u8>> {
    let number = |number: u64| number.to_string().into_bytes();
    let last = base.map(Record::latest);
    let (born, lifetime) = changes.birth(Timestamp::default()).unzip();
    let rotation = changes.rotation();
    let login = rotation.and_then(|rotation| rotation.login);
    let adds = changes.writes().iter().any(|(_, value)| value.is_some());
    let mode: &[u8] = match &born {
        Some(_) => b"create",
        None if adds && changes.is_access() => b"update",
        None if adds => b"update quietly",
        None if changes.is_access() => b"keep",
        None => b"keep quietly",
    };
    let born_idle = lifetime.as_ref().map(|born| born.idle_timeout.1.get());
    let idle = changes.idle_timeout();
    let first = lifetime.map(|born| record::millis(born.initial_idle_timeout.get()));
    let absolute_timeout = match &born {
        Some(born) => Some(born.absolute_deadline.since(Timestamp::default())),
        None => login.map(|login| login.absolute_timeout),
    };
    let user = match &born {
        Some(born) => born.user(),
        None => login.and_then(|login| login.user),
    };
    let secret = rotation
        .map(|rotation| rotation.to)
        .or_else(|| born.map(|born| born.hash));
    let former = rotation.map(|rotation| rotation.from);
    let hash = |hash: SecretHash| hash.to_bytes().to_vec();
    let (expected, version) = changes.required_version().unzip();
    vec![
        mark,
        last.map_or_else(Vec::new, |version| record::version_bytes(version).to_vec()),
        last.map_or_else(|| b"-1".to_vec(), |version| number(version.clock)),
        mode.to_vec(),
        idle.map_or_else(Vec::new, |idle| number(record::millis(idle))),
        absolute_timeout.map_or_else(Vec::new, |absolute_timeout| {
            number(record::millis(Some(absolute_timeout)))
        }),
        first.map_or_else(Vec::new, number),
        expected.map_or_else(Vec::new, |name| record::field(name)),
        match born_idle {
            // A creation expects nothing.
            Some(idle) => number(record::millis(idle)),
            None => version
                .flatten()
                .map_or_else(Vec::new, |version| record::version_bytes(version).to_vec()),
        },
        secret.map_or_else(Vec::new, hash),
        former.map_or_else(Vec::new, hash),
        user.map_or_else(Vec::new, |user| user.to_bytes().to_vec()),
        origin,
    ]
}

/// Appends the attributes with their values.
fn append(
    mut args: Vec<Vec<u8>>,
    changes: &Changes,
    values: ValueCodec<'_>,
) -> Result<Vec<Vec<u8>>, RedisError> {
    args.reserve_exact(2 * changes.writes().len());
    for (name, value) in changes.writes() {
        args.push(record::field(name));
        args.push(values.payload(name, value.as_ref())?);
    }
    Ok(args)
}

/// Decodes only the header: the rest follows from the base and the changes.
fn composed(
    rest: Vec<Reply>,
    base: Option<&Record>,
    changes: &Changes,
) -> Result<Arc<Record>, RedisError> {
    let (clock, header) = timed(rest)?;
    let Reply::BulkString(header) = header else {
        return Err(unexpected());
    };
    record::committed(base, changes, &header, clock).map(Arc::new)
}

pub(super) fn timed(rest: Vec<Reply>) -> Result<(ServerClock, Reply), RedisError> {
    let here = clock::now();
    let mut rest = rest.into_iter();
    let (Some(Reply::BulkString(there)), Some(reply)) = (rest.next(), rest.next()) else {
        return Err(unexpected());
    };
    let there = str::from_utf8(&there)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(unexpected)?;
    Ok((ServerClock { there, here }, reply))
}

fn unexpected() -> RedisError {
    RedisError::new(RedisErrorKind::Unexpected, "a commit's answer")
}
