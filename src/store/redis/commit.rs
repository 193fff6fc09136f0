//! Commits: the encoding of changes as arguments of a script, and of its answer as an outcome.

use std::sync::Arc;

use redis::Value as Reply;

use crate::clock;
use crate::error::StoreError;
use crate::session::{Changes, Outcome, Record, Root, SecretHash, Timestamp};

use super::Shared;
use super::error::{RedisError, RedisErrorKind};
use super::operations::unreadable;
use super::record::{self, Clock, Values};
use super::request::Answer;
use super::script::Script;

impl Shared {
    pub(super) async fn commit(
        &self,
        key: &Root,
        base: Option<&Record>,
        changes: &Changes,
    ) -> Result<Outcome, StoreError> {
        let adds = changes.writes().iter().any(|(_, value)| value.is_some());
        if adds && bytes_after(base, changes) > self.settings.max_session_bytes {
            return Err(StoreError::too_large());
        }
        let rotates = changes.rotation().is_some();
        let is_event = changes.is_create() || rotates || changes.idle_timeout().is_some();
        let redis_key = self.settings.prefix.key(key);
        let origin = match is_event && !key.is_index() {
            true => self.events.origin(&redis_key),
            false => Vec::new(),
        };
        let args = arguments(base, changes, self.mark(), origin);
        let args = append(args, changes, self.values(&redis_key));
        let args = args.map_err(|error| error.into_store_error(false))?;
        // Dropped when the commit is over, with any result: no copy is older than this.
        let _ticket = self.near.as_ref().map(|near| near.ticket(key, true));
        let answer = self.run(key, Script::Commit, args, rotates).await?;
        let outcome = self.outcome(key, answer, base, changes)?;
        let outcome = outcome.map_err(|error| error.into_store_error(true))?;
        if let Outcome::Committed(record) = &outcome {
            self.events.note(key, record);
        }
        Ok(outcome)
    }

    /// The outer error is the server's, the inner one is of an answer that cannot be decoded.
    fn outcome(
        &self,
        key: &Root,
        answer: Answer,
        base: Option<&Record>,
        changes: &Changes,
    ) -> Result<Result<Outcome, RedisError>, StoreError> {
        match answer {
            Answer::Gone => Ok(Ok(Outcome::Gone)),
            Answer::Superseded => Ok(Ok(Outcome::Superseded)),
            Answer::Done(rest) => Ok(composed(rest, base, changes).map(Outcome::Committed)),
            Answer::Whole(rest) => Ok(self.whole(key, rest).map(Outcome::Committed)),
            Answer::Conflict(rest) => match self.whole(key, rest) {
                Ok(record) => Ok(Ok(Outcome::Conflict(record))),
                // Nothing was written.
                Err(error) => Err(error.into_store_error(false)),
            },
            Answer::Foreign | Answer::Unknown => Err(unreadable(&answer)),
        }
    }

    /// Decodes the whole session.
    fn whole(&self, key: &Root, rest: Vec<Reply>) -> Result<Arc<Record>, RedisError> {
        let (clock, fields) = timed(rest)?;
        self.decode(key, fields, clock)?
            .map(Arc::new)
            .ok_or_else(odd)
    }
}

/// Returns the bytes of the names and values of a session after these changes.
fn bytes_after(base: Option<&Record>, changes: &Changes) -> usize {
    let Some(base) = base else {
        return changes.payload_bytes();
    };
    let names = changes.writes().iter().map(|(name, _)| name);
    let replaced: usize = names
        .filter_map(|name| base.register(name))
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
    let secret = rotation.map(|rotation| rotation.to);
    let secret = secret.or_else(|| born.map(|born| born.hash));
    let former = rotation.map(|rotation| rotation.from);
    let hash = |hash: SecretHash| hash.to_bytes().to_vec();
    let (expected, version) = changes.expected().unzip();
    vec![
        mark,
        last.map_or_else(Vec::new, |version| record::stamp_bytes(version).to_vec()),
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
                .map_or_else(Vec::new, |version| record::stamp_bytes(version).to_vec()),
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
    values: Values<'_>,
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
        return Err(odd());
    };
    record::committed(base, changes, &header, clock).map(Arc::new)
}

pub(super) fn timed(rest: Vec<Reply>) -> Result<(Clock, Reply), RedisError> {
    let here = clock::now();
    let mut rest = rest.into_iter();
    let (Some(Reply::BulkString(there)), Some(what)) = (rest.next(), rest.next()) else {
        return Err(odd());
    };
    let there = str::from_utf8(&there)
        .ok()
        .and_then(|text| text.parse().ok());
    let there = there.ok_or_else(odd)?;
    Ok((Clock { there, here }, what))
}

fn odd() -> RedisError {
    RedisError::new(RedisErrorKind::Unexpected, "a commit's answer")
}
