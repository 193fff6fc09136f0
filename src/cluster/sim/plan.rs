//! Parameters of one run, all derived from its seed.

use std::num::NonZeroU8;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cluster::copies::Copies;
use crate::cluster::replica::protocol_rules::ProtocolRules;

use crate::cluster::sim::kinds::FaultKind;
use crate::cluster::sim::link::LinkRules;

/// The parameters of one run. Times are in microseconds of virtual time.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    pub(super) copies: Copies,
    pub(super) min_copies: u8,
    pub(super) rules: ProtocolRules,
    pub(super) link_rules: LinkRules,
    pub(super) network: NetworkConditions,
    /// Each fault is of one of these kinds.
    pub(super) faults: Vec<FaultKind>,
    /// The time between two faults.
    pub(super) quiet_period: (u64, u64),
    /// How long a node drains before it cancels that.
    pub(super) drained: (u64, u64),
    pub(super) duration: u64,
    /// Clocks of the nodes differ by up to this.
    pub(super) skew: Duration,
    /// Whether the end of a process closes its sockets, so that the other nodes notice immediately.
    pub(super) crash_is_noticed: bool,
    /// Whether a node's clock includes the time in which its machine was suspended.
    pub(super) clock_includes_suspension: bool,
    /// Whether users log in, and all sessions of a user are ended.
    pub(super) users: bool,
    /// The share of requests to a session with large values that are carried out.
    pub(super) large_share: f64,
    /// The largest value that a client writes, in bytes.
    pub(super) large_value_max: usize,
    /// Large messages that a node assembles at the same time have this many bytes in total.
    pub(super) assembly_budget: usize,
}

/// Properties of the network between the nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetworkConditions {
    pub(super) latency: (u64, u64),
    /// How many of 100,000 messages find their link broken.
    pub(super) resets: u32,
    /// How many of a thousand messages arrive twice.
    pub(super) repeated: u32,
    /// How many of a thousand messages are late, and by how much at most.
    pub(super) late: u32,
    pub(super) lateness: u64,
    /// Bytes per second of the slowest and the fastest link; `None`: no limit.
    pub(super) rates: Option<(u64, u64)>,
    /// Bytes per second that all links of one node share.
    pub(super) uplink: Option<u64>,
}

