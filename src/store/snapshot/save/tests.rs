use std::time::Duration;

use crate::session::{Changes, Record, Root, SecretHash};
use crate::store::snapshot::test_directory::TestDirectory;
use crate::{MemoryStore, SessionStore};

use super::*;

/// A session in a slot.
async fn create(store: &impl SessionStore, slot: u8) -> Root {
    let key = Root::from_bytes([slot; 12]);
    let secret = SecretHash::from_bytes([1; 16]);
    let changes = Changes::create(secret, None, Duration::from_secs(3_600));
    store
        .commit(&key, None, changes)
        .await
        .expect("there is room");
    key
}

async fn find(store: &impl SessionStore, key: &Root) -> Option<Arc<Record>> {
    let loaded = store.load(key, None).await;
    loaded.expect("memory does not fail").into_live()
}

/// F-06.
///
/// If the time is exceeded, the sessions written so far form a valid file, and the report counts
/// the missing ones.
#[tokio::test]
async fn what_is_written_in_time_is_kept_and_the_rest_is_reported() {
    let directory = TestDirectory::new("part");
    let hasty = directory.builder().save_timeout(Duration::from_nanos(1));
    let store = hasty
        .open(MemoryStore::new())
        .await
        .expect("it can be opened");
    let (first, second) = (create(&store, 0).await, create(&store, 9).await);
    let report = store.shared.write().expect("it can be written");
    assert_eq!((report.sessions, report.unwritten), (1, 1));
    drop(store);

    let store = directory.builder().open(MemoryStore::new()).await;
    let store = store.expect("it can be opened");
    assert_eq!(store.load_report().quarantined, None);
    assert!(find(&store, &first).await.is_some());
    assert!(find(&store, &second).await.is_none());
}

/// F-06. A complete earlier file is not replaced by a partial one.
#[tokio::test]
async fn a_part_does_not_take_the_place_of_a_whole_file() {
    let directory = TestDirectory::new("whole");
    let hasty = directory.builder().save_timeout(Duration::from_nanos(1));
    let store = hasty
        .open(MemoryStore::new())
        .await
        .expect("it can be opened");
    create(&store, 0).await;
    create(&store, 9).await;
    let path = &store.shared.paths.file;
    fs::write(path, "whole").expect("it can be written");
    store.shared.write().expect_err("there is no time");
    assert_eq!(fs::read(path).expect("it is there"), b"whole");
    assert!(!store.shared.paths.temporary.exists());
}

/// F-06. The call returns in time, even if the disk is slow.
#[tokio::test]
async fn a_call_takes_no_longer_than_it_may() {
    let directory = TestDirectory::new("late");
    let hasty = directory.builder().save_timeout(Duration::from_millis(50));
    let store = hasty
        .open(MemoryStore::new())
        .await
        .expect("it can be opened");
    let slow = store.shared.saving.clone().lock_owned().await;
    let began = Instant::now();
    let late = store.save().await.expect_err("another task is writing");
    assert_eq!(late.kind(), SnapshotErrorKind::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(10));
    drop(slow);
}
