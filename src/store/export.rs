//! The interface between a snapshot and the store whose sessions it saves.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::session::{Record, Root, Timestamp, UserKey};

/// A store whose contents can be exported slot by slot while it is in use.
pub(crate) trait SnapshotSource: Send + Sync + 'static {
    /// The entries of a slot that are still relevant at `now`. The slot is locked while their
    /// reference counts are increased.
    fn export(&self, now: Timestamp, slot: usize) -> Vec<StoredEntry>;

    /// The approximate number of sessions.
    fn sessions(&self) -> usize;

    /// The members that remain when the sessions are written now.
    fn survivors(&self) -> Vec<SnapshotSurvivor> {
        Vec::new()
    }

    /// The state of a file that was withheld.
    fn withheld(&self) -> Withheld {
        Withheld::Ignored
    }
}

/// A store's entry under a key. Points in time are on this process's clock.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredEntry {
    pub(crate) key: Root,
    pub(crate) state: EntryState,
}

impl StoredEntry {
    /// Returns `true` for what is in use, and not for what remains of a session.
    pub(crate) const fn is_live(&self) -> bool {
        matches!(&self.state, EntryState::Live(_))
    }

    /// Returns `true` for a live session, and not for an index of a user's sessions.
    pub(crate) fn is_session(&self) -> bool {
        matches!(&self.state, EntryState::Live(record) if !record.is_index())
    }

    /// The user of a live session, and its key.
    pub(crate) fn session_of_user(&self) -> Option<(UserKey, Root)> {
        match &self.state {
            EntryState::Live(record) if !record.is_index() => {
                record.user().map(|user| (user, self.key))
            }
            _ => None,
        }
    }
}

/// A session, or its tombstone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EntryState {
    Live(Arc<Record>),
    /// The session was deleted. The tombstone is kept until no copy can be live anywhere.
    Tombstone {
        until: Timestamp,
    },
}

/// A member of a cluster that was present when another one wrote its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotSurvivor {
    pub(crate) name: String,
    /// Its incarnation at that time: its memory is intact as long as this is unchanged.
    pub(crate) incarnation: u64,
    /// It was leaving as well, and has written a file later.
    pub(crate) leaving: bool,
}

/// The state of a file that was written while other members remained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withheld {
    /// None of these members has been contacted yet.
    #[allow(dead_code, reason = "a store of one node has no members")]
    Waiting {
        /// The node serves without the sessions meanwhile.
        serves: bool,
    },
    /// The file is not used.
    Ignored,
    /// The file is no longer needed: it was used, or members have all of it.
    Settled,
}

/// The number of sessions that a store restored, and of those for which it had no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restored {
    pub(crate) sessions: usize,
    pub(crate) refused: usize,
}
