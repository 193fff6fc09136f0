//! Sessions of an earlier incarnation of this node that ended before other members did.
//!
//! This node does not know which of these sessions the other members have deleted since. Therefore
//! they are held back until a member is met that was present then, and imported before this node
//! compares itself with that member. A node that serves alone does not use them, or deleted
//! sessions would come back.

use std::mem;
use std::time::Duration;

use crate::session::Timestamp;

use crate::cluster::replica::message::KeyedEntry;
use crate::cluster::replica::node::Node;
use crate::cluster::replica::table::EntryTable;

/// A member that was present when this node last left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SurvivingMember {
    pub(crate) name: String,
    /// Its incarnation: it has kept its memory as long as this is the same.
    pub(crate) incarnation: u64,
    /// Whether it was leaving too. Then it has left later, with everything that it had.
    pub(crate) leaving: bool,
}

/// The sessions held back, and their state.
#[derive(Debug, Default)]
pub(crate) struct WithheldSessions {
    entries: Vec<KeyedEntry>,
    survivors: Vec<SurvivingMember>,
    until: Timestamp,
    /// Whether the copies are in the table, and this node has not served since.
    taken: bool,
    /// Whether to import them as soon as requests use the new view.
    due: bool,
    state: WithheldState,
}

/// The state of sessions that were held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WithheldState {
    /// There are none, they were imported, or all of the members have restarted.
    #[default]
    Settled,
    /// They wait for a member that has survived.
    Waiting,
    /// No such member was met in time.
    Ignored,
}

impl WithheldSessions {
    pub(crate) fn new(
        now: Timestamp,
        entries: Vec<KeyedEntry>,
        survivors: Vec<SurvivingMember>,
    ) -> Self {
        Self {
            entries,
            survivors,
            until: now.plus(WITHHELD_FOR),
            taken: false,
            due: false,
            state: WithheldState::Waiting,
        }
    }

    pub(crate) const fn state(&self) -> WithheldState {
        self.state
    }

    /// Called when the members have changed, before the view that follows from it is installed.
    ///
    /// A node that serves answers from its table until requests use that view, so it imports the
    /// sessions [after that](Self::take_up).
    pub(crate) fn meet<'a>(
        &mut self,
        now: Timestamp,
        serves: bool,
        members: &(impl Iterator<Item = &'a Node> + Clone),
        table: &EntryTable,
    ) {
        if self.state != WithheldState::Waiting || self.due {
            return;
        }
        let has_later_state = |survivor: &SurvivingMember| {
            members.clone().any(|node| {
                let same = survivor.leaving || survivor.incarnation == node.incarnation;
                same && *survivor.name == *node.name
            })
        };
        let is_back =
            |survivor: &SurvivingMember| members.clone().any(|node| *survivor.name == *node.name);
        if self.survivors.iter().any(has_later_state) {
            if serves {
                self.due = true;
            } else if !self.taken {
                self.taken = true;
                table.restore(now, mem::take(&mut self.entries));
            }
        } else if self.taken {
            // The member has gone before this node could compare itself with it: which of the
            // sessions it has deleted stays unknown.
            table.retain(|_| false);
            self.end(WithheldState::Ignored);
        } else if self.survivors.iter().all(is_back) {
            // All of them have restarted: no member will ever have the later state.
            self.end(WithheldState::Settled);
        }
    }

    /// Called when requests use a view in which this node is not complete.
    pub(crate) fn take_up(&mut self, now: Timestamp, table: &EntryTable) {
        if self.due {
            table.restore(now, mem::take(&mut self.entries));
            self.end(WithheldState::Settled);
        }
    }

    /// Called when this node starts to serve, with everything that the members have.
    pub(crate) fn served(&mut self) {
        if self.taken {
            self.end(WithheldState::Settled);
        }
    }

    /// Gives up waiting after [`WITHHELD_FOR`].
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let waits = self.state == WithheldState::Waiting && !self.taken && !self.due;
        if waits && self.until <= now {
            self.end(WithheldState::Ignored);
        }
    }

    fn end(&mut self, state: WithheldState) {
        *self = Self {
            state,
            ..Self::default()
        };
    }
}

/// How long sessions are held back in memory: nodes that were stopped together are started one
/// after the other.
const WITHHELD_FOR: Duration = Duration::from_secs(600);
