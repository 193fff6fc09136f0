//! Clusters whose nodes keep a file: all of them stopped at once, one of them away for a while.

use std::time::Duration;

use distributable::ReplicatedStore;
use distributable::store::SnapshotErrorKind;

use crate::common::{Browser, Node, Start, cluster_starts, eventually, meet, undisturbed};
use crate::support::Directory;

/// Two nodes with a file each.
fn starts(directory: &Directory) -> [Start; 2] {
    let mut number = 0;
    cluster_starts::<2>(&[]).map(|start| {
        number += 1;
        let file = directory.path().join(format!("node{number}"));
        start.args(&["--file", file.to_str().expect("paths of tests are text")])
    })
}

fn start(starts: &[Start; 2]) -> [Node; 2] {
    let nodes = starts.each_ref().map(Start::start);
    meet(&nodes.each_ref());
    nodes
}

/// 60 (a), K-12: all nodes are stopped at once and started again; every session is there once.
#[test]
fn a_stop_of_all_nodes_at_once_loses_nothing() {
    undisturbed(|| {
        let directory = Directory::new();
        let starts = starts(&directory);
        let mut nodes = start(&starts);
        let mut browsers: Vec<_> = (0..100).map(|_| Browser::new()).collect();
        for (number, browser) in browsers.iter_mut().enumerate() {
            browser.ok(&nodes[number % 2], &format!("/set?k=number&v={number}"));
        }
        for node in &nodes {
            node.signal("TERM");
        }
        for node in &mut nodes {
            assert!(node.wait_end().success(), "{}", node.log());
        }
        let nodes = start(&starts);
        for (number, browser) in browsers.iter_mut().enumerate() {
            for node in &nodes {
                assert_eq!(browser.value(node, "number"), Some(number.to_string()));
            }
        }
        for node in &nodes {
            assert_eq!(node.sessions(), 100);
        }
        consumed(&directory);
    });
}

/// The files of all nodes were used, or are not needed any more.
fn consumed(directory: &Directory) {
    eventually("the files are consumed", || {
        let names = directory.names();
        names.iter().all(|name| name.ends_with(".lock"))
    });
}

/// F-11: stop 1, log out on 2, stop 2, start 1 alone. Its file is older than what happened on 2.
#[test]
fn a_node_that_stopped_before_others_revives_nothing_alone() {
    undisturbed(|| {
        let directory = Directory::new();
        let starts = starts(&directory);
        let [mut first, mut second] = start(&starts);
        let (mut ended, mut moved, mut kept) = (Browser::new(), Browser::new(), Browser::new());
        for browser in [&mut ended, &mut moved, &mut kept] {
            browser.ok(&first, "/set?k=a&v=1");
        }
        first.stop();
        let mut dead = [ended.twin(), moved.twin()];
        ended.ok(&second, "/logout");
        moved.ok(&second, "/login?uid=ada");
        second.stop();
        first.restart();
        first.wait_ready();
        for browser in dead.iter_mut().chain([&mut kept, &mut moved]) {
            assert_eq!(browser.ok(&first, "/info")["session"], false);
        }
        second.restart();
        meet(&[&first, &second]);
        for node in [&first, &second] {
            for browser in &mut dead {
                assert_eq!(browser.ok(node, "/info")["session"], false);
            }
            assert_eq!(kept.value(node, "a").as_deref(), Some("1"));
            assert_eq!(moved.value(node, "uid").as_deref(), Some("ada"));
        }
        consumed(&directory);
    });
}

/// F-11: with three nodes, two that come back have no record of what the third one has ended.
#[test]
fn two_nodes_that_stopped_before_the_third_revive_nothing() {
    undisturbed(|| {
        let directory = Directory::new();
        let mut number = 0;
        let starts = cluster_starts::<3>(&[]).map(|start| {
            number += 1;
            let file = directory.path().join(format!("node{number}"));
            start.args(&["--file", file.to_str().expect("paths of tests are text")])
        });
        let [mut first, mut second, mut third] = starts.each_ref().map(Start::start);
        meet(&[&first, &second, &third]);
        let (mut ended, mut kept) = (Browser::new(), Browser::new());
        for browser in [&mut ended, &mut kept] {
            browser.ok(&first, "/set?k=a&v=1");
        }
        first.stop();
        second.stop();
        let mut thief = ended.twin();
        ended.ok(&third, "/logout");
        third.stop();
        first.restart();
        second.restart();
        meet(&[&first, &second]);
        for node in [&first, &second] {
            assert_eq!(thief.ok(node, "/info")["session"], false);
        }
        third.restart();
        meet(&[&first, &second, &third]);
        for node in [&first, &second, &third] {
            assert_eq!(thief.ok(node, "/info")["session"], false);
            assert_eq!(kept.value(node, "a").as_deref(), Some("1"));
        }
        consumed(&directory);
    });
}

