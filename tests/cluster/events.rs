//! Events of sessions in the streams of the probe.

use std::collections::HashMap;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::common::redis::Server;
use crate::common::stream::{Stream, expect, key};
use crate::common::{Browser, Node, Start, cluster, eventually, undisturbed};
use serde_json::json;

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
    undisturbed(|| {
        let [one, two, mut three] = cluster::<3>(&["--copies", "2"]);
        let nodes = [&one, &two, &three];
        let mut streams = nodes.map(|node| Stream::open(node, "/events"));
        let mut here = Stream::open(&two, "/events?scope=node");
        let mut browser = Browser::new();
        browser.ok(&one, "/set?k=a&v=1");
        let session = key(&mut browser, &one);
        browser.ok(&two, "/login?uid=ada");
        browser.ok(&three, "/logout");
        for stream in &mut streams {
            let mut all = [(); 3].map(|()| stream.next_of(&session));
            // They come from three nodes, in any order. In that of the alphabet:
            all.sort_by_key(|event| event["kind"].to_string());
            let [created, deleted, rotated] = all;
            expect(&created, "created", None, None, "node1");
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
    });
}

/// The node that serves is killed while clients create and end sessions there. What it has answered
/// is in the stream of another node at least once, and what is there twice is marked.
#[test]
fn what_a_killed_node_has_answered_is_in_the_streams_of_the_others() {
    undisturbed(|| {
        for round in 0..3 {
            let [mut one, two, three] = cluster::<3>(&["--ack", "all"]);
            let mut streams = [&two, &three].map(|node| Stream::open(node, "/events"));
            let answered = Mutex::new(Vec::new());
            thread::scope(|scope| {
                for client in 0..4 {
                    let (one, answered) = (&one, &answered);
                    scope.spawn(move || {
                        // Until the node is killed.
                        while let Some(created) = create(one) {
                            let (mut browser, key) = created;
                            answered.lock().unwrap().push((key.clone(), "created"));
                            let left = browser.try_get(one, "/logout");
                            if !left.is_ok_and(|reply| reply.status == 200) {
                                return;
                            }
                            answered.lock().unwrap().push((key, "deleted"));
                            thread::sleep(Duration::from_millis(5 + client));
                        }
                    });
                }
                let enough = || answered.lock().unwrap().len() > 20 + 10 * round;
                eventually("sessions come and go", enough);
                one.signal("KILL");
            });
            one.kill();
            let answered = answered.into_inner().unwrap();
            for stream in &mut streams {
                let mut seen: HashMap<(String, String), usize> = HashMap::new();
                while !answered
                    .iter()
                    .all(|(key, kind)| seen.contains_key(&(key.clone(), (*kind).to_owned())))
                {
                    let (kind, data) = stream.try_next().expect("the stream goes on");
                    let key = data["key"].as_str().expect("a key").to_owned();
                    let times = seen.entry((key, kind)).or_default();
                    *times += 1;
                    assert!(*times == 1 || data["possible_repeat"] == true, "{data}");
                }
            }
        }
    });
}

/// A new session at a node, and its key.
fn create(node: &Node) -> Option<(Browser, String)> {
    let mut browser = Browser::new();
    browser.try_get(node, "/set?k=a&v=1").ok()?;
    let info = browser.try_get(node, "/info").ok()?;
    let key = info.json()["key"].as_str()?.to_owned();
    Some((browser, key))
}

/// A subscription is confirmed before the answer: an event of any node that follows it arrives.
#[test]
fn a_stream_has_everything_that_follows_its_answer() {
    undisturbed(|| {
        let nodes = cluster::<3>(&[]);
        for round in 0..12 {
            let [node, other] = [&nodes[round % 3], &nodes[(round + 1) % 3]];
            let mut stream = Stream::open(node, "/events");
            let mut browser = Browser::new();
            browser.ok(other, "/set?k=a&v=1");
            let session = key(&mut browser, other);
            assert_eq!(stream.next_of(&session)["kind"], "created");
        }
    });
}

/// A server that is away delays a stream, and the loss is announced when it is back.
#[test]
fn a_stream_goes_on_after_the_redis_server_was_restarted() {
    let mut server = Server::start(&[]);
    let node = server.node(1).ready();
    let mut events = Stream::open(&node, "/events");
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    events.next_of(&key(&mut browser, &node));
    server.kill();
    server.restart();
    let lost = loop {
        let (kind, data) = events.try_next().expect("the stream goes on");
        if kind == "lagged" {
            break data;
        }
    };
    assert_eq!(lost, json!({ "lost": 1 }));
    node.wait_ready();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    let created = events.next_of(&key(&mut browser, &node));
    expect(&created, "created", None, None, "node1");
}
