//! Members that can be reached by others only.
//!
//! Every member must hear every other: writes wait for all holders, and for all to be in one view.
//! The membership protocol is content when *somebody* hears a member. So whoever waits for one asks
//! it, and declares it down when nothing at all was heard for a while, as if it were dead. Of two
//! members that do not hear each other the elder does that first, so that only one of them goes. It
//! comes back in a new life at once, for the link may have broken for a moment. Where it has not,
//! that life is short, as nobody waits long for the same member again; and after a few short lives,
//! which nothing else makes that short, it stays away for a while, so that the others can work.
//!
//! It costs nothing while members answer, and needs nobody's clock.

use std::time::Duration;

use crate::session::Timestamp;

use super::super::event::News;
use super::super::message::Message;
use super::super::node::Node;
use super::super::roster::PeerIndex;
use super::Control;

impl Control {
    /// Asks those who are behind, or for whom this node waits, what they know; gives up who has not
    /// said anything for long.
    pub(super) fn ask_around(&mut self, now: Timestamp) {
        let standing = &self.standing;
        let overdue = self.writes.overdue(now).union(self.reads.overdue(now));
        let overdue = overdue.union(self.updates.overdue(now, standing));
        let waited_for = standing.roster.iter().filter(|(index, peer)| {
            !standing.has_caught_up(*index) || !peer.ready || overdue.contains(*index)
        });
        for peer in waited_for.map(|(index, _)| index).collect::<Vec<_>>() {
            if !self.give_up(now, peer) {
                let mine = self.introduction(now, true);
                self.standing.send(peer, Message::View(mine));
            }
        }
    }

    /// Returns `true` if a member that is asked once more has been silent for too long: then it is
    /// down.
    fn give_up(&mut self, now: Timestamp, peer: PeerIndex) -> bool {
        let me = &self.standing.me;
        let Some(silent) = self.standing.roster.get_mut(peer) else {
            return true;
        };
        let age = |node: &Node| (node.generation, node.address);
        let known = self.silent.get(&silent.node.address);
        let most = match age(me) < age(&silent.node) {
            _ if known.is_some_and(|at| now.since(*at) < SILENT_FOR) => UNANSWERED_AGAIN,
            true => UNANSWERED_MAX,
            false => UNANSWERED_MAX + YOUNGER,
        };
        silent.unanswered += 1;
        if silent.unanswered <= most || !self.standing.rules.reach {
            return false;
        }
        let node = silent.node.clone();
        self.silent.retain(|_, at| now.since(*at) < SILENT_FOR);
        if self.silent.insert(node.address, now).is_none() {
            self.standing.news(News::Deaf(node.clone()));
        }
        self.membership.down([node].into_iter());
        true
    }

    /// Something was heard from a node.
    pub(super) fn heard(&mut self, now: Timestamp, from: &Node, peer: Option<PeerIndex>) {
        if let Some(peer) = peer.and_then(|peer| self.standing.roster.get_mut(peer)) {
            peer.active_at = now;
            peer.unanswered = 0;
        }
        self.silent.remove(&from.address);
    }

    /// Others have declared this node down: it goes on in a new life, or stays away for a while.
    pub(super) fn declared_down(&mut self, now: Timestamp, me: Node) {
        // A new incarnation begins without the memory of the old one. That one may have declared
        // the healthy members down, and would keep away from them until they all had left as well.
        self.membership.restart(me.clone());
        self.timers.clear();
        self.standing.roster.part();
        self.reborn(now, me);
        let lives = &mut self.short_lives;
        lives.retain(|at| now.since(*at) < SHORT_LIVES_WITHIN);
        lives.push(now);
        // Without two others nobody is kept from working.
        if lives.len() >= SHORT_LIVES && self.standing.roster.iter().count() > 1 {
            lives.clear();
            self.away_until = Some(now.plus(AWAY));
            self.membership.leave();
            self.standing.news(News::Away(AWAY));
        }
    }

    /// Comes back when it is time.
    pub(super) fn come_back(&mut self, now: Timestamp) {
        if self.away_until.is_some_and(|until| until <= now) {
            self.away_until = None;
            let me = self.membership.rebirth();
            self.reborn(now, me);
        }
    }
}

/// Questions to which nothing was heard, five a second: nearly three seconds, in which a member that
/// is dead or stopped is mostly found out by the membership protocol.
const UNANSWERED_MAX: u32 = 14;

/// How many more the younger of two members asks: the elder has acted by then, if it can, and a
/// caller waits still (for five seconds unless told otherwise).
const YOUNGER: u32 = 7;

/// The same for somebody from whose address nothing was heard lately.
const UNANSWERED_AGAIN: u32 = 1;

/// How long that is remembered.
const SILENT_FOR: Duration = Duration::from_secs(60);

/// Who is declared down so often within so short a time is alive, and cannot be heard by somebody:
/// the membership protocol takes more than two seconds each time.
const SHORT_LIVES: usize = 3;
const SHORT_LIVES_WITHIN: Duration = Duration::from_secs(6);

/// How long such a member stays away: ten times as long as it holds up the others when it tries
/// again, since they remember that it did not answer. It is back this soon after the network is
/// whole.
const AWAY: Duration = Duration::from_secs(4);
