//! A node that ends in order, or does not, and starts again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use distributable::session::Loaded;
use distributable::{SessionId, SessionStore};

use crate::common::{Browser, until};
use crate::support::{Directory, fill, load, log_in, rotate};

/// 60 (a), F-01: a session goes on after an orderly end and a start.
#[test]
fn sessions_go_on_after_an_orderly_end_and_a_start() {
    let directory = Directory::new();
    let mut node = directory.node().start();
    let mut browsers: Vec<_> = (0..200).map(|_| Browser::new()).collect();
    for (number, browser) in browsers.iter_mut().enumerate() {
        browser.ok(&node, &format!("/set?k=number&v={number}"));
    }
    node.stop();
    assert_eq!(directory.names(), ["sessions", "sessions.lock"]);
    let mode = fs::metadata(directory.file())
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);

    node.restart();
    assert_eq!(node.sessions(), 200);
    for (number, browser) in browsers.iter_mut().enumerate() {
        assert_eq!(browser.value(&node, "number"), Some(number.to_string()));
    }
    assert_eq!(directory.names(), ["sessions.lock"], "it is consumed");
}

/// F-01: the file holds roots and hashes, and no secret.
#[test]
fn the_file_holds_roots_and_no_secrets() {
    let directory = Directory::new();
    let mut node = directory.node().start();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=word&v=needle");
    let id = browser.bare().expect("a cookie").to_owned();
    node.stop();
    let file = fs::read(directory.file()).expect("it is there");
    let has = |part: &[u8]| file.windows(part.len()).any(|window| window == part);
    assert!(has(b"needle"), "what is stored is there");
    let secret = &id[24..56];
    let bytes: Vec<u8> = (0..32)
        .step_by(2)
        .map(|at| u8::from_str_radix(&secret[at..at + 2], 16).expect("hex"))
        .collect();
    assert!(!has(id.as_bytes()) && !has(secret.as_bytes()) && !has(&bytes));
    assert!(!has(secret.to_lowercase().as_bytes()));
}

/// F-01, in full size: every session, with what it has left.
#[tokio::test]
async fn ten_thousand_sessions_come_back_with_what_they_have_left() {
    let directory = Directory::new();
    let store = directory.open().await;
    let keys = fill(&store, 10_000).await;
    let mut before = Vec::new();
    for key in &keys {
        let loaded = store.load(key, None).await;
        before.push(loaded.expect("memory does not fail").into_live());
    }
    store.save().await.expect("it can be written");
    drop(store);
    let store = directory.open().await;
    assert_eq!(store.load_report().sessions, keys.len());
    for (key, before) in keys.iter().zip(before) {
        let before = before.expect("it was alive");
        let loaded = store.load(key, None).await.expect("memory does not fail");
        let after = loaded.into_live().expect("it is alive");
        assert!(after.attributes().eq(before.attributes()));
        assert_eq!(after.version("a"), before.version("a"));
        assert_eq!(after.created_at(), before.created_at());
        assert_eq!(after.idle_timeout(), before.idle_timeout());
        let (was, is) = (before.absolute_deadline(), after.absolute_deadline());
        assert!(is.since(was).max(was.since(is)) < Duration::from_secs(1));
    }
}

/// F-08: a user who logs out after the start stays out, although the session was in the file.
#[test]
fn a_file_that_was_read_revives_nothing() {
    let directory = Directory::new();
    let mut node = directory.node().start();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    let thief = browser.twin();
    node.stop();
    node.restart();
    browser.ok(&node, "/logout");
    node.kill();
    node.restart();
    let mut thief = thief;
    assert_eq!(thief.ok(&node, "/info")["session"], false);
    assert_eq!(node.sessions(), 0);
}

/// A-04 over a restart: the time that a node is down counts as idle time.
#[test]
fn time_spent_down_counts_as_idle_time() {
    let directory = Directory::new();
    let mut node = directory.node().args(&["--idle", "3"]).start();
    let (mut early, mut late) = (Browser::new(), Browser::new());
    early.ok(&node, "/set?k=a&v=1");
    late.ok(&node, "/set?k=a&v=1");
    late.ok(&node, "/ttl?s=1800");
    let written = Instant::now();
    node.stop();
    until(written + Duration::from_millis(3_600));
    node.restart();
    assert_eq!(
        early.ok(&node, "/info")["session"],
        false,
        "it was idle for too long"
    );
    assert_eq!(late.value(&node, "a").as_deref(), Some("1"));
}

/// A-05 over a restart: the absolute lifetime goes on, whatever the idle timeout.
#[test]
fn the_absolute_lifetime_goes_on_while_a_node_is_down() {
    let directory = Directory::new();
    let mut node = directory.node().args(&["--absolute", "5"]).start();
    let mut browser = Browser::new();
    let asked = Instant::now();
    browser.ok(&node, "/set?k=a&v=1");
    let born = Instant::now();
    node.stop();
    node.restart();
    let found = browser.value(&node, "a");
    if asked.elapsed() < Duration::from_millis(4_900) {
        assert_eq!(found.as_deref(), Some("1"));
    }
    until(born + Duration::from_secs(6));
    assert_eq!(browser.ok(&node, "/info")["session"], false);
}

/// F-01: the clock may be set back while a node is down; that ends no session and extends none by
/// more than the time that was spent down.
#[test]
fn a_clock_that_went_back_counts_as_no_time() {
    let directory = Directory::new();
    let start = directory.node().args(&["--idle", "60"]);
    let mut node = start.start();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    node.stop();
    let node = start.clock("-1d").start();
    assert_eq!(browser.value(&node, "a").as_deref(), Some("1"));
}

/// F-01: a clock that was set forward has the sessions expire.
#[test]
fn a_day_down_outlives_no_session() {
    let directory = Directory::new();
    let start = directory.node();
    let mut node = start.start();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    node.stop();
    let node = start.clock("+2d").start();
    assert_eq!(browser.ok(&node, "/info")["session"], false);
}

/// F-07: a second process on the same path does not start, and disturbs nothing.
#[test]
fn two_processes_do_not_share_a_file() {
    let directory = Directory::new();
    let mut node = directory.node().start();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    let (status, message) = directory.node().refused();
    assert!(!status.success());
    assert!(message.contains("used by another process"), "{message}");
    node.stop();
    node.restart();
    assert_eq!(browser.value(&node, "a").as_deref(), Some("1"));
}

/// F-01: the minute after a rotation goes on over a restart: what comes late with the former id is
/// neither a session nor an unknown visitor.
#[tokio::test]
async fn a_straggler_is_one_after_a_restart_too() {
    let directory = Directory::new();
    let store = directory.open().await;
    let (first, plain) = (log_in(&store, "1").await, log_in(&store, "2").await);
    let second = rotate(&store, &first).await;
    store.save().await.expect("it can be written");
    drop(store);
    let store = directory.open().await;
    assert_eq!(load(&store, &first).await, Loaded::Superseded);
    assert!(load(&store, &second).await.into_live().is_some());
    assert!(load(&store, &plain).await.into_live().is_some());
    let stranger = SessionId::with_root(plain.key());
    assert_eq!(load(&store, &stranger).await, Loaded::Absent);
}
