//! Tests of the lists of users' sessions.

mod excess;
mod races;

use std::time::Duration;

use super::{NewLogin, register};
use crate::session::{Changes, Login, Outcome, Root, SecretHash, UserKey, index_root};
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

/// The note that ends a user's sessions takes memory too, and gives back more.
#[tokio::test]
async fn a_full_store_ends_a_users_sessions() {
    let empty = MemoryStore::new();
    for _ in 0..2 {
        log_in(&empty, "ada", 9).await;
    }
    let bytes = empty.status().bytes;
    let full = MemoryStore::builder().max_bytes(bytes).build();
    for _ in 0..2 {
        log_in(&full, "ada", 9).await;
    }
    assert_eq!(full.status().bytes, bytes);
    assert_eq!(full.end_user("ada").await.expect("it ends them"), 2);
    assert_eq!(full.status().sessions, 0);
    assert_eq!(keys(&full, "ada").await, []);
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

/// The first login has a shorter absolute timeout: another layer made it.
#[tokio::test]
async fn the_list_outlives_every_session_in_it() {
    let store = MemoryStore::new();
    let ada = UserKey::of("ada");
    for hours in [1, 24, 2, 1_000] {
        let absolute_timeout = hours * HOUR;
        let id = store.new_id();
        let mut changes = Changes::create(id.hash(), None, absolute_timeout);
        changes.log_in(Login {
            user: Some(ada),
            absolute_timeout,
        });
        let outcome = store.commit(&id.key(), None, changes).await;
        let Ok(Outcome::Committed(record)) = outcome else {
            panic!("{outcome:?}")
        };
        let deadline = record.absolute_deadline();
        let login = NewLogin {
            user: ada,
            key: id.key(),
            label: None,
            absolute_timeout,
            record,
            max_sessions: 9,
        };
        register(&store, login).await.expect("the store answers");
        let index = store.load(&index_root(&ada), None).await;
        let index = index.expect("the store answers").into_live();
        assert!(index.expect("it is live").absolute_deadline() > deadline);
    }
}
