//! The presence of connected servers, the time without any, and its log lines.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::redis::outage::{Outage, OutageReport};
use crate::sync::lock;

/// Counts the usable connections.
#[derive(Debug)]
pub(super) struct Presence(Mutex<PresenceState>);

#[derive(Debug)]
struct PresenceState {
    up: usize,
    /// When the last connection was lost; initially, when the store was made.
    lost: Instant,
    outage: Outage,
}

/// A usable connection, until this is dropped.
#[derive(Debug)]
pub(super) struct PresenceGuard(Arc<Presence>);

impl Presence {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(PresenceState {
            up: 0,
            lost: Instant::now(),
            outage: Outage::default(),
        })))
    }

    /// Counts a connection. Also returns the duration of the outage that it ends: `own`, that of
    /// its server, or that of all servers.
    pub(super) fn enter(self: &Arc<Self>, own: &mut Outage) -> (PresenceGuard, Option<Duration>) {
        let now = Instant::now();
        let mut state = self.lock();
        let of_all = match state.up {
            0 => state.outage.ends(now),
            _ => None,
        };
        state.up += 1;
        drop(state);
        (PresenceGuard(self.clone()), own.ends(now).or(of_all))
    }

    /// Records a failure of one server. If none is connected, all servers share one report.
    pub(super) fn fails(&self, own: &mut Outage) -> Option<OutageReport> {
        let now = Instant::now();
        let mut state = self.lock();
        match state.up {
            0 => state.outage.fails(now),
            _ => own.fails(now),
        }
    }

    /// Returns how long there has been no connection.
    pub(super) fn absent_for(&self) -> Duration {
        let state = self.lock();
        match state.up {
            0 => state.lost.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// Returns `true` if there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.lock().up > 0
    }

    fn lock(&self) -> MutexGuard<'_, PresenceState> {
        lock(&self.0)
    }
}

impl Drop for PresenceGuard {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.up -= 1;
        if state.up == 0 {
            state.lost = Instant::now();
        }
    }
}
