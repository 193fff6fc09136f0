//! Nodes that were recently rejected.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::session::Timestamp;
use crate::sync::lock;

use crate::cluster::status::RefusedNode;
use crate::cluster::throttle::{LOG_EVERY, Throttle};

/// The rejected nodes, with the reasons.
///
/// A rejected node tries again within seconds. If it does not, the reason no longer applies.
#[derive(Debug, Default)]
pub(super) struct Rejections(Mutex<HashMap<String, RejectionRow>>);

#[derive(Debug)]
struct RejectionRow {
    reason: String,
    last: Timestamp,
    throttle: Throttle,
}

impl Rejections {
    /// Records a rejection. Returns `true` if it is to be logged: the first one, and one each
    /// minute. Without room for another row it is always logged.
    pub(super) fn note(&self, now: Timestamp, address: String, reason: &str) -> bool {
        let mut rows = self.rows();
        rows.retain(|_, row| now.since(row.last) < LOG_EVERY);
        if let Some(row) = rows.get_mut(&address)
            && row.reason == reason
        {
            row.last = now;
            return row.throttle.is_due(now);
        }
        if rows.len() >= ROWS_MAX && !rows.contains_key(&address) {
            return true;
        }
        let mut row = RejectionRow {
            reason: reason.to_owned(),
            last: now,
            throttle: Throttle::new(LOG_EVERY),
        };
        let is_due = row.throttle.is_due(now);
        rows.insert(address, row);
        is_due
    }

    /// Called when a node is accepted.
    pub(super) fn forget(&self, address: &str) {
        self.rows().remove(address);
    }

    /// Returns the nodes rejected within the last seconds.
    pub(super) fn list(&self, now: Timestamp) -> Vec<RefusedNode> {
        let rows = self.rows();
        let current = rows.iter().filter(|(_, row)| now.since(row.last) < KEPT);
        let mut list: Vec<_> = current
            .map(|(address, row)| RefusedNode {
                address: address.clone(),
                reason: row.reason.clone(),
            })
            .collect();
        list.sort_by(|a, b| a.address.cmp(&b.address));
        list
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<String, RejectionRow>> {
        lock(&self.0)
    }
}

/// How long a node that does not try again is listed: several attempts, even on a busy machine.
const KEPT: Duration = Duration::from_secs(8);
/// An unauthenticated peer can claim any name.
const ROWS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + 1000 * secs)
    }

    #[test]
    fn a_row_is_logged_when_it_begins_and_each_minute() {
        let rejections = Rejections::default();
        let logged = |secs, reason| rejections.note(at(secs), "a".to_owned(), reason);
        assert!(logged(0, "name"));
        assert!(!(1..60).any(|secs| logged(secs, "name")));
        assert!(logged(60, "name"));
        assert!(!logged(61, "name"));
        assert!(logged(62, "copies"));
    }

    #[test]
    fn a_row_vanishes_when_the_node_stays_away_or_is_welcome() {
        let rejections = Rejections::default();
        for address in ["a", "b"] {
            rejections.note(at(0), address.to_owned(), "name");
        }
        assert_eq!(rejections.list(at(7)).len(), 2);
        rejections.forget("a");
        assert_eq!(rejections.list(at(7))[0].address, "b");
        assert_eq!(rejections.list(at(9)), []);
    }

    #[test]
    fn unknown_nodes_fill_a_bounded_number_of_rows() {
        let rejections = Rejections::default();
        for number in 0..10_000 {
            rejections.note(at(0), number.to_string(), "cluster name");
        }
        assert_eq!(rejections.list(at(0)).len(), ROWS_MAX);
    }
}
