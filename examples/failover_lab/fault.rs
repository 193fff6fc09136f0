//! What happens to the nodes, and what is promised when it does.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use tokio::time::sleep;

use crate::Failure;
use crate::nodes::Nodes;
use crate::timeline::Marks;

#[derive(ValueEnum, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// One node dies by `kill -9` and stays dead
    Kill,
    /// One node dies by `kill -9` and is started again at once
    Restart,
    /// One node hangs (SIGSTOP) for five seconds and goes on (SIGCONT)
    Pause,
    /// One node is asked to end (SIGTERM), hands over and ends
    Drain,
    /// Every node in turn is asked to end and started again
    Rolling,
    /// One node loses its links to the others for five seconds; users still reach all of them.
    /// Both sides go on, and agree afterwards: increments may be lost, sessions may not
    Partition,
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
        })
    }
}

impl Fault {
    /// How long a case lasts when nobody says otherwise: what was before, the fault, what is after.
    pub(crate) fn seconds(self) -> u32 {
        match self {
            Self::Kill | Self::Drain => 12,
            Self::Restart => 15,
            Self::Pause | Self::Partition => 18,
            Self::Rolling => 20,
        }
    }

    /// Whether a node that this happens to has time to send its users away: then no request fails.
    pub(crate) fn is_orderly(self) -> bool {
        matches!(self, Self::Drain | Self::Rolling)
    }

    /// Whether the nodes disagree for a time about who is there. They promise to agree afterwards,
    /// not that everything counts that either side has acknowledged; and a node that was cut off
    /// answers 503 until it has joined again.
    pub(crate) fn splits(self) -> bool {
        matches!(self, Self::Partition)
    }

    /// Does it to the nodes, and notes when.
    pub(crate) async fn happen(self, nodes: &mut Nodes, marks: &mut Marks) -> Result<(), Failure> {
        let victim = nodes.victim;
        let route = nodes.route(victim).to_owned();
        match self {
            Self::Kill => {
                marks.add(format!("kill -9 {route}"));
                nodes.kill(victim).await?;
            }
            Self::Restart => {
                marks.add(format!("kill -9 {route}"));
                nodes.kill(victim).await?;
                nodes.start_node(victim)?;
                nodes.wait_ready(victim).await?;
                marks.add(format!("{route} is ready"));
            }
            Self::Pause => {
                marks.add(format!("SIGSTOP {route}"));
                nodes.signal(victim, "STOP").await?;
                sleep(PAUSE).await;
                marks.add(format!("SIGCONT {route}"));
                nodes.signal(victim, "CONT").await?;
                nodes.wait_ready(victim).await?;
                marks.add(format!("{route} is ready"));
            }
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
                network.heal();
                marks.add("the network is whole".to_owned());
                nodes.wait_ready(victim).await?;
                marks.add(format!("{route} is ready"));
            }
            Self::Rolling => {
                for number in 0..nodes.len() {
                    let route = nodes.route(number).to_owned();
                    marks.add(format!("SIGTERM {route}"));
                    nodes.drain(number).await?;
                    nodes.start_node(number)?;
                    nodes.wait_ready(number).await?;
                    marks.add(format!("{route} is ready"));
                    sleep(BETWEEN_NODES).await;
                }
            }
        }
        Ok(())
    }
}

/// Longer than the three seconds after which a node that hangs is out of the cluster.
const PAUSE: Duration = Duration::from_secs(5);

/// Balancers that ask for a node's health need a moment to see that it is back.
const BETWEEN_NODES: Duration = Duration::from_secs(1);
