//! Deletion of sessions whose user was ended on the other side of a partition.
//!
//! During a partition one side may end all sessions of a user while the user logs in on the other,
//! or continues a session that has expired on the first. When the two versions of the user's index
//! merge, it has entries older than its note of the end. The owner of the index has those sessions
//! deleted by their owners, three times within half a minute because members may still be joining
//! and leaving. An entry stays in the index until the index is read; the reader deletes the session
//! as well.
//!
//! A session is read before it is deleted, and deleted only while it has the credential that was
//! read: another user may have logged in to it since the entry was written, and an entry that came
//! from a faulty member may name any session.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::session::{Changes, Root, Timestamp, index_root};

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::OpId;
use crate::cluster::replica::op_id::REVOCATION;
use crate::cluster::replica::placement::MemberRef;
use crate::cluster::replica::table::EntryTable;

/// Indexes of users with entries of sessions to delete.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    /// For each index, the time of the next attempt and the number of attempts made.
    due: BTreeMap<Root, (Timestamp, usize)>,
    /// The index that lists the session of each read in progress.
    reads: BTreeMap<OpId, Root>,
    last_op: OpId,
}

impl Revocations {
    /// Returns the sessions to read now, in order to delete them.
    pub(crate) fn take_due(
        &mut self,
        now: Timestamp,
        cluster: &ClusterView,
        table: &EntryTable,
    ) -> Vec<(OpId, Root)> {
        for (index, has_new) in table.take_revoked() {
            let first = now.plus(FIRST_WAIT);
            if let Some((at, times)) = self.due.get_mut(&index) {
                if has_new {
                    // The attempts for earlier entries may be almost over.
                    (*at, *times) = (first.min(*at), 0);
                }
            } else if self.due.len() < DUE_MAX {
                self.due.insert(index, (first, 0));
            }
        }
        let mut revoked = Vec::new();
        self.due.retain(|index, (at, times)| {
            if *at > now {
                return true;
            }
            // The other holders count the attempts as well: if the owner fails, the next one makes
            // those that are left.
            if cluster.owner(index.slot()) == MemberRef::Me
                && let Some(record) = table.record(index)
            {
                for key in record.ended_too_late() {
                    self.last_op += 1;
                    let op = REVOCATION | self.last_op;
                    self.reads.insert(op, *index);
                    revoked.push((op, key));
                }
            }
            if table.is_partitioned() {
                // What the other side has cannot be deleted yet.
                *at = now.plus(WAITS[0]);
                return true;
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

    /// Handles a completed read. Returns the changes that delete the session, if it is one of the
    /// user whose index lists it.
    pub(crate) fn read_done(&mut self, op: OpId, found: Option<&Entry>) -> Option<Changes> {
        let index = self.reads.remove(&op)?;
        let Some(Entry::Live(record)) = found else {
            return None;
        };
        record.user().filter(|user| index_root(user) == index)?;
        let mut changes = Changes::default();
        // It replaces nothing: the owner refuses it if the credential is another one by then.
        changes.rotate(record.credential.hash, record.credential.hash);
        Some(changes)
    }

    /// Called when a new view is installed, which has ended the reads: they are made again.
    pub(crate) fn install(&mut self, now: Timestamp) {
        for index in std::mem::take(&mut self.reads).into_values() {
            if self.due.len() < DUE_MAX {
                self.due.insert(index, (now.plus(FIRST_WAIT), 0));
            }
        }
    }
}

/// Delay before the first attempt. The call that ends the sessions removes them from the index
/// meanwhile, unless it runs on the other side of a partition.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Delays between the attempts.
const WAITS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];

/// Indexes remembered at the same time.
const DUE_MAX: usize = 4_096;
