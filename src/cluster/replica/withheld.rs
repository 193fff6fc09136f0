//! Sessions of an earlier incarnation of this node that ended before other members did.
//!
//! This node does not know which of these sessions the other members have deleted since. Therefore
//! they are held back until a member is met that was present then, and imported before this node
//! compares itself with that member. If the member fails before that is done, they are held back
//! again. A node that serves alone does not use them, or deleted sessions would come back.

use std::mem;
use std::time::Duration;

use crate::session::{Root, Timestamp};

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
    /// The keys of the copies that are in the table, until this node has compared itself with all
    /// members.
    imported: Option<Vec<Root>>,
    /// Whether to import them as soon as requests use the new view.
    due: bool,
    state: WithheldState,
}

/// The state of sessions that were held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WithheldState {
    /// There are none, this node has compared them with all members, or all members have restarted.
    #[default]
    Settled,
    /// They wait for a member that has survived.
    Waiting,
    /// They were imported, and are not compared with all members yet.
    Comparing,
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
            imported: None,
            due: false,
            state: WithheldState::Waiting,
        }
    }

    pub(crate) const fn state(&self) -> WithheldState {
        match self.state {
            WithheldState::Waiting if self.imported.is_some() => WithheldState::Comparing,
            state => state,
        }
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
        if self.state != WithheldState::Waiting {
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
        let is_met = self.survivors.iter().any(has_later_state);
        self.due = is_met && serves && self.imported.is_none();
        if is_met {
            if self.imported.is_none() && !serves {
                self.import(now, table);
            }
        } else if let Some(keys) = self.imported.take() {
            // The member has failed, or this node was declared down, before the comparison was
            // complete: which of these sessions were deleted is unknown. One that has changed since
            // is held back as well: the rest of it may lack a rotation, and the former id would
            // open it.
            self.entries = table.withdraw(&keys);
        } else if self.survivors.iter().all(is_back) {
            // All of them have restarted: no member will ever have the later state.
            self.end(WithheldState::Settled);
        }
    }

    /// Called when requests use a view in which this node is not complete.
    pub(crate) fn take_up(&mut self, now: Timestamp, table: &EntryTable) {
        if mem::take(&mut self.due) {
            self.import(now, table);
        }
    }

    fn import(&mut self, now: Timestamp, table: &EntryTable) {
        let entries = mem::take(&mut self.entries);
        self.imported = Some(entries.iter().map(|keyed| keyed.key).collect());
        table.restore(now, entries);
    }

    /// Called when this node has compared itself with all members of its view.
    pub(crate) fn compared(&mut self) {
        if self.imported.is_some() {
            self.end(WithheldState::Settled);
        }
    }

    /// Gives up waiting after [`WITHHELD_FOR`].
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let waits = self.state == WithheldState::Waiting && self.imported.is_none();
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
