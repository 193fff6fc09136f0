//! Expiry of sessions.

use crate::session::Record;

use crate::cluster::sim::oracle::Model;

/// A session that was idle for longer than its idle timeout, or is past its absolute deadline, has
/// expired on every node: it lives at most a tenth of its idle timeout longer.
pub(crate) fn expires(model: &Model, now: u64, read: Option<&Record>, place: &str) {
    assert!(
        !model.has_expired(now) || read.is_none(),
        "a session that was last used at {} us, may idle for {:?} and live for {:?} is alive, read \
         {place}",
        model.touched_at,
        model.idle,
        model.absolute_timeout
    );
}
