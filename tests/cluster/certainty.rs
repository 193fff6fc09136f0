//! Readiness of nodes, and their certainty that an unknown session does not exist: with peers that
//! reject a node or do not answer, and with clocks that stand still or are set.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::common::{
    Browser, Node, POLL, Scratch, Start, cluster, cluster_starts, eventually, meet, undisturbed,
    until,
};
use crate::logs::{alarms, logs_no_warning};
use serde_json::Value;

/// The rows of `refused`, as address and reason.
fn refused(node: &Node) -> Vec<(String, String)> {
    let cluster = node.cluster();
    let rows = cluster["refused"].as_array().expect("an array");
    let text = |row: &Value, name: &str| row[name].as_str().expect("text").to_owned();
    rows.iter()
        .map(|row| (text(row, "address"), text(row, "reason")))
        .collect()
}

fn cluster_port(start: &Start) -> String {
    start
        .value("--cluster-listen")
        .expect("an address")
        .to_owned()
}

/// A browser with a cookie that no node has issued.
fn stranger() -> Browser {
    let mut browser = Browser::new();
    browser.set_cookie("0123456789ABCDEF012345670123456789ABCDEF0123456789ABCDEF.node1");
    browser
}

/// Asserts that a node serves no session, and touches no cookie.
fn serves_nothing(node: &Node) {
    serves_nothing_before(None, node);
}

/// The same, unless the answers come after a point in time.
fn serves_nothing_before(end: Option<Instant>, node: &Node) {
    let is_over = || end.is_some_and(|end| Instant::now() >= end);
    assert!(!node.is_ready() || is_over(), "{node:?}");
    for path in ["/get?k=a", "/set?k=a&v=1", "/info", "/login?uid=ann"] {
        let reply = stranger().get(node, path);
        if is_over() {
            return;
        }
        assert_eq!(reply.status, 503, "{path} at {node:?}: {}", reply.text());
        assert!(reply.set_cookies().is_empty(), "{path} at {node:?}");
    }
}

fn during(time: Duration, mut check: impl FnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        check();
        sleep(20 * POLL);
    }
}

fn secret(scratch: &Scratch, number: u8) -> String {
    let path = scratch.path().join(format!("secret{number}"));
    let digits = (0..32_u8).map(|i| format!("{:02x}", i.wrapping_mul(7) ^ number));
    fs::write(&path, digits.collect::<String>()).expect("a file can be written");
    path.to_str().expect("paths of tests are text").to_owned()
}

/// Two nodes that have each other's address, and do not fit together. The reason in the list of
/// refused peers contains the word.
fn misfits(scratch: &Scratch) -> Vec<(&'static str, [Start; 2])> {
    let secrets = [1, 2].map(|number| secret(scratch, number));
    let pair = || cluster_starts::<2>(&["--join-timeout", "3"]);
    let [one, two] = pair();
    let name = ["name", "copies", "cluster", "secret", "secret", "secret"];
    let pairs = [
        [one, two.with("--route", "node1")],
        {
            let [one, two] = pair();
            [one, two.args(&["--copies", "3"])]
        },
        {
            let [one, two] = pair();
            [one, two.with("--cluster-name", "another")]
        },
        {
            let [one, two] = pair();
            let [first, second] = &secrets;
            [
                one.args(&["--secret-file", first]),
                two.args(&["--secret-file", second]),
            ]
        },
        {
            let [one, two] = pair();
            [one.args(&["--secret-file", &secrets[0]]), two]
        },
        {
            let [one, two] = pair();
            [one, two.args(&["--secret-file", &secrets[0]])]
        },
    ];
    name.into_iter().zip(pairs).collect()
}

