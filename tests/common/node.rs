//! Nodes: playground processes that do not outlive their test.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::ports::reserve;
use super::{Browser, PATIENCE, eventually, first_port, redis};

/// The configuration of a node to start.
#[derive(Clone, Default)]
pub(crate) struct Start {
    args: Vec<String>,
    clock: Option<String>,
    log: Option<String>,
    environment: Vec<(String, String)>,
    namespace: Option<(String, String)>,
}

/// A running playground. Dropping it kills the process.
pub(crate) struct Node {
    child: Child,
    start: Start,
    /// The address on which it serves HTTP.
    pub(crate) http: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Start {
    /// A node whose sessions live in its own memory.
    pub(crate) fn memory(route: &str) -> Self {
        Self::default().args(&["--store", "memory", "--route", route])
    }

    /// A node that keeps its sessions in a file while it is down.
    pub(crate) fn file(route: &str, file: &Path) -> Self {
        let file = file.to_str().expect("paths of tests are text");
        Self::default().args(&["--store", "file", "--file", file, "--route", route])
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Replaces a flag's value.
    pub(crate) fn with(self, flag: &str, value: &str) -> Self {
        self.without(flag).args(&[flag, value])
    }

    /// Removes a flag and its value.
    pub(crate) fn without(mut self, flag: &str) -> Self {
        let at = self.args.iter().position(|arg| arg == flag);
        let at = at.expect("the flag is there");
        self.args.drain(at..at + 2);
        self
    }

    /// A flag's value, if it is given.
    pub(crate) fn value(&self, flag: &str) -> Option<&str> {
        let at = self.args.iter().position(|arg| arg == flag)?;
        self.args.get(at + 1).map(String::as_str)
    }

    /// Runs the process with a shifted wall clock, in the syntax of `faketime`: `+5m`.
    pub(crate) fn clock(mut self, shift: &str) -> Self {
        self.clock = Some(shift.to_owned());
        self
    }

    /// Runs the process in a network namespace, where it serves HTTP at this address.
    pub(crate) fn inside(mut self, namespace: &str, ip: &str) -> Self {
        self.namespace = Some((namespace.to_owned(), ip.to_owned()));
        self
    }

    /// Sets an environment variable of the process.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the log filter, in the syntax of `RUST_LOG`.
    pub(crate) fn log(mut self, filter: &str) -> Self {
        self.log = Some(filter.to_owned());
        self
    }

    /// Starts the process and waits until it accepts connections.
    pub(crate) fn start(&self) -> Node {
        Node::start(self.clone())
    }

    /// Starts the process and waits until it is ready.
    pub(crate) fn ready(&self) -> Node {
        let node = self.start();
        node.wait_ready();
        node
    }

    /// Runs the process to its end, for starts that must fail. Returns its exit status and its
    /// stderr.
    pub(crate) fn refused(&self) -> (ExitStatus, String) {
        let mut child = self.command().spawn().expect("the playground starts");
        let mut status = None;
        eventually("the start ends", || {
            status = child.try_wait().expect("a child can be asked");
            status.is_some()
        });
        let mut message = String::new();
        let stderr = child.stderr.as_mut().expect("stderr is piped");
        stderr.read_to_string(&mut message).expect("stderr is text");
        (status.expect("it has ended"), message)
    }

    fn command(&self) -> Command {
        let (mut command, ip) = match &self.namespace {
            Some((namespace, ip)) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(playground());
                (command, &**ip)
            }
            None => (Command::new(playground()), "127.0.0.1"),
        };
        command
            .args(["--listen", &format!("{ip}:0")])
            .args(&self.args)
            .env("RUST_LOG", self.log.as_deref().unwrap_or("info"))
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(shift) = &self.clock {
            // Only the wall clock: the monotonic clocks of real machines do not differ.
            command
                .env("LD_PRELOAD", libfaketime())
                .env("FAKETIME", shift)
                .env("DONT_FAKE_MONOTONIC", "1");
        }
        command
    }
}

impl Node {
    fn start(start: Start) -> Self {
        let mut child = start.command().spawn().expect("the playground starts");
        let log = Arc::new(Mutex::new(String::new()));
        keep(child.stderr.take().expect("stderr is piped"), log.clone());
        let (sender, listening) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("listening on http://") {
                    let _ = sender.send(address.parse::<SocketAddr>());
                }
            }
        });
        let mut node = Self {
            child,
            start,
            http: ([127, 0, 0, 1], 0).into(),
            log,
        };
        node.http = match listening.recv_timeout(PATIENCE) {
            Ok(address) => address.expect("it prints an address"),
            Err(_) => panic!("the node does not listen; its log:\n{}", node.log()),
        };
        node
    }

    /// Everything that the process has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no reader panics").clone()
    }

    /// Waits until the process has logged this text: a line takes some time to arrive.
    pub(crate) fn wait_log(&self, words: &str) {
        let what = format!("{self:?} logs: {words}");
        eventually(&what, || self.log().contains(words));
    }

    pub(crate) fn is_ready(&self) -> bool {
        let health = Browser::new().try_get(self, "/health");
        health.is_ok_and(|reply| reply.status == 200)
    }

    pub(crate) fn wait_ready(&self) {
        eventually(&format!("{self:?} is ready"), || self.is_ready());
    }

    /// The reply of `/cluster`.
    pub(crate) fn cluster(&self) -> Value {
        Browser::new().ok(self, "/cluster")
    }

    /// Returns `true` if the node lists all of these nodes as members that serve.
    pub(crate) fn sees(&self, nodes: &[&Self]) -> bool {
        let cluster = self.cluster();
        let members = cluster["members"].as_array().expect("an array");
        let is_ready = |node: &Self| {
            let mut members = members.iter();
            members.any(|member| member["route"] == node.route() && member["state"] == "ready")
        };
        nodes.iter().all(|node| is_ready(node))
    }

    /// The route that the node was started with.
    pub(crate) fn route(&self) -> &str {
        self.start.value("--route").unwrap_or_default()
    }

    /// The number of members that serve sessions in the node's view, including itself.
    pub(crate) fn members(&self) -> usize {
        let cluster = self.cluster();
        let members = cluster["members"].as_array().expect("an array");
        members
            .iter()
            .filter(|member| member["state"] == "ready")
            .count()
    }

    /// Live sessions on this node, or on the server where it keeps them.
    pub(crate) fn sessions(&self) -> u64 {
        if let Some(url) = self.start.value("--redis-url") {
            return redis::sessions(url);
        }
        self.cluster()["sessions"].as_u64().expect("a number")
    }

    /// The number of nodes that keep a session, if it is configured.
    pub(crate) fn copies(&self) -> Option<u64> {
        self.start.value("--copies")?.parse().ok()
    }

    /// `kill -9`; the process has ended when this returns.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Asks the process to end, and waits for its orderly end.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        let status = self.wait_end();
        assert!(status.success(), "{status}; its log:\n{}", self.log());
    }

    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().expect("a child can be asked");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Sends `TERM`, `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid())
            .status();
        assert!(sent.expect("there is a `kill` command").success());
        if name == "STOP" {
            // The first thread that receives the signal stops the other ones; until it has run, on
            // a busy machine, they go on.
            eventually(&format!("{self:?} stands still"), || self.stands_still());
        }
    }

    /// Returns `true` if all threads of the process are stopped (proc(5), `stat`).
    fn stands_still(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid())) else {
            return false;
        };
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
            state.is_none_or(|state| state.starts_with('T'))
        })
    }

    /// Starts the same node again; the old process must have ended.
    pub(crate) fn restart(&mut self) {
        *self = self.start.start();
    }

    /// The processor time that it has used, to a hundredth of a second.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let stat = stat.expect("a process has a state");
        // The name, in brackets, may contain any characters; the 12th and 13th field after it count
        // ticks.
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum();
        Duration::from_millis(10 * ticks)
    }

    /// A size from the process's status, in KiB: `VmRSS` is the resident memory, `VmHWM` its peak.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("a process has a status");
        let size = status
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| *name == field)
            .expect("the field exists")
            .1;
        let size = size.trim().trim_end_matches(" kB");
        size.parse().expect("a number")
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of {self:?}\n{}", self.log());
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.http, self.start.args.join(" "))
    }
}

/// Collects what a process writes until it ends.
fn keep(from: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = into.lock().expect("no reader panics");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// A cluster of nodes `node1`, `node2`, … that are all ready and connected.
pub(crate) fn cluster<const N: usize>(args: &[&str]) -> [Node; N] {
    let nodes = cluster_starts::<N>(args).map(|start| start.start());
    meet(&nodes.each_ref());
    nodes
}

/// The configurations of the nodes of a cluster.
pub(crate) fn cluster_starts<const N: usize>(args: &[&str]) -> [Start; N] {
    let ports = [(); N].map(|()| free_port());
    let name = format!("test{}", ports[0]);
    let mut number = 0;
    ports.map(|port| {
        number += 1;
        let (route, listen) = (format!("node{number}"), format!("127.0.0.1:{port}"));
        let mut start = Start::default()
            .args(&[
                "--store",
                "replicated",
                "--route",
                &route,
                "--cluster-listen",
                &listen,
            ])
            .args(&["--cluster-name", &name])
            .args(args);
        for peer in ports.iter().filter(|&&peer| peer != port) {
            start = start.args(&["--peer", &format!("127.0.0.1:{peer}")]);
        }
        start
    })
}

/// Waits until these nodes are ready and list exactly each other as members.
pub(crate) fn meet(nodes: &[&Node]) {
    for node in nodes {
        eventually(
            &format!("{node:?} is ready and sees {} nodes", nodes.len()),
            || node.is_ready() && node.members() == nodes.len(),
        );
    }
}

/// A free port outside the range from which the system takes the ports of outgoing connections.
/// Every call returns another one.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = first_port(&PORTS, PORTS_PER_PROCESS);
    loop {
        let offset = start + usize::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (offset % PORTS.len()) as u16;
        if reserve(port) {
            return port;
        }
    }
}

/// The node that cargo has built beside this test.
fn playground() -> PathBuf {
    example("playground")
}

/// An example that cargo has built beside this test.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("tests lie in target/<profile>/deps");
    let example = profile.join("examples").join(name);
    let built = modified(&example);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let newest = [root.join("src"), root.join("examples").join(name)]
        .iter()
        .map(|d| newest(d))
        .max();
    assert!(
        built.is_some() && built >= newest.flatten(),
        "{} is missing or older than its sources; build it:\n    \
         cargo build --all-features --example {name}",
        example.display(),
    );
    example
}

/// The time of the last change to a folder's newest file.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = folder
        .read_dir()
        .expect("sources can be listed")
        .map_while(Result::ok);
    let newest = entries.map(|entry| match entry.path() {
        path if path.is_dir() => newest(&path),
        // Pictures of the documentation, which no build depends on.
        path if path.extension().is_some_and(|extension| extension == "svg") => None,
        path => modified(&path),
    });
    newest.max().flatten()
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|file| file.modified()).ok()
}

/// The library that shifts a process's clock, from the Debian package `faketime`.
fn libfaketime() -> PathBuf {
    let mut folders = Path::new("/usr/lib")
        .read_dir()
        .expect("there is a /usr/lib");
    let in_folder = |entry: std::io::Result<fs::DirEntry>| {
        let library = entry.ok()?.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then_some(library)
    };
    folders
        .find_map(in_folder)
        .expect("libfaketime is needed: apt-get install faketime")
}

const PORTS: std::ops::Range<u16> = 20_000..32_000;
const PORTS_PER_PROCESS: usize = 40;
