//! Nodes of an application on one server: processes, browsers, balancers that change the node.

use std::thread::scope;
use std::time::{Duration, Instant};

use crate::common::redis::Server;
use crate::common::{Browser, eventually, within};
use crate::support::{MEASUREMENTS, RECOVERY};

/// R-05, 60 (f): what a browser sees while the server is away.
#[test]
fn a_server_that_is_away_is_503_without_a_cookie_and_the_same_cookies_work_later() {
    let server = Server::start(&[]);
    // With the store's own timeout.
    let [node, other] = [1, 2].map(|number| server.node(number).without("--redis-timeout").ready());
    let mut browser = Browser::new();
    within(RECOVERY, "a session is there", || {
        browser.get(&node, "/set?k=a&v=1").status == 200
    });
    let cookie = browser.cookie().map(str::to_owned);
    server.signal("STOP");
    for path in ["/get?k=a", "/set?k=a&v=2", "/rotate", "/logout", "/incr"] {
        // A node that does not keep to its deadline is late each time.
        let is_in_time = (0..MEASUREMENTS).any(|_| {
            let start = Instant::now();
            let reply = browser.get(&node, path);
            assert_eq!(reply.status, 503, "{path}: {}", reply.text());
            assert!(reply.set_cookies().is_empty(), "{path}: {reply:?}");
            start.elapsed() < Duration::from_secs(4)
        });
        assert!(is_in_time, "{path}");
    }
    let reply = Browser::new().get(&node, "/set?k=a&v=1");
    assert_eq!((reply.status, reply.set_cookies().len()), (503, 0));
    assert_eq!(Browser::new().get(&node, "/none").status, 200);
    // Many at once: none waits longer than the others.
    let is_in_time = (0..MEASUREMENTS).any(|_| {
        let start = Instant::now();
        scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| assert_eq!(browser.twin().get(&node, "/get?k=a").status, 503));
            }
        });
        start.elapsed() < Duration::from_secs(8)
    });
    assert!(is_in_time, "some waited for others");
    assert_eq!(browser.cookie(), cookie.as_deref());
    server.signal("CONT");
    // What was on its way to the server may take effect still: the logout is one of them.
    within(RECOVERY, "sessions work again", || {
        let get = |node| Browser::new().get(node, "/set?k=a&v=1").status;
        get(&node) == 200 && get(&other) == 200
    });
    let found = browser.get(&node, "/get?k=a");
    assert_eq!(found.status, 200);
}

/// the server comes back with nothing in it.
#[test]
fn a_server_that_comes_back_empty_has_no_sessions_and_adopts_no_id() {
    let mut server = Server::start(&[]);
    let [node, _other] = server.nodes(&[]);
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    let old = browser.bare().map(str::to_owned);
    server.kill();
    let reply = browser.get(&node, "/get?k=a");
    assert_eq!((reply.status, reply.set_cookies().len()), (503, 0));
    server.restart();
    within(RECOVERY, "sessions work again", || {
        browser.get(&node, "/get?k=a").status == 200
    });
    assert_eq!(browser.ok(&node, "/get?k=a")["session"], false);
    browser.ok(&node, "/set?k=a&v=2");
    assert_ne!(
        browser.bare().map(str::to_owned),
        old,
        "an id from before was adopted"
    );
}

/// 46, 47, 48, 51, 53.
#[test]
fn a_node_that_fails_is_replaced_by_the_other() {
    let server = Server::start(&[]);
    let [mut one, two] = server.nodes(&[]);
    let mut browser = Browser::new();
    browser.ok(&one, "/incr");
    assert!(browser.cookie().unwrap().ends_with(".node1"));
    let id = browser.bare().map(str::to_owned);
    one.kill();
    assert_eq!(
        browser.ok(&two, "/incr")["n"],
        2,
        "the change in the request that fails over"
    );
    assert!(browser.cookie().unwrap().ends_with(".node2"));
    assert_eq!(browser.bare().map(str::to_owned), id);
    assert!(browser.get(&two, "/get?k=a").set_cookies().is_empty());
    one.restart();
    one.wait_ready();
    assert_eq!(browser.ok(&one, "/incr")["n"], 3);
    assert_eq!(browser.ok(&two, "/incr")["n"], 4);
}

///
///
/// The operator of the server may be on another machine: the node logs the cause.
#[test]
fn a_node_starts_without_its_server_and_serves_when_it_is_there() {
    let mut server = Server::start(&[]);
    server.kill();
    let node = server.node(1).ready();
    assert_eq!(Browser::new().get(&node, "/set?k=a&v=1").status, 503);
    node.wait_log("Redis cannot be used");
    server.restart();
    within(RECOVERY, "sessions work", || {
        Browser::new().get(&node, "/set?k=a&v=1").status == 200
    });
}

/// R-11 with copies: two nodes, one session, and what each has written at once.
#[test]
fn nodes_with_copies_agree_soon_and_lose_nothing() {
    let server = Server::start(&[]);
    let nodes: [_; 2] = server.nodes(&["--near-cache"]);
    let mut browser = Browser::new();
    browser.ok(&nodes[0], "/set?k=first&v=1");
    scope(|scope| {
        for (at, node) in nodes.iter().enumerate() {
            let mut tab = browser.twin();
            scope.spawn(move || {
                for turn in 0..100 {
                    tab.ok(node, &format!("/set?k=k{at}-{turn}&v=1"));
                    tab.ok(node, "/update");
                }
            });
        }
    });
    for node in &nodes {
        eventually("the node has all that was written", || {
            let names = browser.ok(node, "/info")["names"].as_array().unwrap().len();
            let count = &browser.ok(node, "/get?k=session_counter&as=u64")["value"];
            names == 202 && *count == 200
        });
    }
    browser.twin().ok(&nodes[0], "/logout");
    within(RECOVERY, "the other node notices", || {
        browser.ok(&nodes[1], "/get?k=first")["session"] == false
    });
    assert_eq!(nodes[0].sessions(), 0);
}
