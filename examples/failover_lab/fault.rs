//! The faults of nodes, and the promises during each.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Failure;
use crate::nodes::Nodes;
use crate::timeline::Marks;

#[derive(ValueEnum, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// One node is killed (`kill -9`) and stays down
    Kill,
    /// One node is killed (`kill -9`) and started again at once
    Restart,
    /// One node hangs (SIGSTOP) for five seconds and continues (SIGCONT)
    Pause,
    /// One node is asked to end (SIGTERM), transfers its sessions and ends
    Drain,
    /// Every node in turn is asked to end and started again
    Rolling,
    /// One node loses its links to the others for five seconds; users still reach all of them.
    /// Both sides continue, and agree afterward: increments may be lost, sessions may not
    Partition,
    /// For half an hour, or for --seconds, every 20 seconds one node is killed and started again,
    /// hangs, or is asked to end and started again: each of these to each node in turn
    Soak,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill -9",
            Self::Restart => "kill -9 and restart",
            Self::Pause => "pause",
            Self::Drain => "drain",
            Self::Rolling => "rolling restart",
            Self::Partition => "partition",
            Self::Soak => "soak",
        })
    }
}

impl Fault {
    /// The default duration of a case: the time before the fault, the fault, and the time after it.
    pub(crate) fn seconds(self) -> u32 {
        match self {
            Self::Kill | Self::Drain => 12,
            Self::Restart => 15,
            Self::Pause | Self::Partition => 18,
            Self::Rolling => 20,
            Self::Soak => 30 * 60,
        }
    }

    /// Returns `true` if a node has time to send its users away during this fault: then no request
    /// fails.
    pub(crate) fn is_orderly(self) -> bool {
        matches!(self, Self::Drain | Self::Rolling)
    }

    /// Returns `true` if the nodes have different views of the members for a time. They promise to
    /// agree afterward, not that all changes count that either side has acknowledged; and a node
    /// that was cut off answers 503 until it has joined again.
    pub(crate) fn splits(self) -> bool {
        matches!(self, Self::Partition)
    }

    /// How many times a node crashes, hangs or ends in a case of this many seconds: the last fault
    /// is over before the case ends.
    pub(crate) fn times(self, seconds: u32) -> u32 {
        match self {
            Self::Soak => (seconds / EVERY.as_secs() as u32).saturating_sub(1),
            _ => 1,
        }
    }

    /// Causes the fault, and notes the times. A soak ends in time for a load of this many seconds.
    pub(crate) async fn happen(
        self,
        seconds: u32,
        nodes: &mut Nodes,
        marks: &mut Marks,
    ) -> Result<(), Failure> {
        let victim = nodes.victim;
        let route = nodes.route(victim).to_owned();
        match self {
            Self::Kill => {
                marks.add(format!("kill -9 {route}"));
                nodes.kill(victim).await?;
            }
            Self::Restart => restart(nodes, victim, marks).await?,
            Self::Pause => pause(nodes, victim, marks).await?,
            Self::Drain => {
                marks.add(format!("SIGTERM {route}"));
                nodes.drain(victim).await?;
                marks.add(format!("{route} has ended"));
            }
            Self::Partition => {
                let network = nodes.network().ok_or("the links cannot be cut")?;
                marks.add(format!("{route} is cut off"));
                network.cut();
                sleep(PAUSE).await;
                // Otherwise the case would prove nothing.
                for number in 0..nodes.len() {
                    if nodes.members_of(number).await == Some(nodes.len()) {
                        return Err("the nodes have not detected that they were cut off".into());
                    }
                }
                network.heal();
                marks.add("the network is whole".to_owned());
                nodes.wait_whole().await?;
                nodes.wait_ready(victim).await?;
                marks.add("all nodes see each other".to_owned());
            }
            Self::Rolling => {
                for number in 0..nodes.len() {
                    replace(nodes, number, marks).await?;
                    sleep(BETWEEN_NODES).await;
                }
            }
            Self::Soak => {
                let begun = Instant::now();
                for round in 0..self.times(seconds) {
                    sleep_until(begun + EVERY * round).await;
                    let round = round as usize;
                    // The next fault of each kind happens to another node.
                    let victim = (round % 3 + round / 3) % nodes.len();
                    match round % 3 {
                        0 => restart(nodes, victim, marks).await?,
                        1 => pause(nodes, victim, marks).await?,
                        _ => replace(nodes, victim, marks).await?,
                    }
                    nodes.wait_whole().await?;
                }
            }
        }
        Ok(())
    }
}

async fn restart(nodes: &mut Nodes, number: usize, marks: &mut Marks) -> Result<(), Failure> {
    let route = nodes.route(number).to_owned();
    marks.add(format!("kill -9 {route}"));
    nodes.kill(number).await?;
    nodes.start_node(number)?;
    nodes.wait_ready(number).await?;
    marks.add(format!("{route} is ready"));
    Ok(())
}

async fn pause(nodes: &mut Nodes, number: usize, marks: &mut Marks) -> Result<(), Failure> {
    let route = nodes.route(number).to_owned();
    marks.add(format!("SIGSTOP {route}"));
    nodes.signal(number, "STOP").await?;
    sleep(PAUSE).await;
    marks.add(format!("SIGCONT {route}"));
    nodes.signal(number, "CONT").await?;
    nodes.wait_ready(number).await?;
    marks.add(format!("{route} is ready"));
    Ok(())
}

async fn replace(nodes: &mut Nodes, number: usize, marks: &mut Marks) -> Result<(), Failure> {
    let route = nodes.route(number).to_owned();
    marks.add(format!("SIGTERM {route}"));
    nodes.drain(number).await?;
    nodes.start_node(number)?;
    nodes.wait_ready(number).await?;
    marks.add(format!("{route} is ready"));
    Ok(())
}

/// The interval between faults in a soak.
const EVERY: Duration = Duration::from_secs(20);

/// Longer than the three seconds after which a node that hangs is removed from the cluster.
const PAUSE: Duration = Duration::from_secs(5);

/// Balancers with health checks need a moment to detect that it is back.
const BETWEEN_NODES: Duration = Duration::from_secs(1);
