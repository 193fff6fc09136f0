//! Replicated nodes as real processes: failover, restarts, joining, leaving, crashes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::common::{
    Browser, Node, PATIENCE, Random, Start, cluster, cluster_starts, eventually, in_time, meet,
    read_at_intervals, undisturbed,
};
use serde_json::{Value, json};

#[test]
fn the_nodes_describe_each_other() {
    undisturbed(|| {
        let [n1, n2] = cluster(&[]);
        let mut browser = Browser::new();
        browser.ok(&n1, "/set?k=a&v=1");
        for (node, own, other) in [(&n1, "node1", "node2"), (&n2, "node2", "node1")] {
            let status = node.cluster();
            assert_eq!(
                (&status["clustered"], &status["ready"]),
                (&json!(true), &json!(true))
            );
            assert_eq!(
                (&status["copies"], &status["sessions"]),
                (&json!(2), &json!(1))
            );
            assert!(status["bytes"].as_u64() > Some(0));
            for zero in ["under_replicated", "degraded_acks", "tombstones"] {
                assert_eq!(status[zero], 0, "{zero}");
            }
            let members = status["members"].as_array().expect("an array");
            let mut routes: Vec<_> = members.iter().map(|member| &member["route"]).collect();
            routes.sort_by_key(|route| *route != own);
            assert_eq!(routes, [own, other]);
            for member in members {
                assert_eq!(member["state"], "ready");
                assert!(member["address"].is_string() && member["age_ms"].is_u64());
                assert!(member["lag"].is_u64());
            }
        }
    });
}

/// 57.
#[test]
fn a_port_that_is_given_and_taken_is_a_clear_failure() {
    let [start, ..] = cluster_starts::<2>(&[]);
    let _first = start.start();
    let (status, message) = start.refused();
    assert!(!status.success(), "{status}");
    assert!(message.contains("taken"), "{message}");
}

/// Case 57.
#[test]
fn without_a_given_port_nodes_take_free_ones_from_4000() {
    let start = |name| Start::default().args(&["--store", "replicated", "--cluster-name", name]);
    let nodes = [start("ports").start(), start("ports").start()];
    let ports = nodes.each_ref().map(|node| {
        let address = node.cluster()["members"][0]["address"].clone();
        let (_, port) = address
            .as_str()
            .and_then(|a| a.rsplit_once(':'))
            .expect("an address");
        port.parse::<u16>().expect("a port")
    });
    assert!(
        ports.iter().all(|port| (4000..=4100).contains(port)),
        "{ports:?}"
    );
    assert_ne!(ports[0], ports[1]);
}

/// N-01.
#[test]
fn an_address_that_other_machines_reach_is_refused() {
    for flag in ["--cluster-listen", "--advertise", "--peer"] {
        let args = [
            "--store",
            "replicated",
            "--route",
            "node1",
            flag,
            "192.0.2.1:4000",
        ];
        let (status, message) = Start::default().args(&args).refused();
        assert!(
            !status.success() && message.contains("openssl rand"),
            "{flag}: {message}"
        );
    }
}

/// Case 57.
#[test]
fn nodes_of_another_cluster_are_not_accepted() {
    undisturbed(|| {
        let [here, there] = cluster_starts::<2>(&[]);
        let here = here.ready();
        // It may be either of the two that has the wrong name: a node that is rejected does not
        // serve.
        let there = there
            .without("--peer")
            .with("--cluster-name", "another")
            .ready();
        for node in [&here, &there] {
            assert_eq!(node.members(), 1);
        }
        let mut browser = Browser::new();
        browser.ok(&here, "/set?k=a&v=1");
        assert_eq!(browser.ok(&there, "/get?k=a")["session"], false);
        assert_eq!((here.members(), there.members()), (1, 1));
    });
}

#[test]
fn a_node_that_finds_no_peer_serves_alone_and_merges_later() {
    undisturbed(|| {
        let [first, second] = cluster_starts(&["--join-timeout", "60"]);
        let started = Instant::now();
        let n1 = first.ready();
        // Two seconds, and what it takes to start a process; not the join timeout.
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{:?}",
            started.elapsed()
        );
        let mut browser = Browser::new();
        browser.ok(&n1, "/set?k=a&v=1");
        let n2 = second.start();
        meet(&[&n1, &n2]);
        assert_eq!(browser.value(&n2, "a").as_deref(), Some("1"));
    });
}

