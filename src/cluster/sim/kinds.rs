//! Kinds of faults.

/// A kind of fault. A run has up to three of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// No fault.
    None,
    /// Crashes, restarts, joins and orderly leaving.
    Crashes,
    /// The same, links that break, and slow links to one node.
    Links,
    /// The same as crashes, and processes that are stopped for up to eight seconds.
    Pauses,
    /// The same as crashes, and the network is divided into two parts.
    Partitions,
    /// Links with finite bandwidth, and values of up to 18 KB.
    Bandwidth,
    /// Links with finite bandwidth, and values of up to 15 MB.
    LargeRecords,
    /// Machines that are suspended for one second to one hour.
    Suspension,
    /// All machines are suspended at the same time.
    AllSuspended,
    /// Restarts after the wall clock was set forward or back by hours.
    WallClock,
    /// Sessions whose absolute deadline falls into the run, and crashes.
    Deadlines,
    /// Nodes that start to drain and cancel it.
    DrainBack,
    /// A second node with a name that is taken.
    SameName,
    /// Restarts of a name at another address.
    Relocation,
    /// Nodes that handle their inputs late.
    SlowCpu,
    /// Nodes that stop reading a link, and links whose data lane stops.
    StopsReading,
    /// Some pairs of nodes cannot reach each other while others reach both: a bridge, a ring, a
    /// one-way loss, a link that flaps.
    Bridges,
    /// Crashes and pauses while each acknowledged write needs two copies.
    MinCopies,
}

impl FaultKind {
    pub(super) const ALL: [Self; 18] = [
        Self::None,
        Self::Crashes,
        Self::Links,
        Self::Pauses,
        Self::Partitions,
        Self::Bandwidth,
        Self::LargeRecords,
        Self::Suspension,
        Self::AllSuspended,
        Self::WallClock,
        Self::Deadlines,
        Self::DrainBack,
        Self::SameName,
        Self::Relocation,
        Self::SlowCpu,
        Self::StopsReading,
        Self::Bridges,
        Self::MinCopies,
    ];

    /// Nodes and links that fail, and are fast otherwise.
    pub(super) const BASIC: [Self; 5] = [
        Self::None,
        Self::Crashes,
        Self::Links,
        Self::Pauses,
        Self::Partitions,
    ];

    /// The kinds that an ordinary run draws from.
    pub(super) const DEFAULT: [Self; 11] = [
        Self::None,
        Self::Crashes,
        Self::Links,
        Self::Pauses,
        Self::Partitions,
        Self::Bandwidth,
        Self::Suspension,
        Self::Deadlines,
        Self::DrainBack,
        Self::SlowCpu,
        Self::Bridges,
    ];

    /// Returns the kind with this name, in any case.
    pub(super) fn named(name: &str) -> Option<Self> {
        let same = |kind: &Self| format!("{kind:?}").eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(same)
    }
}
