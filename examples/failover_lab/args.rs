//! The flags, and the cases that they ask for.

use std::path::PathBuf;

use clap::Parser;

use crate::balancer::Balancer;
use crate::case::Case;
use crate::fault::Fault;
use crate::nodes::App;

/// Kills, restarts, pauses and drains nodes behind real balancers while k6 counts what is lost.
#[derive(Parser, Debug)]
#[command(name = "failover_lab")]
pub(crate) struct Args {
    /// Which balancers stand in front of the nodes
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "nginx,haproxy,apache"
    )]
    pub(crate) balancer: Vec<Balancer>,
    /// The faults of the nodes
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kill")]
    pub(crate) fault: Vec<Fault>,
    /// Number of nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub(crate) nodes: u8,
    /// The node that a fault of one node happens to [default: the last]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=3))]
    pub(crate) victim: Option<u8>,
    /// Number of users
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) clients: u32,
    /// How long a user pauses between two clicks, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50)]
    pub(crate) pause: u32,
    /// How long the load of each case lasts [default: 12 to 20, by its fault]; it goes on until the
    /// fault is over
    #[arg(long, value_name = "SECS")]
    pub(crate) seconds: Option<u32>,
    /// The longest that a user may wait for an answer for the promises to be kept, in milliseconds
    #[arg(long, value_name = "MS")]
    pub(crate) stall_max: Option<u64>,

    /// Where the nodes keep sessions: `replicated` or `redis`
    #[arg(long, default_value = "replicated")]
    pub(crate) store: String,
    /// On how many nodes a session lives, where the nodes keep them: `all` or a number
    #[arg(long, default_value = "2")]
    pub(crate) copies: String,
    /// A further argument for every node, as in --node-arg=--ack=local; may be given several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) node_arg: Vec<String>,
    /// The same with Apache Tomcat 10: DeltaManager, synchronous and not, and BackupManager
    #[arg(long)]
    pub(crate) tomcat: bool,
    /// Only Tomcat
    #[arg(long, requires = "tomcat")]
    pub(crate) only_tomcat: bool,

    /// The folder for the results and all other files of the lab
    #[arg(long, value_name = "PATH", default_value = "target/failover_lab")]
    pub(crate) folder: PathBuf,
}

impl Args {
    /// Every application behind every balancer with every fault; cases without a meaning are left
    /// out, and listed.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let mut apps = vec![];
        if !self.only_tomcat {
            apps.push(App::Distributable);
        }
        if self.tomcat {
            apps.extend([
                App::TomcatDeltaSync,
                App::TomcatDeltaAsync,
                App::TomcatBackup,
            ]);
        }
        let mut cases = vec![];
        for &fault in &self.fault {
            for &app in &apps {
                for &balancer in &self.balancer {
                    let case = Case {
                        app,
                        balancer,
                        fault,
                    };
                    if case.makes_sense(self) {
                        cases.push(case);
                    } else {
                        eprintln!("left out, as nothing is promised: {case}");
                    }
                }
            }
        }
        cases
    }

    /// The index of the node to which the fault happens.
    pub(crate) fn victim(&self) -> usize {
        usize::from(self.victim.unwrap_or(self.nodes).min(self.nodes)) - 1
    }

    pub(crate) fn json(&self) -> PathBuf {
        self.folder.join("report.json")
    }

    pub(crate) fn page(&self) -> PathBuf {
        self.folder.join("report.html")
    }
}