/// Case 46.
#[test]
fn after_failover_the_cookie_names_the_node_that_serves_and_is_not_repeated() {
    undisturbed(|| {
        let [mut n1, n2] = cluster(&[]);
        let mut browser = Browser::new();
        browser.ok(&n1, "/set?k=a&v=1");
        let bare = browser.bare().expect("a session").to_owned();
        n1.kill();
        let reply = browser.get(&n2, "/get?k=a");
        assert_eq!(reply.json()["value"], "1");
        assert_eq!(reply.set_cookies().len(), 1);
        assert_eq!(browser.cookie(), Some(&*format!("{bare}.node2")));
        assert!(browser.get(&n2, "/get?k=a").set_cookies().is_empty());
        assert_eq!(browser.ok(&n2, "/info")["requested_route"], "node2");
        assert_eq!(browser.ok(&n2, "/cluster")["turnovers"], 1);
    });
}

/// Case 47.
#[test]
fn without_routes_the_cookie_does_not_change() {
    undisturbed(|| {
        let [mut n1, n2] = cluster_starts(&[]).map(|start| start.without("--route").start());
        meet(&[&n1, &n2]);
        let mut browser = Browser::new();
        browser.ok(&n1, "/set?k=a&v=1");
        assert_eq!(browser.cookie().map(str::len), Some(56));
        n1.kill();
        let reply = browser.get(&n2, "/get?k=a");
        assert_eq!(reply.json()["value"], "1");
        assert!(reply.set_cookies().is_empty());
    });
}

/// Case 48.
#[test]
fn a_change_in_the_very_request_that_fails_over_is_kept() {
    undisturbed(|| {
        let [mut n1, n2] = cluster(&[]);
        let mut browser = Browser::new();
        browser.ok(&n1, "/set?k=a&v=1");
        browser.ok(&n1, "/update");
        n1.kill();
        let reply = soon(&mut browser, &n2, "/update");
        assert_eq!(reply["n"], 2);
        was_refused(&n2, 1);
        browser.ok(&n2, "/set?k=a&v=2");
        assert_eq!(browser.value(&n2, "a").as_deref(), Some("2"));
    });
}

/// Case 50.
#[test]
fn with_affinity_off_the_cookie_stays_and_a_restarted_node_is_not_stale() {
    undisturbed(|| {
        let [mut n1, n2] = cluster(&["--affinity", "off"]);
        let mut browser = Browser::new();
        browser.ok(&n1, "/set?k=a&v=1");
        let issued = browser.cookie().map(str::to_owned);
        assert!(browser.get(&n2, "/set?k=a&v=2").set_cookies().is_empty());
        n1.stop();
        n1.restart();
        meet(&[&n1, &n2]);
        browser.ok(&n2, "/set?k=a&v=3");
        assert_eq!(browser.value(&n1, "a").as_deref(), Some("3"));
        assert_eq!(browser.cookie().map(str::to_owned), issued);
        assert_eq!(browser.ok(&n2, "/info")["requested_route"], "node1");
        assert_eq!(browser.ok(&n2, "/cluster")["turnovers"], 3);
        assert_eq!(browser.ok(&n1, "/cluster")["turnovers"], 0);
    });
}

/// Case 51.
#[test]
fn a_counter_counts_on_through_restarts() {
    undisturbed(|| {
        let [mut n1, mut n2, n3] = cluster(&[]);
        let mut browser = Browser::new();
        let mut expected = 0;
        let mut count = |nodes: &[&Node]| {
            for node in nodes {
                expected += 1;
                assert_eq!(browser.ok(node, "/incr")["n"], expected, "at {node:?}");
            }
        };
        count(&[&n1, &n2, &n3]);
        n1.stop();
        count(&[&n2, &n2, &n3, &n3]);
        n1.restart();
        n1.wait_ready();
        count(&[&n2, &n3]);
        n2.stop();
        count(&[&n1, &n3]);
        n2.restart();
        n2.wait_ready();
        count(&[&n1]);
    });
}

