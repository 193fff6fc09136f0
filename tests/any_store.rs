//! The contract of every store, tested with real processes over HTTP: one node with its own memory,
//! the same with a file that is written all the time, two and three replicated nodes that keep all
//! sessions, three that keep two copies of each, two nodes on one Redis. `cases.txt` explains the
//! numbers in the comments.

mod common;

use std::io::ErrorKind;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use common::redis::Server;
use common::stream::{Stream, expect, key};
use common::{
    Browser, Node, Random, Scratch, Start, cluster, cluster_starts, eventually, in_time, meet,
    read_at_intervals, undisturbed, until,
};
use serde_json::Value;

/// Runs each case on every store, with the flags that stand behind its name.
macro_rules! on_every_store {
    ($($case:ident $([$($flag:literal),+])?)*) => {
        mod memory {
            use super::*;
            $(#[test] fn $case() {
                let node = Start::memory("node1").args(&[$($($flag),+)?]).ready();
                cases::$case(&[&node]);
            })*
        }
        mod file {
            use super::*;
            $(#[test] fn $case() {
                let scratch = Scratch::new();
                // The file is written all the time, so that every end of a session is noted.
                let start = Start::file("node1", &scratch.path().join("sessions"))
                    .args(&["--file-every", "50"]);
                let node = start.args(&[$($($flag),+)?]).ready();
                cases::$case(&[&node]);
            })*
        }
        mod two_nodes {
            use super::*;
            $(#[test] fn $case() {
                undisturbed(|| {
                    cases::$case(&cluster::<2>(&[$($($flag),+)?]).each_ref());
                });
            })*
        }
        mod redis {
            use super::*;
            $(#[test] fn $case() {
                let server = Server::start(&[]);
                let nodes = server.nodes::<2>(&[$($($flag),+)?]);
                cases::$case(&nodes.each_ref());
            })*
        }
        mod three_nodes {
            use super::*;
            $(#[test] fn $case() {
                undisturbed(|| {
                    let nodes = cluster::<3>(&["--copies", "all", $($($flag),+)?]);
                    cases::$case(&nodes.each_ref());
                });
            })*
        }
        // A third of what a node is asked for is not there.
        mod three_nodes_two_copies {
            use super::*;
            $(#[test] fn $case() {
                undisturbed(|| {
                    let nodes = cluster::<3>(&["--copies", "2", $($($flag),+)?]);
                    cases::$case(&nodes.each_ref());
                });
            })*
        }
    };
}

on_every_store! {
    requests_without_a_cookie_leave_nothing_behind
    what_is_written_is_visible_on_the_next_node_at_once
    rotation_keeps_the_attributes_and_kills_the_old_id
    a_login_among_eight_tabs_that_write_stays
    rotation_and_a_write_in_one_request_are_both_kept
    set_replace_and_remove_are_seen_by_the_other_node
    names_that_were_removed_do_not_count
    two_keys_overwritten_by_the_other_node_are_not_stale
    parallel_writes_of_different_keys_are_all_kept
    a_counter_alternating_between_nodes_counts_every_request
    a_thousand_concurrent_updates_count_a_thousand
    a_slow_request_does_not_block_readers
    a_good_value_survives_a_bad_one_in_the_same_request
    large_values_arrive_whole_and_too_large_ones_are_refused
    an_idle_session_ends_and_leaves_without_any_request
    reading_keeps_a_session_alive
    an_access_counts_when_it_arrives
    a_request_that_outlasts_the_idle_time_keeps_its_session
    of_two_writes_the_later_one_counts_whatever_its_value
    a_login_and_a_logout_end_all_sessions_that_a_browser_presents
    an_idle_time_of_nothing_is_refused_and_a_huge_one_is_long
    the_idle_time_of_a_session_is_its_own
    the_absolute_lifetime_ends_a_session_in_use["--absolute", "3"]
    a_logout_is_seen_everywhere
    a_users_sessions_are_listed_and_ended_on_every_node
    a_login_beyond_the_limit_of_a_user_ends_the_oldest_session["--per-user", "2"]
    administration_sees_a_session_and_does_not_use_it["--idle", "2"]
    each_node_streams_what_happens_on_any_of_them["--per-user", "2"]
    an_attribute_is_taken_once_and_a_refused_update_changes_nothing
    a_logout_beats_a_slow_request
    a_logout_beats_slow_requests_at_any_moment
    a_rotation_beats_slow_requests_at_any_moment
    of_two_rotations_one_wins
    a_login_is_seen_by_the_next_node
    a_panic_stores_nothing_and_leaks_nothing
    a_client_that_leaves_sees_the_old_or_the_new_state
    a_task_that_writes_after_the_response_is_stored
    a_task_that_writes_after_a_logout_revives_nothing
    a_write_from_inside_the_body_is_an_error
    every_status_commits
    an_unknown_id_is_not_adopted
    an_id_planted_before_the_login_is_worth_nothing_after_it
    garbage_is_no_session
    any_route_finds_the_session_and_none_is_echoed
}

/// W-10: a node with shorter limits on the sessions of one with longer ones.
#[test]
fn shorter_limits_apply_at_once_to_the_sessions_of_a_file() {
    let scratch = Scratch::new();
    let start = Start::file("node1", &scratch.path().join("sessions"));
    for flag in ["--idle", "--absolute"] {
        let mut node = start.ready();
        let mut browser = Browser::new();
        browser.ok(&node, "/set?k=a&v=1");
        let written = Instant::now();
        node.stop();
        let node = start.clone().args(&[flag, "1"]).ready();
        until(written + Duration::from_millis(1_500));
        assert_eq!(browser.ok(&node, "/info")["session"], false, "{flag}");
    }
}

/// W-10.
#[test]
fn shorter_limits_apply_at_once_to_the_sessions_in_redis() {
    let server = Server::start(&[]);
    let before = server.node(1).ready();
    for flag in ["--idle", "--absolute"] {
        let after = server.node(2).args(&[flag, "4"]).ready();
        only_shorter_limits_apply(&before, &after, flag);
    }
}

/// W-10.
#[test]
fn shorter_limits_apply_at_once_to_the_sessions_of_a_cluster() {
    for flag in ["--idle", "--absolute"] {
        undisturbed(|| {
            let [before, after] = cluster_starts::<2>(&[]);
            let (before, after) = (before.start(), after.args(&[flag, "4"]).start());
            meet(&[&before, &after]);
            only_shorter_limits_apply(&before, &after, flag);
        });
    }
}

