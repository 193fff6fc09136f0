//! Effect of an update: the entries that all holders merge, and the session that results.

use std::sync::Arc;

use crate::session::{Record, Timestamp, Version};

use crate::cluster::replica::cluster_view::ClusterView;
use crate::cluster::replica::delta::Delta;
use crate::cluster::replica::entry::Entry;
use crate::cluster::replica::message::{KeyedEntry, Operation, UpdateRequest};
use crate::cluster::replica::rebase::{rebase_delta, rebase_record};
use crate::cluster::replica::table::EntryTable;
use crate::cluster::replica::updates::rotations::Rotations;

impl UpdateRequest {
    /// Converts the times in it from the asker's clock to this node's.
    pub(crate) fn rebase(&mut self, now: Timestamp) {
        rebase_delta(&mut self.delta, self.sent_at, now);
        if let Operation::Create(record) = &mut self.order {
            rebase_record(record, self.sent_at, now);
        }
    }

    /// Returns the entries that all holders are to merge.
    pub(super) fn entries(
        &self,
        now: Timestamp,
        current: &Arc<Record>,
        owner: &ClusterView,
        rotations: &mut Rotations,
    ) -> Arc<[KeyedEntry]> {
        let entry = match &self.order {
            Operation::Update => Entry::Delta(self.change(now, current, owner, rotations)),
            Operation::Create(_) => Entry::Live(current.clone()),
            Operation::Delete => Entry::tombstone(now, current),
        };
        let key = self.key;
        [KeyedEntry { key, entry }].into()
    }

    /// Returns the delta to apply: with the new credential if this is a rotation, and with new
    /// versions if the old ones are not later than a removal, because then the writes would count
    /// as removed. The version that names the attempt stays.
    fn change(
        &self,
        now: Timestamp,
        current: &Record,
        owner: &ClusterView,
        rotations: &mut Rotations,
    ) -> Arc<Delta> {
        let removal = current.last_removal();
        let entries = &self.delta.entries;
        let is_old = entries.iter().any(|r| Some(r.version) <= removal) && owner.rules.restamping();
        if self.rotation.is_none() && !is_old {
            return self.delta.clone();
        }
        let writer = owner.me.writer();
        let mut delta = Delta::clone(&self.delta);
        if let (Some(rotation), Some(attempt)) = (&self.rotation, self.delta.updates.first()) {
            let credential = rotations.order(now, self.key, *attempt, rotation, current, writer);
            delta.credential = Some(credential);
        }
        if is_old {
            let version = Version::next(current.clock(), now, writer);
            for register in &mut delta.entries {
                register.version = version;
            }
        }
        Arc::new(delta)
    }

    /// Returns what is here of a session to which the update was applied before.
    pub(super) fn known(&self, now: Timestamp, table: &EntryTable) -> Arc<[KeyedEntry]> {
        table.keyed_entry(now, &self.key).into_iter().collect()
    }

    /// Returns the session after the update. It may have expired.
    pub(super) fn outcome(&self, now: Timestamp, table: &EntryTable) -> Option<KeyedEntry> {
        match table.record(&self.key) {
            Some(record) => Some(KeyedEntry {
                key: self.key,
                entry: Entry::Live(record),
            }),
            None => table.keyed_entry(now, &self.key),
        }
    }
}
