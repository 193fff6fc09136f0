//! What goes wrong, and what may go wrong without breaking a promise.

use rand::RngExt;

use crate::cluster::Copies;
use crate::cluster::replica::MemberStatus;
use crate::cluster::replica::node::Node;

use super::cluster::{Cluster, DETECTION_MIN, Event};
use super::plan::Faults;

impl Cluster {
    pub(super) fn misfortune(&mut self) {
        if self.ended {
            return;
        }
        let index = self.rng.random_range(0..self.places.len());
        match self.plan.faults {
            Faults::None => {}
            Faults::Crashes => self.come_or_go(index),
            Faults::Links if self.rng.random_bool(0.3) => {
                let other = self.rng.random_range(0..self.places.len());
                self.network.unlink(index, other);
            }
            Faults::Links if self.rng.random_bool(0.4) => {
                let by = self.rng.random_range(100_000..1_500_000);
                self.note(format_args!("slow {index} {by}"));
                self.network.slow_down(index, by);
                // Somebody who comes now is news that this node hears late.
                let down = self.places.iter().position(|place| place.replica.is_none());
                if let Some(down) = down {
                    self.start(down);
                }
                let after = self.rng.random_range(500_000..3_000_000);
                self.after(after, Event::Heal);
            }
            Faults::Links => self.come_or_go(index),
            Faults::Pauses
                if self.rng.random_bool(0.6) && self.is_running(index) && self.can_lose(index) =>
            {
                let pause = self.rng.random_range(10_000..8_000_000);
                self.note(format_args!("pause {index} {pause}"));
                self.doubted |= pause >= DETECTION_MIN;
                self.places[index].paused_until = self.now + pause;
            }
            Faults::Pauses => self.come_or_go(index),
            Faults::Partitions if self.rng.random_bool(0.5) => self.tear(),
            Faults::Partitions => self.come_or_go(index),
        }
        let after = self.rng.random_range(self.plan.calm.0..self.plan.calm.1);
        self.after(after, Event::Misfortune);
    }

    pub(super) fn come_or_go(&mut self, index: usize) {
        if self.places[index].replica.is_none() {
            self.start(index);
        } else if self.can_lose(index) {
            if self.rng.random_bool(0.3) && !self.places[index].leaving {
                self.depart(index);
            } else {
                self.crash(index);
                if self.rng.random_bool(0.5) {
                    let after = self.rng.random_range(1_000..2_000_000);
                    self.after(after, Event::Start { place: index });
                }
            }
        }
    }

    pub(super) fn tear(&mut self) {
        self.torn = true;
        let after = self.rng.random_range(100_000..12_000_000);
        self.after(after, Event::Heal);
        if self.rng.random_bool(0.25) {
            return self.tear_link();
        }
        let side: Vec<bool> = self.places.iter().map(|_| self.rng.random()).collect();
        self.note(format_args!("tear {side:?}"));
        let one_way = self.rng.random_bool(0.3);
        for from in 0..self.places.len() {
            for to in 0..self.places.len() {
                if side[from] && !side[to] && one_way {
                    self.network.block_one_way(from, to);
                } else if side[from] != side[to] && !one_way {
                    self.network.block(from, to);
                }
            }
        }
    }

    /// Two nodes do not hear each other any more, while the others hear both.
    fn tear_link(&mut self) {
        let one = self.rng.random_range(0..self.places.len());
        let other = self.rng.random_range(0..self.places.len());
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
    /// nodes than keep a session are missing, this one included; and, where the network was torn,
    /// every node has everything, so that no side's writes are lost with it.
    pub(super) fn can_lose(&self, index: usize) -> bool {
        if self.torn {
            return self.is_well();
        }
        let mut running = self.places.iter().enumerate();
        match self.plan.copies {
            Copies::All => running.any(|(at, place)| {
                at != index && place.replica.is_some() && !place.leaving && self.is_caught_up(at)
            }),
            Copies::Count(copies) => running
                .filter(|(_, place)| place.replica.is_some())
                .all(|(at, _)| self.is_caught_up(at) && self.can_spare(at, copies.get().into())),
        }
    }

    fn is_caught_up(&self, at: usize) -> bool {
        let status = self.replica(at).status();
        self.is_running(at) && status.ready && status.complete
    }

    /// Whether, as this node sees it, all holders have everything and one more may go.
    fn can_spare(&self, at: usize, copies: usize) -> bool {
        let status = self.replica(at).status();
        let stays = |member: &&MemberStatus| !member.leaving;
        let others = status.members.iter().filter(stays);
        let is_gone = |node: &Node| {
            let place = self.places.iter().position(|place| place.me == *node);
            place.is_none_or(|place| !self.is_running(place))
        };
        let missing = others
            .clone()
            .filter(|member| is_gone(&member.node))
            .count();
        let candidates = others.count() + usize::from(!self.places[at].leaving);
        status.settled && missing + 1 < copies.min(candidates)
    }
}
