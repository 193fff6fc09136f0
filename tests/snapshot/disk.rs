//! Disks that are full, or cannot be written.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{fs, thread};

use distributable::store::SnapshotErrorKind;
use distributable::{MemoryStore, SessionStore};

use crate::common::{Browser, Start};
use crate::support::{Directory, alive, create_if_room, fill, open, value};

/// F-06: what does not fit is reported, and the file from before is as it was.
#[tokio::test]
async fn a_full_disk_leaves_the_file_from_before_as_it_was() {
    let directory = Directory::small();
    let hourly = || directory.builder().interval(Duration::from_secs(3_600));
    let store = open(hourly()).await.expect("it can be opened");
    let keys = fill(&store, 10).await;
    store.save().await.expect("so much fits");
    let before = fs::read(directory.file()).expect("it is there");

    fill(&store, 100).await;
    let error = store.save().await.expect_err("so much does not fit");
    assert_eq!(error.kind(), SnapshotErrorKind::NotWritten);
    assert_eq!(fs::read(directory.file()).expect("it is there"), before);
    assert!(!directory.names().contains(&"sessions.tmp".to_owned()));
    drop(store);

    let store = open(hourly()).await.expect("it can be opened");
    assert_eq!(alive(&store, &keys).await, 10);
}

/// F-06: a node whose file cannot be written ends in time, with a failure exit code.
#[test]
fn a_node_on_a_full_disk_ends_in_time_and_says_so() {
    let directory = Directory::small();
    let mut node = directory.node().start();
    Browser::new().ok(&node, "/set?k=a&bytes=100000");
    let began = Instant::now();
    node.signal("TERM");
    let status = node.wait_end();
    assert_eq!(status.code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(20));
    node.wait_log("was not written");
    assert_eq!(directory.names(), ["sessions.lock"]);
}

/// F-06, F-08, K-09: a logout that cannot be written down takes the file with it: better no session
/// than one that has ended.
#[tokio::test]
async fn a_logout_on_a_full_disk_revives_nothing() {
    let directory = Directory::small();
    let store = directory.open().await;
    let keys = fill(&store, 2).await;
    store.save().await.expect("so much fits");
    directory.fill();
    assert!(
        store
            .delete(&keys[0])
            .await
            .expect("the file is gone instead")
    );
    drop(store);
    let store = directory.open().await;
    assert_eq!(alive(&store, &keys).await, 0);
}

/// F-06, F-08, K-09: where not even that can be done, the logout is not acknowledged.
#[tokio::test]
async fn a_logout_that_could_be_forgotten_is_not_acknowledged() {
    let directory = Directory::small();
    let store = directory.open().await;
    let keys = fill(&store, 2).await;
    store.save().await.expect("so much fits");
    directory.fill();
    directory.pin(true);
    for _ in 0..2 {
        assert!(store.delete(&keys[0]).await.is_err());
    }
    assert_eq!(
        value(&store, &keys[0]).await,
        None,
        "it has ended all the same"
    );
    directory.pin(false);
    directory.make_room();
    store.save().await.expect("the disk is back");
    assert!(store.delete(&keys[1]).await.expect("the disk is back"));
    drop(store);
    let store = directory.open().await;
    assert_eq!(alive(&store, &keys).await, 0);
}

/// F-06: a directory that is not there, or cannot be written, is a clear failure at the start.
#[test]
fn a_directory_that_cannot_be_used_is_a_failure_at_the_start() {
    let read_only = Directory::small();
    read_only.make_read_only();
    let missing = read_only.path().join("missing/sessions");
    for path in [missing, read_only.file(), "/dev/null/sessions".into()] {
        let path = path.to_str().expect("paths of tests are text");
        let (status, message) = Start::default()
            .args(&["--store", "file", "--file", path])
            .refused();
        assert_eq!(status.code(), Some(1));
        assert!(message.contains("its directory"), "{path}: {message}");
        assert!(!message.contains("panicked"), "{message}");
    }
}

/// A store that has become smaller loads what it has room for, and reports how much it has not.
#[tokio::test]
async fn a_smaller_store_says_what_it_has_no_room_for() {
    let directory = Directory::new();
    let keys = directory.saved(20).await;
    let small = MemoryStore::builder().max_sessions(15).build();
    let store = directory
        .builder()
        .open(small)
        .await
        .expect("it can be opened");
    assert_eq!(
        (store.load_report().sessions, store.load_report().refused),
        (15, 5)
    );
    assert_eq!(alive(&store, &keys).await, 15);
    assert_eq!(store.store().status().sessions, 15);
    assert!(create_if_room(&store).await.is_none());
    for key in &keys {
        store.delete(key).await.expect("memory does not fail");
    }
    assert!(create_if_room(&store).await.is_some());
}

/// F-07: starting child processes, which share all files until they execute their programs, does
/// not keep a store locked after it was dropped.
#[tokio::test]
async fn a_store_can_be_opened_again_while_child_processes_are_started() {
    let directory = Directory::new();
    let done = Arc::new(AtomicBool::new(false));
    let starting = thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while !done.load(Relaxed) {
                let status = Command::new("true").status().expect("it can be started");
                assert!(status.success());
            }
        }
    });
    for _ in 0..OPENINGS {
        let opened = directory.builder().open(MemoryStore::new()).await;
        drop(opened.expect("the last store released it"));
    }
    done.store(true, Relaxed);
    starting.join().expect("each child process ended");
}

const OPENINGS: usize = 200;
