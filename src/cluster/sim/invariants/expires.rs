use crate::session::Record;

use super::super::oracle::Model;

/// Nobody uses a session that was left alone for longer than it may be: part of the promise that a
/// session lives at most a tenth of its idle time longer, whoever is asked.
pub(crate) fn expires(model: &Model, now: u64, read: Option<&Record>, place: &str) {
    assert!(
        !model.has_expired(now) || read.is_none(),
        "a session that was left alone since {} us for longer than {:?} is alive, read {place}",
        model.touched_at,
        model.idle
    );
}
