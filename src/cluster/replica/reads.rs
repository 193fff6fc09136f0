//! Reads at a node that has not caught up yet.
//!
//! While a node does not know whether it has everything that the members of its view had, it asks
//! all those that it has not finished with, merges what they have, and answers then. An answer
//! counts only in the view in which the question was asked; after a change of the view the question
//! is asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::session::{SessionKey, Timestamp};

use super::event::Reply;
use super::message::{Message, OpId, ViewId};
use super::placement::{PeerIndex, PeerSet};
use super::standing::Standing;

/// Reads under way.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    open: BTreeMap<OpId, Open>,
}

#[derive(Debug)]
struct Open {
    key: SessionKey,
    /// Members that have not answered in this view.
    waiting: PeerSet,
    begun_at: Timestamp,
    asked_at: Timestamp,
}

impl Open {
    fn ask(&mut self, now: Timestamp, op: OpId, standing: &mut Standing) {
        self.asked_at = now;
        for peer in self.waiting.iter() {
            let view = standing.view;
            let key = self.key;
            standing.send(peer, Message::Fetch { view, op, key });
        }
    }
}

impl Reads {
    /// Asks the members whose sessions are not all here.
    pub(crate) fn begin(
        &mut self,
        now: Timestamp,
        standing: &mut Standing,
        op: OpId,
        key: SessionKey,
    ) {
        let mut open = Open {
            key,
            waiting: standing.sources(),
            begun_at: now,
            asked_at: now,
        };
        open.ask(now, op, standing);
        self.open.insert(op, open);
    }

    /// A member's answer has been merged.
    pub(crate) fn answered(&mut self, peer: PeerIndex, view: ViewId, op: OpId, current: ViewId) {
        if view == current
            && let Some(open) = self.open.get_mut(&op)
        {
            open.waiting.remove(peer);
        }
    }

    /// The view has changed: earlier answers do not count any more.
    pub(crate) fn install(&mut self, now: Timestamp, standing: &mut Standing) {
        for (op, open) in &mut self.open {
            open.waiting = standing.sources();
            open.ask(now, *op, standing);
        }
    }

    /// Asks again those who have not answered, and gives up what has taken too long.
    pub(crate) fn tick(&mut self, now: Timestamp, timeout: Duration, standing: &mut Standing) {
        let late =
            |op: OpId, open: &Open| op & INTERNAL == 0 && now.since(open.begun_at) >= timeout;
        let expired = self.open.iter().filter(|(op, open)| late(**op, open));
        for op in expired.map(|(op, _)| *op).collect::<Vec<_>>() {
            self.open.remove(&op);
            standing.reply(op, Reply::Unavailable);
        }
        for (op, open) in &mut self.open {
            if now.since(open.asked_at) >= ASK_AGAIN_AFTER {
                open.ask(now, *op, standing);
            }
        }
    }

    /// Takes out the reads that everybody who has to has answered.
    pub(crate) fn finished(&mut self, standing: &Standing) -> Vec<OpId> {
        let sources = standing.sources();
        let done = |open: &Open| open.waiting.and(sources).is_empty();
        let finished: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| done(open))
            .map(|(op, _)| *op)
            .collect();
        for op in &finished {
            self.open.remove(op);
        }
        finished
    }

    /// Gives up all reads: this node does not serve any more.
    pub(crate) fn abort(&mut self, standing: &mut Standing) {
        for op in std::mem::take(&mut self.open).into_keys() {
            if op & INTERNAL == 0 {
                standing.reply(op, Reply::Unavailable);
            }
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open.len() >= READS_MAX
    }
}

/// Reads under way before new ones are refused.
const READS_MAX: usize = 16_384;

/// Marks the reads that this node does for itself, as the owner of a session: nobody is told when
/// they take long, and they end with the view at the latest.
pub(crate) const INTERNAL: OpId = 1 << 63;

/// A question is repeated when nothing was heard for this long.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);
