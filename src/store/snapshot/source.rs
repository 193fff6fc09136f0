//! What a snapshot takes out of a store and puts back into one.

use std::sync::Arc;

use crate::session::{Record, SessionKey, Timestamp};

/// A store whose contents can be walked slot by slot, while it is in use.
pub(in crate::store) trait Source: Send + Sync + 'static {
    /// What is in a slot and still means something at `now`. The slot is locked for as long as it
    /// takes to count its references.
    fn export(&self, now: Timestamp, slot: usize) -> Vec<Kept>;

    /// How many sessions there are, about.
    fn sessions(&self) -> usize;
}

/// What a store keeps under a key. Points in time are on this process's clock.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) struct Kept {
    pub(in crate::store) key: SessionKey,
    pub(in crate::store) state: State,
}

/// A session, or what remains of one.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) enum State {
    Live(Arc<Record>),
    /// The id is dead: the session was ended, or moved to `successor`. Known until no copy of it can
    /// be alive anywhere.
    Dead {
        until: Timestamp,
        successor: Option<SessionKey>,
    },
}

/// How many sessions a store took back, and how many it had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Restored {
    pub(in crate::store) sessions: usize,
    pub(in crate::store) refused: usize,
}
