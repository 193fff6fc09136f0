//! Sessions from an earlier life of this node that ended before that of other members.
//!
//! What those members have ended since is not among what this node knows. So the sessions are held
//! back: they are taken up when a member is met that was there then and knows better, and before
//! this node compares itself with it. A node that serves alone does not use them.

use std::mem;
use std::time::Duration;

use crate::session::Timestamp;

use super::message::KeyedEntry;
use super::node::Node;
use super::table::Table;

/// A member that was there when this node last left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Survivor {
    pub(crate) name: String,
    /// Which of its lives that was: it has kept its memory as long as this is the same.
    pub(crate) generation: u64,
    /// Whether it was on its way out too. Then it has left later, with all that it knew.
    pub(crate) leaving: bool,
}

/// What is held back, and what has become of it.
#[derive(Debug, Default)]
pub(crate) struct Held {
    copies: Vec<KeyedEntry>,
    survivors: Vec<Survivor>,
    until: Timestamp,
    /// Whether the copies are in the table, and this node has not served since.
    taken: bool,
    /// Whether they are to be put there as soon as requests know of the new view.
    due: bool,
    state: HeldState,
}

/// What has become of sessions that were held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HeldState {
    /// There are none, or they were taken up, or members that have restarted know all of them.
    #[default]
    Settled,
    /// They wait for a member that knows better.
    Waiting,
    /// No such member was met in time.
    Ignored,
}

impl Held {
    pub(crate) fn new(now: Timestamp, copies: Vec<KeyedEntry>, survivors: Vec<Survivor>) -> Self {
        Self {
            copies,
            survivors,
            until: now.plus(HELD_FOR),
            taken: false,
            due: false,
            state: HeldState::Waiting,
        }
    }

    pub(crate) const fn state(&self) -> HeldState {
        self.state
    }

    /// The members have changed. Must come before the view that follows from them is installed.
    ///
    /// A node that serves answers from its table until requests know of that view, so it takes the
    /// sessions up [after that](Self::take_up).
    pub(crate) fn meet<'a>(
        &mut self,
        now: Timestamp,
        serves: bool,
        members: &(impl Iterator<Item = &'a Node> + Clone),
        table: &Table,
    ) {
        if self.state != HeldState::Waiting || self.due {
            return;
        }
        let knows_better = |survivor: &Survivor| {
            members.clone().any(|node| {
                let same = survivor.leaving || survivor.generation == node.generation;
                same && *survivor.name == *node.name
            })
        };
        let is_back =
            |survivor: &Survivor| members.clone().any(|node| *survivor.name == *node.name);
        if self.survivors.iter().any(knows_better) {
            if serves {
                self.due = true;
            } else if !self.taken {
                self.taken = true;
                table.restore(now, mem::take(&mut self.copies));
            }
        } else if self.taken {
            // It has gone before this node could compare itself with it.
            table.retain(|_| false);
            self.end(HeldState::Ignored);
        } else if self.survivors.iter().all(is_back) {
            // All of them have begun another life: none will ever know better.
            self.end(HeldState::Settled);
        }
    }

    /// Requests know that this node may not have everything of the new view.
    pub(crate) fn take_up(&mut self, now: Timestamp, table: &Table) {
        if self.due {
            table.restore(now, mem::take(&mut self.copies));
            self.end(HeldState::Settled);
        }
    }

    /// This node serves, with everything that the members know.
    pub(crate) fn served(&mut self) {
        if self.taken {
            self.end(HeldState::Settled);
        }
    }

    /// Gives up what nothing has become of for long.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let waits = self.state == HeldState::Waiting && !self.taken && !self.due;
        if waits && self.until <= now {
            self.end(HeldState::Ignored);
        }
    }

    fn end(&mut self, state: HeldState) {
        *self = Self {
            state,
            ..Self::default()
        };
    }
}

/// How long sessions take memory that are held back: nodes that were stopped together are started
/// one after the other.
const HELD_FOR: Duration = Duration::from_secs(600);
