use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::session::{
    Changes, Login, Outcome, Record, Root, SecretHash, SessionId, Timestamp, UserKey, index_root,
};
use crate::store::export::{Restored, SnapshotSource, StoredEntry};
use crate::store::snapshot::test_directory::TestDirectory;
use crate::store::users::{self, NewLogin};
use crate::{MemoryStore, SessionStore, SnapshotStore};

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

/// A login of Ada that creates a session, as the middleware makes it.
async fn log_in(store: &impl SessionStore, new: SessionId) {
    let user = UserKey::of("ada");
    let absolute_timeout = Duration::from_secs(24 * 3_600);
    let mut changes = Changes::create(new.hash(), None, absolute_timeout);
    changes.log_in(Login {
        user: Some(user),
        absolute_timeout,
    });
    let outcome = store.commit(&new.key(), None, changes).await;
    let Ok(Outcome::Committed(record)) = outcome else {
        panic!("there is room: {outcome:?}")
    };
    let login = NewLogin {
        user,
        key: new.key(),
        label: None,
        absolute_timeout,
        record,
        max_sessions: 9,
    };
    let listed = users::register(store, login).await;
    listed.expect("memory does not fail");
}

/// Ends Ada's sessions, this one among them.
async fn end_ada(store: &impl SessionStore, sessions: usize, key: &Root) {
    assert!(find(store, key).await.is_some());
    let ended = store.end_user("ada").await;
    assert_eq!(ended.expect("memory does not fail"), sessions);
    assert!(find(store, key).await.is_none());
}

/// The time was enough for a session, and not for the list of its user.
#[tokio::test]
async fn a_session_in_a_part_of_a_file_ends_with_its_users_sessions() {
    let directory = TestDirectory::new("listed");
    let hasty = directory.builder().save_timeout(Duration::from_nanos(1));
    let store = hasty.open(MemoryStore::new()).await;
    let store = store.expect("it can be opened");
    assert!(index_root(&UserKey::of("ada")).slot() > 0);
    let new = SessionId::with_root(Root::generate().with_slot(0));
    log_in(&store, new).await;
    let report = store.shared.write().expect("it can be written");
    assert_eq!(report.sessions, 1);
    drop(store);

    let store = directory.builder().open(MemoryStore::new()).await;
    let store = store.expect("it can be opened");
    end_ada(&store, 1, &new.key()).await;
}

/// The store has become smaller: there is room for a session, and not for the list of its user.
#[tokio::test]
async fn a_session_that_cannot_be_listed_is_not_restored() {
    let directory = TestDirectory::new("unlisted");
    let store = directory.builder().open(MemoryStore::new()).await;
    let store = store.expect("it can be opened");
    assert!(index_root(&UserKey::of("ada")).slot() > 0);
    let new = SessionId::with_root(Root::generate().with_slot(0));
    log_in(&store, new).await;
    let bytes = store.store().status().bytes;
    store.save().await.expect("it can be written");
    drop(store);

    let small = MemoryStore::builder().max_bytes(bytes - 1).build();
    let store = directory.builder().open(small).await;
    let store = store.expect("it can be opened");
    assert!(find(&store, &new.key()).await.is_none());
    let report = store.load_report();
    assert_eq!((report.sessions, report.refused), (0, 1));
}

/// A source in which Ada logs in to a new session when her list has been written.
struct Overtaken {
    memory: MemoryStore,
    new: SessionId,
    /// The store for the login.
    store: Arc<Mutex<Option<SnapshotStore<MemoryStore>>>>,
}

impl SnapshotSource for Overtaken {
    fn export(&self, now: Timestamp, slot: usize) -> Vec<StoredEntry> {
        let found = self.memory.export(now, slot);
        if slot == index_root(&UserKey::of("ada")).slot() {
            let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let runtime = runtime.expect("it can be started");
            runtime.block_on(log_in(store.as_ref().expect("it is open"), self.new));
        }
        found
    }

    fn sessions(&self) -> usize {
        self.memory.status().sessions
    }
}

/// A user logs in while a file is written: the new session is in it, and in the list it is missing.
/// Then there is a crash.
#[tokio::test]
async fn a_login_while_a_file_is_written_ends_with_the_users_sessions() {
    let directory = TestDirectory::new("overtaken");
    let hourly = || directory.builder().interval(Duration::from_secs(3_600));
    let new = SessionId::with_root(Root::generate().with_slot(SLOTS - 1));
    assert!(index_root(&UserKey::of("ada")).slot() < new.key().slot());
    let memory = MemoryStore::new();
    let open = Arc::default();
    let source = Box::new(Overtaken {
        memory: memory.clone(),
        new,
        store: Arc::clone(&open),
    });
    let (opening, _) = hourly().load().await.expect("it can be opened");
    let store = opening.finish(memory, source, Restored::default()).await;
    let store = store.expect("it can be opened");
    *open.lock().expect("no panic") = Some(store.clone());
    log_in(&store, SessionId::generate()).await;
    store.save().await.expect("it can be written");
    *open.lock().expect("no panic") = None;
    drop(store);

    let store = hourly().open(MemoryStore::new()).await;
    let store = store.expect("it can be opened");
    end_ada(&store, 2, &new.key()).await;
}
