//! Turns of large writes, so that many at once wait instead of being refused.
//!
//! A change of many kilobytes takes its turn before it is applied, and keeps it until it is
//! acknowledged. So no more bytes are on their way to other nodes than slow links carry in a few
//! seconds, and the callers that wait hold nothing but what their requests hold anyway. Small
//! changes never wait here.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::error::StoreError;

/// The bytes of large changes that may be under way.
#[derive(Debug)]
pub(super) struct LargeWrites {
    /// One permit for each KiB.
    room: Semaphore,
    /// How many callers may wait.
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
    /// Waits until a change of so many bytes may begin. It is under way until the result is
    /// dropped.
    ///
    /// # Errors
    ///
    /// `Unavailable` when too many wait, or nothing has ended for long. Nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// A caller that stops waiting loses its turn and changes nothing.
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
        let busy = || StoreError::unavailable("too many large changes are under way");
        let _place = self.places.try_acquire().map_err(|_| busy())?;
        match timeout(WAIT_MAX, self.room.acquire_many(kib)).await {
            Ok(Ok(turn)) => Ok(Some(turn)),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

/// The largest change that takes no turn: what links send in one piece.
const SMALL_MAX: usize = 64 << 10;

/// How much may be under way, in KiB: 32 MiB. A larger change waits until it is alone.
const ROOM_KIB: u32 = 32 << 10;

/// How many callers wait at most; their requests hold up to 16 MiB each.
const WAITING_MAX: usize = 64;

/// How long a caller waits for its turn.
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
