//! One application behind one balancer with one fault.

use std::fmt;
use std::fs;
use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use crate::Failure;
use crate::args::Args;
use crate::balancer::Balancer;
use crate::fault::Fault;
use crate::load::{Counts, Load};
use crate::nodes::{App, Nodes};
use crate::timeline::{Mark, Marks, Phase, Point, Timeline, now_ms};

#[derive(Serialize, Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) app: App,
    pub(crate) balancer: Balancer,
    pub(crate) fault: Fault,
}

/// The result of a case.
#[derive(Serialize, Debug)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    pub(crate) case: Case,
    pub(crate) sticky: bool,
    pub(crate) counts: Counts,
    pub(crate) before: Phase,
    pub(crate) during: Phase,
    pub(crate) after: Phase,
    /// The promises that were not kept, in words.
    pub(crate) broken: Vec<String>,
    marks: Vec<Mark>,
    timeline: Vec<Point>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            app,
            balancer,
            fault,
        } = self;
        write!(f, "{app} behind {balancer}: {fault}")
    }
}

impl Case {
    /// The name of its folder.
    fn folder(self) -> String {
        let name = |value: &dyn fmt::Debug| format!("{value:?}").to_lowercase();
        format!(
            "{}-{}-{}",
            name(&self.app),
            name(&self.balancer),
            name(&self.fault)
        )
    }

    pub(crate) async fn run(self, args: &Args) -> Result<Outcome, Failure> {
        let folder = args.folder.join(self.folder());
        // The results of an earlier run would be read as this one's.
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let mut nodes = Nodes::start(self, args, &folder).await?;
        let mut balancer = self.balancer.start(&nodes.http(), &folder).await?;
        let seconds = self.seconds(args);
        eprintln!(
            "      {} nodes are ready: at least {seconds} s of load",
            nodes.len()
        );
        let mut load = Load::start(args, &balancer.addresses, seconds, &folder)?;
        let mut marks = Marks::default();
        self.wait_for_load(&mut load).await?;
        sleep(BEFORE).await;
        load.still_runs()?;
        self.fault.happen(seconds, &mut nodes, &mut marks).await?;
        let settled = marks.last_ms().unwrap_or_else(now_ms) + SETTLE_MS;
        let (counts, timeline) = load.finish(settled).await?;
        nodes.still_run()?;
        balancer.stop().await?;
        Ok(self.judge(args, counts, &timeline, &marks))
    }

    /// Waits until the users have begun.
    async fn wait_for_load(self, load: &mut Load) -> Result<(), Failure> {
        while load.console().is_empty() {
            load.still_runs()?;
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn judge(self, args: &Args, counts: Counts, timeline: &Timeline, marks: &Marks) -> Outcome {
        let (start, end) = (timeline.start_ms(), timeline.end_ms());
        let begins = marks.first_ms().unwrap_or(end);
        let over = (marks.last_ms().unwrap_or(end) + SETTLE_MS).min(end);
        let mut broken = vec![];
        let mut hold = |kept: bool, words: String| {
            if !kept {
                broken.push(words);
            }
        };
        let none = |number: u64, what: &str| (number == 0, format!("{number} {what}"));
        let splits = self.fault.splits();
        let (increment, words) = none(counts.lost_increments, "lost increments");
        hold(increment || splits, words);
        for (kept, words) in [
            none(counts.lost_sessions, "lost sessions"),
            none(counts.doubled_increments, "doubled increments"),
            none(counts.foreign_data, "replies with foreign data"),
            none(counts.users_cut_off, "users were cut off"),
        ] {
            hold(kept, words);
        }
        hold(
            counts.acknowledged_increments > 0,
            "nothing was acknowledged".to_owned(),
        );
        let (reads, writes) = self.failures_max(args);
        let (failed_reads, failed_writes) = (counts.failed_reads, counts.failed_writes);
        hold(
            failed_reads <= reads,
            format!("{failed_reads} failed reads, more than {reads}"),
        );
        hold(
            failed_writes <= writes,
            format!("{failed_writes} failed writes, more than {writes}"),
        );
        if let Some(max) = args.stall_max {
            let stall = counts.longest_stall_ms;
            hold(
                stall <= max,
                format!("a stall of {stall} ms, more than {max} ms"),
            );
        }
        Outcome {
            case: self,
            sticky: self.balancer.is_sticky(),
            before: timeline.phase(start + WARM_UP_MS, begins),
            during: timeline.phase(begins, over),
            after: timeline.phase(over, end),
            marks: marks.since(start),
            timeline: timeline.points(),
            counts,
            broken,
        }
    }

    /// How many reads and writes may fail. When a node ends in order, none. When it crashes or
    /// hangs, a read may fail if the balancer does not repeat it at another node, and so may a
    /// write in progress: every user has one request in progress, and a few balancers need a second
    /// failure to detect it.
    fn failures_max(self, args: &Args) -> (u64, u64) {
        let failures =
            2 * u64::from(args.clients) * u64::from(self.fault.times(self.seconds(args)));
        match self.fault {
            fault if fault.is_orderly() => (0, 0),
            fault if fault.splits() => (u64::MAX, u64::MAX),
            _ if self.balancer.repeats_reads() => (0, failures),
            _ => (failures, failures),
        }
    }

    /// The duration of the load, in seconds: it lasts longer if the fault does.
    fn seconds(self, args: &Args) -> u32 {
        args.seconds.unwrap_or_else(|| self.fault.seconds())
    }

    /// Returns `true` if the case has a meaning. In a partition both sides continue: a user who is
    /// sent to both sees either. The links of Tomcats and of Redis do not go through the lab.
    pub(crate) fn makes_sense(self, args: &Args) -> bool {
        let promised = self.balancer.is_sticky()
            && self.app == App::Distributable
            && args.store == "replicated";
        // Without a balancer, users are not sent away from a node that is about to end.
        let sent_away = self.balancer != Balancer::None || !self.fault.is_orderly();
        (self.fault != Fault::Partition || promised) && sent_away
    }
}

impl Outcome {
    pub(crate) fn kept(&self) -> bool {
        self.broken.is_empty()
    }

    /// One line about it.
    pub(crate) fn verdict(&self) -> String {
        let Counts {
            requests,
            longest_stall_ms,
            ..
        } = self.counts;
        let failed = self.counts.failed();
        let judged = if self.kept() {
            "kept".to_owned()
        } else {
            format!("BROKEN: {}", self.broken.join(", "))
        };
        format!(
            "{requests} requests, {failed} failed, longest stall {longest_stall_ms} ms; {judged}"
        )
    }
}

/// The time before the fault.
const BEFORE: Duration = Duration::from_secs(3);

/// How long after its last mark a fault may show.
const SETTLE_MS: u64 = 3000;

/// The simultaneous logins of all users at the start are not representative of the time before a
/// fault.
const WARM_UP_MS: u64 = 1000;