/// Case 52.
#[test]
fn a_rolling_restart_without_a_single_request_loses_nothing() {
    undisturbed(|| {
        let mut nodes = cluster::<3>(&[]);
        let mut browsers: Vec<_> = (0..50).map(|_| Browser::new()).collect();
        for (number, browser) in browsers.iter_mut().enumerate() {
            browser.ok(&nodes[0], &format!("/login?uid=user{number}"));
        }
        for node in &mut nodes {
            node.stop();
            node.restart();
            node.wait_ready();
        }
        for (number, browser) in browsers.iter_mut().enumerate() {
            let node = &nodes[number % nodes.len()];
            assert_eq!(browser.ok(node, "/info")["uid"], format!("user{number}"));
        }
    });
}

/// Case 53: five crashes, each right after forty acknowledged writes from four clients.
#[test]
fn what_was_acknowledged_before_a_kill_is_on_the_other_node() {
    undisturbed(|| {
        let [mut n1, n2] = cluster(&[]);
        for round in 1..=5 {
            let mut browsers: Vec<_> = (0..40).map(|_| Browser::new()).collect();
            scope(|threads| {
                for browsers in browsers.chunks_mut(10) {
                    let n1 = &n1;
                    threads.spawn(move || {
                        for browser in browsers {
                            browser.ok(n1, &format!("/set?k=a&v={round}"));
                        }
                    });
                }
            });
            n1.kill();
            for browser in &mut browsers {
                let reply = soon(browser, &n2, "/get?k=a");
                assert_eq!(reply["value"], round.to_string());
            }
            was_refused(&n2, round);
            n1.restart();
            meet(&[&n1, &n2]);
        }
        assert_eq!(n1.sessions(), 200);
    });
}

/// Case 53, asynchronous: an orderly stop loses nothing.
#[test]
fn with_local_acknowledgement_an_orderly_stop_loses_nothing() {
    undisturbed(|| {
        let [mut n1, n2] = cluster(&["--ack", "local", "--drain-wait", "0"]);
        let mut browsers: Vec<_> = (0..200).map(|_| Browser::new()).collect();
        // More than lies in the buffers between two processes.
        for browser in &mut browsers {
            browser.ok(&n1, "/set?k=a&bytes=100000");
        }
        n1.stop();
        for browser in &mut browsers {
            let value = browser.value(&n2, "a");
            assert_eq!(value.map(|value| value.len()), Some(100_000));
        }
    });
}

/// Case 37.
#[test]
fn reading_on_a_node_that_fails_has_kept_the_session_alive() {
    undisturbed(|| {
        let [idle, interval] = [4, 1].map(Duration::from_secs);
        in_time(|| {
            let [mut n1, n2] = cluster(&[]);
            let mut browser = Browser::new();
            browser.ok(&n1, "/set?k=a&v=1");
            let last = read_at_intervals(&mut browser, &n1, &[&n1], idle, interval, 12)?;
            n1.kill();
            let reply = soon(&mut browser, &n2, "/get?k=a");
            if last.elapsed() > idle {
                return None;
            }
            assert_eq!(reply["value"], "1");
            sleep(Duration::from_millis(4500));
            assert_eq!(browser.ok(&n2, "/get?k=a")["session"], false);
            Some(())
        });
    });
}

/// Case 56.
#[test]
fn a_node_that_joins_under_load_with_a_wrong_clock_gets_everything_and_breaks_nothing() {
    undisturbed(|| {
        const SESSIONS: usize = 5000;
        let [first, second] = cluster_starts(&[]);
        let (n1, second) = (first.ready(), second.clock("+5m"));
        let mut users: Vec<_> = (0..SESSIONS).map(|_| User::default()).collect();
        scope(|threads| {
            for users in users.chunks_mut(SESSIONS / 4) {
                let n1 = &n1;
                threads.spawn(move || {
                    let mut connection = Browser::new();
                    for user in users {
                        user.click(&mut connection, n1);
                    }
                });
            }
        });
        assert_eq!(n1.sessions(), SESSIONS as u64);

        let done = AtomicBool::new(false);
        let logouts = AtomicU64::new(0);
        let n2 = scope(|threads| {
            let _end = SetOnDrop(&done);
            for (seed, users) in users.chunks_mut(SESSIONS / 4).enumerate() {
                let (n1, done, logouts) = (&n1, &done, &logouts);
                threads.spawn(move || {
                    let mut random = Random(seed as u64);
                    let mut connection = Browser::new();
                    while !done.load(Ordering::Relaxed) {
                        let user = &mut users[random.below(SESSIONS as u64 / 4) as usize];
                        if random.below(10) == 0 {
                            logouts.fetch_add(1, Ordering::Relaxed);
                            user.log_out(&mut connection, n1);
                        } else {
                            user.click(&mut connection, n1);
                        }
                    }
                });
            }
            sleep(Duration::from_millis(300));
            let n2 = second.start();
            n2.wait_ready();
            let held = n2.sessions();
            let ended = logouts.load(Ordering::Relaxed);
            assert!(
                held >= SESSIONS as u64 - ended,
                "ready with {held} sessions, {ended} ended"
            );
            meet(&[&n1, &n2]);
            sleep(Duration::from_millis(300));
            n2
        });
        let mut connection = Browser::new();
        for user in &mut users {
            user.check(&mut connection, &n2);
        }
        assert_eq!(n1.sessions(), n2.sessions());
    });
}