///
#[test]
fn a_node_that_a_peer_rejects_never_serves_until_the_cause_is_gone() {
    let scratch = Scratch::new();
    let misfits = misfits(&scratch);
    scope(|threads| {
        for (word, [one, two]) in misfits {
            threads.spawn(move || {
                undisturbed(|| {
                    let addresses = [&one, &two].map(cluster_port);
                    let mut one = one.ready();
                    let two = two.start();
                    eventually(&format!("{two:?} lists the reason"), || {
                        let rows = refused(&two);
                        let row = rows.iter().find(|(address, _)| *address == addresses[0]);
                        row.is_some_and(|(_, reason)| reason.contains(word))
                    });
                    eventually(&format!("{one:?} lists the reason"), || {
                        let rows = refused(&one);
                        let row = rows.iter().find(|(address, _)| *address == addresses[1]);
                        row.is_some_and(|(_, reason)| reason.contains(word))
                    });
                    // Longer than the time for which a node waits for one that does not answer.
                    during(Duration::from_secs(5), || {
                        serves_nothing(&two);
                        assert!(one.is_ready());
                    });
                    assert!(!refused(&two).is_empty());
                    one.kill();
                    eventually("it serves, and lists nothing", || {
                        two.is_ready() && refused(&two).is_empty()
                    });
                    let absent = stranger().ok(&two, "/get?k=a");
                    assert_eq!(absent["session"], false, "{word}");
                })
            });
        }
    });
}

/// it joins by itself, and is not listed any more.
#[test]
fn a_node_with_a_taken_name_joins_when_the_name_is_free() {
    undisturbed(|| {
        let [one, two, three] = cluster_starts::<3>(&[]);
        let (one, mut two) = (one.start(), two.start());
        meet(&[&one, &two]);
        let twin = three.with("--route", "node2").start();
        let mut browser = Browser::new();
        eventually("it is listed", || {
            refused(&one).len() == 1 && refused(&twin).len() == 2
        });
        browser.ok(&one, "/set?k=a&v=1");
        serves_nothing(&twin);
        two.stop();
        meet(&[&one, &twin]);
        assert_eq!(browser.value(&twin, "a").as_deref(), Some("1"));
        eventually("nothing is listed", || {
            refused(&one).is_empty() && refused(&twin).is_empty()
        });
    });
}

///
#[test]
fn one_wrong_node_does_not_keep_a_cluster_from_starting() {
    undisturbed(|| {
        let [one, two, three, wrong] = cluster_starts::<4>(&["--join-timeout", "60"]);
        let wrong = wrong.args(&["--copies", "3"]).start();
        let began = Instant::now();
        let nodes = [one, two, three].map(|start| start.start());
        meet(&nodes.each_ref());
        // They are not held up until the join timeout.
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{:?}",
            began.elapsed()
        );
        serves_nothing(&wrong);
        eventually("it is refused by all", || refused(&wrong).len() == 3);
        for node in &nodes {
            eventually("it is listed", || refused(node).len() == 1);
            assert_eq!(node.members(), 3);
        }
    });
}

/// a port that accepts connections and sends nothing, and one that sends something else.
#[test]
fn a_peer_that_does_not_answer_makes_an_unknown_session_an_error() {
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let web = Start::memory("web").start();
    let peers = [
        (mute.local_addr().expect("an address"), "does not answer"),
        (web.http, "served by another program"),
    ];
    scope(|threads| {
        for (peer, words) in peers {
            threads.spawn(move || {
                undisturbed(|| {
                    let [start, _] = cluster_starts::<2>(&[]);
                    let start = start.with("--peer", &peer.to_string());
                    let began = Instant::now();
                    let node = start.start();
                    while began.elapsed() < Duration::from_secs(9) {
                        serves_nothing_before(Some(began + Duration::from_secs(10)), &node);
                        sleep(20 * POLL);
                    }
                    node.wait_log(words);
                    node.wait_ready();
                    for path in ["/get?k=a", "/info", "/set?k=a&v=1"] {
                        let reply = stranger().get(&node, path);
                        assert_eq!(reply.status, 503, "{path}: {}", reply.text());
                        assert!(reply.set_cookies().is_empty(), "{path}");
                    }
                    let mut browser = Browser::new();
                    browser.ok(&node, "/set?k=a&v=1");
                    assert_eq!(browser.value(&node, "a").as_deref(), Some("1"));
                    // Not one for each attempt; two problems may alternate after a freeze.
                    let lines = node.log().matches(words).count();
                    assert!((1..=3).contains(&lines), "{}", node.log());
                })
            });
        }
    });
}