/// A session made with the long limits of one node, seen by another with short ones.
fn only_shorter_limits_apply(before: &Node, after: &Node, flag: &str) {
    let (mut browser, mut own) = (Browser::new(), Browser::new());
    let written = Instant::now();
    browser.ok(before, "/set?k=a&v=1");
    own.ok(before, "/set?k=a&v=1");
    own.ok(before, "/ttl?s=3000");
    let is_known = browser.ok(after, "/info")["session"] == true;
    let answered = Instant::now();
    // On a busy machine, it may have ended by then.
    let is_in_time = answered - written < Duration::from_millis(3_900);
    assert!(is_known || !is_in_time, "{flag}");
    until(answered + Duration::from_millis(5_000));
    assert_eq!(browser.ok(after, "/info")["session"], false, "{flag}");
    // The idle timeout that was set for one session is its own.
    let known = own.ok(after, "/info")["session"] == true;
    assert_eq!(known, flag == "--idle", "{flag}");
    // The other node's limits are as they were, in both directions.
    assert_eq!(browser.ok(before, "/info")["session"], true, "{flag}");
}

mod cases {
    use super::*;

    /// A-01, with 2,000 requests instead of 100,000.
    pub(super) fn requests_without_a_cookie_leave_nothing_behind(nodes: &[&Node]) {
        let mut visitor = Browser::new();
        for round in 0..500 {
            let node = nodes[round % nodes.len()];
            for (method, path) in [
                ("GET", "/info"),
                ("HEAD", "/info"),
                ("OPTIONS", "/info"),
                ("GET", "/logout"),
            ] {
                let reply = visitor.raw(node, method, path, b"");
                assert!(reply.set_cookies().is_empty(), "{method} {path}: {reply:?}");
            }
        }
        assert!(
            visitor
                .raw(nodes[0], "GET", "/no-such-path", b"")
                .set_cookies()
                .is_empty()
        );
        assert_eq!(sessions(nodes), 0);
    }

    /// 14: a thousand of a thousand times.
    pub(super) fn what_is_written_is_visible_on_the_next_node_at_once(nodes: &[&Node]) {
        let mut browser = Browser::new();
        for round in 0..1000 {
            let (here, there) = (nodes[round % nodes.len()], nodes[(round + 1) % nodes.len()]);
            let value = round.to_string();
            browser.ok(here, &format!("/set?k=a&v={value}"));
            assert_eq!(browser.value(there, "a"), Some(value));
        }
    }

    /// 15, 20.
    pub(super) fn rotation_keeps_the_attributes_and_kills_the_old_id(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut browser = Browser::new();
        let refused = browser.get(here, "/rotate");
        assert_eq!((refused.status, refused.set_cookies().len()), (409, 0));

        browser.ok(here, "/set?k=a&v=1");
        let mut old = browser.twin();
        browser.ok(here, "/rotate");
        assert_ne!(browser.bare(), old.bare());
        assert_eq!(browser.value(there, "a").as_deref(), Some("1"));
        for node in nodes {
            assert_eq!(old.ok(node, "/get?k=a")["session"], false);
        }
        let reply = old.get(there, "/set?k=a&v=2");
        assert_eq!((reply.status, reply.set_cookies().len()), (409, 0));
        assert_eq!(reply.json()["error"], "superseded");
        assert_eq!(browser.value(here, "a").as_deref(), Some("1"));
    }

    /// W-04, with 20 rounds.
    pub(super) fn a_login_among_eight_tabs_that_write_stays(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut random = Random(4);
        for _ in 0..20 {
            let mut browser = Browser::new();
            browser.ok(here, "/set?k=a&v=1");
            let old = browser.twin();
            let pause = Duration::from_micros(random.below(20_000));
            scope(|threads| {
                for tab in 0..8 {
                    let mut tab_of = old.twin();
                    let node = [here, there][tab % 2];
                    threads.spawn(move || {
                        for n in 0..5 {
                            let mut late = tab_of.twin();
                            let reply = late.get(node, &format!("/set?k=tab{tab}&v={n}"));
                            match reply.status {
                                200 => {}
                                409 => assert_eq!(reply.set_cookies().len(), 0),
                                _ => panic!("{reply:?}"),
                            }
                            // A cookie of the time before the login may name another route.
                            assert_eq!(late.bare(), tab_of.bare());
                            tab_of = late;
                        }
                    });
                }
                sleep(pause);
                browser.ok(here, "/login?uid=ann");
            });
            for node in nodes {
                assert_eq!(browser.ok(node, "/info")["uid"], "ann", "after {pause:?}");
                assert_eq!(old.twin().ok(node, "/info")["session"], false);
            }
            let mut again = old.twin();
            assert_eq!(again.get(there, "/set?k=a&v=2").status, 409);
            again.ok(there, "/login?uid=ann");
            assert_ne!(again.bare(), browser.bare());
            assert_eq!(browser.value(here, "a").as_deref(), Some("1"));
        }
        assert_eq!(sessions(nodes), 40);
    }

    /// 16.
    pub(super) fn rotation_and_a_write_in_one_request_are_both_kept(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut browser = Browser::new();
        browser.ok(here, "/set?k=a&v=1");
        let mut old = browser.twin();
        browser.ok(here, "/login?uid=ann");
        for node in [there, here] {
            assert_eq!(browser.ok(node, "/info")["uid"], "ann");
            assert_eq!(browser.value(node, "a").as_deref(), Some("1"));
            assert_eq!(old.ok(node, "/info")["session"], false);
        }
    }

    /// 21, 23, 24, 30.
    pub(super) fn set_replace_and_remove_are_seen_by_the_other_node(nodes: &[&Node]) {
        let (n1, n2) = ends(nodes);
        let mut browser = Browser::new();
        browser.ok(n1, "/set?k=other&v=kept");
        browser.ok(n1, "/set?k=a&v=1");
        assert_eq!(browser.value(n2, "a").as_deref(), Some("1"));
        browser.ok(n2, "/set?k=a&v=2");
        assert_eq!(browser.value(n1, "a").as_deref(), Some("2"));
        browser.ok(n1, "/remove?k=a");
        assert_eq!(browser.value(n2, "a"), None);
        assert_eq!(browser.ok(n2, "/has?k=a")["has"], false);
        assert_eq!(browser.value(n2, "other").as_deref(), Some("kept"));
        browser.ok(n1, "/update");
        assert_eq!(browser.ok(n2, "/get?k=session_counter&as=u64")["value"], 1);
        // The crate's own names.
        let reserved = browser.get(n1, "/set?k=%00ended&v=1");
        assert_eq!(
            (reserved.status, &reserved.json()["error"]),
            (400, &"reserved_name".into())
        );
    }

