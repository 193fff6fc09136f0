//! Network namespaces: a test runs in one of its own, and may add more for its nodes.

use std::any::type_name_of_val;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, id};
use std::thread;

use super::Start;

/// Returns `true` in a process that has a namespace of its own. Otherwise runs such a process with
/// this test, and checks its exit status.
pub(crate) fn is_isolated(test: impl Fn()) -> bool {
    let Some(status) = isolate(test) else {
        return true;
    };
    assert!(status.success(), "in a namespace of its own: {status}");
    false
}

/// Runs a process with this test that has a namespace of its own, and returns its exit status;
/// `None` in such a process.
pub(crate) fn isolate(test: impl Fn()) -> Option<ExitStatus> {
    if env::var_os(ISOLATED).is_some() {
        return None;
    }
    let path = type_name_of_val(&test);
    let (_, test) = path.split_once("::").expect("a test lies in its crate");
    let program = env::current_exe().expect("a test has a path");
    let status = isolated()
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(ISOLATED, "1")
        .status();
    Some(status.expect("it has worked before"))
}

/// A command that runs another one in a new namespace, in the first way that works here.
fn isolated() -> Command {
    let ways = [
        "unshare --net --mount --",
        "unshare --user --map-root-user --net --mount --",
        "sudo --non-interactive --preserve-env unshare --net --mount --",
    ];
    for way in ways {
        let tried = command(way).arg("true").output();
        if tried.is_ok_and(|output| output.status.success()) {
            return command(way);
        }
    }
    panic!("network namespaces need root, `sudo` or unprivileged user namespaces: {ways:?}");
}

/// Runs a command line, which must succeed.
pub(crate) fn run(line: &str) {
    let status = command(line).status();
    let status = status.unwrap_or_else(|error| panic!("{line}: {error}; apt-get install iproute2"));
    assert!(status.success(), "{line}: {status}");
}

fn command(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a command"));
    command.args(words);
    command
}

/// Prepares the test's namespace for adding others.
pub(crate) fn prepare() {
    run("mount -t tmpfs tmpfs /run");
    run("ip link set lo up");
}

/// Adds the namespace `node<i>`, which the test reaches at 10.1.i.2 over a link of its own.
pub(crate) fn add(i: usize) {
    run(&format!("ip netns add node{i}"));
    run(&format!("ip -n node{i} link set lo up"));
    run(&format!(
        "ip link add http{i} type veth peer name http netns node{i}"
    ));
    run(&format!("ip addr add 10.1.{i}.1/24 dev http{i}"));
    run(&format!("ip link set http{i} up"));
    run(&format!("ip -n node{i} addr add 10.1.{i}.2/24 dev http"));
    run(&format!("ip -n node{i} link set http up"));
}

/// A node in the namespace `node<i>`, which serves HTTP at 10.1.i.2, with this secret.
pub(crate) fn start(i: usize, secret: &Secret) -> Start {
    Start::default()
        .args(&["--store", "replicated", "--route", &format!("node{i}")])
        .args(&["--secret-file", secret.path()])
        .inside(&format!("node{i}"), &format!("10.1.{i}.2"))
}

/// A file with a secret.
pub(crate) struct Secret(PathBuf);

impl Secret {
    pub(crate) fn new() -> Self {
        let path = env::temp_dir().join(format!("secret-{}-{:?}", id(), thread::current().id()));
        let made = Command::new("openssl")
            .args(["rand", "-hex", "32"])
            .output();
        let made = made.expect("there is `openssl`: apt-get install openssl");
        fs::write(&path, made.stdout).expect("a file can be written");
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("paths of tests are text")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const ISOLATED: &str = "DISTRIBUTABLE_TEST_ISOLATED";
