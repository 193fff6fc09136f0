//! Snapshots of a node whose sessions are replicated: what makes a stop and a start of all nodes at
//! once lossless, and a return of one of them cheap.

use crate::cluster::{Entry, HeldState, KeyedEntry, ReplicatedStoreBuilder, Survivor as Member};
use crate::session::Timestamp;
use crate::store::ReplicatedStore;

use super::SnapshotStore;
use super::builder::{SnapshotStoreBuilder, sessions};
use super::error::{SnapshotError, SnapshotErrorKind};
use super::source::{Kept, Restored, Source, State, Survivor, Withheld};

impl SnapshotStoreBuilder {
    /// Loads what was saved into a node of a cluster, starts it, and wraps it.
    ///
    /// If this node was the last one to leave its cluster, the sessions are in it before it meets
    /// others, as if it had never been away. What the others know better wins: a session that was
    /// ended or changed while this node was down is ended or changed.
    ///
    /// If other members stayed, they may have ended sessions since that are in the file. Then it is
    /// used only beside a member that was there all the time, or has left after this node when all
    /// were stopped. Until one is met the sessions are held back; a node that serves alone does not
    /// have them, says so in the log, and leaves the file where it is until it writes the next one.
    /// So start all nodes of a cluster that was stopped as a whole, or the one that was stopped last.
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
        let (mut opening, loaded) = self.load().await?;
        let withheld = opening.withholds(&loaded);
        let sessions = if withheld { 0 } else { sessions(&loaded.kept) };
        let copies = loaded.kept.into_iter().map(copy).collect();
        let survivors = loaded.survivors.into_iter().map(member).collect();
        let started = node.start_with(copies, survivors).await;
        let (store, refused) = started.map_err(|error| {
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

    fn survivors(&self) -> Vec<Survivor> {
        let members = self.survivors().into_iter();
        members.map(survivor).collect()
    }

    fn withheld(&self) -> Withheld {
        match self.held() {
            HeldState::Waiting => Withheld::Waiting {
                serves: self.is_ready(),
            },
            HeldState::Ignored => Withheld::Ignored,
            HeldState::Settled => Withheld::Settled,
        }
    }
}

fn kept(copy: KeyedEntry) -> Option<Kept> {
    let state = match copy.entry {
        Entry::Live(record) => State::Live(record),
        Entry::Dead { until } => State::Dead { until },
        // The sessions that they are about are dead, and so are those in files.
        Entry::Delta(_) | Entry::Expired(_) => return None,
    };
    let key = copy.key;
    Some(Kept { key, state })
}

fn copy(kept: Kept) -> KeyedEntry {
    let entry = match kept.state {
        State::Live(record) => Entry::Live(record),
        State::Dead { until } => Entry::Dead { until },
    };
    let key = kept.key;
    KeyedEntry { key, entry }
}

fn survivor(member: Member) -> Survivor {
    let Member {
        name,
        generation,
        leaving,
    } = member;
    Survivor {
        name,
        generation,
        leaving,
    }
}

fn member(survivor: Survivor) -> Member {
    let Survivor {
        name,
        generation,
        leaving,
    } = survivor;
    Member {
        name,
        generation,
        leaving,
    }
}