    /// W-02, with 1,100 names.
    pub(super) fn names_that_were_removed_do_not_count(nodes: &[&Node]) {
        let mut browser = Browser::new();
        browser.ok(nodes[0], "/set?k=kept&v=1");
        for n in 0..1_100 {
            let (here, there) = (nodes[n % nodes.len()], nodes[(n + 1) % nodes.len()]);
            browser.ok(here, &format!("/set?k=state_{n}&v=1"));
            browser.ok(there, &format!("/remove?k=state_{n}"));
        }
        for node in nodes {
            assert_eq!(
                browser.ok(node, "/info")["names"],
                serde_json::json!(["kept"])
            );
        }
        // A cluster keeps marks of removed attributes until all nodes have received the removals,
        // so only a single node is checked.
        if nodes.len() == 1 {
            let bytes = nodes[0].cluster()["bytes"].as_u64();
            assert!(bytes.expect("a number") < 1_024, "{bytes:?}");
        }
    }

    /// 22.
    pub(super) fn two_keys_overwritten_by_the_other_node_are_not_stale(nodes: &[&Node]) {
        let (n1, n2) = ends(nodes);
        let mut browser = Browser::new();
        for (node, value) in [(n1, "1"), (n2, "2")] {
            browser.ok(node, &format!("/set?k=k1&v={value}"));
            browser.ok(node, &format!("/set?k=k2&v={value}"));
        }
        assert_eq!(browser.value(n1, "k1").as_deref(), Some("2"));
        assert_eq!(browser.value(n1, "k2").as_deref(), Some("2"));
    }

    /// 25, A-06: on two nodes, and on one.
    pub(super) fn parallel_writes_of_different_keys_are_all_kept(nodes: &[&Node]) {
        let (n1, n2) = ends(nodes);
        for other in [n2, n1] {
            let mut browser = Browser::new();
            browser.ok(n1, "/set?k=k1&v=1");
            scope(|threads| {
                let mut twin = browser.twin();
                threads.spawn(move || twin.ok(n1, "/slow?ms=500&k=k2&v=1"));
                sleep(Duration::from_millis(100));
                browser.ok(other, "/set?k=k3&v=1");
            });
            for node in nodes {
                assert_eq!(
                    browser.ok(node, "/info")["names"],
                    serde_json::json!(["k1", "k2", "k3"])
                );
            }
        }
    }

    /// 27.
    pub(super) fn a_counter_alternating_between_nodes_counts_every_request(nodes: &[&Node]) {
        let mut browser = Browser::new();
        for n in 1..=20 {
            assert_eq!(browser.ok(nodes[n % nodes.len()], "/incr")["n"], n);
        }
    }

    /// 28, A-07: ten clients, a hundred updates each, on every node.
    pub(super) fn a_thousand_concurrent_updates_count_a_thousand(nodes: &[&Node]) {
        let mut browser = Browser::new();
        browser.ok(nodes[0], "/set?k=a&v=1");
        scope(|threads| {
            for client in 0..10 {
                let mut twin = browser.twin();
                threads.spawn(move || {
                    for _ in 0..100 {
                        twin.ok(nodes[client % nodes.len()], "/update");
                    }
                });
            }
        });
        for node in nodes {
            assert_eq!(
                browser.ok(node, "/get?k=session_counter&as=u64")["value"],
                1000
            );
        }
    }

    /// A-07.
    pub(super) fn a_slow_request_does_not_block_readers(nodes: &[&Node]) {
        let (n1, n2) = ends(nodes);
        let mut browser = Browser::new();
        browser.ok(n1, "/set?k=a&v=1");
        let slow = browser.send_only(n1, "/slow?ms=30000&k=b&v=1");
        let slow = slow.expect("the node accepts connections");
        sleep(Duration::from_millis(500));
        for node in [n1, n2] {
            browser.value(node, "a");
            browser.ok(node, "/update");
        }
        slow.set_nonblocking(true).expect("a socket can be polled");
        let answer = slow.peek(&mut [0]).map_err(|error| error.kind());
        assert_eq!(
            answer,
            Err(ErrorKind::WouldBlock),
            "the others waited for the slow request"
        );
    }

    /// 31, A-11.
    pub(super) fn a_good_value_survives_a_bad_one_in_the_same_request(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut browser = Browser::new();
        browser.ok(here, "/set?k=a&v=1");
        let reply = browser.get(here, "/badattr?k=good&v=secret-value");
        assert_eq!(
            (reply.status, &reply.json()["error"]),
            (500, &"encode".into())
        );
        assert!(!reply.text().contains("secret-value"));
        assert_eq!(
            browser.ok(there, "/info")["names"],
            serde_json::json!(["a", "good"])
        );
        assert_eq!(
            browser.value(there, "good").as_deref(),
            Some("secret-value")
        );
    }

    /// 33, A-12.
    pub(super) fn large_values_arrive_whole_and_too_large_ones_are_refused(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut browser = Browser::new();
        for size in [1 << 20, 8 << 20] {
            browser.ok(here, &format!("/set?k=a&bytes={size}"));
            let value = browser.value(there, "a").expect("the value has arrived");
            assert!(value.len() == size && value.bytes().all(|byte| byte == b'x'));
        }
        let refused = browser.get(here, &format!("/set?k=b&bytes={}", 17 << 20));
        assert_eq!(
            (refused.status, &refused.json()["error"]),
            (413, &"too_large".into())
        );
        assert_eq!(
            browser.ok(there, "/info")["names"],
            serde_json::json!(["a"])
        );
    }

    /// 35, 40.
    pub(super) fn an_idle_session_ends_and_leaves_without_any_request(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut browser = Browser::new();
        browser.ok(here, "/set?k=a&v=1");
        browser.ok(here, "/ttl?s=1");
        let old = browser.bare().map(str::to_owned);
        for node in nodes {
            eventually("the session leaves", || node.sessions() == 0);
        }
        assert_eq!(browser.ok(there, "/get?k=a")["session"], false);
        browser.ok(there, "/set?k=a&v=2");
        assert_ne!(browser.bare().map(str::to_owned), old);
    }

    /// 36.
    pub(super) fn reading_keeps_a_session_alive(nodes: &[&Node]) {
        let [idle, interval] = [3, 1].map(Duration::from_secs);
        in_time(|| {
            let mut browser = Browser::new();
            browser.ok(nodes[0], "/set?k=a&v=1");
            read_at_intervals(&mut browser, nodes[0], nodes, idle, interval, 6)
        });
    }

