//! Draining: the hand-over of this node's sessions before it stops.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::cluster::driver::Driver;
use crate::cluster::handle::ClusterHandle;
use crate::cluster::replica::ReplicaStatus;
use crate::cluster::replica::event::Input;
use crate::cluster::status::DrainReport;

impl ClusterHandle {
    /// Starts draining: this node holds no sessions any more and hands its sessions over, while
    /// requests continue to be served.
    pub(crate) fn start_draining(&self) {
        if !self.driver.draining.swap(true, Relaxed) {
            self.had
                .store(self.driver.replica.status().sessions, Relaxed);
        }
        self.driver.input(Input::Drain(true));
    }

    pub(crate) async fn drain(&self) -> DrainReport {
        let mut drained = self.drained.lock().await;
        if let Some(report) = *drained {
            return report;
        }
        let began = Instant::now();
        self.start_draining();
        let draining = Draining(Some(&self.driver));
        let status = self.handed_over(began + self.drain_timeout).await;
        self.driver.input(Input::Leave);
        // From here on draining cannot be canceled.
        draining.stays();
        let deadline = (began + self.drain_timeout).max(Instant::now() + FLUSH_MAX);
        let flush = self.until(deadline, |driver| driver.links.is_flushed().then_some(()));
        flush.await;
        self.stop.send_replace(true);
        // The task holds the only receiver.
        self.stop.closed().await;
        let report = DrainReport {
            complete: is_handed_over(&status) && status.has_successor
                || status.sessions + status.tombstones == 0,
            sessions: self.had.load(Relaxed).max(status.sessions),
            unacknowledged: status.unacknowledged,
            members_remaining: status.members.len(),
            last: !status.has_successor,
            elapsed: began.elapsed(),
        };
        *drained = Some(report);
        report
    }

    /// Waits until the remaining members are complete, there are none, or `deadline` has passed.
    async fn handed_over(&self, deadline: Instant) -> ReplicaStatus {
        self.until(deadline, |driver| {
            let status = driver.replica.status();
            let alone = status.members.is_empty();
            // `Leave` is sent after what the link has taken, and would overtake events that wait.
            let is_done = is_handed_over(&status) && status.reported;
            (alone || is_done).then_some(status)
        })
        .await
        .unwrap_or_else(|| self.driver.replica.status())
    }

    /// Calls `ask` repeatedly until it returns a value or `deadline` has passed.
    async fn until<T>(&self, deadline: Instant, ask: impl Fn(&Driver) -> Option<T>) -> Option<T> {
        let mut poll = interval(DRAIN_POLL);
        while Instant::now() < deadline {
            let answer = ask(&self.driver);
            if answer.is_some() {
                return answer;
            }
            poll.tick().await;
        }
        ask(&self.driver)
    }
}

/// Cancels draining when dropped before the node has left.
struct Draining<'a>(Option<&'a Driver>);

impl Draining<'_> {
    fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        if let Some(driver) = self.0 {
            driver.draining.store(false, Relaxed);
            driver.input(Input::Drain(false));
        }
    }
}

/// Returns `true` if all members are complete in a view in which this node is leaving.
fn is_handed_over(status: &ReplicaStatus) -> bool {
    status.unacknowledged == 0 && status.settled
}

/// Longest time for sending the last messages, even after `drain_timeout`.
const FLUSH_MAX: Duration = Duration::from_secs(1);

const DRAIN_POLL: Duration = Duration::from_millis(5);
