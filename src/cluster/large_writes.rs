//! Queue for large writes, so that many at the same time wait instead of being refused.
//!
//! A large change waits for its turn before it is applied, and keeps it until it is acknowledged.
//! So the bytes under way to other nodes are limited to what slow links carry in a few seconds, and
//! the waiting callers hold no memory beyond their requests. Small changes never wait here.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::error::StoreError;

/// The bytes of large changes in progress.
#[derive(Debug)]
pub(super) struct LargeWrites {
    /// One permit for each KiB.
    room: Semaphore,
    /// The number of callers that may wait.
    places: Semaphore,
}

impl Default for LargeWrites {
    fn default() -> Self {
        Self {
            room: Semaphore::new(ROOM_KIB as usize),
            places: Semaphore::new(WAITING_MAX),
        }
    }
}

impl LargeWrites {
    /// Waits until a change of this size may start. It is in progress until the result is dropped.
    ///
    /// # Errors
    ///
    /// `Unavailable` if too many callers wait, or the wait takes too long. Nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the turn and changes nothing.
    pub(super) async fn turn(
        &self,
        bytes: usize,
    ) -> Result<Option<SemaphorePermit<'_>>, StoreError> {
        if bytes <= SMALL_MAX {
            return Ok(None);
        }
        let kib = u32::try_from(bytes >> 10).unwrap_or(ROOM_KIB).min(ROOM_KIB);
        if let Ok(turn) = self.room.try_acquire_many(kib) {
            return Ok(Some(turn));
        }
        let busy = || StoreError::unavailable("too many large changes are in progress");
        let _place = self.places.try_acquire().map_err(|_| busy())?;
        match timeout(WAIT_MAX, self.room.acquire_many(kib)).await {
            Ok(Ok(turn)) => Ok(Some(turn)),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

/// The largest change that does not wait: links send it in one piece.
const SMALL_MAX: usize = 64 << 10;

/// Large changes in progress, in KiB: 32 MiB. A larger change waits until it is alone.
const ROOM_KIB: u32 = 32 << 10;

/// Most waiting callers; their requests hold up to 16 MiB each.
const WAITING_MAX: usize = 64;

/// Longest wait for a turn.
const WAIT_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;

    #[tokio::test(start_paused = true)]
    async fn large_changes_wait_for_their_turn_and_small_ones_do_not() {
        let writes = LargeWrites::default();
        let first = writes.turn(20 << 20).await.unwrap();
        assert!(writes.turn(SMALL_MAX).await.unwrap().is_none());
        let refused = writes.turn(20 << 20).await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
        drop(first);
        assert!(writes.turn(100 << 20).await.unwrap().is_some(), "alone");
    }
}