impl Plan {
    /// Draws a plan with up to three of `kinds`. Consecutive seeds begin with consecutive kinds.
    pub(super) fn draw(seed: u64, kinds: &[FaultKind]) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = kinds.len() as u64;
        let mut faults = vec![kinds[(seed % count) as usize]];
        let more = match rng.random_range(0..20) {
            _ if faults == [FaultKind::None] => 0,
            0..13 => 0,
            13..17 => 1,
            _ => 2,
        };
        for _ in 0..more {
            let kind = kinds[rng.random_range(0..kinds.len())];
            if kind != FaultKind::None && !faults.contains(&kind) {
                faults.push(kind);
            }
        }
        let copies = match seed / count % 3 {
            0 => Copies::All,
            1 => Copies::Count(NonZeroU8::new(2).expect("not zero")),
            _ => Copies::Count(NonZeroU8::new(3).expect("not zero")),
        };
        Self::with_faults(seed, faults, copies, &mut rng)
    }

    fn with_faults(seed: u64, faults: Vec<FaultKind>, copies: Copies, rng: &mut StdRng) -> Self {
        let has = |kind| faults.contains(&kind);
        let is_slow = has(FaultKind::Bandwidth) || has(FaultKind::LargeRecords);
        let least = if has(FaultKind::MinCopies) || has(FaultKind::Bridges) {
            3
        } else {
            2
        };
        let nodes = rng.random_range(least..=8);
        let network = NetworkConditions::draw(rng, nodes, is_slow);
        Self {
            seed,
            nodes,
            copies,
            min_copies: if has(FaultKind::MinCopies) { 2 } else { 1 },
            rules: ProtocolRules::ALL,
            link_rules: LinkRules::ALL,
            network,
            quiet_period: (200_000, rng.random_range(2_000_000..8_000_000)),
            drained: (1_000, 3_000_000),
            duration: 40_000_000,
            skew: Duration::from_secs(rng.random_range(0..3) * 86_400 * 10),
            crash_is_noticed: rng.random_bool(0.7),
            clock_includes_suspension: true,
            users: false,
            large_share: 0.1,
            large_value_max: usize::MAX,
            assembly_budget: rng.random_range(16..=64) << 20,
            faults,
        }
    }

    pub(super) fn has(&self, kind: FaultKind) -> bool {
        self.faults.contains(&kind)
    }

    /// Returns `true` if every node runs all the time and can reach all others, however slowly.
    pub(super) fn is_only_slow(&self) -> bool {
        let slow = [FaultKind::Bandwidth, FaultKind::LargeRecords];
        self.faults.iter().all(|kind| slow.contains(kind))
    }

    /// Returns `true` if nodes handle their inputs so late that two of them may remove each other,
    /// which is a partition as long as it lasts.
    pub(super) fn has_slow_nodes(&self) -> bool {
        self.has(FaultKind::SlowCpu) || self.has(FaultKind::StopsReading)
    }

    /// Returns `true` if hardly any message is late, so that an exchange of a few messages is fast.
    pub(super) const fn is_prompt(&self) -> bool {
        self.network.late <= LATE_SELDOM
    }

    /// Returns `true` if node names or addresses change during the run.
    pub(super) fn has_name_conflicts(&self) -> bool {
        self.has(FaultKind::SameName) || self.has(FaultKind::Relocation)
    }

    /// Returns the number of nodes, including the one with a name that is taken.
    pub(super) fn all_nodes(&self) -> usize {
        self.nodes + usize::from(self.has(FaultKind::SameName))
    }

    /// Returns the longest time from sending a message to its arrival that an expiry has to allow
    /// for.
    pub(super) fn transit_max(&self) -> u64 {
        if self.has_slow_nodes() {
            SLOW_TRANSIT_MAX
        } else {
            TRANSIT_MAX
        }
    }
}

impl NetworkConditions {
    fn draw(rng: &mut StdRng, nodes: usize, is_slow: bool) -> Self {
        let rough = rng.random_bool(0.5);
        let slow = rng.random_range(300..5_000);
        let mut conditions = Self {
            latency: (100, slow),
            resets: if rough { rng.random_range(0..100) } else { 0 },
            repeated: if rough { rng.random_range(0..50) } else { 0 },
            late: if rough { rng.random_range(0..400) } else { 0 },
            lateness: 300_000,
            rates: None,
            uplink: None,
        };
        if is_slow {
            // Lateness would add to the queues, and hide their effects.
            conditions.late = conditions.late.min(LATE_SELDOM);
            let fastest = RATE_MIN << rng.random_range(0..8);
            conditions.rates = Some((RATE_MIN, fastest));
            let each = RATE_MIN * rng.random_range(1..4);
            let shared = each * (nodes as u64 - 1).max(1);
            conditions.uplink = rng.random_bool(0.3).then_some(shared);
        }
        conditions
    }
}

/// How many of a thousand messages are late if that is rare.
const LATE_SELDOM: u32 = 20;

/// The slowest link: 1 MB/s.
const RATE_MIN: u64 = 1_000_000;

/// The longest time that a message is under way after it has been sent, in microseconds.
const TRANSIT_MAX: u64 = 3_000_000;

/// The same with nodes that handle their inputs late, or have stopped reading.
const SLOW_TRANSIT_MAX: u64 = 40_000_000;

pub(super) const CLIENTS: usize = 6;
pub(super) const SESSIONS: usize = 8;
pub(super) const HOUR: Duration = Duration::from_secs(3600);