    /// W-01: read-only, with a write, and with an atomic one; the requests end after the idle
    /// timeout.
    pub(super) fn an_access_counts_when_it_arrives(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let idle = Duration::from_secs(8);
        let requests = [
            ("/slow?ms=4000&k=doc&v=saved", Duration::from_secs(4)),
            ("/slow?ms=4000", Duration::from_secs(4)),
            ("/update", Duration::ZERO),
        ];
        let access = |(path, takes): (&str, Duration)| {
            let mut browser = Browser::new();
            browser.ok(here, "/login?uid=ann");
            let begun = Instant::now();
            browser.ok(here, "/ttl?s=8");
            until(begun + Duration::from_secs(6));
            let sent = Instant::now();
            browser.ok(there, path);
            // The time at which it has arrived at the latest.
            let arrived = Instant::now() - takes;
            until(sent + Duration::from_secs(4));
            let info = browser.ok(here, "/info");
            let is_late = arrived - begun >= idle || sent.elapsed() >= idle;
            assert!(info["uid"] == "ann" || is_late, "{path}: {info}");
            if path.contains("doc") && !is_late {
                assert_eq!(browser.value(here, "doc").as_deref(), Some("saved"));
            }
            (!is_late).then_some(())
        };
        scope(|threads| {
            for request in requests {
                threads.spawn(move || in_time(|| access(request)));
            }
        });
    }

    /// W-01.
    pub(super) fn a_request_that_outlasts_the_idle_time_keeps_its_session(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut browser = Browser::new();
        browser.ok(here, "/set?k=a&v=1");
        // An access is noted every three seconds: a node that stands still for longer loses it.
        browser.ok(here, "/ttl?s=6");
        let mut reader = browser.twin();
        scope(|threads| {
            threads.spawn(|| browser.ok(there, "/slow?ms=10000&k=doc&v=saved"));
            threads.spawn(|| reader.ok(here, "/slow?ms=10000"));
        });
        assert_eq!(browser.value(here, "doc").as_deref(), Some("saved"));
        // Once nothing uses it, it is idle like any other.
        for node in nodes {
            eventually("the session leaves", || node.sessions() == 0);
        }
        assert_eq!(browser.ok(there, "/get?k=a")["session"], false);
    }

    /// W-03: the request writes the value that it has loaded, which another has replaced or
    /// removed.
    pub(super) fn of_two_writes_the_later_one_counts_whatever_its_value(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut browser = Browser::new();
        for between in ["/set?k=flag&v=off", "/remove?k=flag"] {
            for late in [here, there] {
                in_time(|| {
                    browser.ok(here, "/set?k=flag&v=on");
                    let sent = Instant::now();
                    scope(|threads| {
                        let mut twin = browser.twin();
                        threads.spawn(move || twin.ok(late, "/slow?ms=400&k=flag&v=on"));
                        sleep(Duration::from_millis(100));
                        browser.ok(there, between);
                        (sent.elapsed() < Duration::from_millis(400)).then_some(())
                    })
                });
                for node in nodes {
                    assert_eq!(
                        browser.value(node, "flag").as_deref(),
                        Some("on"),
                        "{between}"
                    );
                }
            }
        }
    }

    /// W-08.
    pub(super) fn a_login_and_a_logout_end_all_sessions_that_a_browser_presents(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        for path in ["/login?uid=ann", "/set?k=a&v=2", "/update", "/logout"] {
            let mut two = [Browser::new(), Browser::new()];
            for browser in &mut two {
                browser.ok(here, "/set?k=a&v=1");
            }
            let [one, other] = two
                .each_ref()
                .map(|it| it.cookie().expect("a cookie").to_owned());
            let header = format!("Cookie: JSESSIONID={one}; JSESSIONID={other}\r\n");
            let mut browser = Browser::new();
            let reply = browser.raw(there, "GET", "/info", header.as_bytes());
            assert_eq!(reply.json()["session"], false);
            assert_eq!(reply.json()["ambiguous"], true);
            assert!(reply.set_cookies().is_empty());

            let reply = browser.raw(there, "GET", path, header.as_bytes());
            assert_eq!(reply.status, 200, "{path}");
            let cookies = reply.set_cookies();
            assert_eq!(cookies.len(), 1, "{path}: {cookies:?}");
            let (pair, attributes) = cookies[0].split_once(';').expect("attributes");
            assert_eq!(attributes.contains("Max-Age=0"), path == "/logout");
            for old in &mut two {
                assert_eq!(old.ok(here, "/info")["session"], false, "{path}");
            }
            if path != "/logout" {
                let (_, good) = pair.split_once('=').expect("a value");
                let all =
                    format!("Cookie: JSESSIONID={one}; JSESSIONID={good}; JSESSIONID={other}\r\n");
                let reply = browser.raw(here, "GET", "/info", all.as_bytes());
                assert_eq!(reply.json()["session"], true, "{path}");
            }
        }
    }

    /// W-09.
    pub(super) fn an_idle_time_of_nothing_is_refused_and_a_huge_one_is_long(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut browser = Browser::new();
        browser.ok(here, "/set?k=a&v=1");
        let refused = browser.get(here, "/ttl?s=0");
        assert_eq!(
            (refused.status, &refused.json()["error"]),
            (400, &"invalid_timeout".into())
        );
        assert_eq!(browser.ok(there, "/info")["max_inactive_secs"], 1800);
        browser.ok(here, &format!("/ttl?s={}", u64::MAX));
        browser.ok(there, "/login?uid=ann");
        assert_eq!(browser.ok(here, "/info")["uid"], "ann");
        let idle = browser.ok(here, "/info")["max_inactive_secs"].as_u64();
        assert!(idle.expect("a number") >= 100 * 365 * 86_400, "{idle:?}");
    }

    /// 38.
    pub(super) fn the_idle_time_of_a_session_is_its_own(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let (mut one, mut other) = (Browser::new(), Browser::new());
        one.ok(here, "/set?k=a&v=1");
        other.ok(here, "/set?k=a&v=1");
        one.ok(here, "/ttl?s=3000");
        assert_eq!(one.ok(there, "/info")["max_inactive_secs"], 3000);
        assert_eq!(other.ok(there, "/info")["max_inactive_secs"], 1800);
    }

    /// A-05, with 3 seconds instead of 10: requests, rotations and node changes all along.
    pub(super) fn the_absolute_lifetime_ends_a_session_in_use(nodes: &[&Node]) {
        let mut browser = Browser::new();
        let asked = Instant::now();
        browser.ok(nodes[0], "/set?k=a&v=1");
        let born = Instant::now();
        let mut step = 0;
        loop {
            step += 1;
            until(born + step * Duration::from_millis(200));
            let node = nodes[step as usize % nodes.len()];
            let sent = Instant::now();
            if browser.ok(node, "/info")["session"] == false {
                break;
            }
            if step % 4 == 0 {
                browser.get(node, "/rotate");
            }
            assert!(
                sent - born < Duration::from_secs(4),
                "it outlives its absolute lifetime"
            );
        }
        assert!(
            asked.elapsed() > Duration::from_millis(2_500),
            "it ended after {:?}",
            asked.elapsed()
        );
    }