/// F-11: the other node is killed instead, and its record of ended sessions is lost with it.
#[test]
fn a_node_that_stopped_before_one_that_was_killed_revives_nothing() {
    undisturbed(|| {
        let directory = Directory::new();
        let [mut first, mut second] = start(&starts(&directory));
        let mut ended = Browser::new();
        ended.ok(&first, "/set?k=a&v=1");
        first.stop();
        let mut thief = ended.twin();
        ended.ok(&second, "/logout");
        second.kill();
        first.restart();
        second.restart();
        meet(&[&first, &second]);
        for node in [&first, &second] {
            assert_eq!(thief.ok(node, "/info")["session"], false);
        }
        consumed(&directory);
    });
}

/// F-11: both receive the signal to stop, but one of them still serves for a while.
#[test]
fn what_ends_while_the_last_node_stops_is_not_revived() {
    undisturbed(|| {
        let directory = Directory::new();
        let [one, two] = starts(&directory);
        let starts = [one, two.args(&["--drain-wait", "20"])];
        let [mut first, mut second] = start(&starts);
        let (mut ended, mut kept) = (Browser::new(), Browser::new());
        for browser in [&mut ended, &mut kept] {
            browser.ok(&first, "/set?k=a&v=1");
        }
        second.signal("TERM");
        first.signal("TERM");
        assert!(first.wait_end().success(), "{}", first.log());
        let mut thief = ended.twin();
        ended.ok(&second, "/logout");
        assert!(second.wait_end().success(), "{}", second.log());
        first.restart();
        first.wait_ready();
        for browser in [&mut thief, &mut kept] {
            assert_eq!(browser.ok(&first, "/info")["session"], false);
        }
        first.wait_log("it is not used");
        assert!(directory.path().join("node1").exists(), "it is kept");
        second.restart();
        meet(&[&first, &second]);
        for node in [&first, &second] {
            assert_eq!(thief.ok(node, "/info")["session"], false);
            assert_eq!(kept.value(node, "a").as_deref(), Some("1"));
        }
    });
}

/// F-11: one node after the other, each with its file: nothing is lost, and no file is left.
#[test]
fn a_rolling_restart_with_files_loses_nothing() {
    undisturbed(|| {
        let directory = Directory::new();
        let mut nodes = start(&starts(&directory));
        let mut browsers: Vec<_> = (0..50).map(|_| Browser::new()).collect();
        for (number, browser) in browsers.iter_mut().enumerate() {
            browser.ok(&nodes[number % 2], &format!("/set?k=number&v={number}"));
        }
        for _ in 0..2 {
            for index in 0..2 {
                nodes[index].stop();
                nodes[index].restart();
                meet(&nodes.each_ref());
            }
        }
        for (number, browser) in browsers.iter_mut().enumerate() {
            for node in &nodes {
                assert_eq!(browser.value(node, "number"), Some(number.to_string()));
            }
        }
        consumed(&directory);
    });
}

/// F-11: a memory store is alone for good, so it never uses the file of a node that others
/// survived.
#[test]
fn a_memory_store_does_not_use_a_file_that_others_survived() {
    undisturbed(|| {
        let directory = Directory::new();
        let [one, two] = starts(&directory);
        let starts = [one, two.args(&["--drain-wait", "20"])];
        let [mut first, mut second] = start(&starts);
        let mut browser = Browser::new();
        browser.ok(&first, "/set?k=a&v=1");
        second.signal("TERM");
        first.signal("TERM");
        assert!(first.wait_end().success(), "{}", first.log());
        let mut alone = Start::file("node1", &directory.path().join("node1")).start();
        assert_eq!(browser.ok(&alone, "/info")["session"], false);
        alone.wait_log("it is not used");
        alone.stop();
        // It had nothing of its own to write in the place of that.
        assert!(second.wait_end().success(), "{}", second.log());
        let nodes = start(&starts);
        for node in &nodes {
            assert_eq!(browser.value(node, "a").as_deref(), Some("1"));
        }
        consumed(&directory);
    });
}

