//! The nodes behind the balancer: playgrounds, or Tomcats for comparison.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::sleep;

use crate::args::Args;
use crate::case::Case;
use crate::fault::Fault;
use crate::partition::Network;
use crate::process::Process;
use crate::{Failure, http, playground, ports, tomcat};

/// The application of the nodes, which determines the storage of sessions.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum App {
    Distributable,
    TomcatDeltaSync,
    TomcatDeltaAsync,
    TomcatBackup,
}

/// A cluster.
#[derive(Debug)]
pub(crate) struct Nodes {
    app: App,
    /// The nodes of this crate form a cluster.
    replicated: bool,
    nodes: Vec<Node>,
    /// Redis, if the nodes keep their sessions there.
    _redis: Option<Process>,
    network: Option<Network>,
    pub(crate) victim: usize,
}

/// One of its nodes; it may not be running.
#[derive(Debug)]
pub(crate) struct Node {
    route: String,
    http: SocketAddr,
    log: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    process: Option<Process>,
    /// The node is meant to run.
    wanted: bool,
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Distributable => "distributable",
            Self::TomcatDeltaSync => "Tomcat, delta, sync",
            Self::TomcatDeltaAsync => "Tomcat, delta, async",
            Self::TomcatBackup => "Tomcat, backup",
        })
    }
}

impl Node {
    /// A node that does not run yet.
    pub(crate) fn new(
        route: String,
        http: SocketAddr,
        program: PathBuf,
        arguments: Vec<String>,
        folder: &Path,
    ) -> Self {
        Self {
            log: folder.join(format!("{route}.log")),
            route,
            http,
            program,
            arguments,
            process: None,
            wanted: false,
        }
    }
}

impl Nodes {
    /// Starts all nodes and waits until every one is ready and sees the others.
    pub(crate) async fn start(case: Case, args: &Args, folder: &Path) -> Result<Self, Failure> {
        let app = case.app;
        let links: Vec<_> = (0..args.nodes).map(|_| ports::free()).collect();
        let (network, peers) = match case.fault {
            Fault::Partition => {
                let (network, relays) = Network::start(&links, args.victim()).await?;
                (Some(network), relays)
            }
            _ => (None, links.clone()),
        };
        let (redis, nodes) = match app {
            App::Distributable => playground::nodes(args, &links, &peers, folder)?,
            _ => (None, tomcat::nodes(app, &links, folder)?),
        };
        let mut nodes = Self {
            nodes,
            app,
            replicated: args.store == "replicated",
            _redis: redis,
            network,
            victim: args.victim(),
        };
        for number in 0..nodes.len() {
            nodes.start_node(number)?;
            if app != App::Distributable {
                // Tomcats that start at the same moment may wait a minute for each other.
                nodes.wait_ready(number).await?;
            }
        }
        for number in 0..nodes.len() {
            nodes.wait_ready(number).await?;
        }
        nodes.wait_whole().await?;
        Ok(nodes)
    }

    /// Waits until every node is connected to the others, if the nodes form a cluster.
    pub(crate) async fn wait_whole(&self) -> Result<(), Failure> {
        match self.app {
            App::Distributable if self.replicated => self.wait_met().await,
            App::Distributable => Ok(()),
            App::TomcatDeltaSync | App::TomcatDeltaAsync | App::TomcatBackup => {
                self.wait_met_by_log().await
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn http(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.http).collect()
    }

    pub(crate) fn route(&self, number: usize) -> &str {
        &self.nodes[number].route
    }

    /// The links between the nodes, if they can be cut.
    pub(crate) fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Starts a node that is not running.
    pub(crate) fn start_node(&mut self, number: usize) -> Result<(), Failure> {
        let node = &self.nodes[number];
        let mut command = Command::new(&node.program);
        command.args(&node.arguments).env("RUST_LOG", "info");
        let process = Process::start(&node.route, command, &node.log)?;
        if let (Some(network), Some(pid)) = (&self.network, process.pid())
            && number == self.victim
        {
            network.set_victim(pid);
        }
        self.nodes[number].process = Some(process);
        self.nodes[number].wanted = true;
        Ok(())
    }

    /// Fails if a node has ended that was not stopped.
    pub(crate) fn still_run(&mut self) -> Result<(), Failure> {
        for node in self.nodes.iter_mut().filter(|node| node.wanted) {
            let process = node.process.as_mut().ok_or("the node was never started")?;
            process.still_runs()?;
        }
        Ok(())
    }

    pub(crate) async fn wait_ready(&mut self, number: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let health = http::get(self.nodes[number].http, "/health").await;
            if health.is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            self.process(number)?.still_runs()?;
            if Instant::now() > deadline {
                let log = self.process(number)?.log_tail();
                let route = self.route(number);
                return Err(format!("{route} is not ready in {READY_WITHIN:?}\n{log}").into());
            }
            sleep(POLL).await;
        }
    }

    /// Waits until every node is connected to all others.
    async fn wait_met(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        for node in &self.nodes {
            while members(node.http).await != Some(self.nodes.len()) {
                if Instant::now() > deadline {
                    return Err(format!("{} does not see the other nodes", node.route).into());
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// The same for nodes that report it only in their logs.
    async fn wait_met_by_log(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        for node in &self.nodes {
            let met = || {
                let log = std::fs::read_to_string(&node.log).unwrap_or_default();
                log.matches("Replication member added").count() + 1 >= self.nodes.len()
            };
            while !met() {
                if Instant::now() > deadline {
                    return Err(format!("{} does not see the other nodes", node.route).into());
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    pub(crate) async fn kill(&mut self, number: usize) -> Result<(), Failure> {
        self.nodes[number].wanted = false;
        self.process(number)?.kill().await
    }

    /// Sends `STOP` or `CONT`.
    pub(crate) async fn signal(&mut self, number: usize, signal: &str) -> Result<(), Failure> {
        self.process(number)?.signal(signal).await
    }

    /// Asks a node to end in order and waits until it has. Fails if it has not: it crashed, or
    /// could not prove that its sessions are on other nodes.
    pub(crate) async fn drain(&mut self, number: usize) -> Result<(), Failure> {
        self.nodes[number].wanted = false;
        let proves = self.app == App::Distributable && self.replicated;
        let process = self.process(number)?;
        process.signal("TERM").await?;
        let status = process.ended(DRAINED_WITHIN).await?;
        let log = process.log_tail();
        // A virtual machine that was asked to end exits with 143.
        let in_order = self.app != App::Distributable || status.success();
        if !in_order || proves && !log.contains("sessions handed over") {
            let route = self.route(number);
            return Err(format!("{route} did not end in order: {status}\n{log}").into());
        }
        Ok(())
    }

    /// The number of serving members in a node's view.
    pub(crate) async fn members_of(&self, number: usize) -> Option<usize> {
        members(self.nodes[number].http).await
    }

    fn process(&mut self, number: usize) -> Result<&mut Process, Failure> {
        let process = self.nodes[number].process.as_mut();
        Ok(process.ok_or("the node was never started")?)
    }
}

/// The number of serving members in a node's view.
async fn members(node: SocketAddr) -> Option<usize> {
    let (_, body) = http::get(node, "/cluster").await.ok()?;
    let status: Value = serde_json::from_str(&body).ok()?;
    let members = status["members"].as_array()?.iter();
    Some(members.filter(|member| member["state"] == "ready").count())
}

const POLL: Duration = Duration::from_millis(20);

/// How long a node may take until it serves: generous, for machines under load.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long an orderly end may take.
const DRAINED_WITHIN: Duration = Duration::from_secs(30);
