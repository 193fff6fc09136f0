//! Events of the simulation, and their dispatch.

use crate::cluster::replica::message::OpId;

use super::inbox::Report;
use super::world::World;

/// An event at a point of virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Arrive {
        from: usize,
        to: usize,
        link: u64,
        is_control: bool,
    },
    Report {
        from: usize,
        to: usize,
        link: u64,
        report: Report,
    },
    Transmit {
        from: usize,
        to: usize,
    },
    /// A large message may still wait for its admission.
    Remind {
        from: usize,
        to: usize,
        link: u64,
    },
    /// A node reads a link again.
    StartReading {
        from: usize,
        to: usize,
        link: u64,
    },
    Wake {
        node: usize,
    },
    /// A node that was stopped, suspended or busy continues.
    Resume {
        node: usize,
    },
    Dial {
        node: usize,
    },
    /// A node that was dialed dials back.
    DialBack {
        node: usize,
        from: usize,
    },
    /// A node finds the port of another one closed.
    Notice {
        node: usize,
        gone: usize,
        generation: u64,
    },
    /// The links of a suspended machine time out.
    LinksTimeOut {
        node: usize,
    },
    Act {
        client: usize,
    },
    /// A small write must have been acknowledged.
    Due {
        op: OpId,
        begun_at: u64,
    },
    /// Time to check whether the cluster is whole.
    Observe,
    Fault,
    Heal,
    Start {
        node: usize,
    },
    /// A node starts at another address.
    StartElsewhere {
        node: usize,
    },
    Depart {
        node: usize,
    },
    /// A node cancels its drain.
    TakeBack {
        node: usize,
    },
    /// A node handles inputs fast again.
    SpeedUp {
        node: usize,
    },
    /// A flapping link breaks or is restored.
    Flap {
        one: usize,
        other: usize,
        left: u32,
    },
    EndOfFaults,
    ActForUser {
        client: usize,
    },
}

impl World {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive {
                from,
                to,
                link,
                is_control,
            } => self.arrive(from, to, link, is_control),
            Event::Report {
                from,
                to,
                link,
                report,
            } => self.reported(from, to, link, report),
            Event::Transmit { from, to } => self.transmit(from, to),
            Event::Remind { from, to, link } => self.remind(from, to, link),
            Event::StartReading { from, to, link } => self.start_reading(from, to, link),
            Event::Wake { node } => self.wake(node),
            Event::Resume { node } => self.resume(node),
            Event::Dial { node } => self.dial(node),
            Event::DialBack { node, from } => self.connect(node, from),
            Event::Notice {
                node,
                gone,
                generation,
            } => self.notice(node, gone, generation),
            Event::LinksTimeOut { node } => self.links_time_out(node),
            Event::Act { client } => self.act(client),
            Event::Due { op, begun_at } => self.check_progress(op, begun_at),
            Event::Observe => self.observe(),
            Event::Fault => self.inject_fault(),
            Event::Heal => self.heal(),
            Event::Start { node } => self.start(node),
            Event::StartElsewhere { node } => self.start_elsewhere(node),
            Event::Depart { node } => self.depart(node),
            Event::TakeBack { node } => self.take_back(node),
            Event::SpeedUp { node } => self.nodes[node].input_takes = 0,
            Event::Flap { one, other, left } => self.flap(one, other, left),
            Event::EndOfFaults => self.end_faults(),
            Event::ActForUser { client } => self.act_for_user(client),
        }
    }
}
