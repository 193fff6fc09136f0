//! Operation of links: connecting, transmitting, delivering messages to replicas, reporting back.

use std::time::Duration;

use rand::RngExt;

use crate::cluster::replica::event::Input;
use crate::cluster::replica::message::{Lane, Message};
use crate::cluster::replica::node::Node;

use crate::cluster::sim::event::SimEvent;
use crate::cluster::sim::invariants::queues_are_bounded;
use crate::cluster::sim::link::{NextPiece, Piece, SimLink};
use crate::cluster::sim::network::Fate;
use crate::cluster::sim::pending::PendingInput;
use crate::cluster::sim::report::LinkReport;
use crate::cluster::sim::world::World;

impl World {
    pub(super) fn is_linked(&self, from: usize, to: usize) -> bool {
        let link = self.links.get(from, to);
        link.is_some_and(|link| !link.is_closing)
    }

    /// Sends a message if there is a link to exactly this node; otherwise drops it.
    pub(super) fn send(&mut self, from: usize, to: &Node, message: Message) {
        let Some(index) = self.index_at(to) else {
            return;
        };
        let place = format_args!("from node{from} to node{index}");
        let Some(link) = self.links.get_mut(from, index) else {
            return;
        };
        if link.is_closing || link.to != *to {
            return;
        }
        queues_are_bounded(link.undelivered, &message, place);
        link.put(self.now, message);
        self.transmit(from, index);
    }

    /// Moves pieces into the socket buffer as long as there is room.
    pub(super) fn transmit(&mut self, from: usize, to: usize) {
        while self.is_running(from) {
            let now = self.now;
            let busy = self.links.busy(from, now);
            let Some(link) = self.links.get_mut(from, to) else {
                return;
            };
            let piece = match link.next(now) {
                NextPiece::Piece(piece) => piece,
                NextPiece::Nothing => return,
                NextPiece::FullUntil(at) => {
                    if link.transmit_at <= now {
                        link.transmit_at = at;
                        self.at(at, SimEvent::Transmit { from, to });
                    }
                    return;
                }
            };
            let busy = busy + u64::from(link.busy_until <= now);
            let rate = self.network.rate(from, to, busy);
            self.put_on_the_way(from, to, rate, piece);
        }
    }

    fn put_on_the_way(&mut self, from: usize, to: usize, rate: Option<u64>, mut piece: Piece) {
        let is_control = piece.is_control();
        let delay = match self.network.fate(to, is_control) {
            Fate::Reset => {
                self.note(format_args!("reset {from} {to}"));
                self.break_link(from, to);
                let after = self.rng.random_range(500..20_000);
                let (node, from) = (from, to);
                return self.after(after, SimEvent::DialBack { node, from });
            }
            Fate::Arrives {
                delay,
                twice: copies,
            } => {
                if let Piece::Whole { twice, .. } = &mut piece {
                    *twice = copies;
                }
                delay
            }
        };
        let now = self.now;
        if let Some(link) = self.links.get_mut(from, to) {
            let at = link.transmit(now, rate, delay, piece);
            let link = link.id;
            let event = SimEvent::Arrive {
                from,
                to,
                link,
                is_control,
            };
            self.at(at, event);
        }
    }

    /// Called when a piece has arrived at the machine of its receiver.
    pub(super) fn arrive(&mut self, from: usize, to: usize, id: u64, is_control: bool) {
        let (now, is_free) = (self.now, self.is_free(to));
        let Some(link) = self.link(from, to, id) else {
            return;
        };
        let Some(piece) = link.arrived(is_control) else {
            return;
        };
        if link.read_after > now {
            link.unread += piece.bytes();
            link.held.push_back(piece);
        } else if is_free {
            self.read(from, to, id, piece);
        } else {
            let pending = link.pending(from, piece);
            self.postpone(to, pending);
        }
    }

    /// Called when a node reads a link again.
    pub(super) fn start_reading(&mut self, from: usize, to: usize, id: u64) {
        let now = self.now;
        let Some(link) = self.link(from, to, id) else {
            return;
        };
        if link.read_after <= now {
            let held = std::mem::take(&mut link.held);
            let bytes: usize = held.iter().map(Piece::bytes).sum();
            link.unread -= bytes;
            let pending: Vec<_> = held
                .into_iter()
                .map(|piece| link.pending(from, piece))
                .collect();
            for pending in pending {
                self.postpone(to, pending);
            }
        }
    }

    /// Called when the process of the receiver reads a piece.
    pub(super) fn read(&mut self, from: usize, to: usize, id: u64, piece: Piece) {
        let Some(link) = self.link(from, to, id) else {
            return;
        };
        let (sender, incarnation) = (link.from.clone(), link.to.incarnation);
        let ages = self.plan.link_rules.ages;
        let message = |age, message| Input::Message {
            from: sender.clone(),
            to: incarnation,
            age: Duration::from_micros(if ages { age } else { 0 }),
            message,
        };
        match piece {
            Piece::Whole {
                message: content,
                size,
                age,
                twice,
            } => {
                let is_data = content.lane() == Lane::Data;
                if twice {
                    self.input(to, message(age, content.clone()));
                }
                self.input(to, message(age, content));
                if is_data {
                    let (bytes, large) = (size, false);
                    self.report(from, to, id, LinkReport::Delivered { bytes, large });
                }
            }
            Piece::Chunk {
                total,
                first,
                age,
                message: content,
                ..
            } => {
                self.report_progress(from, to, id);
                self.large_moved_at = self.now;
                if self.nodes[to].assembly.chunk(from, total, first) {
                    self.report(from, to, id, LinkReport::Admitted);
                } else if self.nodes[to].assembly.is_waiting(from) {
                    self.remind_later(from, to, id);
                }
                let Some(content) = content else { return };
                self.release(from, to);
                self.input(to, message(age, content));
                let (bytes, large) = (total, true);
                self.report(from, to, id, LinkReport::Delivered { bytes, large });
            }
        }
    }

