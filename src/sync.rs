//! Locks that stay usable after a panic.
//!
//! A panic under a lock of the standard library poisons it: every later attempt to take it fails.
//! The panic is a bug, but one that should fail the request that met it and no other, so these
//! functions ignore the poison. What a panic leaves behind is described where a lock is taken, if
//! it is not obvious.

use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(any(feature = "redis", feature = "replicated"))]
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(any(feature = "redis", feature = "replicated"))]
pub(crate) fn read<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(any(feature = "redis", feature = "replicated"))]
pub(crate) fn write<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_lock_can_be_taken_after_a_panic() {
        let mutex = Mutex::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut number = lock(&mutex);
            *number += 1;
            panic!("while the lock is held");
        }));
        assert!(panicked.is_err() && mutex.is_poisoned());
        assert_eq!(*lock(&mutex), 2);
    }
}
