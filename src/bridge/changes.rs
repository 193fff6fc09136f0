//! The changes that store the content of a request.

use std::time::Duration;

use serde_json::Value as Json;

use crate::bridge::bases::Base;
use crate::bridge::conversion::{EXPIRY, EncodedRecord, StoreKey};
use crate::session::{Changes, Login, Timestamp, Value, codec};

impl EncodedRecord {
    /// The changes that make a session of this.
    pub(super) fn creation(&self, key: &StoreKey, idle: Duration) -> Changes {
        let mut changes = Changes::create(key.hash, Some(idle), granted(idle));
        for (name, value) in &self.attributes {
            changes.insert(name.clone(), value.clone());
        }
        changes.insert(EXPIRY.into(), self.expiry.clone());
        changes
    }

    /// The changes that a request has made which knew the session as `base`.
    pub(super) fn changes(
        &self,
        key: &StoreKey,
        base: &Base,
        idle: Duration,
        now: Timestamp,
    ) -> Changes {
        let mut changes = Changes::default();
        for (name, value) in &self.attributes {
            let is_known = base.value(name).is_some_and(|known| is_same(known, value));
            if !is_known {
                changes.insert(name.clone(), value.clone());
            }
        }
        for name in base.names() {
            if name != EXPIRY && self.value(name).is_none() {
                changes.remove(name.into());
            }
        }
        // Written also if it is the same: a save counts as a use.
        changes.insert(EXPIRY.into(), self.expiry.clone());
        let record = base.record();
        if record.idle_timeout() != Some(idle) {
            changes.set_idle_timeout(Some(idle));
        }
        if record.absolute_deadline() < now.plus(idle) {
            // Only a rotation moves the deadline. The secret stays: two nodes that do this on both
            // sides of a partition do not fork the session, which would delete it.
            changes.rotate(key.hash, key.hash);
            changes.log_in(Login {
                user: None,
                absolute_timeout: granted(idle),
            });
        }
        changes
    }
}

/// The absolute timeout that goes with an idle timeout: long enough that few saves have to move
/// it on. Not much longer, because stores remember that a session has ended for as long.
fn granted(idle: Duration) -> Duration {
    idle + (idle / 4).clamp(GRANTED_BEYOND_MIN, GRANTED_BEYOND_MAX)
}

/// Returns `true` if two encoded values are equal as JSON. Mostly they are the same bytes; the
/// order of keys is no difference.
fn is_same(one: &Value, other: &Value) -> bool {
    let decoded = |value| codec::decode::<Json>(value).ok();
    one == other || decoded(one).is_some_and(|one| Some(one) == decoded(other))
}

const GRANTED_BEYOND_MIN: Duration = Duration::from_secs(60);
const GRANTED_BEYOND_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_differ_in_the_order_of_keys_are_the_same() {
        let tag = codec::encode(&1, 10).unwrap().as_bytes()[0];
        let value = |text: &str| Value::from_bytes([&[tag], text.as_bytes()].concat());
        assert!(is_same(
            &value(r#"{"a":1,"b":2}"#),
            &value(r#"{"b":2,"a":1}"#)
        ));
        assert!(!is_same(&value("1"), &value("2")));
        assert!(!is_same(&value("x"), &value("y")));
    }
}