    /// Called when a large message is complete, or its link is broken: other messages may be
    /// admitted.
    fn release(&mut self, from: usize, to: usize) {
        for next in self.nodes[to].assembly.release(from) {
            if let Some(link) = self.links.get(next, to) {
                let id = link.id;
                self.report(next, to, id, LinkReport::Admitted);
            }
        }
    }

    /// Reports progress for a large message that waits for its admission, as its receiver is alive.
    pub(super) fn remind(&mut self, from: usize, to: usize, id: u64) {
        if self.link(from, to, id).is_some() && self.nodes[to].assembly.is_waiting(from) {
            if self.is_running(to) {
                self.report(from, to, id, LinkReport::Progress);
            }
            self.remind_later(from, to, id);
        }
    }

    fn remind_later(&mut self, from: usize, to: usize, link: u64) {
        self.after(REMIND_AFTER, SimEvent::Remind { from, to, link });
    }

    fn report_progress(&mut self, from: usize, to: usize, id: u64) {
        let now = self.now;
        let Some(link) = self.link(from, to, id) else {
            return;
        };
        if now < link.progress_at + PROGRESS_INTERVAL {
            return;
        }
        link.progress_at = now;
        let node = link.from.clone();
        self.input(to, Input::Arriving { node });
        self.report(from, to, id, LinkReport::Progress);
    }

    /// Sends a report back to the sender.
    fn report(&mut self, from: usize, to: usize, id: u64, report: LinkReport) {
        let at = self.now + self.network.delay(from);
        if let Some(link) = self.link(from, to, id) {
            link.last_report = link.last_report.max(at);
            let (at, link) = (link.last_report, id);
            let event = SimEvent::Report {
                from,
                to,
                link,
                report,
            };
            self.at(at, event);
        }
    }

    /// Called when a report has arrived at the machine of the sender.
    pub(super) fn reported(&mut self, from: usize, to: usize, link: u64, report: LinkReport) {
        if self.link(from, to, link).is_none() {
            return;
        }
        // Reports stay in order: later ones do not overtake those that wait for the way back.
        let is_open = self.network.is_open(to, from);
        let Some(held) = self.link(from, to, link).map(|link| &mut link.held_reports) else {
            return;
        };
        held.push_back(report);
        if !is_open {
            let event = SimEvent::Report {
                from,
                to,
                link,
                report: LinkReport::Retry,
            };
            return self.after(REPORT_AGAIN, event);
        }
        for report in std::mem::take(held) {
            if self.is_free(from) {
                self.handle_report(from, to, link, report);
            } else {
                self.postpone(from, PendingInput::Report { to, link, report });
            }
        }
    }

    pub(super) fn handle_report(&mut self, from: usize, to: usize, id: u64, report: LinkReport) {
        let Some(link) = self.link(from, to, id) else {
            return;
        };
        let node = link.to.clone();
        match report {
            LinkReport::Delivered { bytes, large } => {
                if large {
                    link.undelivered.large_messages -= 1;
                } else {
                    link.undelivered.small_bytes -= bytes;
                }
                self.input(from, Input::Delivered { node, bytes, large });
            }
            LinkReport::Progress => self.input(from, Input::Progress { node }),
            LinkReport::Retry => {}
            LinkReport::Admitted => {
                link.admit();
                self.transmit(from, to);
            }
        }
    }

    /// Returns the link with this id, if it is still up or closing.
    pub(super) fn link(&mut self, from: usize, to: usize, id: u64) -> Option<&mut SimLink> {
        let link = self.links.get_mut(from, to);
        link.filter(|link| link.id == id)
    }

    /// Breaks one direction between two nodes; what has not been delivered is lost.
    pub(super) fn break_link(&mut self, from: usize, to: usize) {
        if self.links.remove(from, to).is_some() {
            self.release(from, to);
        }
    }

    /// Breaks both directions between two nodes.
    pub(super) fn unlink(&mut self, one: usize, other: usize) {
        self.break_link(one, other);
        self.break_link(other, one);
    }

    /// Breaks all links of a node.
    pub(super) fn unlink_all(&mut self, index: usize) {
        for other in 0..self.nodes.len() {
            self.unlink(index, other);
        }
    }

    /// Breaks all links on which a node sends.
    pub(super) fn hang_up(&mut self, index: usize) {
        for other in 0..self.nodes.len() {
            self.break_link(index, other);
        }
    }

    /// Closes all links of a process that is gone. What its operating system has accepted from it
    /// still arrives.
    pub(super) fn close_links(&mut self, index: usize) {
        for other in 0..self.nodes.len() {
            self.break_link(other, index);
            if let Some(link) = self.links.get_mut(index, other) {
                link.close();
            }
        }
    }

    /// Blocks all messages from one node to another.
    pub(super) fn block(&mut self, from: usize, to: usize) {
        self.network.block(from, to);
        self.unlink(from, to);
    }

    /// Blocks all messages from one node to another, but not in the other direction.
    pub(super) fn block_one_way(&mut self, from: usize, to: usize) {
        self.network.block(from, to);
        self.break_link(from, to);
    }
}

/// Progress is reported at most this often, in microseconds.
const PROGRESS_INTERVAL: u64 = 100_000;

/// Interval at which a sender is notified that its large message only waits, in microseconds.
const REMIND_AFTER: u64 = 1_000_000;

/// Delay before a report that cannot get through is sent again, in microseconds.
const REPORT_AGAIN: u64 = 100_000;
