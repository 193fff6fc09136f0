//! Tests of the lists of users' sessions.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::excess::OLDEST_MAX;
use super::{NewLogin, forget_moved, has_room, register};
use crate::error::StoreError;
use crate::session::{
    Changes, Loaded, Login, Outcome, Record, Root, SecretHash, SessionId, UserKey, index_root,
};
use crate::{MemoryStore, SessionStore};

const HOUR: Duration = Duration::from_secs(3_600);

async fn log_in(store: &MemoryStore, user: &str, max_sessions: usize) -> Root {
    let id = store.new_id();
    let user = UserKey::of(user);
    let mut changes = Changes::create(id.hash(), Some(HOUR), 24 * HOUR);
    changes.log_in(Login {
        user: Some(user),
        absolute_timeout: 24 * HOUR,
    });
    let outcome = store
        .commit(&id.key(), None, changes)
        .await
        .expect("the store answers");
    let Outcome::Committed(record) = outcome else {
        panic!("{outcome:?}")
    };
    let login = NewLogin {
        user,
        key: id.key(),
        label: Some("phone".to_owned()),
        absolute_timeout: 24 * HOUR,
        record,
        max_sessions,
    };
    register(store, login).await.expect("the store answers");
    id.key()
}

async fn keys(store: &impl SessionStore, user: &str) -> Vec<Root> {
    let sessions = store.sessions_of(user).await.expect("the store answers");
    sessions.iter().map(|session| session.key).collect()
}

#[tokio::test]
async fn a_users_sessions_are_listed_and_ended_together() {
    let store = MemoryStore::new();
    let ada = [
        log_in(&store, "ada", 9).await,
        log_in(&store, "ada", 9).await,
    ];
    let bob = log_in(&store, "bob", 9).await;
    assert_eq!(store.status().sessions, 3);
    let mut listed = keys(&store, "ada").await;
    listed.sort_unstable();
    let mut expected = ada;
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert_eq!(
        store
            .end_user_except("ada", ada[1])
            .await
            .expect("the store answers"),
        1
    );
    assert_eq!(keys(&store, "ada").await, [ada[1]]);
    assert_eq!(store.end_user("ada").await.expect("the store answers"), 1);
    assert_eq!(store.end_user("ada").await.expect("the store answers"), 0);
    assert_eq!(keys(&store, "ada").await, []);
    assert!(
        store
            .peek(&ada[0])
            .await
            .expect("the store answers")
            .is_none()
    );
    assert_eq!(keys(&store, "bob").await, [bob]);
    // A login after that counts.
    let again = log_in(&store, "ada", 9).await;
    assert_eq!(keys(&store, "ada").await, [again]);
}

#[tokio::test]
async fn the_oldest_of_too_many_is_ended_and_what_has_ended_does_not_count() {
    let store = MemoryStore::new();
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(log_in(&store, "ada", 3).await);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // One has ended without a change of its index.
    store.delete(&all[1]).await.expect("the store answers");
    all.push(log_in(&store, "ada", 3).await);
    assert_eq!(keys(&store, "ada").await, [all[3], all[2], all[0]]);
    tokio::time::sleep(Duration::from_millis(2)).await;
    all.push(log_in(&store, "ada", 3).await);
    assert_eq!(keys(&store, "ada").await, [all[4], all[3], all[2]]);
    assert!(
        store
            .peek(&all[0])
            .await
            .expect("the store answers")
            .is_none()
    );
}

/// A store that does not find one of its sessions for a while.
struct Parted {
    store: MemoryStore,
    hidden: Mutex<Option<Root>>,
}

impl SessionStore for Parted {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        let hidden = *self.hidden.lock().expect("no panic");
        match hidden {
            Some(hidden) if hidden == *key => Ok(Loaded::Absent),
            _ => SessionStore::load(&self.store, key, secret).await,
        }
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        SessionStore::commit(&self.store, key, base, changes).await
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        SessionStore::touch(&self.store, key).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        SessionStore::delete(&self.store, key).await
    }
}

#[tokio::test]
async fn a_session_that_comes_to_light_again_is_in_the_list() {
    let store = Parted {
        store: MemoryStore::new(),
        hidden: Mutex::default(),
    };
    let one = log_in(&store.store, "ada", 9).await;
    *store.hidden.lock().expect("no panic") = Some(one);
    assert_eq!(keys(&store, "ada").await, []);
    *store.hidden.lock().expect("no panic") = None;
    assert_eq!(keys(&store, "ada").await, [one]);
    // All are ended meanwhile: it is ended when it comes to light.
    *store.hidden.lock().expect("no panic") = Some(one);
    assert_eq!(store.end_user("ada").await.expect("the store answers"), 0);
    *store.hidden.lock().expect("no panic") = None;
    assert_eq!(keys(&store, "ada").await, []);
    let found = store.peek(&one).await.expect("the store answers");
    assert!(found.is_none());
}

