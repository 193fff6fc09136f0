//! What a seed stands for.

use std::num::NonZeroU8;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cluster::Copies;
use crate::cluster::replica::rules::Rules;

/// The faults of one run. Times are in microseconds of virtual time.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    pub(super) copies: Copies,
    pub(super) rules: Rules,
    pub(super) network: NetworkConditions,
    pub(super) faults: FaultKind,
    /// Between two faults.
    pub(super) quiet_period: (u64, u64),
    pub(super) duration: u64,
    /// Clocks of the nodes are apart by up to this.
    pub(super) skew: Duration,
    /// Whether a crash closes sockets, so that the others notice at once.
    pub(super) crash_is_noticed: bool,
}

/// What the network does to a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetworkConditions {
    pub(super) latency: (u64, u64),
    /// In a thousand.
    pub(super) lost: u32,
    pub(super) repeated: u32,
    /// How many are late, and by how much at most.
    pub(super) late: u32,
    pub(super) lateness: u64,
}

/// What happens to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// Nothing.
    None,
    /// Crashes, restarts, joins and orderly leaving.
    Crashes,
    /// The same, and links that break and come back.
    Links,
    /// The same, and nodes that are stopped for a while.
    Pauses,
    /// The same as crashes, and the cluster falls into two parts.
    Partitions,
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let faults = match seed % 5 {
            0 => FaultKind::None,
            1 => FaultKind::Crashes,
            2 => FaultKind::Links,
            3 => FaultKind::Pauses,
            _ => FaultKind::Partitions,
        };
        let rough = rng.random_bool(0.5);
        let slow = rng.random_range(300..5_000);
        let network = NetworkConditions {
            latency: (100, slow),
            lost: if rough { rng.random_range(0..30) } else { 0 },
            repeated: if rough { rng.random_range(0..50) } else { 0 },
            late: if rough { rng.random_range(0..400) } else { 0 },
            lateness: 300_000,
        };
        Self {
            seed,
            nodes: rng.random_range(2..=8),
            copies: match seed / 5 % 3 {
                0 => Copies::All,
                1 => Copies::Count(NonZeroU8::new(2).expect("not zero")),
                _ => Copies::Count(NonZeroU8::new(3).expect("not zero")),
            },
            rules: Rules::ALL,
            network,
            faults,
            quiet_period: (200_000, rng.random_range(2_000_000..8_000_000)),
            duration: 40_000_000,
            skew: Duration::from_secs(rng.random_range(0..3) * 86_400 * 10),
            crash_is_noticed: rng.random_bool(0.7),
        }
    }
}
