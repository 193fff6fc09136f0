use std::fs;
use std::time::Duration;

use tokio::time::timeout;

use super::test_directory::TestDirectory;
use super::*;
use crate::MemoryStore;

async fn create(store: &impl SessionStore) -> Root {
    let id = store.new_id();
    let changes = Changes::create(id.hash(), None, Duration::from_secs(3_600));
    let created = store.commit(&id.key(), None, changes).await;
    created.expect("there is room");
    id.key()
}

/// F-08, K-09.
///
/// A deletion cannot be written to the journal, and the file cannot be removed. A second one finds
/// no session, which would be back after a crash all the same.
#[tokio::test]
async fn a_repeated_deletion_is_acknowledged_only_when_the_first_one_is_on_the_disk() {
    let directory = TestDirectory::new("again");
    let store = directory.builder().open(MemoryStore::new()).await;
    let store = store.expect("it can be opened");
    let key = create(&store).await;
    store.save().await.expect("it can be written");
    let path = directory.paths().file.with_file_name("");
    let away = path.with_extension("away");
    fs::rename(&path, &away).expect("it can be renamed");
    for _ in 0..3 {
        let deleted = store.delete(&key).await;
        deleted.expect_err("a crash would undo it");
    }

    fs::rename(&away, &path).expect("it can be renamed");
    store.save().await.expect("it can be written");
    assert!(!store.delete(&key).await.expect("the disk is back"));
}

/// Two deletions at the same time: the second one finds no session, and the first one is not on the
/// disk yet.
#[tokio::test]
async fn a_concurrent_deletion_is_acknowledged_when_the_first_one_is_on_the_disk() {
    let directory = TestDirectory::new("twice");
    let store = directory.builder().open(MemoryStore::new()).await;
    let store = store.expect("it can be opened");
    let key = create(&store).await;
    store.save().await.expect("it can be written");
    let (mut first, mut second) = (Box::pin(store.delete(&key)), Box::pin(store.delete(&key)));
    let slow = store.shared.journal.hold();
    for delete in [&mut first, &mut second] {
        let answer = timeout(Duration::from_millis(100), delete).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    let loaded = store.load(&key, None).await;
    assert!(loaded.expect("memory does not fail").into_live().is_none());
    drop(slow);
    assert!(first.await.expect("it can be written"));
    assert!(!second.await.expect("it can be written"));
}

/// The idle timeout is shortened after the file was written, and the session expires. With the
/// former timeout it would be back after a crash.
#[tokio::test]
async fn a_session_that_expired_by_its_new_idle_timeout_does_not_come_back() {
    let directory = TestDirectory::new("idle");
    let hourly = || directory.builder().interval(Duration::from_secs(3_600));
    let store = hourly().open(MemoryStore::new()).await;
    let store = store.expect("it can be opened");
    let (short, long) = (create(&store).await, create(&store).await);
    store.save().await.expect("it can be written");
    for (key, idle) in [(&short, SHORT), (&long, LONG)] {
        let before = store.load(key, None).await.expect("memory does not fail");
        let mut changes = Changes::default();
        changes.set_idle_timeout(Some(idle));
        // With a new id: a choice at the login.
        let secret = SecretHash::from_bytes([9; 16]);
        let before = before.into_live().expect("it is there");
        changes.rotate(before.credential.hash, secret);
        let outcome = store.commit(key, Some(&before), changes).await;
        assert!(matches!(outcome, Ok(Outcome::Committed(_))));
    }
    tokio::time::sleep(2 * SHORT).await;
    drop(store);

    let store = hourly().open(MemoryStore::new()).await;
    let store = store.expect("it can be opened");
    let report = store.load_report();
    assert_eq!((report.sessions, report.expired), (1, 1));
    let loaded = store.load(&short, None).await;
    assert!(loaded.expect("memory does not fail").into_live().is_none());
    let loaded = store.load(&long, None).await;
    let found = loaded.expect("memory does not fail").into_live();
    let found = found.expect("it has not expired");
    assert_eq!(found.idle_timeout(), Some(LONG));
    assert!(found.is_current(&SecretHash::from_bytes([9; 16])));
}

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(600);