/// On the other side of a partition the user may have logged in meanwhile.
#[tokio::test]
async fn the_end_of_a_users_sessions_is_noted_in_an_empty_list_too() {
    let store = MemoryStore::new();
    log_in(&store, "ada", 9).await;
    let ada = UserKey::of("ada");
    assert_eq!(store.end_user("ada").await.expect("the store answers"), 1);
    let read = async || {
        let index = store.load(&index_root(&ada), None).await;
        index
            .expect("the store answers")
            .into_live()
            .expect("the list stays")
    };
    let before = read().await;
    assert_eq!(store.end_user("ada").await.expect("the store answers"), 0);
    assert!(read().await.clock() > before.clock());
}

/// A store to which a user logs in twice more whenever one of the sessions is ended.
struct Busy(MemoryStore);

impl SessionStore for Busy {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        SessionStore::load(&self.0, key, secret).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        SessionStore::commit(&self.0, key, base, changes).await
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        SessionStore::touch(&self.0, key).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        log_in(&self.0, "ada", 999).await;
        log_in(&self.0, "ada", 999).await;
        SessionStore::delete(&self.0, key).await
    }
}

#[tokio::test]
async fn logins_that_come_faster_than_sessions_are_ended_do_not_hold_up_the_end() {
    let store = Busy(MemoryStore::new());
    log_in(&store.0, "ada", 999).await;
    assert_eq!(store.end_user("ada").await.expect("the store answers"), 1);
    assert_eq!(keys(&store.0, "ada").await.len(), 2);
}

#[tokio::test]
async fn the_list_is_no_session() {
    let store = MemoryStore::new();
    log_in(&store, "ada", 9).await;
    let root = index_root(&UserKey::of("ada"));
    for secret in [SecretHash::NONE, SecretHash::from_bytes([1; 16])] {
        let found = store
            .load(&root, Some(&secret))
            .await
            .expect("the store answers");
        assert!(found.into_live().is_none());
    }
    assert!(
        store
            .peek(&root)
            .await
            .expect("the store answers")
            .is_none()
    );
}

/// Logs a user in to a session that exists.
async fn log_in_again(store: &MemoryStore, user: &str, key: Root) {
    let user = UserKey::of(user);
    let loaded = SessionStore::load(store, &key, None).await;
    let before = loaded
        .expect("the store answers")
        .into_live()
        .expect("it is live");
    let mut changes = Changes::default();
    changes.rotate(before.credential.hash, SessionId::with_root(key).hash());
    changes.log_in(Login {
        user: Some(user),
        absolute_timeout: 24 * HOUR,
    });
    let outcome = SessionStore::commit(store, &key, Some(&before), changes).await;
    let Outcome::Committed(record) = outcome.expect("the store answers") else {
        panic!("it was not rotated")
    };
    let login = NewLogin {
        user,
        key,
        label: None,
        absolute_timeout: 24 * HOUR,
        record,
        max_sessions: 9,
    };
    register(store, login).await.expect("the store answers");
}

/// A store in which a user logs in to a session right after it was loaded, once.
struct Overtaken {
    store: MemoryStore,
    next: Mutex<Option<(Root, &'static str)>>,
    loads: AtomicUsize,
}

impl Overtaken {
    fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            next: Mutex::default(),
            loads: AtomicUsize::new(0),
        }
    }
}

impl SessionStore for Overtaken {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        self.loads.fetch_add(1, Relaxed);
        let found = SessionStore::load(&self.store, key, secret).await;
        let next = self
            .next
            .lock()
            .expect("no panic")
            .take_if(|next| next.0 == *key);
        if let Some((key, user)) = next {
            log_in_again(&self.store, user, key).await;
        }
        found
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        SessionStore::commit(&self.store, key, base, changes).await
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        SessionStore::touch(&self.store, key).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        SessionStore::delete(&self.store, key).await
    }
}