    /// A-16, 60 (j), P-02, P-03.
    pub(super) fn a_users_sessions_are_listed_and_ended_on_every_node(nodes: &[&Node]) {
        let node = |turn: usize| nodes[turn % nodes.len()];
        let mut browsers: Vec<_> = (0..5).map(|_| Browser::new()).collect();
        for (turn, browser) in browsers.iter_mut().enumerate() {
            // One has been there before as a visitor.
            if turn == 0 {
                browser.ok(node(turn), "/set?k=a&v=1");
            }
            browser.ok(node(turn), &format!("/login?uid=ada&label=device{turn}"));
        }
        let mut bob = Browser::new();
        bob.ok(node(1), "/login?uid=bob");
        for turn in 0..nodes.len() {
            let reply = browsers[2].ok(node(turn), "/sessions?uid=ada");
            let listed = reply["sessions"].as_array().expect("a list");
            let mut labels: Vec<_> = listed
                .iter()
                .map(|s| s["label"].as_str().expect("text"))
                .collect();
            labels.sort_unstable();
            assert_eq!(
                labels,
                ["device0", "device1", "device2", "device3", "device4"]
            );
            let current: Vec<_> = listed.iter().filter(|s| s["current"] == true).collect();
            assert_eq!(
                (current.len(), &current[0]["label"]),
                (1, &"device2".into())
            );
        }
        // One browser logs out, another logs in as Eve: neither session is Ada's any more.
        browsers[3].ok(node(0), "/logout");
        browsers[4].ok(node(1), "/login?uid=eve");
        let count = |browser: &mut Browser, turn, uid: &str| {
            let reply = browser.ok(node(turn), &format!("/sessions?uid={uid}"));
            reply["sessions"].as_array().expect("a list").len()
        };
        assert_eq!(count(&mut browsers[0], 1, "ada"), 3);
        assert_eq!(count(&mut browsers[4], 0, "eve"), 1);
        let reply = browsers[2].ok(node(1), "/logout-user?uid=ada&keep=1");
        assert_eq!(reply["ended"], 2);
        for turn in 0..nodes.len() {
            for (browser, lives) in [(0, false), (1, false), (2, true), (4, true)] {
                let mut twin = browsers[browser].twin();
                let session = &twin.ok(node(turn), "/info")["session"];
                assert_eq!(session, lives, "browser {browser} at node {turn}");
            }
        }
        let mut admin = Browser::new();
        assert_eq!(admin.ok(node(0), "/logout-user?uid=ada")["ended"], 1);
        assert_eq!(admin.ok(node(1), "/logout-user?uid=ada")["ended"], 0);
        assert_eq!(browsers[2].ok(node(2), "/info")["session"], false);
        assert_eq!(bob.ok(node(2), "/info")["uid"], "bob");
        // The session of the request is among them, and the answer reports that.
        let mut own = Browser::new();
        own.ok(node(0), "/login?uid=own");
        let reply = own.ok(node(1), "/logout-user?uid=own");
        assert_eq!(
            (&reply["ended"], &reply["session"], &reply["key"]),
            (&1.into(), &false.into(), &Value::Null)
        );
        assert_eq!(own.ok(node(0), "/info")["session"], false);
        browsers[2].ok(node(0), "/login?uid=ada");
        assert_eq!(count(&mut admin, 1, "ada"), 1);
        users_may_have_odd_names(node(0), node(1));
    }

    fn users_may_have_odd_names(one: &Node, other: &Node) {
        let mut admin = Browser::new();
        let long = "x".repeat(10_240);
        let control = "%00%1f%1b%5B31m%0d%0a%7f";
        let odds = ["", control, "%F0%9F%91%A4", "%E2%80%AEada", "%C3%28", &long];
        for odd in odds {
            let reply = admin.ok(one, &format!("/sessions?uid={odd}"));
            assert_eq!(reply["sessions"].as_array().map(Vec::len), Some(0));
            Browser::new().ok(one, &format!("/login?uid={odd}"));
            let reply = admin.ok(other, &format!("/logout-user?uid={odd}"));
            assert_eq!(reply["ended"], 1);
        }
    }

    /// A-16.
    pub(super) fn a_login_beyond_the_limit_of_a_user_ends_the_oldest_session(nodes: &[&Node]) {
        let node = |turn: usize| nodes[turn % nodes.len()];
        let mut browsers: Vec<_> = (0..4).map(|_| Browser::new()).collect();
        for (turn, browser) in browsers.iter_mut().enumerate() {
            browser.ok(node(turn), "/login?uid=ada");
            // Logins are ordered by the millisecond.
            sleep(Duration::from_millis(20));
        }
        for (turn, browser) in browsers.iter_mut().enumerate() {
            let lives = turn >= 2;
            assert_eq!(
                browser.ok(node(turn + 1), "/info")["session"],
                lives,
                "{turn}"
            );
        }
    }

    /// P-01, P-03.
    pub(super) fn administration_sees_a_session_and_does_not_use_it(nodes: &[&Node]) {
        let node = |turn: usize| nodes[turn % nodes.len()];
        let mut browser = Browser::new();
        let (asked, info) = in_time(|| {
            browser.ok(node(0), "/login?uid=ada");
            let asked = Instant::now();
            let info = browser.ok(node(0), "/info");
            info["key"].is_string().then_some((asked, info))
        });
        let began = Instant::now();
        let key = info["key"].as_str().expect("text").to_owned();
        let mut admin = Browser::new();
        let mut lives = true;
        while lives {
            let sent = Instant::now();
            let seen = admin.ok(node(1), &format!("/peek?key={key}"));
            lives = seen["session"] == true;
            if lives {
                assert_eq!((&seen["uid"], &seen["key"]), (&"ada".into(), &info["key"]));
                // Nor does a page that polls.
                browser.ok(node(2), "/quiet?k=uid");
            }
            let is_late = sent - began >= Duration::from_secs(8);
            assert!(!lives || !is_late, "it is kept alive");
            sleep(Duration::from_millis(50));
        }
        assert!(
            asked.elapsed() > Duration::from_millis(1_900),
            "it ended early"
        );
        let key = in_time(|| {
            let sent = Instant::now();
            browser.ok(node(0), "/login?uid=ada");
            let info = browser.ok(node(0), "/info");
            let key = info["key"].as_str().map(str::to_owned);
            let end = |key: &String| admin.ok(node(2), &format!("/end?key={key}"))["ended"] == 1;
            let ended = key.filter(end);
            let is_late = sent.elapsed() >= Duration::from_secs(2);
            assert!(ended.is_some() || is_late, "{info}");
            ended
        });
        assert_eq!(admin.ok(node(1), &format!("/end?key={key}"))["ended"], 0);
        assert_eq!(browser.ok(node(0), "/info")["session"], false);
        assert_eq!(admin.get(node(0), "/peek?key=nothing").status, 400);
        let unknown = "0".repeat(24);
        assert_eq!(
            admin.ok(node(0), &format!("/peek?key={unknown}"))["session"],
            false
        );
    }

