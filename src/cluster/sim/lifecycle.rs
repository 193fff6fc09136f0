//! Starts, crashes, restarts, pauses and orderly leaving of nodes.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::cluster::ack::Ack;
use crate::cluster::replica::event::Input;
use crate::cluster::replica::protocol_rules::ProtocolRules;
use crate::cluster::replica::{Replica, Requirements, Settings};

use crate::cluster::outlook::Addresses;
use crate::cluster::sightings::Sightings;
use crate::cluster::sim::event::SimEvent;
use crate::cluster::sim::handshakes::host_name;
use crate::cluster::sim::kinds::FaultKind;
use crate::cluster::sim::world::{DETECTION_MIN, World};

impl World {
    pub(super) fn start(&mut self, index: usize) {
        if self.nodes[index].replica.is_some() || self.nodes[index].retired {
            return;
        }
        self.disturb(self.now);
        let now = self.clock(index);
        self.last_process += 1;
        self.nodes[index].process = self.last_process;
        let highest_seen = self.highest_seen(index);
        let last = self.nodes[index].me.incarnation;
        let names: Vec<_> = (0..self.nodes.len()).map(host_name).collect();
        let node = &mut self.nodes[index];
        let mut incarnation = now.as_millis().max(highest_seen + 1);
        if !self.plan.has(FaultKind::WallClock) {
            incarnation = incarnation.max(last + 1);
        }
        node.me.incarnation = incarnation;
        node.first_incarnation = incarnation;
        node.leaving = false;
        node.falsely_removed = false;
        node.falsely_suspects.clear();
        node.sightings = Sightings::default();
        node.addresses = Addresses::new(&names);
        node.dialed.clear();
        node.pending.clear();
        node.paused_until = 0;
        node.busy_until = 0;
        node.wake_at = u64::MAX;
        node.ran_at = self.now;
        let settings = Settings {
            me: node.me.clone(),
            copies: self.plan.copies,
            ack: Ack::All,
            min_copies: self.plan.min_copies,
            max_sessions: 10_000,
            max_bytes: 1 << 30,
            max_session_bytes: 64 << 20,
            ack_timeout: Duration::from_secs(5),
            requirements: Requirements::default(),
            seed: self.rng.random(),
            rules: ProtocolRules {
                // So many that sessions live long enough for floors.
                marks: MARKS,
                ..self.plan.rules
            },
        };
        node.replica = Some(Replica::new(now, settings));
        self.after(1_000, SimEvent::Dial { node: index });
        self.flush_outputs(index);
    }

    /// Kills the process of a node.
    pub(super) fn crash(&mut self, index: usize) {
        self.note(format_args!("crash {index}"));
        self.disturb(self.now);
        self.nodes[index].stop(self.now);
        if self.plan.crash_is_noticed && self.rng.random() {
            self.close_links(index);
        } else {
            self.unlink_all(index);
        }
        self.notice_soon(index, |rng| rng.random_range(500..30_000));
        self.forget_requests(index);
    }

    /// Lets the other nodes find the port of a node refused, each after a time of its own.
    fn notice_soon(&mut self, gone: usize, after: impl Fn(&mut StdRng) -> u64) {
        if !self.plan.crash_is_noticed {
            return;
        }
        let incarnation = self.nodes[gone].me.incarnation;
        for node in 0..self.nodes.len() {
            if node != gone && self.network.is_open(node, gone) {
                let after = after(&mut self.rng);
                let notice = SimEvent::Notice {
                    node,
                    gone,
                    incarnation,
                };
                self.after(after, notice);
            }
        }
    }

    pub(super) fn notice(&mut self, index: usize, gone: usize, incarnation: u64) {
        let current = self.nodes[gone].me.clone();
        if current.incarnation == incarnation && self.nodes[gone].replica.is_none() {
            self.input(index, Input::Refused { node: current });
        }
    }

    /// Leaves once the other nodes have everything, as the store's drain does.
    pub(super) fn depart(&mut self, index: usize) {
        if self.nodes[index].replica.is_none() {
            return;
        }
        self.disturb(self.now);
        if !self.nodes[index].leaving {
            self.nodes[index].leaving = true;
            self.nodes[index].open_until = self.now + STILL_OPEN;
            self.input(index, Input::Drain(true));
        }
        let status = self.replica(index).status();
        let idle = !self.requests.values().any(|request| request.node == index)
            && !self.users.are_at(index);
        let handed_over = status.settled && status.has_successor && status.unacknowledged == 0;
        if idle && handed_over && !self.is_serving(index) && self.is_running(index) {
            self.input(index, Input::Leave);
            self.nodes[index].stop(self.now);
            self.close_links(index);
            // At once: `Leave` may still be under way.
            self.notice_soon(index, |_| REFUSED_AFTER);
            let after = self.rng.random_range(100_000..3_000_000);
            self.after(after, SimEvent::Start { node: index });
        } else if self.ended && self.is_running(index) {
            self.take_back(index);
        } else {
            self.after(100_000, SimEvent::Depart { node: index });
        }
    }

    /// Starts to drain a node that will cancel it. It serves all the time.
    pub(super) fn drain_for_a_while(&mut self, index: usize) {
        let (least, most) = self.plan.drained;
        let after = self.rng.random_range(least..most);
        self.note(format_args!("drain {index} for {after}"));
        self.disturb(self.now + after);
        self.nodes[index].leaving = true;
        self.nodes[index].open_until = u64::MAX;
        self.input(index, Input::Drain(true));
        self.after(after, SimEvent::TakeBack { node: index });
    }

    pub(super) fn take_back(&mut self, index: usize) {
        if self.nodes[index].replica.is_none() || !self.nodes[index].leaving {
            return;
        }
        if self.is_running(index) {
            self.disturb(self.now);
            self.nodes[index].leaving = false;
            self.input(index, Input::Drain(false));
        } else {
            self.after(100_000, SimEvent::TakeBack { node: index });
        }
    }

    /// Stops a process, or suspends its machine.
    pub(super) fn pause(&mut self, index: usize, time: u64) {
        self.disturb(self.now + time);
        self.removed_while_running |= time >= DETECTION_MIN;
        self.nodes[index].paused_until = self.now + time;
        self.resume_later(index);
    }

    /// Suspends a machine. Its links time out if that takes long.
    pub(super) fn suspend(&mut self, index: usize, time: u64) {
        self.note(format_args!("suspend {index} {time}"));
        self.pause(index, time);
        if !self.plan.clock_includes_suspension {
            self.nodes[index].skew -= time / 1000;
            self.nodes[index].ran_at += time;
        }
        if time > LINK_TIMEOUT {
            self.after(LINK_TIMEOUT, SimEvent::LinksTimeOut { node: index });
        }
    }

    pub(super) fn links_time_out(&mut self, index: usize) {
        if !self.is_running(index) {
            self.unlink_all(index);
        }
    }

    /// Records that a fault lasts until then: checks of a whole cluster have to wait.
    pub(super) fn disturb(&mut self, until: u64) {
        self.disturbed_until = self.disturbed_until.max(until);
        self.steady_since = None;
    }
}

/// How long a node that leaves still takes requests, in microseconds.
const STILL_OPEN: u64 = 500_000;

/// How long after a node has left its port is found refused, in microseconds.
const REFUSED_AFTER: u64 = 1_000;

/// When a connection to a machine that does not answer breaks, in microseconds.
const LINK_TIMEOUT: u64 = 15_000_000;

/// Marks of removed attributes that a session may have.
const MARKS: usize = 4;
