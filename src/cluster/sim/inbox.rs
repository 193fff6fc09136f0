//! Inputs that wait for their node: its process is stopped, its machine is suspended, or it is busy
//! with an earlier input.

use std::time::Duration;

use rand::RngExt;

use crate::cluster::replica::event::Input;

use crate::cluster::sim::event::SimEvent;
use crate::cluster::sim::link::{Piece, SimLink};
use crate::cluster::sim::pending::PendingInput;
use crate::cluster::sim::world::World;

impl World {
    /// Returns `true` if a node handles an input immediately.
    pub(super) fn is_free(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        self.is_running(index) && node.busy_until <= self.now && node.pending.is_empty()
    }

    pub(super) fn postpone(&mut self, index: usize, pending: PendingInput) {
        self.nodes[index].pending.push_back(pending);
        self.resume_later(index);
    }

    pub(super) fn resume_later(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let at = node.paused_until.max(node.busy_until).max(self.now);
        if at < node.resume_at {
            node.resume_at = at;
            self.at(at, SimEvent::Resume { node: index });
        }
    }

    /// Handles the waiting inputs until the node is busy again.
    pub(super) fn resume(&mut self, index: usize) {
        if self.nodes[index].resume_at > self.now {
            return;
        }
        self.nodes[index].resume_at = u64::MAX;
        while self.is_running(index) {
            if self.nodes[index].busy_until > self.now {
                return self.resume_later(index);
            }
            if self.nodes[index].wake_at <= self.now {
                self.wake(index);
            } else if let Some(pending) = self.nodes[index].pending.pop_front() {
                self.handle_pending(index, pending);
            } else {
                break;
            }
        }
        for to in 0..self.nodes.len() {
            self.transmit(index, to);
        }
    }

    fn handle_pending(&mut self, index: usize, pending: PendingInput) {
        match pending {
            PendingInput::Piece {
                from,
                link: id,
                piece,
                sender,
                receiver,
            } => {
                if let Some(link) = self.link(from, index, id) {
                    link.unread -= piece.bytes();
                    self.read(from, index, id, piece);
                    self.transmit(from, index);
                } else if let Piece::Whole { message, age, .. } = piece
                    && self.rng.random()
                {
                    // The process had read it from the link before that was broken.
                    let input = Input::Message {
                        from: sender,
                        to: receiver,
                        age: Duration::from_micros(age),
                        message,
                    };
                    self.input(index, input);
                }
            }
            PendingInput::Report { to, link, report } => {
                self.handle_report(index, to, link, report)
            }
            PendingInput::Accepted { node } => self.input(index, Input::Accepted { node }),
        }
    }
}

impl SimLink {
    /// Counts a piece as unread, and returns it as an input that waits.
    pub(super) fn pending(&mut self, from: usize, piece: Piece) -> PendingInput {
        self.unread += piece.bytes();
        PendingInput::Piece {
            from,
            link: self.id,
            piece,
            sender: self.from.clone(),
            receiver: self.to.incarnation,
        }
    }
}