    pub(super) fn each_node_streams_what_happens_on_any_of_them(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let (mut events, mut own) = (
            Stream::open(here, "/events"),
            Stream::open(there, "/events?scope=node"),
        );
        // A subscription takes a moment to reach the other nodes.
        eventually("events are received", || {
            let mut browser = Browser::new();
            browser.ok(there, "/set?k=a&v=1");
            events.arrives(&key(&mut browser, there))
        });
        let mut browser = Browser::new();
        browser.ok(there, "/set?k=a&v=1");
        let session = key(&mut browser, there);
        let created = events.next_of(&session);
        expect(&created, "created", None, None, there.route());
        browser.ok(there, "/login?uid=ada");
        let rotated = events.next_of(&session);
        expect(&rotated, "rotated", None, Some("ada"), there.route());
        browser.ok(there, "/logout");
        let deleted = events.next_of(&session);
        expect(
            &deleted,
            "deleted",
            Some("logout"),
            Some("ada"),
            there.route(),
        );
        for kind in ["created", "rotated", "deleted"] {
            assert_eq!(own.next_of(&session)["kind"], kind);
        }

        let log_in = || {
            let mut browser = Browser::new();
            browser.ok(there, "/login?uid=bob");
            key(&mut browser, there)
        };
        let [one, two, three] = [(); 3].map(|()| log_in());
        Browser::new().ok(there, &format!("/end?key={two}"));
        Browser::new().ok(there, "/logout-user?uid=bob");
        for (key, reason) in [(&one, "limit"), (&two, "admin"), (&three, "user")] {
            let is_end = |event: &Value| event["key"] == **key && event["kind"] == "deleted";
            let deleted = events.next_that(is_end);
            assert_eq!(deleted["reason"], reason, "{deleted}");
        }

        let mut browser = Browser::new();
        browser.ok(there, "/set?k=a&v=1");
        let brief = key(&mut browser, there);
        browser.ok(there, "/ttl?s=1");
        let is_expiry = |event: &Value| event["key"] == *brief && event["kind"] == "expired";
        let expired = events.next_that(is_expiry);
        assert_eq!(expired["reason"], "idle", "{expired}");
        assert!(!events.arrives(&brief), "it is reported twice");
    }

    pub(super) fn an_attribute_is_taken_once_and_a_refused_update_changes_nothing(nodes: &[&Node]) {
        let node = |turn: usize| nodes[turn % nodes.len()];
        let mut browser = Browser::new();
        browser.ok(node(0), "/set?k=flash&v=saved");
        assert_eq!(browser.ok(node(1), "/take?k=flash")["value"], "saved");
        assert_eq!(browser.ok(node(0), "/take?k=flash")["value"], Value::Null);
        for n in 1..=3 {
            let reply = browser.ok(node(n), "/try_update?k=seats&max=3");
            assert_eq!(reply["n"], n);
        }
        let refused = browser.get(node(1), "/try_update?k=seats&max=3");
        assert_eq!(
            (refused.status, &refused.json()["error"]),
            (409, &"rejected".into())
        );
        assert_eq!(browser.ok(node(0), "/get?k=seats&as=u64")["value"], 3);
    }

    /// 43, 45, 12.
    pub(super) fn a_logout_is_seen_everywhere(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut browser = Browser::new();
        browser.ok(here, "/set?k=a&v=1");
        assert_eq!(browser.value(there, "a").as_deref(), Some("1"));
        let mut thief = browser.twin();
        let reply = browser.get(here, "/logout");
        assert_eq!(reply.json()["ended"], 1);
        assert_eq!(reply.set_cookies().len(), 1);
        assert_eq!(browser.cookie(), None);
        for node in nodes {
            assert_eq!(thief.ok(node, "/get?k=a")["session"], false);
            assert_eq!(node.sessions(), 0);
        }
        let again = browser.get(there, "/logout");
        assert_eq!(
            (&again.json()["ended"], again.set_cookies().len()),
            (&0.into(), 0)
        );
    }

    /// 44.
    pub(super) fn a_logout_beats_a_slow_request(nodes: &[&Node]) {
        let (n1, n2) = ends(nodes);
        let mut round = 0;
        let (mut browser, reply) = in_time(|| {
            round += 1;
            let mut browser = Browser::new();
            browser.ok(n1, "/set?k=a&v=1");
            let mut slow = browser.twin();
            let sent = Instant::now();
            scope(|threads| {
                let slow = threads.spawn(|| slow.get(n1, "/slow?ms=2000&k=k&v=1"));
                // It has loaded the session then.
                eventually("the slow request has begun", || {
                    n1.log().matches("a slow request has begun").count() == round
                });
                browser.twin().ok(n2, "/logout");
                let is_in_time = sent.elapsed() < Duration::from_millis(2_000);
                let reply = slow.join().expect("the slow request is answered");
                is_in_time.then_some(reply)
            })
            .map(|reply| (browser, reply))
        });
        assert_eq!(
            (reply.status, reply.set_cookies().len()),
            (409, 0),
            "{reply:?}"
        );
        for node in nodes {
            assert_eq!(browser.ok(node, "/info")["session"], false);
            assert_eq!(node.sessions(), 0);
        }
    }

    /// A-02, with 100 rounds instead of 1,000.
    pub(super) fn a_logout_beats_slow_requests_at_any_moment(nodes: &[&Node]) {
        let mut random = Random(2);
        let mut fresh = 0;
        for round in 0..100 {
            let there = nodes[round / 2 % nodes.len()];
            let mut browser = Browser::new();
            browser.ok(there, "/set?k=a&v=1");
            let pause = Duration::from_micros(random.below(30_000));
            let (_, began_anew) = slow_against(nodes, round, pause, &browser, |twin| {
                twin.ok(there, "/logout");
            });
            fresh += u64::from(began_anew);
            for node in nodes {
                assert_eq!(
                    browser.ok(node, "/info")["session"],
                    false,
                    "after {pause:?}"
                );
            }
        }
        assert_eq!(sessions(nodes), fresh);
    }

