//! Faults of nodes and of the network.

use rand::RngExt;

use crate::cluster::sim::event::SimEvent;
use crate::cluster::sim::kinds::FaultKind;
use crate::cluster::sim::progress::BRIDGED_MIN;
use crate::cluster::sim::world::{DETECTION_MIN, World};

impl World {
    pub(super) fn inject_fault(&mut self) {
        // A fault that lasts longer than the run is the last one.
        if self.now >= self.plan.duration {
            return;
        }
        let index = self.rng.random_range(0..self.nodes.len());
        let kind = self.plan.faults[self.rng.random_range(0..self.plan.faults.len())];
        match kind {
            FaultKind::None | FaultKind::Bandwidth | FaultKind::LargeRecords => {}
            FaultKind::Crashes | FaultKind::Deadlines => self.start_or_stop(index),
            FaultKind::Links => self.disturb_links(index),
            FaultKind::Pauses | FaultKind::MinCopies => self.pause_or_stop(index),
            FaultKind::Partitions if self.rng.random_bool(0.5) => self.partition(),
            FaultKind::Partitions => self.start_or_stop(index),
            FaultKind::Suspension => self.suspend_one(index),
            FaultKind::AllSuspended => self.suspend_all(),
            FaultKind::WallClock => self.set_wall_clock(index),
            FaultKind::DrainBack => self.drain_back(index),
            FaultKind::SameName => self.double(),
            FaultKind::Relocation => self.relocate(index),
            FaultKind::SlowCpu => self.slow_cpu(index),
            FaultKind::StopsReading => self.stop_reading(index),
            FaultKind::Bridges => self.bridge(),
        }
        let (least, most) = self.plan.quiet_period;
        let after = self.rng.random_range(least..most);
        let single = self.plan.faults.len() == 1;
        // Long faults of a single kind come one after the other.
        let begin = if single && kind.lasts() {
            self.disturbed_until.max(self.now)
        } else {
            self.now
        };
        self.at(begin + after, SimEvent::Fault);
    }

    fn disturb_links(&mut self, index: usize) {
        if self.rng.random_bool(0.3) {
            let other = self.rng.random_range(0..self.nodes.len());
            self.disturb(self.now);
            self.unlink(index, other);
        } else if self.rng.random_bool(0.4) {
            let by = self.rng.random_range(100_000..1_500_000);
            self.note(format_args!("slow {index} {by}"));
            self.network.slow_down(index, by);
            // A node that starts now is one of which this node is informed late.
            let down = self.nodes.iter().position(|node| node.replica.is_none());
            if let Some(down) = down {
                self.start(down);
            }
            let after = self.rng.random_range(500_000..3_000_000);
            self.disturb(self.now + after);
            self.after(after, SimEvent::Heal);
        } else {
            self.start_or_stop(index);
        }
    }

    fn pause_or_stop(&mut self, index: usize) {
        if self.rng.random_bool(0.6) && self.is_running(index) && self.can_lose(index) {
            let time = self.rng.random_range(10_000..8_000_000);
            self.note(format_args!("pause {index} {time}"));
            self.pause(index, time);
        } else {
            self.start_or_stop(index);
        }
    }

    pub(super) fn start_or_stop(&mut self, index: usize) {
        if self.nodes[index].replica.is_none() {
            self.start(index);
        } else if self.can_lose(index) {
            if self.rng.random_bool(0.3) && !self.nodes[index].leaving {
                self.depart(index);
            } else {
                self.crash(index);
                if self.rng.random_bool(0.5) {
                    let after = self.rng.random_range(1_000..2_000_000);
                    self.after(after, SimEvent::Start { node: index });
                }
            }
        }
    }