/// K-08, small: clocks an hour apart, in both directions.
#[test]
fn nodes_whose_clocks_disagree_by_an_hour_agree_about_sessions() {
    undisturbed(|| {
        for shift in ["+1h", "-1h"] {
            let [first, second] = cluster_starts(&[]);
            let (n1, n2) = (first.start(), second.clock(shift).start());
            meet(&[&n1, &n2]);
            let mut browser = Browser::new();
            for round in 0..10 {
                for node in [&n1, &n2] {
                    browser.ok(node, &format!("/set?k=a&v={round}"));
                    for reader in [&n2, &n1] {
                        assert_eq!(
                            browser.value(reader, "a"),
                            Some(round.to_string()),
                            "{shift}"
                        );
                    }
                }
            }
            let (idle, interval) = (Duration::from_secs(2), Duration::from_millis(500));
            in_time(|| {
                browser.ok(&n1, "/set?k=a&v=1");
                read_at_intervals(&mut browser, &n1, &[&n2], idle, interval, 6)
            });
            for node in [&n1, &n2] {
                eventually("it ends everywhere", || node.sessions() == 0);
            }
        }
    });
}

/// K-01, small: the user's next request after a crash is answered soon, and counts on.
#[test]
fn after_a_kill_the_next_request_is_answered_soon() {
    undisturbed(|| {
        let [mut n1, n2, n3] = cluster(&[]);
        let mut browser = Browser::new();
        for n in 1..=5 {
            assert_eq!(browser.ok(&n1, "/update")["n"], n);
        }
        n1.kill();
        assert_eq!(soon(&mut browser, &n2, "/update")["n"], 6);
        assert_eq!(soon(&mut browser, &n3, "/update")["n"], 7);
        eventually("the failed node is removed", || {
            n2.members() == 2 && n3.members() == 2
        });
    });
}

