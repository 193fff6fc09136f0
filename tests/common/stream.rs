//! A client of `/events`.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Browser, Node, PATIENCE};

/// A client of `/events`.
pub(crate) struct Stream {
    stream: BufReader<TcpStream>,
    /// What has come of the next event.
    kind: String,
    line: String,
}

impl Stream {
    pub(crate) fn open(node: &Node, path: &str) -> Self {
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
    pub(crate) fn try_next(&mut self) -> Option<(String, Value)> {
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
    pub(crate) fn next_of(&mut self, key: &str) -> Value {
        self.next_that(|event| event["key"] == key)
    }

    /// Returns `true` if an event of a session comes soon.
    pub(crate) fn arrives(&mut self, key: &str) -> bool {
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

    pub(crate) fn next_that(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
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

/// The key of a browser's session.
pub(crate) fn key(browser: &mut Browser, node: &Node) -> String {
    let info = browser.ok(node, "/info");
    info["key"].as_str().expect("a session").to_owned()
}

#[track_caller]
pub(crate) fn expect(
    event: &Value,
    kind: &str,
    reason: Option<&str>,
    uid: Option<&str>,
    node: &str,
) {
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