    fn partition(&mut self) {
        self.partitioned = true;
        let after = self.rng.random_range(100_000..12_000_000);
        self.disturb(self.now + after);
        self.after(after, SimEvent::Heal);
        if self.rng.random_bool(0.25) {
            return self.partition_link();
        }
        let side: Vec<bool> = self.nodes.iter().map(|_| self.rng.random()).collect();
        self.note(format_args!("partition {side:?}"));
        let one_way = self.rng.random_bool(0.3);
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if side[from] && !side[to] && one_way {
                    self.block_one_way(from, to);
                } else if side[from] != side[to] && !one_way {
                    self.block(from, to);
                }
            }
        }
    }

    /// Blocks the link between two nodes, while the other nodes can reach both.
    fn partition_link(&mut self) {
        let one = self.rng.random_range(0..self.nodes.len());
        let other = self.rng.random_range(0..self.nodes.len());
        let one_way = self.rng.random_bool(0.3);
        self.note(format_args!("partition link {one} {other} {one_way}"));
        if one == other {
            return;
        }
        if one_way {
            self.block_one_way(one, other);
        } else {
            self.block(one, other);
            self.block(other, one);
        }
    }

    /// Suspends a machine for one second to one hour; rarely for longer than down incarnations are
    /// remembered.
    fn suspend_one(&mut self, index: usize) {
        if !self.is_running(index) || !self.can_lose(index) {
            return;
        }
        let time = match self.rng.random_range(0..100) {
            0..50 => self.rng.random_range(1..4),
            50..97 => self.rng.random_range(4..40),
            97..99 => self.rng.random_range(590..700),
            _ => self.rng.random_range(700..3_600),
        };
        self.suspend(index, time * 1_000_000);
    }

    /// Suspends all machines, and resumes them one after the other.
    fn suspend_all(&mut self) {
        let time = 1_000_000 << self.rng.random_range(0..8);
        for index in 0..self.nodes.len() {
            if self.is_running(index) {
                let more = self.rng.random_range(0..1_000_000);
                self.suspend(index, time + more);
            }
        }
    }

    /// Sets a wall clock forward or back by hours. A process reads it when it starts.
    fn set_wall_clock(&mut self, index: usize) {
        if self.nodes[index].replica.is_some() {
            if !self.can_lose(index) {
                return;
            }
            self.crash(index);
        }
        let jump = self.rng.random_range(1..72 * 3_600_000);
        let back = self.rng.random_bool(0.6);
        self.note(format_args!(
            "wall clock of {index}: {jump} ms, back {back}"
        ));
        let skew = &mut self.nodes[index].skew;
        *skew = if back { *skew - jump } else { *skew + jump };
        let after = self.rng.random_range(1_000..3_000_000);
        self.after(after, SimEvent::Start { node: index });
    }

    fn drain_back(&mut self, index: usize) {
        let can_drain = self.is_running(index) && !self.nodes[index].leaving;
        if can_drain && self.can_lose(index) {
            self.drain_for_a_while(index);
        } else if self.rng.random_bool(0.2) {
            self.start_or_stop(index);
        }
    }

    /// Starts or kills the node with a name that is taken, or kills the other node of that name.
    fn double(&mut self) {
        let double = self.plan.nodes;
        if self.nodes[double].replica.is_none() {
            self.start(double);
        } else {
            let index = if self.rng.random_bool(0.5) { double } else { 0 };
            self.start_or_stop(index);
        }
    }

    /// Restarts a node at another address, immediately or later.
    fn relocate(&mut self, index: usize) {
        if self.nodes[index].replica.is_some() {
            if !self.can_lose(index) {
                return;
            }
            self.crash(index);
        }
        let after = self.rng.random_range(50_000..4_000_000);
        self.note(format_args!("relocate {index}"));
        self.disturb(self.now + after);
        self.after(after, SimEvent::StartElsewhere { node: index });
    }

    pub(super) fn start_elsewhere(&mut self, index: usize) {
        if self.nodes[index].replica.is_none() {
            self.unlink_all(index);
            let address = &mut self.nodes[index].me.address;
            address.set_port(address.port() + ADDRESS_STEP);
            self.start(index);
        }
    }

    fn slow_cpu(&mut self, index: usize) {
        let all_fast = self.nodes.iter().all(|node| node.input_takes == 0);
        if self.is_running(index) && all_fast && self.can_lose(index) {
            let input_takes = 500 << self.rng.random_range(0..7);
            let time = self.rng.random_range(500_000..8_000_000);
            self.note(format_args!("slow CPU {index} {input_takes} for {time}"));
            self.disturb(self.now + time);
            self.nodes[index].input_takes = input_takes;
            self.after(time, SimEvent::SpeedUp { node: index });
        } else {
            self.start_or_stop(index);
        }
    }

    /// Makes a node stop reading one of its links, or only stops the data lane of a link.
    fn stop_reading(&mut self, index: usize) {
        let from = self.rng.random_range(0..self.nodes.len());
        let only_data = self.rng.random_bool(0.4);
        let time = self.rng.random_range(200_000..15_000_000);
        if !self.can_lose(index) {
            return;
        }
        let until = self.now + time;
        let Some(link) = self.links.get_mut(from, index) else {
            return;
        };
        let link_id = link.id;
        if only_data {
            link.data_after = until;
        } else {
            link.read_after = until;
        }
        self.note(format_args!(
            "{index} stops reading {from} for {time}, only data {only_data}"
        ));
        self.disturb(until);
        if only_data {
            self.at(until, SimEvent::Transmit { from, to: index });
        } else {
            self.partitioned |= time >= DETECTION_MIN;
            let link = link_id;
            let to = index;
            self.at(until, SimEvent::StartReading { from, to, link });
        }
    }

    /// Separates some pairs of nodes, while other nodes can still reach both.
    fn bridge(&mut self) {
        if self.bridged_since.is_some() {
            return;
        }
        let nodes = self.nodes.len();
        let time = self.rng.random_range(3_000_000..20_000_000);
        let middle = self.rng.random_range(0..nodes);
        let pattern = self.rng.random_range(0..4);
        self.note(format_args!("bridge {pattern} {middle} for {time}"));
        self.partitioned = true;
        self.bridged_since = Some(self.now);
        // In a larger ring no three nodes reach each other. Most of them find no member that
        // serves, and addresses that do not answer, so they wait before they serve.
        self.bridge_has_core = pattern != 1 || nodes <= 3;
        self.disturb(self.now + time);
        self.after(time, SimEvent::Heal);
        let distance = |one: usize, other: usize| {
            let apart = one.abs_diff(other);
            apart.min(nodes - apart)
        };
        match pattern {
            0 => {
                let side: Vec<bool> = (0..nodes).map(|_| self.rng.random()).collect();
                let divided = |one: usize, other: usize| {
                    side[one] != side[other] && one != middle && other != middle
                };
                self.block_pairs(divided);
            }
            1 => self.block_pairs(|one, other| distance(one, other) > 1),
            2 => {
                let other = (middle + 1) % nodes;
                self.block_one_way(middle, other);
            }
            _ => {
                let (one, other) = (middle, (middle + 1) % nodes);
                let left = (time / FLAP_INTERVAL) as u32;
                self.flap(one, other, left);
            }
        }
    }

    fn block_pairs(&mut self, blocked: impl Fn(usize, usize) -> bool) {
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if blocked(from, to) {
                    self.block(from, to);
                }
            }
        }
    }

    /// Breaks a link for a second, or restores it for one.
    pub(super) fn flap(&mut self, one: usize, other: usize, left: u32) {
        if left == 0 || self.bridged_since.is_none() {
            return;
        }
        if left.is_multiple_of(2) {
            self.block(one, other);
            self.block(other, one);
        } else {
            self.network.unblock(one, other);
        }
        let left = left - 1;
        self.after(FLAP_INTERVAL, SimEvent::Flap { one, other, left });
    }

    pub(super) fn heal(&mut self) {
        if let Some(since) = self.bridged_since.take()
            && self.bridge_has_core
        {
            self.totals.bridged_time += (self.now - since).saturating_sub(BRIDGED_MIN);
        }
        self.network.heal();
    }

    /// Ends all faults, after the current ones are over, and starts every node.
    pub(super) fn end_faults(&mut self) {
        if self.now < self.disturbed_until && !self.ended {
            return self.at(self.disturbed_until, SimEvent::EndOfFaults);
        }
        self.heal();
        self.network.calm_down();
        if self.plan.has(FaultKind::SameName) && !self.retire_double() {
            return self.after(500_000, SimEvent::EndOfFaults);
        }
        self.ended = true;
        self.disturb(self.now);
        for node in 0..self.nodes.len() {
            self.start(node);
        }
    }

    /// Stops the surplus node permanently, as soon as no session is lost with it.
    fn retire_double(&mut self) -> bool {
        let double = self.plan.nodes;
        let waited = self.now > self.plan.duration + RETIRE_MAX;
        if self.nodes[double].replica.is_some() {
            if !waited && !self.can_lose(double) {
                self.start(0);
                return false;
            }
            self.crash(double);
        }
        self.nodes[double].retired = true;
        true
    }
}

impl FaultKind {
    /// Returns `true` if the next fault waits for the end of a fault of this kind.
    const fn lasts(self) -> bool {
        matches!(
            self,
            Self::Suspension | Self::AllSuspended | Self::Bridges | Self::StopsReading
        )
    }
}

/// The distance between the ports of two incarnations of a node.
const ADDRESS_STEP: u16 = 100;

/// How long a flapping link is up, and down, in microseconds.
const FLAP_INTERVAL: u64 = 1_000_000;

/// How long after the run the surplus node may still be needed, in microseconds.
const RETIRE_MAX: u64 = 20_000_000;