///
#[test]
fn a_name_that_does_not_exist_holds_no_node_up() {
    let [start, _] = cluster_starts::<2>(&["--join-timeout", "60"]);
    let start = start.with("--peer", "nowhere.invalid:4000");
    let began = Instant::now();
    let node = start.ready();
    // Two and a half seconds, and what it takes to start a process; not the join timeout.
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(stranger().ok(&node, "/get?k=a")["session"], false);
    node.wait_log("does not resolve");
}

/// C6.
#[test]
fn a_node_that_expects_others_waits_for_them_or_for_its_time_to_pass() {
    undisturbed(|| {
        let [one, two] = cluster_starts::<2>(&["--expect-nodes", "2", "--join-timeout", "4"]);
        let began = Instant::now();
        let alone = one.clone().with("--cluster-name", "alone").ready();
        assert!(
            began.elapsed() >= Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(stranger().get(&alone, "/get?k=a").status, 503);
        drop(alone);
        let nodes = [one.start(), two.start()];
        meet(&nodes.each_ref());
        for node in &nodes {
            assert_eq!(stranger().ok(node, "/get?k=a")["session"], false);
        }
    });
}

/// at no moment does the replacement of a frozen host log a user out.
#[test]
fn the_replacement_of_a_frozen_host_at_another_address_never_says_that_there_is_no_session() {
    let [one, two, new] = cluster_starts::<3>(&[]);
    let (one, two) = (one.start(), two.start());
    meet(&[&one, &two]);
    let mut browser = Browser::new();
    browser.ok(&one, "/login?uid=ann");
    two.signal("STOP");
    let new = new.with("--route", "node2").start();
    eventually("it has joined", || {
        let reply = browser.get(&new, "/info");
        assert!(
            reply.status == 503 || reply.json()["uid"] == "ann",
            "{reply:?}"
        );
        assert!(reply.status == 200 || reply.set_cookies().is_empty());
        reply.status == 200
    });
    two.signal("CONT");
    // The old host has been replaced, so it must not serve.
    during(Duration::from_secs(4), || {
        serves_nothing(&two);
        assert_eq!(browser.ok(&new, "/info")["uid"], "ann");
    });
    assert_eq!((one.members(), new.members()), (2, 2));
    assert!(!refused(&two).is_empty());
}

/// Only the dialing member has a record of the earlier incarnation.
#[test]
fn a_node_that_is_restarted_with_its_clock_set_back_is_not_kept_out() {
    // Where the clock stands still, every incarnation has the same number.
    for (before, after) in [
        ("+1d", "+0"),
        ("2024-01-01 00:00:00", "2024-01-01 00:00:00"),
    ] {
        let [one, two] = cluster_starts::<2>(&[]);
        let two = two.without("--peer");
        let (one, mut early) = (one.start(), two.clone().clock(before).start());
        meet(&[&one, &early]);
        let mut browser = Browser::new();
        browser.ok(&early, "/set?k=a&v=1");
        early.kill();
        let late = two.clock(after).start();
        eventually("it joins", || {
            late.is_ready() && late.members() == 2 && one.members() == 2
        });
        assert_eq!(browser.value(&late, "a").as_deref(), Some("1"));
    }
}

/// A library whose clocks gain on the clock that stands still during suspension: those that go on,
/// and the wall clock alone, by seconds that a file names.
pub(crate) struct Clocks {
    scratch: Scratch,
    library: PathBuf,
}

impl Clocks {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let library = scratch.path().join("clocks.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/clocks.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .status();
        let built = built.expect("there is a C compiler: apt-get install gcc");
        assert!(built.success(), "{built}");
        let clocks = Self { scratch, library };
        clocks.set(0, 0);
        clocks
    }

    fn file(&self) -> PathBuf {
        self.scratch.path().join("seconds")
    }

    /// The machine was suspended for so long, and the wall clock was set forward by so much.
    pub(crate) fn set(&self, suspended: i64, wall: i64) {
        let new = self.scratch.path().join("new");
        fs::write(&new, format!("{suspended} {wall}")).expect("a file can be written");
        fs::rename(&new, self.file()).expect("a file can be renamed");
    }

    pub(crate) fn on(&self, start: &Start) -> Start {
        let text = |path: &Path| path.to_str().expect("paths of tests are text").to_owned();
        start
            .clone()
            .env("LD_PRELOAD", &text(&self.library))
            .env("CLOCKS", &text(&self.file()))
    }
}

///
#[test]
fn a_machine_that_was_suspended_joins_again_and_revives_nothing() {
    let clocks = Clocks::new();
    let [one, two] = cluster_starts::<2>(&[]);
    let (one, two) = (one.start(), clocks.on(&two).start());
    meet(&[&one, &two]);
    let (mut gone, mut kept) = (Browser::new(), Browser::new());
    for slept in [2, 3600, 4 * 3600] {
        gone.ok(&two, "/login?uid=gone");
        kept.ok(&two, "/set?k=a&v=old");
        let mut thief = gone.twin();
        two.signal("STOP");
        eventually("its absence is noticed", || one.members() == 1);
        gone.ok(&one, "/logout");
        kept.ok(&one, &format!("/set?k=a&v={slept}"));
        clocks.set(slept, 0);
        two.signal("CONT");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            let reply = thief.get(&two, "/info");
            assert!(
                reply.status == 503 || reply.json()["session"] == false,
                "{reply:?}"
            );
        }
        meet(&[&one, &two]);
        assert_eq!(kept.value(&two, "a"), Some(slept.to_string()));
        gone.use_cookie(None);
    }
}