/// K-09: the contents of a node's file give way to the state of the other nodes.
#[test]
fn an_old_file_gives_way_to_what_living_nodes_know() {
    undisturbed(|| {
        let directory = Directory::new();
        let starts = starts(&directory);
        let [first, mut second] = start(&starts);
        let (mut ended, mut changed, mut same) = (Browser::new(), Browser::new(), Browser::new());
        for browser in [&mut ended, &mut changed, &mut same] {
            browser.ok(&second, "/set?k=a&v=old");
        }
        second.stop();
        let mut thief = ended.twin();
        ended.ok(&first, "/logout");
        changed.ok(&first, "/set?k=a&v=new");
        let mut planted = same.twin();
        same.ok(&first, "/rotate");
        second.restart();
        meet(&[&first, &second]);
        for node in [&first, &second] {
            assert_eq!(thief.ok(node, "/info")["session"], false);
            assert_eq!(planted.ok(node, "/info")["session"], false);
            assert_eq!(changed.value(node, "a").as_deref(), Some("new"));
            assert_eq!(same.value(node, "a").as_deref(), Some("old"));
        }
    });
}

/// 60 (a): what was ended after the first node had written its file stays ended when all come back.
#[test]
fn an_end_that_is_only_in_the_last_file_counts() {
    undisturbed(|| {
        let directory = Directory::new();
        let starts = starts(&directory);
        let [mut first, mut second] = start(&starts);
        let (mut ended, mut kept) = (Browser::new(), Browser::new());
        for browser in [&mut ended, &mut kept] {
            browser.ok(&first, "/set?k=a&v=1");
        }
        first.stop();
        let mut thief = ended.twin();
        ended.ok(&second, "/logout");
        second.stop();
        let nodes = start(&starts);
        for node in &nodes {
            assert_eq!(thief.ok(node, "/info")["session"], false);
            assert_eq!(kept.value(node, "a").as_deref(), Some("1"));
        }
    });
}

/// F-01: a file of a memory store is read by a node of a cluster: one may grow into the other.
#[test]
fn a_single_node_becomes_a_cluster_and_keeps_its_sessions() {
    undisturbed(|| {
        let directory = Directory::new();
        let mut alone = directory.node().start();
        let mut browser = Browser::new();
        browser.ok(&alone, "/set?k=a&v=1");
        alone.stop();
        let [first, second] = cluster_starts::<2>(&[]);
        let file = directory.file();
        let first = first.args(&["--file", file.to_str().expect("paths of tests are text")]);
        let (first, second) = (first.start(), second.start());
        meet(&[&first, &second]);
        eventually("the other node has it", || second.sessions() == 1);
        assert_eq!(browser.value(&second, "a").as_deref(), Some("1"));
    });
}

/// 60 (a), F-01. A node that cannot start leaves the file as it was.
#[test]
fn a_node_that_cannot_start_leaves_the_file_alone() {
    let directory = Directory::new();
    let [start, _] = starts(&directory);
    let mut node = start.ready();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    node.stop();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("it has an address").to_string();
    let (status, message) = start.clone().with("--cluster-listen", &address).refused();
    assert!(!status.success() && message.contains("taken"), "{message}");
    let node = start.ready();
    assert_eq!(browser.value(&node, "a").as_deref(), Some("1"));
}

/// A file that is written again and again could bring back what other nodes have ended.
#[tokio::test]
async fn a_cluster_does_not_write_again_and_again() {
    let directory = Directory::new();
    let often = directory.builder().interval(Duration::from_secs(60));
    let refused = often.start(ReplicatedStore::builder("node1")).await;
    let refused = refused.expect_err("it is for one node");
    assert_eq!(refused.kind(), SnapshotErrorKind::Invalid);
}
