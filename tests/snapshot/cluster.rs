//! Clusters whose nodes keep a file: all of them stopped at once, one of them away for a while.

use std::time::Duration;

use distributable::ReplicatedStore;
use distributable::store::SnapshotErrorKind;

use crate::common::{Browser, Node, Start, cluster_starts, eventually, meet};
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
    let files = directory.names();
    assert_eq!(files, ["node1.lock", "node2.lock"], "they are consumed");
}

/// K-09: what a node finds in its file gives way to what the others know.
#[test]
fn an_old_file_gives_way_to_what_living_nodes_know() {
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
}

/// 60 (a): what was ended after the first node had written its file stays ended when all come back.
#[test]
fn an_end_that_only_the_last_file_knows_counts() {
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
}

/// F-01: a file of a memory store is read by a node of a cluster: one may grow into the other.
#[test]
fn a_single_node_becomes_a_cluster_and_keeps_its_sessions() {
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
    let often = directory.builder().every(Duration::from_secs(60));
    let refused = often.start(ReplicatedStore::builder("node1")).await;
    let refused = refused.expect_err("it is for one node");
    assert_eq!(refused.kind(), SnapshotErrorKind::Invalid);
}