/// the other node has not detected it, and the clock that stands still shows no gap.
#[test]
fn a_short_suspension_without_any_stop_is_a_pause() {
    let clocks = Clocks::new();
    let [one, two] = cluster_starts::<2>(&[]);
    let (one, two) = (one.start(), clocks.on(&two).start());
    meet(&[&one, &two]);
    let mut browser = Browser::new();
    browser.ok(&two, "/set?k=a&v=1");
    clocks.set(1800, 0);
    two.wait_log("may have been");
    meet(&[&one, &two]);
    assert_eq!(browser.value(&two, "a").as_deref(), Some("1"));
}

/// Q-04, and deadlines pass while a machine sleeps.
#[test]
fn nodes_of_one_machine_that_was_suspended_serve_again_soon() {
    let clocks = Clocks::new();
    let starts = cluster_starts::<3>(&["--idle", "600"]).map(|start| clocks.on(&start));
    let nodes = starts.map(|start| start.start());
    meet(&nodes.each_ref());
    let (mut short, mut long) = (Browser::new(), Browser::new());
    short.ok(&nodes[0], "/set?k=a&v=1");
    long.ok(&nodes[0], "/set?k=a&v=1");
    long.ok(&nodes[0], "/ttl?s=86400");
    clocks.set(3600, 0);
    for node in &nodes {
        node.wait_log("may have been");
    }
    eventually("they serve again", || {
        nodes
            .iter()
            .all(|node| node.is_ready() && node.members() == 3)
    });
    for node in &nodes {
        assert_eq!(long.value(node, "a").as_deref(), Some("1"));
        assert_eq!(short.ok(node, "/get?k=a")["session"], false);
    }
}

