//! A warning for applications whose session cookies never come back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tracing::warn;

/// Detects that browsers drop the cookies they receive.
///
/// A cookie with `Secure` that is sent over plain HTTP to a host other than this machine is
/// silently dropped, and every request starts a new session. Clients without cookies look the same,
/// so this is a hint: it is logged once, and only while no client has returned a cookie.
#[derive(Debug, Default)]
pub(super) struct Hint {
    issued: AtomicU64,
    returned: AtomicBool,
}

impl Hint {
    /// Records that a new session's cookie is sent with a guessed `Secure`.
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

    /// Records that a request has a session cookie.
    pub(super) fn returned(&self) {
        // It is usually set already, and a shared flag is written only if needed.
        if !self.returned.load(Relaxed) {
            self.returned.store(true, Relaxed);
        }
    }
}

/// As with the counter beside it: a clone is to be configured further, and starts anew.
impl Clone for Hint {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The number of new sessions without a returned cookie that triggers the warning.
const ISSUED_MAX: u64 = 20;
