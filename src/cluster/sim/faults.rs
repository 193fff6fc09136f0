//! What goes wrong, and what may go wrong without breaking a promise.

use rand::RngExt;

use crate::cluster::Copies;
use crate::cluster::replica::MemberStatus;
use crate::cluster::replica::node::Node;

use super::plan::FaultKind;
use super::world::{DETECTION_MIN, Event, World};

impl World {
    pub(super) fn inject_fault(&mut self) {
        if self.ended {
            return;
        }
        let index = self.rng.random_range(0..self.nodes.len());
        match self.plan.faults {
            FaultKind::None => {}
            FaultKind::Crashes => self.come_or_go(index),
            FaultKind::Links if self.rng.random_bool(0.3) => {
                let other = self.rng.random_range(0..self.nodes.len());
                self.network.unlink(index, other);
            }
            FaultKind::Links if self.rng.random_bool(0.4) => {
                let by = self.rng.random_range(100_000..1_500_000);
                self.note(format_args!("slow {index} {by}"));
                self.network.slow_down(index, by);
                // Somebody who comes now is news that this node hears late.
                let down = self.nodes.iter().position(|node| node.replica.is_none());
                if let Some(down) = down {
                    self.start(down);
                }
                let after = self.rng.random_range(500_000..3_000_000);
                self.after(after, Event::Heal);
            }
            FaultKind::Links => self.come_or_go(index),
            FaultKind::Pauses
                if self.rng.random_bool(0.6) && self.is_running(index) && self.can_lose(index) =>
            {
                let pause = self.rng.random_range(10_000..8_000_000);
                self.note(format_args!("pause {index} {pause}"));
                self.removed_while_running |= pause >= DETECTION_MIN;
                self.nodes[index].paused_until = self.now + pause;
            }
            FaultKind::Pauses => self.come_or_go(index),
            FaultKind::Partitions if self.rng.random_bool(0.5) => self.partition(),
            FaultKind::Partitions => self.come_or_go(index),
        }
        let after = self
            .rng
            .random_range(self.plan.quiet_period.0..self.plan.quiet_period.1);
        self.after(after, Event::Fault);
    }

    pub(super) fn come_or_go(&mut self, index: usize) {
        if self.nodes[index].replica.is_none() {
            self.start(index);
        } else if self.can_lose(index) {
            if self.rng.random_bool(0.3) && !self.nodes[index].leaving {
                self.depart(index);
            } else {
                self.crash(index);
                if self.rng.random_bool(0.5) {
                    let after = self.rng.random_range(1_000..2_000_000);
                    self.after(after, Event::Start { node: index });
                }
            }
        }
    }

    pub(super) fn partition(&mut self) {
        self.partitioned = true;
        let after = self.rng.random_range(100_000..12_000_000);
        self.after(after, Event::Heal);
        if self.rng.random_bool(0.25) {
            return self.partition_link();
        }
        let side: Vec<bool> = self.nodes.iter().map(|_| self.rng.random()).collect();
        self.note(format_args!("tear {side:?}"));
        let one_way = self.rng.random_bool(0.3);
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if side[from] && !side[to] && one_way {
                    self.network.block_one_way(from, to);
                } else if side[from] != side[to] && !one_way {
                    self.network.block(from, to);
                }
            }
        }
    }

    /// Two nodes do not hear each other any more, while the others hear both.
    fn partition_link(&mut self) {
        let one = self.rng.random_range(0..self.nodes.len());
        let other = self.rng.random_range(0..self.nodes.len());
        let one_way = self.rng.random_bool(0.3);
        self.note(format_args!("tear link {one} {other} {one_way}"));
        match one_way {
            _ if one == other => {}
            true => self.network.block_one_way(one, other),
            false => {
                self.network.block(one, other);
                self.network.block(other, one);
            }
        }
    }

    /// Whether the promises cover the loss of this node: whatever was handed over is, and fewer
    /// nodes than keep a session are missing, this one included; and, where the network was partitioned,
    /// every node has everything, so that no side's writes are lost with it.
    pub(super) fn can_lose(&self, index: usize) -> bool {
        if self.partitioned {
            return self.has_converged();
        }
        let mut running = self.nodes.iter().enumerate();
        match self.plan.copies {
            Copies::All => running.any(|(at, node)| {
                at != index && node.replica.is_some() && !node.leaving && self.is_caught_up(at)
            }),
            Copies::Count(copies) => {
                running
                    .filter(|(_, node)| node.replica.is_some())
                    .all(|(at, _)| {
                        self.is_caught_up(at) && self.has_spare_copies(at, copies.get().into())
                    })
            }
        }
    }

    fn is_caught_up(&self, at: usize) -> bool {
        let status = self.replica(at).status();
        self.is_running(at) && status.ready && status.complete
    }

    /// Whether, as this node sees it, all holders have everything and one more may go.
    fn has_spare_copies(&self, at: usize, copies: usize) -> bool {
        let status = self.replica(at).status();
        let stays = |member: &&MemberStatus| !member.leaving;
        let others = status.members.iter().filter(stays);
        let is_gone = |member: &Node| {
            let index = self.nodes.iter().position(|node| node.me == *member);
            index.is_none_or(|index| !self.is_running(index))
        };
        let missing = others
            .clone()
            .filter(|member| is_gone(&member.node))
            .count();
        let candidates = others.count() + usize::from(!self.nodes[at].leaving);
        status.settled && missing + 1 < copies.min(candidates)
    }
}
