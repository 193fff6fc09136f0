//! Files that are not as they were written, or not ours.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, symlink};
use std::process::Command;
use std::time::{Duration, Instant};

use distributable::store::SnapshotErrorKind;

use crate::common::{Browser, Node};
use crate::support::{Directory, alive, open, value};

/// Puts something into a directory that should not be there.
type Plant<'a> = &'a dyn Fn(&Directory);

/// 60 (b), F-03: what is readable of a damaged file is loaded, the file is quarantined unchanged.
#[tokio::test]
async fn a_damaged_file_is_set_aside_and_what_is_readable_is_loaded() {
    let directory = Directory::new();
    let keys = directory.saved(100).await;
    let mut bytes = fs::read(directory.file()).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(directory.file(), &bytes).expect("it can be written");

    let store = directory.open().await;
    let loaded = store.load_report();
    let reason = loaded.quarantined.as_deref().expect("it is found");
    assert!(reason.contains("damaged"), "{reason}");
    assert_eq!(
        alive(&store, &keys).await,
        99,
        "one session, one slot, one block"
    );
    assert_eq!(
        fs::read(directory.beside("bad-1")).expect("it is kept"),
        bytes
    );
    assert_eq!(directory.names(), ["sessions.bad-1", "sessions.lock"]);
}

/// F-03: a file that was cut gives what stands before the cut.
#[tokio::test]
async fn a_cut_file_gives_what_stands_before_the_cut() {
    let directory = Directory::new();
    let keys = directory.saved(100).await;
    let bytes = fs::read(directory.file()).expect("it is there");
    fs::write(directory.file(), &bytes[..bytes.len() / 2]).expect("it can be written");
    let store = directory.open().await;
    let alive = alive(&store, &keys).await;
    assert!((40..60).contains(&alive), "{alive} of 100");
    let reason = store.load_report().quarantined.as_deref();
    assert_eq!(reason, Some("it ends too early"));
}

/// F-04, F-09: what is not ours is not read, and lies beside its place as it was.
#[tokio::test]
async fn what_is_not_ours_is_set_aside_untouched() {
    let key = [7; 32];
    let directory = Directory::new();
    directory.saved(10).await;
    let bytes = fs::read(directory.file()).expect("it is there");
    let newer = [&bytes[..8], &[3, 0], &bytes[10..]].concat();
    let older = include_bytes!("../golden/snapshot-1");
    let plain = |content: &[u8]| (content.to_vec(), directory.builder());
    let cases = [
        (plain(b"#!/bin/sh\nexit 0\n"), "no snapshot"),
        (plain(b""), "no snapshot"),
        (plain(&newer), "version 3"),
        (plain(older), "version 1, not 2"),
        (
            (bytes.clone(), directory.builder().application("bank")),
            "application \"shop\"",
        ),
        (
            (bytes.clone(), directory.builder().encryption_key(key)),
            "not encrypted",
        ),
    ];
    for (number, ((content, builder), word)) in cases.into_iter().enumerate() {
        fs::write(directory.file(), &content).expect("it can be written");
        let store = open(builder).await.expect("a bad file is no failure");
        let reason = store
            .load_report()
            .quarantined
            .as_deref()
            .expect("it is found");
        assert!(reason.contains(word), "{reason}");
        assert_eq!(store.load_report().sessions, 0);
        let aside = directory.beside(&format!("bad-{}", number + 1));
        assert_eq!(fs::read(aside).expect("it is kept"), content);
    }
}

/// F-09, F-04: with a key, only its holder can write a file, or read one.
#[tokio::test]
async fn an_encrypted_file_needs_its_key() {
    let directory = Directory::new();
    let encrypted = || directory.builder().encryption_key([7; 32]);
    let store = open(encrypted()).await.expect("it can be opened");
    let key = crate::support::create(&store, "a needle in the file").await;
    store.save().await.expect("it can be written");
    drop(store);
    let bytes = fs::read(directory.file()).expect("it is there");
    assert!(!bytes.windows(6).any(|window| window == b"needle"));

    let store = open(encrypted()).await.expect("it can be opened");
    assert!(value(&store, &key).await.is_some());
    drop(store);
    for (builder, word) in [
        (directory.builder(), "no key"),
        (directory.builder().encryption_key([8; 32]), "another key"),
    ] {
        fs::write(directory.file(), &bytes).expect("it can be written");
        let store = open(builder).await.expect("a bad file is no failure");
        let reason = store
            .load_report()
            .quarantined
            .as_deref()
            .expect("it is found");
        assert!(reason.contains(word), "{reason}");
        assert!(value(&store, &key).await.is_none());
    }
}

