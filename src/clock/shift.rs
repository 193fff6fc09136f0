//! Shifts of the clock, one for each tokio runtime, which tests set.
//!
//! A runtime is what one test has to itself: tests that run at the same time in one process have
//! runtimes of their own, and the tasks that a store spawns are in the runtime of its test.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id};

use crate::sync::lock;

/// How far the clock of a runtime is ahead, for as long as there is a clone of this.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shift(Arc<Mutex<Duration>>);

/// The shifts of all runtimes that have one.
static SHIFTS: LazyLock<Mutex<HashMap<Id, Weak<Mutex<Duration>>>>> = LazyLock::new(Mutex::default);

/// A runtime of this process has, or had, a shift.
static IS_USED: AtomicBool = AtomicBool::new(false);

impl Shift {
    /// The shift of the current runtime; `None` outside of a runtime.
    pub(crate) fn of_runtime() -> Option<Self> {
        let runtime = Handle::try_current().ok()?.id();
        let mut shifts = lock(&SHIFTS);
        shifts.retain(|_, shift| shift.strong_count() > 0);
        if let Some(known) = shifts.get(&runtime).and_then(Weak::upgrade) {
            return Some(Self(known));
        }
        let shift = Self::default();
        shifts.insert(runtime, Arc::downgrade(&shift.0));
        IS_USED.store(true, Relaxed);
        Some(shift)
    }

    /// Moves the clock ahead.
    pub(crate) fn advance(&self, by: Duration) {
        let mut shift = lock(&self.0);
        *shift = shift.saturating_add(by);
    }

    fn get(&self) -> Duration {
        *lock(&self.0)
    }
}

/// How far the clock of the current runtime is ahead.
pub(super) fn shift() -> Duration {
    if !IS_USED.load(Relaxed) {
        return Duration::ZERO;
    }
    let Ok(runtime) = Handle::try_current() else {
        return Duration::ZERO;
    };
    let shifts = lock(&SHIFTS);
    let shift = shifts.get(&runtime.id()).and_then(Weak::upgrade);
    shift.map_or(Duration::ZERO, |shift| Shift(shift).get())
}
