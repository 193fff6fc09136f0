//! Sessions over the store trait, in a few words.

use std::sync::Arc;
use std::time::Duration;

use distributable::session::{Changes, Loaded, Outcome, Record, SecretHash, Value};
use distributable::store::{RedisError, RedisErrorKind, RedisStoreBuilder};
use distributable::{RedisStore, Root, SessionStore, StoreError};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// A timeout that a machine under load meets at the first attempt.
pub(crate) const PATIENT: Duration = Duration::from_secs(15);

/// The time limit of recoveries that could only fail by never taking place.
pub(crate) const RECOVERY: Duration = Duration::from_secs(20);

/// A store for what must hold whatever the speed of the machine.
pub(crate) async fn patient(url: &str) -> RedisStore {
    builder(url).connect().await.unwrap()
}

/// The builder of such a store.
pub(crate) fn builder(url: impl Into<String>) -> RedisStoreBuilder {
    RedisStore::builder(url).operation_timeout(PATIENT)
}

/// Measures until the result is as it must be. Only for faults that show in each measurement: a
/// machine that stands still for a second or two disturbs one now and then.
pub(crate) async fn in_one_of_some(what: &str, mut measure: impl AsyncFnMut() -> bool) {
    for _ in 0..MEASUREMENTS {
        if measure().await {
            return;
        }
    }
    panic!("never in {MEASUREMENTS} measurements: {what}");
}

/// What disturbs one measurement in ten disturbs all of them once in 10,000 runs.
pub(crate) const MEASUREMENTS: usize = 4;

pub(crate) fn text(value: &str) -> Value {
    Value::from_bytes(value.as_bytes())
}

/// The hash of the secret that new sessions have.
pub(crate) const SECRET: SecretHash = secret(0);

/// The hash of another secret.
pub(crate) const fn secret(number: u8) -> SecretHash {
    SecretHash::from_bytes([number + 1; 16])
}

pub(crate) fn birth(name: &str, value: &str) -> Changes {
    let mut changes = Changes::create(SECRET, Some(HOUR), 24 * HOUR);
    changes.insert(name.into(), text(value));
    changes
}

pub(crate) fn insert(name: &str, value: &str) -> Changes {
    let mut changes = Changes::default();
    changes.insert(name.into(), text(value));
    changes
}

/// Replaces one secret by another.
pub(crate) fn rotation(from: SecretHash, to: SecretHash) -> Changes {
    let mut changes = Changes::default();
    changes.rotate(from, to);
    changes
}

/// The session, for a request with its first secret, or that has presented a later one before.
pub(crate) async fn find(store: &RedisStore, key: &Root) -> Option<Arc<Record>> {
    match store.load(key, Some(&SECRET)).await.unwrap() {
        Loaded::Superseded => store.load(key, None).await.unwrap().into_live(),
        found => found.into_live(),
    }
}

/// A new session with one attribute.
pub(crate) async fn create(store: &RedisStore, name: &str, value: &str) -> (Root, Arc<Record>) {
    let key = store.new_id().key();
    let outcome = store.commit(&key, None, birth(name, value)).await;
    (key, committed(outcome))
}

pub(crate) fn committed(outcome: Result<Outcome, StoreError>) -> Arc<Record> {
    match outcome {
        Ok(Outcome::Committed(record)) => record,
        Ok(other) => panic!("not committed: {other:?}"),
        Err(error) => panic!("not committed: {}", reason(&error)),
    }
}

pub(crate) fn reason(error: &StoreError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("{error} ({})", cause.unwrap_or_default())
}

/// What kind of failure the store saw.
pub(crate) fn kind(error: &StoreError) -> Option<RedisErrorKind> {
    let source = std::error::Error::source(error)?;
    Some(source.downcast_ref::<RedisError>()?.kind())
}

pub(crate) fn value(record: &Record, name: &str) -> Option<String> {
    let value = record.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The key of a session in Redis.
pub(crate) fn stored(key: &Root) -> String {
    format!("sess:{key}")
}
