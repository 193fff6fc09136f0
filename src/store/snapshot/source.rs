//! What a snapshot takes out of a store and puts back into one.

use std::sync::Arc;

use crate::session::{Record, Root, Timestamp};

pub(crate) use super::header::Survivor;

/// A store whose contents can be walked slot by slot, while it is in use.
pub(crate) trait Source: Send + Sync + 'static {
    /// What is in a slot and still means something at `now`. The slot is locked for as long as it
    /// takes to count its references.
    fn export(&self, now: Timestamp, slot: usize) -> Vec<Kept>;

    /// How many sessions there are, about.
    fn sessions(&self) -> usize;

    /// The members that stay when the sessions are written now.
    fn survivors(&self) -> Vec<Survivor> {
        Vec::new()
    }

    /// Whether a file that was withheld may be used yet.
    fn withheld(&self) -> Withheld {
        Withheld::Ignored
    }
}

/// What a store keeps under a key. Points in time are on this process's clock.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub(crate) key: Root,
    pub(crate) state: State,
}

impl Kept {
    /// Returns `true` for what is in use, and not for what remains of a session.
    pub(crate) const fn is_live(&self) -> bool {
        matches!(&self.state, State::Live(_))
    }

    /// Returns `true` for a live session, and not for the list of a user's sessions.
    pub(crate) fn is_session(&self) -> bool {
        matches!(&self.state, State::Live(record) if !record.is_index())
    }
}

/// A session, or what remains of one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    Live(Arc<Record>),
    /// The session was ended. Known until no copy of it can be alive anywhere.
    Dead {
        until: Timestamp,
    },
}

/// What becomes of a file that was written while other members stayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withheld {
    /// None of them was met yet.
    Waiting {
        /// Whether the node serves without the sessions meanwhile.
        serves: bool,
    },
    /// It is not used.
    Ignored,
    /// It is not needed any more: it was used, or members know all of it.
    Settled,
}

/// How many sessions a store took back, and how many it had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restored {
    pub(crate) sessions: usize,
    pub(crate) refused: usize,
}
