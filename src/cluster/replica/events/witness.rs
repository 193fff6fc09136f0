//! Events that other nodes are to report, for the case that they fail before they have done so.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::cluster::replica::peer_table::{PeerIndex, PeerSet};
use crate::session::{EndReason, Root, Timestamp};

use crate::cluster::replica::events::log::Happening;

/// An event that another node is to report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Witnessed {
    pub(super) happening: Happening,
    pub(super) happened_at: Timestamp,
    /// Since when this node waits for the report.
    pub(super) at: Timestamp,
    /// The member that is to report it.
    pub(super) reporter: PeerIndex,
    /// The members that have witnessed it as well; `None` if there may be none.
    pub(super) others: Option<PeerSet>,
}

/// The latest such events, and the reasons for deletions under way.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    events: VecDeque<Witnessed>,
    reasons: BTreeMap<Root, (Timestamp, EndReason)>,
}

impl Witnesses {
    pub(super) fn push(&mut self, event: Witnessed) {
        self.forget(event.at);
        if self.events.len() == WITNESSED_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Removes events whose reporter has reported them, or failed before it could.
    pub(super) fn forget(&mut self, now: Timestamp) {
        let is_old = |event: &Witnessed| now.since(event.at) >= WITNESSED_FOR;
        while self.events.front().is_some_and(is_old) {
            self.events.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Removes and returns the events that a member that is gone was to report.
    pub(super) fn take(&mut self, now: Timestamp, reporter: PeerIndex) -> Vec<Witnessed> {
        self.forget(now);
        let mut taken = Vec::new();
        // Its index may be given to another member.
        self.events.retain_mut(|event| {
            if let Some(others) = &mut event.others {
                others.remove(reporter);
            }
            if event.reporter == reporter {
                taken.push(*event);
            }
            event.reporter != reporter
        });
        taken
    }

    /// Records why a session is about to be deleted.
    pub(super) fn note_reason(&mut self, now: Timestamp, key: Root, reason: EndReason) {
        if self.reasons.len() >= REASONS_MAX {
            self.reasons
                .retain(|_, (at, _)| now.since(*at) < WITNESSED_FOR);
        }
        if self.reasons.len() < REASONS_MAX {
            self.reasons.insert(key, (now, reason));
        }
    }

    /// Returns why a session was deleted. Nothing is announced for the most general reason.
    pub(super) fn reason(&mut self, key: &Root) -> EndReason {
        let reason = self.reasons.remove(key);
        reason.map_or(EndReason::Admin, |(_, reason)| reason)
    }
}

/// Events remembered for the case that a member fails. Of more in [`WITNESSED_FOR`], the earliest
/// are not repeated.
const WITNESSED_MAX: usize = 16_384;

/// How long an event is remembered: as long as its node waits for acknowledgements, until it has
/// sent it, and until its failure is detected.
pub(super) const WITNESSED_FOR: Duration = Duration::from_secs(20);

/// Reasons remembered at a time.
const REASONS_MAX: usize = 4_096;
