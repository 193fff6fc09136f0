//! Ending sessions whose user was ended on the other side of a partition.
//!
//! While nodes cannot reach each other, one side may end all sessions of a user while the user logs in
//! on the other. When the user's list comes together, it has entries that are older than its note of
//! the end. The node that owns the list has those sessions deleted by their owners, three times within
//! half a minute, because members may still be coming and going. An entry stays in the list until
//! the list is looked at: whoever does that ends the session as well.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::session::{Changes, Root, Timestamp};

use super::cluster_view::ClusterView;
use super::message::{OpId, Operation};
use super::placement::Member;
use super::reads::INTERNAL;
use super::table::Table;
use super::updates::Call;

/// Lists of users that have entries of sessions to be ended.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    /// When each is looked at again, and how often it was.
    due: BTreeMap<Root, (Timestamp, usize)>,
    last_op: OpId,
}

/// A session that is to be deleted.
#[derive(Debug)]
pub(crate) struct Revoked {
    op: OpId,
    key: Root,
}

impl Revoked {
    pub(crate) fn call(self, changes: &Changes) -> Call<'_> {
        Call {
            op: self.op,
            key: self.key,
            seen: 0,
            changes,
            order: Operation::Delete,
        }
    }
}

impl Revocations {
    /// The sessions that are to be deleted now.
    pub(crate) fn take_due(
        &mut self,
        now: Timestamp,
        standing: &ClusterView,
        table: &Table,
    ) -> Vec<Revoked> {
        for index in table.take_revoked() {
            if self.due.len() < DUE_MAX {
                let first = || (now.plus(FIRST_WAIT), 0);
                self.due.entry(index).or_insert_with(first);
            }
        }
        let mut revoked = Vec::new();
        self.due.retain(|index, (at, times)| {
            if *at > now {
                return true;
            }
            if standing.owner(index.slot()) == Member::Me
                && let Some(record) = table.record(index)
            {
                for key in record.ended_too_late() {
                    self.last_op += 1;
                    let op = INTERNAL | REVOKE | self.last_op;
                    revoked.push(Revoked { op, key });
                }
            }
            let wait = WAITS.get(*times);
            *times += 1;
            wait.is_some_and(|wait| {
                *at = now.plus(*wait);
                true
            })
        });
        revoked
    }
}

/// How long after its list the sessions of a user are left alone: the call that ends them takes them
/// from the list meanwhile, unless it is on the other side of a partition.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How long after each attempt the next one follows.
const WAITS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];

/// Lists that are remembered at a time.
const DUE_MAX: usize = 4_096;

/// Tells these calls from what else a node does on its own account.
const REVOKE: OpId = 1 << 61;
