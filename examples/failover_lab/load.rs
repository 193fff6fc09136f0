//! The users: k6 and `benches/k6/failover.js`.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::sleep;

use crate::args::Args;
use crate::process::Process;
use crate::timeline::{SLICE_MS, Timeline, now_ms};
use crate::{Failure, programs};

/// A running load.
#[derive(Debug)]
pub(crate) struct Load {
    k6: Process,
    console: PathBuf,
    summary: PathBuf,
    users: usize,
    seconds: u32,
}

/// The counts of all users.
#[derive(Serialize, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) failed_reads: u64,
    pub(crate) failed_writes: u64,
    pub(crate) acknowledged_increments: u64,
    pub(crate) lost_sessions: u64,
    pub(crate) lost_increments: u64,
    pub(crate) doubled_increments: u64,
    pub(crate) foreign_data: u64,
    pub(crate) users_cut_off: u64,
    pub(crate) longest_stall_ms: u64,
}

impl Load {
    pub(crate) fn start(
        args: &Args,
        addresses: &[SocketAddr],
        seconds: u32,
        folder: &Path,
    ) -> Result<Self, Failure> {
        let folder = folder.canonicalize()?;
        let (console, summary) = (folder.join("k6.console"), folder.join("k6.json"));
        let script = folder.join("failover.js");
        fs::write(&script, SCRIPT)?;
        let urls: Vec<_> = addresses.iter().map(|at| format!("http://{at}")).collect();
        let mut command = Command::new(programs::k6().ok_or("k6 is not installed")?);
        command
            .args(["run", "--quiet", "--no-usage-report", "--no-color"])
            .args(["--address", "127.0.0.1:0", "--log-format", "raw"])
            .arg("--console-output")
            .arg(&console)
            .arg(&script)
            .env("NODES", urls.join(","))
            .env("VUS", args.clients.to_string())
            .env("PAUSE_MS", args.pause.to_string())
            .env("DURATION", format!("{}s", seconds + FAULT_SECONDS_MAX))
            .env("TIMEOUT", "15s")
            .env("SLICE_MS", SLICE_MS.to_string())
            .env("SUMMARY", &summary);
        Ok(Self {
            k6: Process::start("k6", command, &folder.join("k6.log"))?,
            console,
            summary,
            users: args.clients as usize,
            seconds,
        })
    }

    /// Fails if k6 has ended already.
    pub(crate) fn still_runs(&mut self) -> Result<(), Failure> {
        self.k6.still_runs()
    }

    /// How many requests have been answered so far.
    pub(crate) fn console(&self) -> String {
        fs::read_to_string(&self.console).unwrap_or_default()
    }

    /// Ends the load when it has lasted for its time and every user has answers from after
    /// `settled_ms`. The counts include k6's own evaluation of the promises.
    pub(crate) async fn finish(&mut self, settled_ms: u64) -> Result<(Counts, Timeline), Failure> {
        self.wait_for_users(settled_ms).await?;
        // What is in progress now began after the fault; k6 neither finishes nor counts it.
        self.k6.signal("INT").await?;
        let status = self.k6.ended(K6_ENDS_WITHIN).await?;
        if !matches!(status.code(), Some(INTERRUPTED | PROMISES_BROKEN)) {
            return Err(format!("k6 failed: {status}\n{}", self.k6.log_tail()).into());
        }
        let json = fs::read_to_string(&self.summary)
            .map_err(|_| format!("k6 has reported nothing:\n{}", self.k6.log_tail()))?;
        let summary: BTreeMap<String, Metric> = serde_json::from_str(&json)?;
        Ok((Counts::read(&summary), Timeline::read(&self.console())))
    }

    /// A user who is still without an answer at the end has the time to give up: k6 counts that.
    async fn wait_for_users(&mut self, settled_ms: u64) -> Result<(), Failure> {
        loop {
            self.still_runs()?;
            let timeline = Timeline::read(&self.console());
            let least = timeline.start_ms() + u64::from(self.seconds) * 1000;
            let end = least.max(settled_ms + AFTER_MS);
            let reported = timeline.users_after(end);
            if reported == self.users {
                return Ok(());
            }
            if now_ms() > end + USERS_REPORT_MS {
                let users = self.users;
                return Err(format!("{reported} of {users} users have come to the end").into());
            }
            sleep(POLL).await;
        }
    }
}

/// The fields of one of k6's metrics that are used.
#[derive(Deserialize, Default)]
struct Metric {
    #[serde(default)]
    count: f64,
    #[serde(default)]
    max: f64,
}

impl Counts {
    fn read(metrics: &BTreeMap<String, Metric>) -> Self {
        let count = |name: &str| metrics.get(name).map_or(0, |metric| metric.count as u64);
        let failed_reads = count("failed_reads");
        Self {
            requests: count("http_reqs"),
            failed_reads,
            failed_writes: count("failed_requests") - failed_reads,
            acknowledged_increments: count("acknowledged_increments"),
            lost_sessions: count("lost_sessions"),
            lost_increments: count("lost_increments"),
            doubled_increments: count("doubled_increments"),
            foreign_data: count("foreign_data"),
            users_cut_off: count("users_cut_off"),
            longest_stall_ms: metrics.get("stall_ms").map_or(0, |stall| stall.max as u64),
        }
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed_reads + self.failed_writes
    }
}

const SCRIPT: &str = include_str!("../../benches/k6/failover.js");

/// The exit status of k6 after one of its thresholds was crossed.
const PROMISES_BROKEN: i32 = 99;

/// The exit status of k6 after a signal, whether or not a threshold was crossed.
const INTERRUPTED: i32 = 105;

/// How long the load goes on after the fault has settled, until each user reports it.
const AFTER_MS: u64 = 1000;

/// How much longer than its time the load may last: more than all deadlines of the slowest fault.
const FAULT_SECONDS_MAX: u32 = 600;

/// How long users may take to report: they give up after thirty seconds, and one request more may
/// have been in progress.
const USERS_REPORT_MS: u64 = 60_000;

/// k6's own end, with its summary.
const K6_ENDS_WITHIN: Duration = Duration::from_secs(45);

const POLL: Duration = Duration::from_millis(100);