#[tokio::test]
async fn a_late_removal_leaves_the_entry_of_a_newer_login() {
    let ada = UserKey::of("ada");
    // The session is Ada's again when the removal begins.
    let store = Overtaken::new();
    let key = log_in(&store.store, "ada", 9).await;
    log_in_again(&store.store, "bob", key).await;
    log_in_again(&store.store, "ada", key).await;
    forget_moved(&store, &ada, &[key]).await;
    assert_eq!(keys(&store, "ada").await, [key]);
    // It becomes hers between the look at the session and the removal of its entry.
    log_in_again(&store.store, "bob", key).await;
    *store.next.lock().expect("no panic") = Some((key, "ada"));
    forget_moved(&store, &ada, &[key]).await;
    assert_eq!(keys(&store, "ada").await, [key]);
    // Without a newer login the entry goes.
    log_in_again(&store.store, "bob", key).await;
    forget_moved(&store, &ada, &[key]).await;
    let loaded = store.store.load(&index_root(&ada), None).await;
    let index = loaded
        .expect("the store answers")
        .into_live()
        .expect("it stays");
    assert!(!index.is_listed(&key));
    assert_eq!(keys(&store, "bob").await, [key]);
}

#[tokio::test]
async fn a_login_at_the_limit_looks_at_a_bounded_number_of_sessions() {
    const MAX: usize = 500;
    let store = Overtaken::new();
    for _ in 0..MAX {
        log_in(&store.store, "ada", MAX).await;
    }
    let ada = UserKey::of("ada");
    let one = keys(&store.store, "ada").await[MAX - 1];
    let loads = |store: &Overtaken| store.loads.swap(0, Relaxed);
    loads(&store);
    // The login that is one too many.
    let id = store.new_id();
    let mut changes = Changes::create(id.hash(), Some(HOUR), 24 * HOUR);
    changes.log_in(Login {
        user: Some(ada),
        absolute_timeout: 24 * HOUR,
    });
    let created = store.store.commit(&id.key(), None, changes).await;
    let Ok(Outcome::Committed(record)) = created else {
        panic!("it is not created")
    };
    let login = NewLogin {
        user: ada,
        key: id.key(),
        label: None,
        absolute_timeout: 24 * HOUR,
        record,
        max_sessions: MAX,
    };
    register(&store, login).await.expect("the store answers");
    let looked_at = loads(&store);
    assert!(looked_at <= OLDEST_MAX + 4, "{looked_at} loads");
    let left = keys(&store.store, "ada").await;
    assert_eq!(left.len(), MAX);
    assert!(!left.contains(&one), "the oldest stays");
    // A login that is refused has to look at all; one is enough that has ended by itself.
    let other = store.new_id().key();
    assert_eq!(has_room(&store, &ada, &other, MAX).await.ok(), Some(false));
    store
        .delete(&left[MAX - 1])
        .await
        .expect("the store answers");
    loads(&store);
    assert_eq!(has_room(&store, &ada, &other, MAX).await.ok(), Some(true));
    assert!(loads(&store) <= OLDEST_MAX);
    // A session that the user has already is not one more.
    assert_eq!(
        has_room(&store, &ada, &left[0], MAX - 1).await.ok(),
        Some(true)
    );
}

#[tokio::test]
async fn ten_thousand_logins_of_one_user_leave_as_many_sessions_as_the_limit() {
    const MAX: usize = 50;
    let store = MemoryStore::new();
    for _ in 0..10_000 {
        log_in(&store, "ada", MAX).await;
    }
    assert_eq!(store.status().sessions, MAX);
    assert_eq!(store.status().deleted, 10_000 - MAX as u64);
    let bytes = store.status().bytes;
    assert!(bytes < 100_000, "{bytes} bytes");
    assert_eq!(store.end_user("ada").await.expect("the store answers"), MAX);
    assert_eq!(store.status().sessions, 0);
}

#[tokio::test]
async fn the_end_of_thousands_of_sessions_ends_all_of_them() {
    let store = MemoryStore::new();
    for _ in 0..2_000 {
        log_in(&store, "ada", usize::MAX).await;
    }
    assert_eq!(keys(&store, "ada").await.len(), 2_000);
    assert_eq!(
        store.end_user("ada").await.expect("the store answers"),
        2_000
    );
    assert_eq!(store.status().sessions, 0);
}

/// P-01.
#[tokio::test]
async fn the_list_cannot_be_deleted_or_updated_by_its_key() {
    let store = MemoryStore::new();
    let key = log_in(&store, "ada", 9).await;
    let root = index_root(&UserKey::of("ada"));
    assert!(!store.delete(&root).await.expect("the store answers"));
    let updated = store.update(&root, "a", |_: Option<u8>| 1).await;
    assert!(matches!(updated, Ok(None)));
    assert_eq!(keys(&store, "ada").await, [key]);
}
