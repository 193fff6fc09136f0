//! Snapshots of a node whose sessions are replicated: what makes a stop and a start of all nodes at
//! once lossless, and a return of one of them cheap.

use crate::cluster::{Copy, Entry, Move, ReplicatedStoreBuilder, Tombstone};
use crate::session::Timestamp;
use crate::store::ReplicatedStore;

use super::SnapshotStore;
use super::builder::SnapshotStoreBuilder;
use super::error::{SnapshotError, SnapshotErrorKind};
use super::source::{Kept, Restored, Source, State};

impl SnapshotStoreBuilder {
    /// Loads what was saved into a node of a cluster, starts it, and wraps it.
    ///
    /// The sessions are in the node before it meets the others, as if it had never been away. What
    /// the others know better wins: a session that was ended or changed while this node was down is
    /// ended or changed. A node that starts before all others cannot know of that yet.
    ///
    /// At the end call [`drain`](ReplicatedStore::drain), then [`save`](SnapshotStore::save): a
    /// node that has left acknowledges nothing any more that would not be in the file.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and when the node cannot start; the file is untouched then.
    /// [`every`](Self::every) is refused: what survives the crash of a node are the others' copies.
    pub async fn start(
        self,
        node: ReplicatedStoreBuilder,
    ) -> Result<SnapshotStore<ReplicatedStore>, SnapshotError> {
        if self.is_periodic() {
            return Err(SnapshotError::new(
                SnapshotErrorKind::Invalid,
                "a file is written again and again for a memory store only",
            ));
        }
        let (opening, loaded) = self.load().await?;
        let is_live = |kept: &&Kept| matches!(kept.state, State::Live(_));
        let sessions = loaded.kept.iter().filter(is_live).count();
        let copies = loaded.kept.into_iter().map(copy).collect();
        let (store, refused) = node.start_with(copies).await.map_err(|error| {
            let what = "the node could not start, and the snapshot is as it was";
            SnapshotError::new(SnapshotErrorKind::Start, what).because(error)
        })?;
        let restored = Restored {
            sessions: sessions - refused,
            refused,
        };
        let source = Box::new(store.clone());
        opening.finish(store, source, restored).await
    }
}

impl Source for ReplicatedStore {
    fn export(&self, _: Timestamp, slot: usize) -> Vec<Kept> {
        let copies = self.copies_in(slot);
        copies.into_iter().filter_map(kept).collect()
    }

    fn sessions(&self) -> usize {
        self.status().sessions
    }
}

fn kept(copy: Copy) -> Option<Kept> {
    let state = match copy.entry {
        Entry::Live(record) => State::Live(record),
        Entry::Dead(tombstone) => State::Dead {
            until: tombstone.until,
            successor: tombstone.moved.map(|moved| moved.to),
        },
        Entry::Fragment(_) => return None,
    };
    let key = copy.key;
    Some(Kept { key, state })
}

fn copy(kept: Kept) -> Copy {
    let entry = match kept.state {
        State::Live(record) => Entry::Live(record),
        State::Dead { until, successor } => {
            // Whatever a node that went on says of it is later.
            let moved = successor.map(|to| Move { era: 0, to });
            Entry::Dead(Box::new(Tombstone { until, moved }))
        }
    };
    let key = kept.key;
    Copy { key, entry }
}
