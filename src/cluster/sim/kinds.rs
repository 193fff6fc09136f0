//! Kinds of faults, and how soon the cluster must be whole again after each.

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
    /// Nodes that start to drain and take it back.
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

    /// How long after the last fault the cluster must be whole and its copies equal, in
    /// microseconds. What large records take on slow links comes on top.
    pub(super) const fn converges_within(self) -> u64 {
        match self {
            Self::None => NONE_CONVERGES,
            Self::Crashes => CRASHES_CONVERGE,
            Self::Links => LINKS_CONVERGE,
            Self::Pauses => PAUSES_CONVERGE,
            Self::Partitions => PARTITIONS_CONVERGE,
            Self::Bandwidth => BANDWIDTH_CONVERGES,
            Self::LargeRecords => LARGE_RECORDS_CONVERGE,
            Self::Suspension => SUSPENSION_CONVERGES,
            Self::AllSuspended => ALL_SUSPENDED_CONVERGE,
            Self::WallClock => WALL_CLOCK_CONVERGES,
            Self::Deadlines => DEADLINES_CONVERGE,
            Self::DrainBack => DRAIN_BACK_CONVERGES,
            Self::SameName => SAME_NAME_CONVERGES,
            Self::Relocation => RELOCATION_CONVERGES,
            Self::SlowCpu => SLOW_CPU_CONVERGES,
            Self::StopsReading => STOPS_READING_CONVERGES,
            Self::Bridges => BRIDGES_CONVERGE,
            Self::MinCopies => MIN_COPIES_CONVERGE,
        }
    }
}

const SECOND: u64 = 1_000_000;

/// How soon a cluster is whole again if no member stays away.
const WHOLE_AGAIN: u64 = 10 * SECOND;

/// How long a member stays away that other members have removed again and again.
const EXILE: u64 = 30 * SECOND;

/// How soon the copies of a whole cluster are equal: what an abandoned write has left on one node
/// is found by the perpetual comparison, with each of seven others in turn.
pub(super) const COPIES_EQUAL_WITHIN: u64 = 300 * SECOND;

const NONE_CONVERGES: u64 = WHOLE_AGAIN;
const CRASHES_CONVERGE: u64 = WHOLE_AGAIN;
const LINKS_CONVERGE: u64 = EXILE + WHOLE_AGAIN;
const PAUSES_CONVERGE: u64 = EXILE + WHOLE_AGAIN;
const PARTITIONS_CONVERGE: u64 = EXILE + WHOLE_AGAIN;
const BANDWIDTH_CONVERGES: u64 = WHOLE_AGAIN;
const LARGE_RECORDS_CONVERGE: u64 = WHOLE_AGAIN;
const SUSPENSION_CONVERGES: u64 = WHOLE_AGAIN;
const ALL_SUSPENDED_CONVERGE: u64 = WHOLE_AGAIN;
const WALL_CLOCK_CONVERGES: u64 = WHOLE_AGAIN;
const DEADLINES_CONVERGE: u64 = WHOLE_AGAIN;
const DRAIN_BACK_CONVERGES: u64 = WHOLE_AGAIN;
const SAME_NAME_CONVERGES: u64 = WHOLE_AGAIN;
const RELOCATION_CONVERGES: u64 = WHOLE_AGAIN;
const SLOW_CPU_CONVERGES: u64 = EXILE + WHOLE_AGAIN;
const STOPS_READING_CONVERGES: u64 = EXILE + WHOLE_AGAIN;
const BRIDGES_CONVERGE: u64 = EXILE + WHOLE_AGAIN;
const MIN_COPIES_CONVERGE: u64 = EXILE + WHOLE_AGAIN;
