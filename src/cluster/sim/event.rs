//! Events of the simulation.

use crate::cluster::replica::message::OpId;

use crate::cluster::sim::report::LinkReport;

/// An event at a point of virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SimEvent {
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
        report: LinkReport,
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
        incarnation: u64,
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
