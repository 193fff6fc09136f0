//! A hint for an application whose session cookies never come back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tracing::warn;

/// Notices that browsers drop the cookies that they are sent.
///
/// A cookie with `Secure` that is sent over plain HTTP to a host that is not on this machine is
/// dropped without a word, and every request begins a new session. Clients without cookies look the
/// same, so this is a hint, written once, and only while no client at all has returned a cookie.
#[derive(Debug, Default)]
pub(super) struct Hint {
    issued: AtomicU64,
    returned: AtomicBool,
}

impl Hint {
    /// A new session's cookie is sent, with `Secure` as a guess.
    pub(super) fn issued(&self) {
        if !self.returned.load(Relaxed) && self.issued.fetch_add(1, Relaxed) + 1 == ISSUED_MAX {
            warn!(
                sessions = ISSUED_MAX,
                "no session cookie has come back: browsers drop cookies with Secure that arrive over \
                 plain HTTP. Let the proxy send X-Forwarded-Proto, or set Secure::Never on a network \
                 without TLS"
            );
        }
    }

    /// A request has a session cookie.
    pub(super) fn returned(&self) {
        // Mostly it is known: a shared flag is not written without need.
        if !self.returned.load(Relaxed) {
            self.returned.store(true, Relaxed);
        }
    }
}

/// As with what is counted beside it: a clone is configured further, and begins anew.
impl Clone for Hint {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// How many new sessions whose cookies do not come back are no coincidence.
const ISSUED_MAX: u64 = 20;
