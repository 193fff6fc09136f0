//! Warnings about mistakes that an application makes in its configuration, each logged once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tracing::warn;

/// Detects that browsers drop the cookies they receive, and that a layer is inside another one with
/// the same cookie or header.
///
/// A cookie with `Secure` that is sent over plain HTTP to a host other than this machine is
/// silently dropped, and every request starts a new session. Clients without cookies look the same,
/// so this is a hint: it is logged once, and only while no client has returned a cookie.
#[derive(Debug, Default)]
pub(super) struct Hint {
    issued: AtomicU64,
    returned: AtomicBool,
    nested: AtomicBool,
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

    /// Records that a request has passed another layer with the same cookie or header, whose store
    /// has the session.
    pub(super) fn nested(&self) {
        if !self.nested.load(Relaxed) && !self.nested.swap(true, Relaxed) {
            warn!(
                "a SessionLayer is inside another one with the same cookie name or header: only the \
                 outer one and its store are used. Add one SessionLayer around all routes that need \
                 sessions, or give each layer a cookie name of its own"
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

/// A clone starts anew: a configuration is cloned to be changed.
impl Clone for Hint {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The number of new sessions without a returned cookie that triggers the warning.
const ISSUED_MAX: u64 = 20;
