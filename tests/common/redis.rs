//! Redis servers that do not outlive their test.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Instant;

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};

use super::ports::reserve;
use super::{Node, PATIENCE, POLL, Scratch, Start, first_port};

/// A running server. Dropping it kills the process.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    /// In memory: sentinels and servers of clusters write a file with each change and wait for the
    /// disk, and a sentinel that has waited for two seconds replaces no primary for 30 more.
    folder: Scratch,
    args: Vec<String>,
    password: Option<String>,
}

impl Server {
    /// Starts an empty server and waits until it answers.
    pub(crate) fn start(args: &[&str]) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self::start_at(free_port(), Scratch::in_memory(), args, None)
    }

    /// As [`start`](Self::start), for a server that requires a password.
    pub(crate) fn start_with_password(password: &str) -> Self {
        let args = vec!["--requirepass".to_owned(), password.to_owned()];
        let folder = Scratch::in_memory();
        Self::start_at(free_port(), folder, args, Some(password.to_owned()))
    }

    /// A server with this configuration, which names the port.
    pub(crate) fn start_configured(port: u16, config: &str, args: &[&str]) -> Self {
        let folder = Scratch::in_memory();
        let file = write(&folder, "redis.conf", config);
        let args = args.iter().map(|&arg| arg.to_owned());
        let args = [file].into_iter().chain(args).collect();
        Self::start_at(port, folder, args, None)
    }

    fn start_at(port: u16, folder: Scratch, args: Vec<String>, password: Option<String>) -> Self {
        let mut server = Self {
            child: spawn(port, folder.path(), &args),
            port,
            folder,
            args,
            password,
        };
        server.wait();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The answer to a command, or the error, as `redis-cli` prints it: a list has a line an item.
    pub(crate) fn cli(&self, command: &[&str]) -> String {
        ask(self.port, self.password.as_deref(), command).unwrap_or_else(|error| error)
    }

    /// A command that must be answered with OK.
    pub(crate) fn ok(&self, command: &[&str]) {
        assert_eq!(self.cli(command), "OK", "{command:?}");
    }

    /// The configuration of node `number`, whose sessions are kept here. Its operations have the
    /// time that a machine under load may need.
    pub(crate) fn node(&self, number: usize) -> Start {
        let route = format!("node{number}");
        let args = [
            "--store",
            "redis",
            "--redis-url",
            &self.url(),
            "--redis-timeout",
            "15",
            "--route",
            &route,
        ];
        Start::default().args(&args)
    }

    /// Nodes `node1`, `node2`, … whose sessions are kept here.
    pub(crate) fn nodes<const N: usize>(&self, args: &[&str]) -> [Node; N] {
        let mut number = 0;
        [(); N].map(|()| {
            number += 1;
            self.node(number).args(args).ready()
        })
    }

    /// The number of commands that it has run so far, excluding this question.
    pub(crate) fn commands(&self) -> u64 {
        let stats = self.cli(&["INFO", "commandstats"]);
        let calls = stats.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            // Commands inside scripts, and those that do not concern a session, are excluded.
            let ours = matches!(
                name,
                "evalsha" | "eval" | "hgetall" | "script|load" | "unlink"
            );
            let count: u64 = rest.split(',').next()?.parse().ok()?;
            ours.then_some(count)
        });
        calls.sum()
    }

    /// Sends `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(sent.expect("there is a `kill` command").success());
    }

    /// `kill -9`; the process has ended when this returns.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Starts it again on the same port, without its data in memory.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, self.folder.path(), &self.args);
        self.wait();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.cli(&["PING"]) == "PONG" {
                return;
            }
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "redis-server does not answer; its log:\n{}",
                self.log()
            );
            thread::sleep(POLL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a file for a server. Returns its path.
pub(crate) fn write(folder: &Scratch, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("there is room for a file");
    path.to_str().expect("it is UTF-8").to_owned()
}

fn spawn(port: u16, folder: &Path, args: &[String]) -> Child {
    let mut command = Command::new(program());
    // A server with a configuration of its own, a sentinel, names it first.
    let (file, args) = match args.first() {
        Some(first) if !first.starts_with("--") => (Some(first), &args[1..]),
        _ => (None, args),
    };
    command.args(file);
    if file.is_none() {
        command.args(["--port", &port.to_string()]);
    }
    command
        .args(["--bind", "127.0.0.1"])
        .args(["--protected-mode", "no"])
        .arg("--dir")
        .arg(folder)
        .arg("--logfile")
        .arg(folder.join("log"));
    if file.is_none() {
        command.args(["--save", "", "--appendonly", "no"]);
    }
    let started = command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    started.expect(
        "redis-server is needed: apt-get install redis-server, or set DISTRIBUTABLE_REDIS_SERVER to \
         the path of one",
    )
}

/// Returns `true` if the servers of the tests support the commands of sharded channels, as Redis
/// from 7 and Valkey do.
pub(crate) fn has_sharded_channels() -> bool {
    let output = Command::new(program()).arg("--version").output();
    let output = output.expect("redis-server is needed: apt-get install redis-server");
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, version) = text.split_once("v=").expect("a version");
    let major = version.split('.').next().and_then(|it| it.parse().ok());
    major.is_some_and(|major: u32| major >= 7)
}

