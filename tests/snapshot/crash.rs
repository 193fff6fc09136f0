//! Processes that are killed, and files that are written again and again.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use distributable::SessionStore;
use distributable::session::{Changes, Loaded, Value};

use crate::common::{Browser, Random, eventually};
use crate::support::{Directory, alive, create, fill, load, log_in, open, rotate, value};

/// 60 (b), F-02: killed at any moment of writing, there is the old file or the new one.
#[test]
fn a_kill_at_any_moment_of_writing_leaves_a_whole_file() {
    let directory = Directory::new();
    let mut node = directory.node().args(&["--file-every", "1"]).start();
    let mut browsers: Vec<_> = (0..100).map(|_| Browser::new()).collect();
    for browser in &mut browsers {
        browser.ok(&node, "/set?k=a&bytes=20000");
    }
    written_anew(&directory);
    let mut random = Random(2);
    for round in 0..50 {
        sleep(Duration::from_micros(random.below(30_000)));
        node.kill();
        node.restart();
        assert_eq!(node.sessions(), 100, "round {round}");
        assert!(!node.log().contains("cannot be used"), "{}", node.log());
    }
    for browser in &mut browsers {
        assert_eq!(
            browser.value(&node, "a").map(|value| value.len()),
            Some(20_000)
        );
    }
}

/// F-08, K-09.
///
/// With a file that is written again and again a kill loses at most what changed since, and revives
/// neither a session that has ended nor a secret that was replaced.
#[test]
fn a_killed_node_that_writes_again_and_again_loses_little_and_revives_nothing() {
    let directory = Directory::new();
    // Written when the node starts to be idle, and then not again for long.
    let mut node = directory.node().args(&["--file-every", "300"]).start();
    let (mut stays, mut ended, mut moved) = (Browser::new(), Browser::new(), Browser::new());
    for browser in [&mut stays, &mut ended, &mut moved] {
        browser.ok(&node, "/set?k=a&v=1");
    }
    written_anew(&directory);
    let (mut thief, mut planted) = (ended.twin(), moved.twin());
    ended.ok(&node, "/logout");
    moved.ok(&node, "/rotate");
    // The second time before anything was written again.
    for _ in 0..2 {
        node.kill();
        node.restart();
        assert_eq!(stays.value(&node, "a").as_deref(), Some("1"));
        assert_eq!(moved.value(&node, "a").as_deref(), Some("1"));
        assert_eq!(thief.ok(&node, "/info")["session"], false);
        assert_eq!(planted.ok(&node, "/info")["session"], false);
    }
}

/// F-10: many logins and rotations at random moments, each followed by a kill: the secret that was
/// replaced is dead, the new one is valid.
#[test]
fn no_rotation_before_a_kill_is_forgotten() {
    let directory = Directory::new();
    let mut node = directory.node().args(&["--file-every", "5"]).start();
    let mut random = Random(5);
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    written_anew(&directory);
    let mut planted = Vec::new();
    for round in 0..20 {
        planted.push(browser.twin());
        sleep(Duration::from_micros(random.below(30_000)));
        match round % 2 {
            0 => browser.ok(&node, "/rotate"),
            _ => browser.ok(&node, &format!("/login?uid=user{round}")),
        };
        node.kill();
        node.restart();
        for planted in &mut planted {
            let info = planted.ok(&node, "/info");
            assert_eq!(info["session"], false, "round {round}");
        }
        assert_eq!(browser.value(&node, "a").as_deref(), Some("1"));
    }
}

/// F-10: a login after the last file is in the list of its user after a crash: "log out everywhere"
/// ends its session too.
#[test]
fn a_login_before_a_kill_is_listed_after_it() {
    let directory = Directory::new();
    let mut node = directory.node().args(&["--file-every", "300"]).start();
    let (mut browser, mut other) = (Browser::new(), Browser::new());
    browser.ok(&node, "/set?k=a&v=1");
    written_anew(&directory);
    browser.ok(&node, "/login?uid=ada");
    node.kill();
    node.restart();
    assert_eq!(browser.value(&node, "a").as_deref(), Some("1"));
    assert_eq!(other.ok(&node, "/logout-user?uid=ada")["ended"], 1);
    assert_eq!(browser.ok(&node, "/info")["session"], false);
}

/// F-08, K-09. Many logouts at random moments, each followed by a kill: none comes back.
#[test]
fn no_logout_before_a_kill_is_forgotten() {
    let directory = Directory::new();
    let mut node = directory.node().args(&["--file-every", "5"]).start();
    let mut random = Random(3);
    let mut thieves = Vec::new();
    for _ in 0..20 {
        let mut browser = Browser::new();
        browser.ok(&node, "/set?k=a&v=1");
        sleep(Duration::from_millis(random.below(30)));
        let thief = browser.twin();
        browser.ok(&node, "/logout");
        thieves.push(thief);
        node.kill();
        node.restart();
        for thief in &mut thieves {
            assert_eq!(thief.ok(&node, "/info")["session"], false);
        }
    }
}

