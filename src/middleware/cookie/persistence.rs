//! "Remember me": the cookie's age, stored in the session itself.
//!
//! It is an attribute under a name that applications cannot use, so every store and every node
//! handles it. The time when the cookie was last sent is stored beside the age: a returning browser
//! is sent a fresh cookie before too much of the age has passed.

use std::time::Duration;

use crate::clock;
use crate::middleware::cookie::Persistence;
use crate::session::{Record, Timestamp, Value, codec};

/// The attribute that stores the [`Persistence`] of a session.
pub(crate) const NAME: &str = "\0cookie";

/// The attribute's value: the cookie's age in seconds, 0 for none, and when it was sent.
pub(crate) fn value(persistence: Persistence) -> Value {
    let secs = persistence.age_secs().unwrap_or(0);
    codec::encode(&(secs, clock::now().as_millis()), usize::MAX)
        .expect("two numbers can be encoded")
}

/// Decodes a [`value`]. Anything else under the name, which only a store can have put there, is
/// ignored.
pub(crate) fn read(value: &Value) -> Option<Persistence> {
    Some(persistence(parts(value)?.0))
}

/// The persistence to store again and to send the cookie with, because some time has passed since
/// the cookie was sent, or because the session was created before cookies had the `usual` age.
pub(crate) fn renewal(record: &Record, usual: Persistence) -> Option<Persistence> {
    let Some(value) = record.get(NAME) else {
        return Some(usual).filter(|usual| *usual != Persistence::BrowserSession);
    };
    let (secs, sent) = parts(value)?;
    let persistence = persistence(secs);
    let age = clock::now().since(Timestamp::from_millis(sent));
    (age >= persistence.renewed_after()?).then_some(persistence)
}

fn parts(value: &Value) -> Option<(u64, u64)> {
    codec::decode(value).ok()
}

const fn persistence(secs: u64) -> Persistence {
    match secs {
        0 => Persistence::BrowserSession,
        secs => Persistence::MaxAge(Duration::from_secs(secs)),
    }
}