/// The server program of the tests: the system's, unless another one is configured.
fn program() -> OsString {
    env::var_os("DISTRIBUTABLE_REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
}

/// The answer to a command over a connection of its own, or the error, as text. The program
/// `redis-cli` would spend more time on its start than most tests on everything else.
fn ask(port: u16, password: Option<&str>, command: &[&str]) -> Result<String, String> {
    let address = ConnectionAddr::Tcp("127.0.0.1".to_owned(), port);
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    let text = |error: redis::RedisError| match error.code() {
        Some(code) => format!("{code} {}", error.detail().unwrap_or_default()),
        None => error.to_string(),
    };
    let info = address.into_connection_info().map_err(text)?;
    let client = redis::Client::open(info.set_redis_settings(settings)).map_err(text)?;
    // A server that stands still is an error as well.
    let connected = client.get_connection_with_timeout(PATIENCE);
    let mut connection = connected.map_err(text)?;
    let limited = connection.set_read_timeout(Some(PATIENCE));
    limited.map_err(text)?;
    let (name, arguments) = command.split_first().expect("a command has a name");
    let answer = redis::cmd(name).arg(arguments).query(&mut connection);
    Ok(printed(&answer.map_err(text)?).trim_end().to_owned())
}

fn printed(answer: &redis::Value) -> String {
    match answer {
        redis::Value::Nil => String::new(),
        redis::Value::Int(number) => number.to_string(),
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::SimpleString(text) => text.clone(),
        redis::Value::Okay => "OK".to_owned(),
        redis::Value::Array(items) => {
            let lines: Vec<_> = items.iter().map(printed).collect();
            lines.join("\n")
        }
        other => panic!("an unexpected answer: {other:?}"),
    }
}

/// The number of live sessions, excluding tombstones.
pub(crate) fn sessions(url: &str) -> u64 {
    const COUNT: &str = "local n = 0 \
        for _, key in ipairs(redis.call('KEYS', 'sess:*')) do \
          if redis.call('HSTRLEN', key, '') > 5 then n = n + 1 end \
        end \
        return n";
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    let port = port.expect("the URL ends with a port");
    let count = ask(port, None, &["EVAL", COUNT, "0"]);
    count.expect("it answers").parse().expect("a number")
}

/// A free port below those of outgoing connections, with room for a cluster's second port 10,000
/// above. Every call returns another one.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = first_port(&PORTS, PORTS_PER_PROCESS);
    loop {
        let offset = start + usize::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (offset % PORTS.len()) as u16;
        if reserve(port) && reserve(port + 10_000) {
            return port;
        }
    }
}

/// The other tests use neither these ports nor those 10,000 above.
const PORTS: std::ops::Range<u16> = 8_100..9_900;
const PORTS_PER_PROCESS: usize = 64;
