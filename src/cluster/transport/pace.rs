//! Pace of a link: the limit for unconfirmed bytes of data, so that queues in the network stay
//! short.
//!
//! Everything that waits between two nodes, in socket buffers and routers, also delays later
//! messages: membership probes and acknowledgements. A fixed window is too large for a slow path
//! (256 KiB are thirteen seconds at 20 kB/s) or too small for a fast one. So the window follows the
//! delay: the time between sending and confirmation, less the shortest such time, is the time in
//! queues. If that is long, the window is halved; if it is short and the window was used, it is
//! doubled. LEDBAT (RFC 6817) controls a transfer by the same signal.
//!
//! The window is always between [`WINDOW_MIN`] and [`WINDOW_MAX`]. Fairness toward other traffic is
//! left to TCP.

use std::collections::VecDeque;
use std::time::Duration;

use crate::session::Timestamp;

/// The window of one link.
#[derive(Debug)]
pub(super) struct Pace {
    window: u64,
    /// Bytes of data sent.
    sent: u64,
    confirmed: u64,
    /// Bytes sent at some points in time, the latest last.
    marks: VecDeque<(u64, Timestamp)>,
    /// The shortest time from sending to confirmation.
    shortest: Duration,
    /// Bytes sent before this position do not count for the present window.
    adjusted_at: u64,
    /// Whether the window was used since it was last adjusted.
    was_full: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            window: WINDOW_START,
            sent: 0,
            confirmed: 0,
            marks: VecDeque::new(),
            shortest: Duration::MAX,
            adjusted_at: 0,
            was_full: false,
        }
    }
}

impl Pace {
    /// Returns how many more bytes may be sent.
    pub(super) const fn room(&self) -> u64 {
        self.window.saturating_sub(self.unconfirmed())
    }

    /// Returns the limit for unconfirmed bytes.
    pub(super) const fn window(&self) -> u64 {
        self.window
    }

    pub(super) const fn unconfirmed(&self) -> u64 {
        self.sent - self.confirmed
    }

    /// Records sent bytes.
    pub(super) fn send(&mut self, now: Timestamp, bytes: u64) {
        self.sent += bytes;
        self.was_full |= self.unconfirmed() * 2 >= self.window;
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((self.sent, now));
    }

    /// Records confirmed bytes.
    pub(super) fn confirm(&mut self, now: Timestamp, bytes: u64) {
        self.confirmed += bytes;
        let mut left_at = None;
        while let Some((sent, at)) = self.marks.front()
            && *sent <= self.confirmed
        {
            left_at = Some((*sent, *at));
            self.marks.pop_front();
        }
        if let Some((sent, at)) = left_at {
            self.adjust(sent, now.since(at));
        }
    }

    /// Adjusts the window by the time that bytes have taken.
    fn adjust(&mut self, sent: u64, took: Duration) {
        self.shortest = self.shortest.min(took);
        if sent <= self.adjusted_at {
            return;
        }
        let waited = took - self.shortest;
        if waited > WAIT_MAX {
            self.window = (self.window / 2).max(WINDOW_MIN);
        } else if waited <= WAIT_MIN && self.was_full {
            self.window = (self.window * 2).min(WINDOW_MAX);
        } else {
            return;
        }
        // Bytes under way were sent within the previous window.
        self.adjusted_at = self.sent;
        self.was_full = false;
    }
}

/// The window of a new link, in bytes: 100 ms at 20 Mbit/s.
const WINDOW_START: u64 = 256 << 10;

/// The smallest window, in bytes: a third of a second at 200 kB/s. A path that stalls occasionally
/// because it loses packets still carries this much in each round trip.
const WINDOW_MIN: u64 = 64 << 10;

/// The largest window, in bytes: all that the replica and the lanes allow to be under way.
const WINDOW_MAX: u64 = 8 << 20;

/// Longest acceptable wait in the network: a fraction of the time in which a member must answer.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Up to this wait the window may grow.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// Times recorded. A link that sends more often between two credits measures only the later part.
const MARKS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as much as the window allows over a path of this many bytes per millisecond, for a
    /// while. Returns the longest time that bytes have waited in the last second.
    fn run(pace: &mut Pace, rate: u64, round_trip: u64, millis: u64) -> u64 {
        pace.confirm(Timestamp::from_millis(1_000_000), pace.unconfirmed());
        let mut queue: VecDeque<(u64, u64)> = VecDeque::new();
        let (mut free_at, mut longest) = (0, 0);
        for now in 0..millis {
            let at = Timestamp::from_millis(1_000_000 + now);
            while let Some((done, bytes)) = queue.front().copied()
                && done <= now
            {
                queue.pop_front();
                pace.confirm(at, bytes);
            }
            while pace.room() > 0 {
                let bytes = pace.room().min(32 << 10);
                pace.send(at, bytes);
                free_at = free_at.max(now) + bytes / rate;
                queue.push_back((free_at + round_trip, bytes));
                if now + 1_000 > millis {
                    longest = longest.max(free_at - now);
                }
            }
        }
        longest
    }

    #[test]
    fn little_waits_on_a_slow_path() {
        let mut pace = Pace::default();
        run(&mut pace, 1_000_000, 1, 100);
        // 200 kB/s.
        assert!(run(&mut pace, 200, 1, 1_000_000) < 1_000);
        assert!(pace.window <= 2 * WINDOW_MIN, "{}", pace.window);
    }

    #[test]
    fn a_path_that_becomes_fast_is_used() {
        let mut pace = Pace::default();
        run(&mut pace, 1_000_000, 1, 100);
        run(&mut pace, 20, 1, 600_000);
        let before = pace.sent;
        // 1 GB/s with a round trip of 1 ms.
        run(&mut pace, 1_000_000, 1, 1_000);
        assert!(pace.sent - before > 500 << 20, "{}", pace.sent - before);
    }

    #[test]
    fn a_long_path_is_used() {
        let mut pace = Pace::default();
        // 10 MB/s with a round trip of 200 ms.
        run(&mut pace, 10_000, 200, 10_000);
        assert!(pace.sent > 50 << 20, "{}", pace.sent);
    }
}