/// K-03, small: one node after the other ends in order and comes back, while users are sent to
/// nodes whose `/health` succeeds; not one of their requests fails.
#[test]
fn a_rolling_restart_under_load_fails_no_request() {
    undisturbed(|| {
        // On a busy machine, the balancer takes longer to notice that a node is about to end.
        let mut nodes = cluster::<3>(&["--drain-wait", "5"]);
        // Another test may start a server at the address of a node that has ended.
        let known = Mutex::new(nodes.each_ref().map(|node| Some(node.http)));
        let serving = RwLock::new(nodes.each_ref().map(|node| node.http).to_vec());
        let done = AtomicBool::new(false);
        let requests = AtomicU64::new(0);
        scope(|threads| {
            let _end = SetOnDrop(&done);
            threads.spawn(|| {
                // The balancer's health check.
                while !done.load(Ordering::Relaxed) {
                    let known = known.lock().unwrap().into_iter().flatten();
                    let healthy = known.filter(|at| {
                        Browser::new()
                            .try_get(at, "/health")
                            .is_ok_and(|reply| reply.status == 200)
                    });
                    *serving.write().unwrap() = healthy.collect();
                    sleep(Duration::from_millis(20));
                }
            });
            for seed in 0..4 {
                let (serving, done, requests) = (&serving, &done, &requests);
                threads.spawn(move || {
                    let mut random = Random(seed);
                    let mut browser = Browser::new();
                    let mut n = 0;
                    while !done.load(Ordering::Relaxed) {
                        let at = {
                            let serving = serving.read().unwrap();
                            serving[random.below(serving.len() as u64) as usize]
                        };
                        n += 1;
                        assert_eq!(browser.ok(&at, "/update")["n"], n);
                        requests.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for (number, node) in nodes.iter_mut().enumerate() {
                node.signal("TERM");
                eventually("the balancer sends no requests there", || {
                    !serving.read().unwrap().contains(&node.http)
                });
                known.lock().unwrap()[number] = None;
                assert!(node.wait_end().success(), "{}", node.log());
                node.restart();
                known.lock().unwrap()[number] = Some(node.http);
                node.wait_ready();
                eventually("the balancer sends requests there", || {
                    serving.read().unwrap().contains(&node.http)
                });
            }
        });
        assert!(requests.into_inner() > 100);
    });
}

/// K-04, small: a node that was stopped during a logout does not serve the session afterward.
#[test]
fn a_node_that_was_stopped_wakes_up_to_the_truth() {
    let [n1, n2] = cluster(&[]);
    let (mut gone, mut kept) = (Browser::new(), Browser::new());
    gone.ok(&n1, "/login?uid=gone");
    kept.ok(&n1, "/login?uid=kept");
    let mut thief = gone.twin();
    n1.signal("STOP");
    patiently(&mut gone, &n2, "/logout");
    patiently(&mut kept, &n2, "/set?k=a&v=new");
    n1.signal("CONT");
    // It must never serve a state that is out of date; it may answer that it is not ready.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let reply = thief.get(&n1, "/info");
        assert!(
            reply.status == 503 || reply.json()["session"] == false,
            "{reply:?}"
        );
        let reply = kept.get(&n1, "/get?k=a");
        assert!(
            reply.status == 503 || reply.json()["value"] == "new",
            "{reply:?}"
        );
    }
    meet(&[&n1, &n2]);
    assert_eq!(thief.ok(&n1, "/info")["session"], false);
    assert_eq!(kept.value(&n1, "a").as_deref(), Some("new"));
}

/// A-16, K-04. The node has just answered a login when it is stopped; the user is logged out
/// everywhere meanwhile.
#[test]
fn a_login_that_a_stopped_node_has_just_answered_is_invalid_when_it_wakes_up() {
    let nodes = cluster::<3>(&[]);
    for round in 0..4 {
        let [stopped, elsewhere] = [&nodes[round % 3], &nodes[(round + 1) % 3]];
        let uid = format!("user{round}");
        let mut browser = Browser::new();
        browser.ok(stopped, &format!("/login?uid={uid}&label=laptop"));
        stopped.signal("STOP");
        let path = format!("/logout-user?uid={uid}");
        patiently(&mut Browser::new(), elsewhere, &path);
        stopped.signal("CONT");
        let woken = Instant::now();
        let mut is_known = [false; 3];
        while is_known != [true; 3] || woken.elapsed() < Duration::from_secs(2) {
            assert!(woken.elapsed() < PATIENCE, "{is_known:?}");
            for (node, is_known) in nodes.iter().zip(&mut is_known) {
                let reply = browser.twin().get(node, "/info");
                let is_dead = reply.status == 200 && reply.json()["session"] == false;
                // It must never serve the session; it may answer that it is not ready.
                assert!(is_dead || reply.status == 503, "{reply:?}");
                *is_known |= is_dead;
            }
        }
        meet(&nodes.each_ref());
        let list = Browser::new().ok(stopped, &format!("/sessions?uid={uid}"));
        assert_eq!(list["sessions"], json!([]));
    }
}

/// K-09.
#[test]
fn a_logout_holds_for_a_node_that_was_down_meanwhile() {
    undisturbed(|| {
        let [mut n1, n2] = cluster(&[]);
        let mut browser = Browser::new();
        browser.ok(&n1, "/login?uid=ann");
        let mut thief = browser.twin();
        n1.kill();
        soon(&mut browser, &n2, "/logout");
        n1.restart();
        meet(&[&n1, &n2]);
        for node in [&n1, &n2] {
            assert_eq!(thief.ok(node, "/info")["session"], false);
            assert_eq!(node.sessions(), 0);
        }
    });
}

#[test]
fn with_fewer_copies_than_demanded_writes_are_refused_and_reads_are_not() {
    undisturbed(|| {
        let [mut n1, n2] = cluster(&["--min-copies", "2"]);
        let mut browser = Browser::new();
        browser.ok(&n1, "/set?k=a&v=1");
        n1.kill();
        eventually("the failed node is removed", || n2.members() == 1);
        let refused = browser.get(&n2, "/set?k=a&v=2");
        assert_eq!(refused.status, 503, "{refused:?}");
        assert_eq!(browser.value(&n2, "a").as_deref(), Some("1"));
        assert_eq!(
            Browser::new().get(&n2, "/set?k=a&v=1").set_cookies().len(),
            0
        );
        n1.restart();
        meet(&[&n1, &n2]);
        browser.ok(&n2, "/set?k=a&v=2");
    });
}

/// 60 (i), K-03.
#[test]
fn a_node_that_ends_in_order_is_out_at_once() {
    undisturbed(|| {
        let [mut n1, n2] = cluster(&["--drain-wait", "0", "--copies", "all"]);
        let mut browser = Browser::new();
        browser.ok(&n1, "/set?k=a&v=1");
        n1.stop();
        browser.ok(&n2, "/set?k=a&v=2");
        // It has announced its departure: no timeout has to pass.
        n2.wait_log("a member has left the cluster");
        eventually("it is gone", || n2.members() == 1);
    });
}

/// A user of the join test, with the state of its counter.
#[derive(Default)]
struct User {
    cookie: Option<String>,
    acknowledged: u64,
    unknown: u64,
    gone: bool,
}

impl User {
    fn click(&mut self, connection: &mut Browser, node: &Node) {
        if self.gone {
            return;
        }
        connection.use_cookie(self.cookie.as_deref());
        let reply = connection.get(node, "/update");
        self.cookie = connection.cookie().map(str::to_owned);
        match reply.status {
            200 => self.acknowledged += 1,
            503 => self.unknown += 1,
            _ => panic!("{reply:?}"),
        }
    }

    fn log_out(&mut self, connection: &mut Browser, node: &Node) {
        connection.use_cookie(self.cookie.as_deref());
        let ended = connection.get(node, "/logout");
        self.gone |= ended.status == 200;
    }

    /// What it finds on another node must be everything that was acknowledged.
    fn check(&mut self, connection: &mut Browser, node: &Node) {
        connection.use_cookie(self.cookie.as_deref());
        let reply = connection.ok(node, "/get?k=session_counter&as=u64");
        if self.gone {
            assert_eq!(reply["session"], false);
            return;
        }
        let n = reply["value"].as_u64().expect("the counter is there");
        let possible = self.acknowledged..=self.acknowledged + self.unknown;
        assert!(possible.contains(&n), "{n} of {possible:?}");
    }
}

/// The first request after a crash: answered with success, and not late.
fn soon(browser: &mut Browser, node: &Node, path: &str) -> Value {
    let asked = Instant::now();
    let answer = browser.ok(node, path);
    let took = asked.elapsed();
    println!("{path} took {took:?} after a crash");
    assert!(took < AFTER_A_CRASH, "{path} took {took:?}");
    answer
}

/// Asserts that a node has detected by itself that the only other one has crashed: a connection was
/// refused. Without that, no answer for some seconds is the cause.
fn was_refused(node: &Node, crashes: usize) {
    eventually("the crash is detected", || {
        node.log().matches("a member is down").count() == crashes
    });
    let log = node.log();
    let refused = log.matches("cause=\"connection refused\"").count();
    assert_eq!(refused, crashes, "{log}");
}

/// Sends requests until the answer is 200: it may be 503 until the node detects that another node
/// hangs.
fn patiently(browser: &mut Browser, node: &Node, path: &str) {
    eventually(&format!("{path} at {node:?}"), || {
        let reply = browser.get(node, path);
        assert!(matches!(reply.status, 200 | 503), "{reply:?}");
        reply.status == 200
    });
}

/// Ends the other threads of a test also when this one panics.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How late the survivors may answer after a crash. The aim is one second; this machine may be
/// busy with other tests. Whether it takes so long because of them is in the log: `was_refused`.
const AFTER_A_CRASH: Duration = Duration::from_secs(8);
