//! Increasing pauses with jitter between the attempts of a request.

use std::time::Duration;

/// The pauses of one request.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// Returns the next pause. `salt` differs between concurrent callers.
    pub(super) fn next(&mut self, salt: u32) -> Duration {
        let most = (PAUSE_MIN_MS << self.0).min(PAUSE_MAX_MS);
        self.0 = (self.0 + 1).min(16);
        // Knuth's multiplicative hash spreads the values of a counter.
        let spread = u64::from(salt.wrapping_mul(2_654_435_761)) * most / 2;
        Duration::from_millis(most / 2 + (spread >> 32))
    }
}

const PAUSE_MIN_MS: u64 = 8;
const PAUSE_MAX_MS: u64 = 128;
