//! The timeline of a run: k6's reports per slice of time, combined and divided into before, during
//! and after.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The results of all users, slice by slice.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    slices: BTreeMap<u64, Slice>,
    /// The end of the latest slice of each user.
    users: BTreeMap<u32, u64>,
}

/// The results of one slice: of one user in a line of k6's, of all of them here.
#[derive(Deserialize, Clone, Debug, Default)]
struct Slice {
    /// Whose line it is.
    user: u32,
    /// Its number since 1970.
    at: u64,
    failed: u64,
    /// The longest wait for a response of this slice, including repetitions.
    stall: u64,
    /// Answered requests by the node that has answered.
    nodes: BTreeMap<String, u64>,
    /// Responses by their latency, in steps of 5 %.
    steps: BTreeMap<i32, u64>,
}

/// Moments to be marked, in milliseconds since 1970.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(Vec<(u64, String)>);

/// A mark in the report.
#[derive(Serialize, Debug)]
pub(crate) struct Mark {
    at_ms: u64,
    text: String,
}

/// A part of a run.
#[derive(Serialize, Debug)]
pub(crate) struct Phase {
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) longest_stall_ms: u64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
}

/// A slice in the report.
#[derive(Serialize, Debug)]
pub(crate) struct Point {
    at_ms: u64,
    requests: u64,
    failed: u64,
    stall_ms: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    nodes: BTreeMap<String, u64>,
}

impl Timeline {
    /// Parses the console output of k6; other lines are for people.
    pub(crate) fn read(console: &str) -> Self {
        let mut timeline = Self::default();
        for slice in console
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
        {
            timeline.add(&slice);
        }
        timeline
    }

    fn add(&mut self, slice: &Slice) {
        self.slices.entry(slice.at).or_default().merge(slice);
        let end_ms = self.users.entry(slice.user).or_default();
        *end_ms = (*end_ms).max((slice.at + 1) * SLICE_MS);
    }

    /// When the first request was answered.
    pub(crate) fn start_ms(&self) -> u64 {
        self.slices.keys().next().map_or(0, |at| at * SLICE_MS)
    }

    pub(crate) fn end_ms(&self) -> u64 {
        self.slices
            .keys()
            .last()
            .map_or(0, |at| (at + 1) * SLICE_MS)
    }

    /// How many users have reported a response, or a failure, after this time.
    pub(crate) fn users_after(&self, ms: u64) -> usize {
        self.users.values().filter(|&&end_ms| end_ms > ms).count()
    }

    /// The sum of the slices of a part of the run.
    pub(crate) fn phase(&self, from_ms: u64, to_ms: u64) -> Phase {
        let mut sum = Slice::default();
        // A slice belongs to the part that begins in it: a fault shows at once.
        let from = from_ms / SLICE_MS;
        let slices = from..(to_ms / SLICE_MS).max(from);
        for (_, slice) in self.slices.range(slices) {
            sum.merge(slice);
        }
        let start = self.start_ms();
        Phase {
            from_ms: from_ms.saturating_sub(start),
            to_ms: to_ms.saturating_sub(start),
            requests: sum.requests(),
            failed: sum.failed,
            longest_stall_ms: sum.stall,
            p50_ms: sum.percentile(50),
            p99_ms: sum.percentile(99),
        }
    }

    /// Every slice from the first to the last, including those without a response.
    pub(crate) fn points(&self) -> Vec<Point> {
        let start = self.start_ms() / SLICE_MS;
        let end = self.end_ms() / SLICE_MS;
        let nothing = Slice::default();
        (start..end)
            .map(|at| {
                let slice = self.slices.get(&at).unwrap_or(&nothing);
                Point {
                    at_ms: (at - start) * SLICE_MS,
                    requests: slice.requests(),
                    failed: slice.failed,
                    stall_ms: slice.stall,
                    p50_ms: slice.percentile(50),
                    p99_ms: slice.percentile(99),
                    nodes: slice.nodes.clone(),
                }
            })
            .collect()
    }
}

impl Slice {
    fn merge(&mut self, other: &Self) {
        self.failed += other.failed;
        self.stall = self.stall.max(other.stall);
        for (node, requests) in &other.nodes {
            *self.nodes.entry(node.clone()).or_default() += requests;
        }
        for (step, requests) in &other.steps {
            *self.steps.entry(*step).or_default() += requests;
        }
    }

    fn requests(&self) -> u64 {
        self.steps.values().sum()
    }

    /// The latency that this percentage of the responses did not exceed, in milliseconds.
    fn percentile(&self, percent: u64) -> Option<f64> {
        let rank = (self.requests() * percent).div_ceil(100);
        let mut seen = 0;
        let step = self.steps.iter().find_map(|(step, requests)| {
            seen += requests;
            (seen >= rank).then_some(*step)
        })?;
        let ms = STEP.powi(step);
        Some((ms * 100.0).round() / 100.0)
    }
}

impl Marks {
    pub(crate) fn add(&mut self, text: String) {
        eprintln!("      {text}");
        self.0.push((now_ms(), text));
    }

    pub(crate) fn first_ms(&self) -> Option<u64> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(crate) fn last_ms(&self) -> Option<u64> {
        self.0.last().map(|(at, _)| *at)
    }

    /// The marks with their time since the start of the run.
    pub(crate) fn since(&self, start_ms: u64) -> Vec<Mark> {
        let mark = |(at, text): &(u64, String)| Mark {
            at_ms: at.saturating_sub(start_ms),
            text: text.clone(),
        };
        self.0.iter().map(mark).collect()
    }
}

/// Milliseconds since 1970, as k6 counts them.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or(Duration::ZERO).as_millis() as u64
}

/// The length of a slice: short enough to show a stall of some hundred milliseconds.
pub(crate) const SLICE_MS: u64 = 200;

/// As in the script.
const STEP: f64 = 1.05;