    /// A-03, with 50 rounds.
    pub(super) fn a_rotation_beats_slow_requests_at_any_moment(nodes: &[&Node]) {
        let mut random = Random(3);
        for round in 0..50 {
            let there = nodes[round / 2 % nodes.len()];
            let mut old = Browser::new();
            old.ok(there, "/set?k=a&v=1");
            let mut successor = old.twin();
            let pause = Duration::from_micros(random.below(30_000));
            let (status, began_anew) = slow_against(nodes, round, pause, &old, |_| {
                successor.ok(there, "/rotate");
            });
            assert!(!began_anew, "after {pause:?}");
            // If it has loaded the session before, what it writes lands there.
            let landed = (status == 200).then_some("1");
            for node in nodes {
                assert_eq!(
                    successor.value(node, "k").as_deref(),
                    landed,
                    "after {pause:?}"
                );
                assert_eq!(
                    successor.value(node, "a").as_deref(),
                    Some("1"),
                    "after {pause:?}"
                );
                assert_eq!(old.ok(node, "/info")["session"], false, "after {pause:?}");
            }
        }
        assert_eq!(sessions(nodes), 50);
    }

    /// Runs `end` while a slow request of the same session, which takes 15 ms and has begun `pause`
    /// ago, is under way. Returns the slow request's status, and whether it began a session of its
    /// own, which has nothing of the old one, because it came too late and found none.
    fn slow_against(
        nodes: &[&Node],
        round: usize,
        pause: Duration,
        browser: &Browser,
        end: impl FnOnce(&mut Browser),
    ) -> (u16, bool) {
        let here = nodes[round % nodes.len()];
        let mut slow = browser.twin();
        slow.ok(here, "/none");
        let status = scope(|threads| {
            let slow = threads.spawn(|| {
                let reply = slow.get(here, "/slow?ms=15&k=k&v=1");
                assert!(reply.status < 500, "{reply:?}");
                reply.status
            });
            sleep(pause);
            end(&mut browser.twin());
            slow.join().expect("the slow request is answered")
        });
        if slow.bare() == browser.bare() || slow.bare().is_none() {
            return (status, false);
        }
        for node in nodes {
            assert_eq!(
                slow.ok(node, "/info")["names"],
                serde_json::json!(["k"]),
                "after {pause:?}"
            );
        }
        (status, true)
    }

    /// C-06: 50 requests of which ten rotate at once.
    pub(super) fn of_two_rotations_one_wins(nodes: &[&Node]) {
        let mut browser = Browser::new();
        browser.ok(nodes[0], "/login?uid=ann");
        let old = browser.bare().map(str::to_owned);
        let mut after: Vec<_> = (0..50).map(|_| browser.twin()).collect();
        scope(|threads| {
            for (number, twin) in after.iter_mut().enumerate() {
                threads.spawn(move || {
                    let path = if number % 5 == 0 { "/rotate" } else { "/info" };
                    let reply = twin.get(nodes[number % nodes.len()], path);
                    assert!(matches!(reply.status, 200 | 409), "{reply:?}");
                });
            }
        });
        let mut successors = Vec::new();
        for twin in &mut after {
            if twin.ok(nodes[0], "/info")["uid"] == "ann" {
                successors.push(twin.bare().map(str::to_owned));
            }
        }
        successors.dedup();
        assert_eq!(successors.len(), 1, "exactly one successor");
        assert_ne!(successors[0], old);
        for node in nodes {
            assert_eq!(browser.ok(node, "/info")["session"], false);
        }
        assert_eq!(sessions(nodes), 1);
    }

    /// A-08, with 500 logins instead of 10,000.
    pub(super) fn a_login_is_seen_by_the_next_node(nodes: &[&Node]) {
        for round in 0..500 {
            let mut browser = Browser::new();
            let (here, there) = (nodes[round % nodes.len()], nodes[(round + 1) % nodes.len()]);
            browser.ok(here, &format!("/login?uid=user{round}"));
            assert_eq!(browser.ok(there, "/info")["uid"], format!("user{round}"));
        }
    }

    /// A-09, with 200 panics instead of 1,000.
    pub(super) fn a_panic_stores_nothing_and_leaks_nothing(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut browser = Browser::new();
        browser.ok(here, "/set?k=a&v=1");
        for _ in 0..200 {
            let reply = browser.get(here, "/panic?k=a&v=2");
            assert_eq!(
                (reply.status, &reply.json()["error"]),
                (500, &"panic".into())
            );
        }
        assert_eq!(browser.value(there, "a").as_deref(), Some("1"));
        browser.ok(here, "/set?k=a&v=3");
        assert_eq!(browser.value(there, "a").as_deref(), Some("3"));
    }

    /// A-10, with 300 resets instead of 10,000.
    pub(super) fn a_client_that_leaves_sees_the_old_or_the_new_state(nodes: &[&Node]) {
        let mut random = Random(10);
        let mut browser = Browser::new();
        browser.ok(nodes[0], "/set?k=a&v=0");
        for round in 1..=300 {
            let (here, there) = (nodes[round % nodes.len()], nodes[(round + 1) % nodes.len()]);
            let request = browser.send_only(here, &format!("/slow?ms=1&k=a&v={round}"));
            sleep(Duration::from_micros(random.below(4000)));
            drop(request);
            // The write was not acknowledged, so a node may lag behind for a moment; and a busy
            // node may process this request after the next one.
            eventually("the nodes agree on a state", || {
                let mut value = |node| {
                    let text = browser.value(node, "a").expect("there is always a value");
                    text.parse::<usize>().expect("the value is whole")
                };
                let (value, other) = (value(here), value(there));
                assert!(value <= round, "up to {round}: {value}");
                value == other
            });
        }
        let value = browser.value(nodes[0], "a");
        assert_ne!(value.as_deref(), Some("0"), "some came through");
        browser.ok(nodes[0], "/set?k=b&v=written");
        assert_eq!(
            browser.value(nodes[nodes.len() - 1], "b").as_deref(),
            Some("written")
        );
    }

    /// A-15.
    pub(super) fn a_task_that_writes_after_the_response_is_stored(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut browser = Browser::new();
        browser.ok(here, "/set?k=a&v=1");
        browser.ok(here, "/spawn?ms=50&k=late&v=2");
        eventually("the task's write arrives", || {
            browser.value(there, "late").as_deref() == Some("2")
        });
    }