/// F-08, K-09. Without its journal, or with one that is damaged, a file that needs it is not used.
#[tokio::test]
async fn a_file_without_the_journal_it_needs_is_not_used() {
    for damage in [false, true] {
        let directory = Directory::new();
        let hourly = || directory.builder().interval(Duration::from_secs(3_600));
        let store = open(hourly()).await.expect("it can be opened");
        let keys = fill(&store, 3).await;
        store.save().await.expect("it can be written");
        store
            .delete(&keys[0])
            .await
            .expect("it can be written down");
        store
            .delete(&keys[1])
            .await
            .expect("it can be written down");
        drop(store);
        let journal = directory.beside("journal");
        if damage {
            let mut bytes = fs::read(&journal).expect("it is there");
            bytes[30] ^= 1;
            fs::write(&journal, bytes).expect("it can be written");
        } else {
            fs::remove_file(&journal).expect("it is there");
        }
        let store = open(hourly()).await.expect("a bad file is no failure");
        assert_eq!(alive(&store, &keys).await, 0);
        let reason = store
            .load_report()
            .quarantined
            .as_deref()
            .expect("it is found");
        assert!(reason.contains("journal"), "{reason}");
    }
}

/// F-08, K-09.
///
/// What ends after the file was written, before the process does, is not in it any more.
#[tokio::test]
async fn an_end_after_the_last_file_counts() {
    let directory = Directory::new();
    let store = directory.open().await;
    let (keys, planted) = (fill(&store, 2).await, log_in(&store, "1").await);
    store.save().await.expect("it can be written");
    assert!(
        store
            .delete(&keys[0])
            .await
            .expect("it can be written down")
    );
    let current = rotate(&store, &rotate(&store, &planted).await).await;
    drop(store);
    let store = directory.open().await;
    assert_eq!(
        (store.load_report().ended, store.load_report().rotated),
        (1, 1)
    );
    assert_eq!(value(&store, &keys[0]).await, None);
    assert!(value(&store, &keys[1]).await.is_some());
    assert_eq!(load(&store, &planted).await, Loaded::Superseded);
    assert!(load(&store, &current).await.into_live().is_some());
    assert_eq!(
        directory.names(),
        ["sessions.lock"],
        "all of it is consumed"
    );
}

/// 60 (d): saving, loading, changing and ending at once, for as long as it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn saving_disturbs_no_request_and_no_request_disturbs_saving() {
    let directory = Directory::new();
    let often = || directory.builder().interval(Duration::from_millis(1));
    let store = open(often()).await.expect("it can be opened");
    let over = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (store, over) = (store.clone(), over.clone());
            tokio::spawn(async move {
                let (mut live, mut ended) = (Vec::new(), Vec::new());
                while !over.load(Ordering::Relaxed) {
                    let (one, other) = (create(&store, "old").await, create(&store, "old").await);
                    let base = store.load(&one, None).await.expect("memory does not fail");
                    let base = base.into_live();
                    let mut change = Changes::default();
                    change.insert("a".into(), Value::from_bytes(&b"new"[..]));
                    let changed = store.commit(&one, base.as_ref(), change).await;
                    changed.expect("memory does not fail");
                    assert!(store.delete(&other).await.expect("it can be written down"));
                    live.push(one);
                    ended.push(other);
                }
                (live, ended)
            })
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        store.save().await.expect("it can be written");
    }
    over.store(true, Ordering::Relaxed);
    let (mut live, mut ended) = (Vec::new(), Vec::new());
    for worker in workers {
        let (mine, theirs) = worker.await.expect("no panic");
        live.extend(mine);
        ended.extend(theirs);
    }
    store.save().await.expect("it can be written");
    drop(store);
    let store = open(often()).await.expect("it can be opened");
    assert_eq!(store.load_report().quarantined, None);
    assert_eq!(alive(&store, &live).await, live.len());
    assert_eq!(alive(&store, &ended).await, 0);
}

/// Waits until a file has been begun and finished from here on.
fn written_anew(directory: &Directory) {
    for _ in 0..2 {
        let before = modified(directory);
        eventually("a file is written", || modified(directory) != before);
    }
}

fn modified(directory: &Directory) -> Option<std::time::SystemTime> {
    let file = fs::metadata(directory.file()).ok()?;
    file.modified().ok()
}
