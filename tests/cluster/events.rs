//! What happens to sessions, as the probe streams it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::{Browser, Node, PATIENCE, Start, cluster, eventually};
use serde_json::{Value, json};

/// A client of `/events`.
struct Stream {
    stream: BufReader<TcpStream>,
    /// What has come of the next event.
    kind: String,
    line: String,
}

impl Stream {
    fn open(node: &Node, path: &str) -> Self {
        let mut stream = TcpStream::connect(node.http).expect("the node accepts");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket has a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", node.http)
            .expect("the node reads");
        let mut stream = Self {
            stream: BufReader::new(stream),
            kind: String::new(),
            line: String::new(),
        };
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(
                stream.stream.read_line(&mut head).expect("a head") > 0,
                "{head}"
            );
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        stream
    }

    /// The next event: its kind and its data. `None` at the end.
    fn try_next(&mut self) -> Option<(String, Value)> {
        self.read_event().expect("the stream goes on")
    }

    /// The same; what a wait that is too long has read is kept for the next.
    fn read_event(&mut self) -> io::Result<Option<(String, Value)>> {
        loop {
            if self.stream.read_line(&mut self.line)? == 0 {
                return Ok(None);
            }
            let line = std::mem::take(&mut self.line);
            if let Some(name) = line.strip_prefix("event: ") {
                self.kind = name.trim_end().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(data).expect("JSON");
                return Ok(Some((std::mem::take(&mut self.kind), data)));
            }
        }
    }

    /// The next event of a session.
    fn next_of(&mut self, key: &str) -> Value {
        self.next_that(|event| event["key"] == key)
    }

    /// Returns `true` if an event of a session comes soon.
    fn arrives(&mut self, key: &str) -> bool {
        let wait = |stream: &Self, time| {
            let set = stream.stream.get_ref().set_read_timeout(Some(time));
            set.expect("a socket has a timeout");
        };
        wait(self, Duration::from_millis(300));
        let mut arrived = false;
        while !arrived && let Ok(Some((_, data))) = self.read_event() {
            arrived = data["key"] == key;
        }
        wait(self, PATIENCE);
        arrived
    }

    fn next_that(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (kind, data) = self.try_next().expect("the stream goes on");
            assert_eq!(data["kind"], kind);
            assert!(data["at"].is_u64(), "{data}");
            if is_it(&data) {
                return data;
            }
        }
    }
}

fn key(browser: &mut Browser, node: &Node) -> String {
    let info = browser.ok(node, "/info");
    info["key"].as_str().expect("a session").to_owned()
}

#[track_caller]
fn expect(event: &Value, kind: &str, reason: Option<&str>, uid: Option<&str>, node: &str) {
    let found = [
        &event["kind"],
        &event["reason"],
        &event["uid"],
        &event["node"],
    ];
    assert_eq!(
        found,
        [&json!(kind), &json!(reason), &json!(uid), &json!(node)],
        "{event}"
    );
}

#[test]
fn one_node_streams_what_happens_with_the_reason() {
    let node = Start::memory("node1").args(&["--per-user", "2"]).ready();
    let mut events = Stream::open(&node, "/events?scope=node");
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    let anonymous = key(&mut browser, &node);
    let created = events.next_of(&anonymous);
    expect(&created, "created", None, None, "node1");
    browser.ok(&node, "/login?uid=ada");
    let rotated = events.next_of(&anonymous);
    expect(&rotated, "rotated", None, Some("ada"), "node1");
    browser.ok(&node, "/logout");
    let deleted = events.next_of(&anonymous);
    expect(&deleted, "deleted", Some("logout"), Some("ada"), "node1");

    let log_in = || {
        let mut browser = Browser::new();
        browser.ok(&node, "/login?uid=bob");
        key(&mut browser, &node)
    };
    let [one, two, three] = [(); 3].map(|()| log_in());
    Browser::new().ok(&node, &format!("/end?key={two}"));
    Browser::new().ok(&node, "/logout-user?uid=bob");
    for (key, reason) in [(&one, "limit"), (&two, "admin"), (&three, "user")] {
        let deleted = events.next_that(|event| event["key"] == **key && event["kind"] == "deleted");
        expect(&deleted, "deleted", Some(reason), Some("bob"), "node1");
    }

    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    let brief = key(&mut browser, &node);
    browser.ok(&node, "/ttl?s=1");
    let created = events.next_of(&brief);
    expect(&created, "created", None, None, "node1");
    let expired = events.next_of(&brief);
    expect(&expired, "expired", Some("idle"), None, "node1");

    let refused = Browser::new().get(&node, "/events?scope=world");
    assert_eq!(refused.status, 400);
}

#[test]
fn each_node_of_a_cluster_streams_what_happens_on_any_of_them() {
    let [one, two, mut three] = cluster::<3>(&["--copies", "2"]);
    let nodes = [&one, &two, &three];
    let mut streams = nodes.map(|node| Stream::open(node, "/events"));
    let mut here = Stream::open(&two, "/events?scope=node");
    for node in nodes {
        for stream in &mut streams {
            // A subscription takes a moment to reach the others.
            eventually("events are received", || {
                let mut browser = Browser::new();
                browser.ok(node, "/set?k=a&v=1");
                let trial = key(&mut browser, node);
                stream.arrives(&trial)
            });
        }
    }
    let mut browser = Browser::new();
    browser.ok(&one, "/set?k=a&v=1");
    let session = key(&mut browser, &one);
    browser.ok(&two, "/login?uid=ada");
    browser.ok(&three, "/logout");
    for stream in &mut streams {
        let created = stream.next_of(&session);
        expect(&created, "created", None, None, "node1");
        let mut rest = [stream.next_of(&session), stream.next_of(&session)];
        // They come from two nodes.
        rest.sort_by_key(|event| event["kind"] == "deleted");
        let [rotated, deleted] = rest;
        assert_eq!(
            (&rotated["kind"], &rotated["node"]),
            (&json!("rotated"), &json!("node2"))
        );
        let user = deleted["uid"].as_str();
        expect(&deleted, "deleted", Some("logout"), user, "node3");
    }
    let rotated = here.next_of(&session);
    expect(&rotated, "rotated", None, Some("ada"), "node2");

    // A node that stops in order does not wait for its streams.
    let [_, _, mut last] = streams;
    three.stop();
    while last.try_next().is_some() {}
}

#[test]
fn a_store_that_reports_nothing_says_so() {
    let url = "redis://127.0.0.1:1";
    let node = Start::default()
        .args(&["--store", "redis", "--redis-url", url])
        .start();
    let reply = Browser::new().get(&node, "/events");
    assert_eq!(
        (reply.status, &reply.json()["error"]),
        (501, &json!("unsupported"))
    );
}