/// F-06, F-09: a link, a pipe, a directory, a file of another user, one that other users may write.
#[test]
fn what_is_no_private_file_is_not_read_and_holds_nothing_up() {
    let elsewhere = Directory::new();
    let target = elsewhere.path().join("target");
    fs::write(&target, "precious").expect("it can be written");
    let plant: [(&str, Plant<'_>); 5] = [
        ("symbolic link", &|d| {
            symlink(&target, d.file()).expect("links can be made")
        }),
        ("not a plain file", &|d| mkfifo(d)),
        ("not a plain file", &|d| {
            fs::create_dir(d.file()).expect("it can be made")
        }),
        ("another user (65534)", &|d| {
            fs::write(d.file(), "theirs").expect("it can be written");
            let given = chown(d.file(), Some(65_534), None);
            given.expect("giving a file away needs root; run: sudo -E cargo test --all-features");
        }),
        ("others may write it", &|d| {
            fs::write(d.file(), "anybody's").expect("it can be written");
            let open = fs::Permissions::from_mode(0o666);
            fs::set_permissions(d.file(), open).expect("it is ours");
        }),
    ];
    for (word, plant) in plant {
        let directory = Directory::new();
        plant(&directory);
        let began = Instant::now();
        let mut node = directory.node().start();
        assert!(began.elapsed() < Duration::from_secs(20));
        node.wait_log(word);
        goes_on(&mut node);
        let there = fs::symlink_metadata(directory.file()).expect("it is there");
        assert!(there.is_file(), "{word}");
    }
    assert_eq!(fs::read(&target).expect("it is there"), b"precious");
}

/// F-06: the same at the path of the file that is being written.
#[test]
fn what_stands_at_the_temporary_path_makes_way() {
    let elsewhere = Directory::new();
    let target = elsewhere.path().join("target");
    fs::write(&target, "precious").expect("it can be written");
    let plant: [Plant<'_>; 3] = [
        &|d| symlink(&target, d.beside("tmp")).expect("links can be made"),
        &|d| fs::create_dir(d.beside("tmp")).expect("it can be made"),
        &|d| fs::write(d.beside("tmp"), "half a file").expect("it can be written"),
    ];
    for plant in plant {
        let directory = Directory::new();
        plant(&directory);
        goes_on(&mut directory.node().start());
        assert!(!directory.names().contains(&"sessions.tmp".to_owned()));
    }
    assert_eq!(fs::read(&target).expect("it is there"), b"precious");
}

/// F-06: something else at the path of the lock is a clear failure.
#[tokio::test]
async fn without_a_lock_nothing_is_opened() {
    let directory = Directory::new();
    let target = directory.path().join("target");
    fs::write(&target, "precious").expect("it can be written");
    symlink(&target, directory.beside("lock")).expect("links can be made");
    let refused = open(directory.builder()).await.expect_err("it is a link");
    assert_eq!(refused.kind(), SnapshotErrorKind::Unusable);
    fs::remove_file(directory.beside("lock")).expect("it is there");
    fs::create_dir(directory.beside("lock")).expect("it can be made");
    let refused = open(directory.builder())
        .await
        .expect_err("it is a directory");
    assert_eq!(refused.kind(), SnapshotErrorKind::Unusable);
}

/// F-09, 60 (c): other files in the directory are left alone, whatever they are called.
#[test]
fn other_files_are_neither_read_nor_removed() {
    let directory = Directory::new();
    let names = [
        "evil.session",
        "other.tmp",
        "sessions.tmp2",
        "sessions.bak",
        "conf",
    ];
    for name in names {
        fs::write(directory.path().join(name), name).expect("it can be written");
    }
    let mut node = directory.node().start();
    let cookie = b"Cookie: JSESSIONID=./../conf; JSESSIONID=../../conf.node1\r\n";
    for path in ["/info", "/logout", "/set?k=a&v=1"] {
        Browser::new().raw(&node, "GET", path, cookie);
    }
    node.stop();
    for name in names {
        let content = fs::read_to_string(directory.path().join(name));
        assert_eq!(content.expect("it is there"), name);
    }
    assert_eq!(directory.names().len(), names.len() + 2);
}

/// F-06. Bad files do not fill the disk, however often a start finds one.
#[tokio::test]
async fn no_more_than_eight_bad_files_are_kept() {
    let directory = Directory::new();
    for _ in 0..12 {
        fs::write(directory.file(), "bad").expect("it can be written");
        directory.open().await;
    }
    assert_eq!(directory.names().len(), 8 + 1);
}

/// The node works, and what it writes is read again.
fn goes_on(node: &mut Node) {
    let mut browser = Browser::new();
    browser.ok(node, "/set?k=a&v=1");
    node.stop();
    node.restart();
    assert_eq!(browser.value(node, "a").as_deref(), Some("1"));
    node.stop();
}

fn mkfifo(directory: &Directory) {
    let made = Command::new("mkfifo").arg(directory.file()).status();
    assert!(made.expect("there is a `mkfifo` command").success());
    let there = fs::metadata(directory.file()).expect("it is there");
    assert!(there.file_type().is_fifo());
}