/// K-08, C4: a wall clock that is set expires no session early or late, and loses no write; one
/// that leaps ahead is a pause.
#[test]
fn a_wall_clock_that_is_set_moves_no_deadline() {
    let clocks = Clocks::new();
    let [one, two] = cluster_starts::<2>(&["--idle", "60"]);
    let (one, two) = (one.start(), clocks.on(&two).start());
    meet(&[&one, &two]);
    let mut browser = Browser::new();
    browser.ok(&two, "/set?k=n&v=0");
    for (round, wall) in [3600, 0, 86_400, -86_400, 0].into_iter().enumerate() {
        let written = Instant::now();
        let mut short = Browser::new();
        eventually("it is written", || {
            short.get(&one, "/set?k=a&v=1").status == 200
        });
        short.ok(&one, "/ttl?s=3");
        clocks.set(0, wall);
        eventually("it is noticed", || {
            two.log().matches("the wall clock was set").count() == round + 1
        });
        meet(&[&one, &two]);
        for node in [&one, &two] {
            let value = format!("{round}-{}", node.pid());
            browser.ok(node, &format!("/set?k=n&v={value}"));
            for reader in [&one, &two] {
                assert_eq!(browser.value(reader, "n").as_deref(), Some(&*value));
            }
        }
        let is_known = short.ok(&two, "/info")["session"] == true;
        let is_late = written.elapsed() > Duration::from_millis(2_900);
        assert!(is_known || is_late, "round {round}");
        until(Instant::now() + Duration::from_millis(3_500));
        assert_eq!(short.ok(&two, "/info")["session"], false, "round {round}");
    }
}

/// The operator has chosen to lose the sessions of the last node.
#[test]
fn an_orderly_stop_of_the_last_node_or_of_all_nodes_is_no_reason_to_warn() {
    logs_no_warning(stop_the_last_node);
    logs_no_warning(stop_all_nodes);
}

fn stop_the_last_node() -> Vec<String> {
    let [mut last, mut first] = cluster(&["--drain-wait", "0"]);
    let mut browser = Browser::new();
    browser.ok(&last, "/set?k=a&v=1");
    first.stop();
    last.stop();
    [alarms(&first), alarms(&last)].concat()
}

fn stop_all_nodes() -> Vec<String> {
    let scratch = Scratch::new();
    let mut number = 0;
    let mut nodes = cluster_starts::<2>(&[]).map(|start| {
        number += 1;
        let file = scratch.path().join(format!("node{number}"));
        let start = start.args(&["--file", file.to_str().expect("paths of tests are text")]);
        start.start()
    });
    meet(&nodes.each_ref());
    Browser::new().ok(&nodes[0], "/set?k=a&v=1");
    for node in &nodes {
        node.signal("TERM");
    }
    for node in &mut nodes {
        assert!(node.wait_end().success());
    }
    nodes.iter().flat_map(alarms).collect()
}

/// Each session counts once in the whole cluster, wherever it is kept.
#[test]
fn what_was_created_deleted_and_has_expired_is_counted() {
    undisturbed(|| {
        let nodes: [Node; 3] = cluster(&[]);
        let total = |name: &str| -> u64 {
            let of = |node: &Node| node.cluster()[name].as_u64().expect("a number");
            nodes.iter().map(of).sum()
        };
        let mut browsers: Vec<_> = (0..6).map(|_| Browser::new()).collect();
        for (number, browser) in browsers.iter_mut().enumerate() {
            browser.ok(&nodes[number % 3], "/set?k=a&v=1");
            browser.ok(&nodes[(number + 1) % 3], "/rotate");
        }
        browsers[0].ok(&nodes[1], "/logout");
        browsers[1].ok(&nodes[1], "/ttl?s=1");
        browsers[2].ok(&nodes[1], "/ttl?s=1");
        eventually("two expire", || total("expired") == 2);
        assert_eq!((total("created"), total("deleted")), (6, 1));

        let alone = Start::memory("node1").start();
        let mut browser = Browser::new();
        browser.ok(&alone, "/set?k=a&v=1");
        browser.ok(&alone, "/logout");
        browser.ok(&alone, "/set?k=a&v=1");
        browser.ok(&alone, "/ttl?s=1");
        eventually("it expires", || alone.cluster()["expired"] == 1);
        let status = alone.cluster();
        assert_eq!(
            (&status["created"], &status["deleted"]),
            (&2.into(), &1.into())
        );
    });
}
