//! Snapshots of a node whose sessions are replicated: they make a stop and start of all nodes at
//! once lossless, and the return of a single node cheap.

use crate::cluster::{
    Entry, KeyedEntry, ReplicatedStoreBuilder, SurvivingMember as Member, WithheldState,
};
use crate::session::Timestamp;
use crate::store::export::{
    EntryState, Restored, SnapshotSource, SnapshotSurvivor, StoredEntry, Withheld,
};
use crate::store::replicated::ReplicatedStore;
use crate::store::snapshot::SnapshotStore;
use crate::store::snapshot::builder::{SnapshotStoreBuilder, sessions};
use crate::store::snapshot::error::{SnapshotError, SnapshotErrorKind};

impl SnapshotStoreBuilder {
    /// Loads the saved sessions into a node of a cluster, starts it, and wraps it.
    ///
    /// If this node was the last one to leave its cluster, its sessions are available before it
    /// contacts other nodes, as if it had never been stopped. Newer states on other nodes take
    /// precedence: a session that was ended or changed while this node was down is ended or
    /// changed.
    ///
    /// If other members remained, they may have ended sessions since that are still in the file.
    /// The file is then used only together with a member that has run all the time, or that left
    /// after this node when all were stopped. Until one is contacted the sessions are withheld; a
    /// node that serves alone does not have them, logs that, and keeps the file until it writes the
    /// next one. So start all nodes of a cluster that was stopped as a whole, or the one that was
    /// stopped last.
    ///
    /// At shutdown call [`drain`](ReplicatedStore::drain), then [`save`](SnapshotStore::save): a
    /// node that has left acknowledges no changes that would be missing from the file.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and if the node cannot start; the file is then untouched.
    /// [`interval`](Self::interval) is refused: after a crash of one node, the others still have
    /// its sessions.
    pub async fn start(
        self,
        node: ReplicatedStoreBuilder,
    ) -> Result<SnapshotStore<ReplicatedStore>, SnapshotError> {
        if self.is_periodic() {
            return Err(SnapshotError::new(
                SnapshotErrorKind::Invalid,
                "`interval` is available for a memory store only",
            ));
        }
        let (mut opening, loaded) = self.load().await?;
        let withheld = opening.withholds(&loaded);
        let sessions = if withheld {
            0
        } else {
            sessions(&loaded.entries)
        };
        let copies = loaded.entries.into_iter().map(keyed).collect();
        let survivors = loaded
            .survivors
            .into_iter()
            .filter(|_| withheld)
            .map(member)
            .collect();
        let started = node.start_with(copies, survivors).await;
        let (store, refused) = started.map_err(|error| {
            let message = "the node could not start; the snapshot is unchanged";
            SnapshotError::new(SnapshotErrorKind::Start, message).with_source(error)
        })?;
        let restored = Restored {
            sessions: sessions - refused,
            refused,
        };
        let source = Box::new(store.clone());
        opening.finish(store, source, restored).await
    }
}

impl SnapshotSource for ReplicatedStore {
    fn export(&self, _: Timestamp, slot: usize) -> Vec<StoredEntry> {
        let copies = self.copies_in(slot);
        copies.into_iter().filter_map(stored).collect()
    }

    fn sessions(&self) -> usize {
        self.status().sessions
    }

    fn survivors(&self) -> Vec<SnapshotSurvivor> {
        let members = self.survivors().into_iter();
        members.map(survivor).collect()
    }

    fn withheld(&self) -> Withheld {
        match self.withheld_state() {
            WithheldState::Waiting => Withheld::Waiting {
                serves: self.is_ready(),
            },
            WithheldState::Comparing => Withheld::Waiting { serves: false },
            WithheldState::Ignored => Withheld::Ignored,
            WithheldState::Settled => Withheld::Settled,
        }
    }
}

fn stored(copy: KeyedEntry) -> Option<StoredEntry> {
    let state = match copy.entry {
        Entry::Live(record) => EntryState::Live(record),
        Entry::Tombstone { until } => EntryState::Tombstone { until },
        // The sessions that they concern are deleted, and so are those in files.
        Entry::Delta(_) | Entry::Expired(_) => return None,
    };
    let key = copy.key;
    Some(StoredEntry { key, state })
}

fn keyed(stored: StoredEntry) -> KeyedEntry {
    let entry = match stored.state {
        EntryState::Live(record) => Entry::Live(record),
        EntryState::Tombstone { until } => Entry::Tombstone { until },
    };
    let key = stored.key;
    KeyedEntry { key, entry }
}

fn survivor(member: Member) -> SnapshotSurvivor {
    let Member {
        name,
        incarnation,
        leaving,
    } = member;
    SnapshotSurvivor {
        name,
        incarnation,
        leaving,
    }
}

fn member(survivor: SnapshotSurvivor) -> Member {
    let SnapshotSurvivor {
        name,
        incarnation,
        leaving,
    } = survivor;
    Member {
        name,
        incarnation,
        leaving,
    }
}