    /// A-15.
    pub(super) fn a_task_that_writes_after_a_logout_revives_nothing(nodes: &[&Node]) {
        const WRITE: &str = "the task's write is ";
        let (here, there) = ends(nodes);
        let mut round = 0;
        let mut old = in_time(|| {
            round += 1;
            let mut browser = Browser::new();
            browser.ok(here, "/set?k=a&v=1");
            let old = browser.twin();
            let sent = Instant::now();
            browser.ok(here, "/spawn?ms=1000&k=late&v=2");
            browser.ok(there, "/logout");
            let is_in_time = sent.elapsed() < Duration::from_millis(1_000);
            eventually("the task has tried to write", || {
                here.log().matches(WRITE).count() == round
            });
            is_in_time.then_some(old)
        });
        let log = here.log();
        let last = log.rsplit(WRITE).next();
        assert!(
            last.is_some_and(|end| end.starts_with("not stored")),
            "{log}"
        );
        for node in nodes {
            assert_eq!(old.ok(node, "/info")["session"], false);
            assert_eq!(node.sessions(), 0);
        }
    }

    /// 13, A-15.
    pub(super) fn a_write_from_inside_the_body_is_an_error(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut browser = Browser::new();
        browser.ok(here, "/set?k=a&v=1");
        let body = browser.ok(here, "/stream?ms=50&k=late&v=2");
        assert_eq!(body["error"], "too_late");
        assert_eq!(body["node"], "node1");
        assert_eq!(browser.value(there, "late"), None);

        let mut visitor = Browser::new();
        let body = visitor.ok(here, "/stream?ms=1&k=late&v=2");
        assert_eq!(body["error"], "too_late");
        assert_eq!(visitor.cookie(), None);
    }

    /// A-17.
    pub(super) fn every_status_commits(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        for status in [201, 204, 302, 304, 404, 418, 500, 503] {
            let mut browser = Browser::new();
            let reply = browser.get(here, &format!("/err?status={status}&k=a&v={status}"));
            assert_eq!((reply.status, reply.set_cookies().len()), (status, 1));
            assert_eq!(browser.value(there, "a"), Some(status.to_string()));
        }
        let reply = Browser::new().raw(here, "HEAD", "/set?k=a&v=1", b"");
        assert_eq!((reply.status, reply.set_cookies().len()), (200, 1));
    }

    /// 4, C-04.
    pub(super) fn an_unknown_id_is_not_adopted(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        for planted in [
            "0123456789ABCDEF012345670123456789ABCDEF0123456789ABCDEF.node1",
            "DUMMY_SESSION_ID",
        ] {
            let mut browser = Browser::new();
            browser.set_cookie(planted);
            let mut attacker = browser.twin();
            assert_eq!(browser.ok(here, "/info")["session"], false);
            assert_eq!(browser.cookie(), Some(planted), "reading issues nothing");
            browser.ok(here, "/set?k=a&v=1");
            assert_ne!(browser.bare(), attacker.bare());
            for node in [there, here] {
                assert_eq!(attacker.ok(node, "/info")["session"], false);
            }
        }
    }

    /// C-05.
    pub(super) fn an_id_planted_before_the_login_is_worth_nothing_after_it(nodes: &[&Node]) {
        let (here, there) = ends(nodes);
        let mut attacker = Browser::new();
        attacker.ok(here, "/set?k=a&v=1");
        let mut victim = attacker.twin();
        victim.ok(there, "/login?uid=victim");
        assert_ne!(victim.bare(), attacker.bare());
        for node in nodes {
            let seen = attacker.ok(node, "/info");
            assert_eq!(
                (&seen["session"], &seen["uid"]),
                (&false.into(), &None::<()>.into())
            );
            assert_eq!(victim.ok(node, "/info")["uid"], "victim");
        }
    }

    /// 9, C-09.
    pub(super) fn garbage_is_no_session(nodes: &[&Node]) {
        let long = "A".repeat(10_000);
        let garbage: [&[u8]; 9] = [
            b"",
            b".node1",
            b"\xff\xfe\x80",
            b"../../x",
            b"%2e%2e%2f",
            b"*",
            b"\"quoted\"",
            b"0123456789abcdef0123456789abcdef0123456789abcdef01234567.node1",
            long.as_bytes(),
        ];
        for (round, value) in garbage.iter().enumerate() {
            let node = nodes[round % nodes.len()];
            let header = [b"Cookie: JSESSIONID=", *value, b"\r\n"].concat();
            let reply = Browser::new().raw(node, "GET", "/get?k=a", &header);
            assert_eq!(
                (reply.status, reply.set_cookies().len()),
                (200, 0),
                "{reply:?}"
            );
            assert_eq!(reply.json()["session"], false);
        }
        for node in nodes {
            assert!(!node.log().contains("ERROR"), "{}", node.log());
            assert_eq!(node.sessions(), 0);
        }
    }

    /// C-11.
    pub(super) fn any_route_finds_the_session_and_none_is_echoed(nodes: &[&Node]) {
        let mut browser = Browser::new();
        browser.ok(nodes[0], "/set?k=a&v=1");
        let bare = browser.bare().expect("there is a session").to_owned();
        let long = format!(".{}", "r".repeat(300));
        let routes = [
            "",
            ".",
            ".node1",
            ".elsewhere",
            ".a.b",
            ".%0d%0aX: 1",
            ".<script>",
            &long,
        ];
        for route in routes {
            for node in nodes {
                let mut browser = Browser::new();
                browser.set_cookie(format!("{bare}{route}"));
                let reply = browser.get(node, "/get?k=a");
                assert_eq!(reply.json()["value"], "1", "{route}");
                let own = reply.json()["node"]
                    .as_str()
                    .map(|node| format!("{bare}.{node}"));
                assert_eq!(browser.cookie(), own.as_deref(), "{route}");
                assert!(
                    browser.get(node, "/get?k=a").set_cookies().is_empty(),
                    "{route}"
                );
                if route.len() > 6 {
                    assert!(!reply.everything().contains(route), "{route}");
                    assert!(!node.log().contains(route), "{route}");
                }
            }
        }
    }

    /// The number of sessions. Every node holds each of them, or as many nodes as are configured.
    fn sessions(nodes: &[&Node]) -> u64 {
        let held: Vec<_> = nodes.iter().map(|node| node.sessions()).collect();
        match nodes[0].copies() {
            Some(copies) => {
                let all: u64 = held.iter().sum();
                assert_eq!(all % copies, 0, "{held:?}");
                all / copies
            }
            None => {
                assert!(held.iter().all(|n| *n == held[0]), "{held:?}");
                held[0]
            }
        }
    }

    /// The first node and the last one: on a single node they are the same.
    fn ends<'a>(nodes: &[&'a Node]) -> (&'a Node, &'a Node) {
        (nodes[0], nodes[nodes.len() - 1])
    }
}
