//! The application on three nodes, each a process of its own, over TCP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node. Dropping it kills the process, as `kill -9` does.
struct Node {
    child: Child,
    cluster: String,
    http: SocketAddr,
}

impl Node {
    fn start(name: &str, peers: &[&Self]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_axum_login_node"))
            .arg(name)
            .args(peers.iter().map(|peer| &*peer.cluster))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = |what: &str| {
            let line = lines.next().unwrap().unwrap();
            line.strip_prefix(what).unwrap().to_owned()
        };
        let (cluster, http) = (line("cluster "), line("http "));
        Self {
            child,
            cluster,
            http: http.parse().unwrap(),
        }
    }

    /// Waits until the node sees this many members that are ready.
    fn wait_for(&self, members: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = Browser::default().get(self, "/health");
            if health.status == 200 && health.body == members.to_string() {
                return;
            }
            assert!(Instant::now() < deadline, "{members} members: {health:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the process: nothing of it runs any more when this returns.
    fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert!(!status.success() && status.code().is_none(), "{status}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    location: Option<String>,
    body: String,
}

/// A browser with at most one cookie, which goes with every request to any node.
#[derive(Clone, Default)]
struct Browser {
    cookie: Option<String>,
}

impl Browser {
    fn get(&mut self, node: &Node, path: &str) -> Reply {
        self.send(node, "GET", path, "")
    }

    fn post(&mut self, node: &Node, path: &str, form: &str) -> Reply {
        self.send(node, "POST", path, form)
    }

    fn send(&mut self, node: &Node, method: &str, path: &str, form: &str) -> Reply {
        let mut stream = TcpStream::connect(node.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let cookie = self.cookie.as_ref();
        let cookie = cookie.map_or_else(String::new, |it| format!("Cookie: {it}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{cookie}\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let headers = || head.lines().filter_map(|line| line.split_once(": "));
        let header = |wanted: &str| headers().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if let Some((_, line)) = header("set-cookie") {
            let pair = line.split(';').next().unwrap();
            self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
        }
        Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            location: header("location").map(|(_, to)| to.to_owned()),
            body: body.to_owned(),
        }
    }
}

fn cluster() -> [Node; 3] {
    let one = Node::start("one", &[]);
    one.wait_for(1);
    let two = Node::start("two", &[&one]);
    let three = Node::start("three", &[&one, &two]);
    for node in [&one, &two, &three] {
        node.wait_for(3);
    }
    [one, two, three]
}

/// One node serves the login and is killed at once; the next one goes on with the session and its
/// messages, and ends it; the third one has it no more.
#[test]
fn a_login_survives_the_kill_of_its_node_and_a_logout_is_final() {
    let [one, two, three] = cluster();
    let mut browser = Browser::default();
    let reply = browser.get(&one, "/");
    assert_eq!(reply.status, 307);
    assert_eq!(reply.location.as_deref(), Some("/login?next=%2F"));
    let reply = browser.post(&one, "/login", "name=ada&password=wrong");
    assert_eq!(
        (reply.status, reply.location.as_deref()),
        (303, Some("/login"))
    );
    assert_eq!(
        browser.get(&two, "/login").body,
        "login: wrong name or password"
    );
    let planted = browser.clone();
    let reply = browser.post(&one, "/login", "name=ada&password=engine");
    assert_eq!((reply.status, reply.location.as_deref()), (303, Some("/")));
    assert_ne!(browser.cookie, planted.cookie);
    one.kill();

    assert_eq!(browser.get(&two, "/").body, "ada: welcome, ada");
    assert_eq!(browser.get(&three, "/").body, "ada: ");
    for n in 1..=10_u32 {
        let (node, name) = [(&two, "two"), (&three, "three")][n as usize % 2];
        assert_eq!(browser.get(node, "/count").body, format!("{name} {n}"));
    }
    // The id from before the login was worth nothing after it, and still is not.
    assert_eq!(planted.clone().get(&three, "/").status, 307);

    let thief = browser.clone();
    let reply = browser.post(&two, "/logout", "");
    assert_eq!(
        (reply.status, reply.location.as_deref()),
        (303, Some("/login"))
    );
    for node in [&three, &two] {
        for mut who in [browser.clone(), thief.clone()] {
            let reply = who.get(node, "/");
            assert_eq!(reply.status, 307, "{reply:?}");
        }
    }
    // Nor does it come back with the node, which has nothing of it.
    let again = Node::start("one", &[&two, &three]);
    again.wait_for(3);
    assert_eq!(thief.clone().get(&again, "/count").status, 307);

    // Nor is anything lost when the other two go, one after the other.
    browser.post(&again, "/login", "name=ada&password=engine");
    assert_eq!(browser.get(&three, "/count").body, "three 1");
    two.kill();
    assert_eq!(browser.get(&three, "/count").body, "three 2");
    again.wait_for(2);
    three.wait_for(2);
    three.kill();
    assert_eq!(browser.get(&again, "/count").body, "one 3");
}
