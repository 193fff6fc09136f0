//! The limit for the sessions of a user.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::races::Overtaken;
use super::{HOUR, keys, log_in};
#[cfg(feature = "testing")]
use crate::clock::Shift;
use crate::session::{Changes, Login, Outcome, UserKey};
use crate::store::users::excess::OLDEST_MAX;
use crate::store::users::{NewLogin, has_room, register};
use crate::{MemoryStore, SessionStore};

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

/// Ada logs in on a node, and then on one whose clock is behind.
#[cfg(feature = "testing")]
#[tokio::test]
async fn the_login_of_a_node_whose_clock_is_behind_is_not_the_oldest() {
    let store = MemoryStore::new();
    let ahead = Shift::of_runtime().expect("a runtime");
    ahead.advance(HOUR / 4);
    let former = log_in(&store, "ada", 1).await;
    drop(ahead);
    let latest = log_in(&store, "ada", 1).await;
    let found = store.peek(&latest).await.expect("the store answers");
    assert!(found.is_some(), "the login that was just answered is gone");
    assert_eq!(keys(&store, "ada").await, [latest]);
    let found = store.peek(&former).await.expect("the store answers");
    assert!(found.is_none(), "the former one was not deleted");
}

#[tokio::test]
async fn of_logins_in_one_millisecond_the_last_one_stays() {
    let store = MemoryStore::new();
    for _ in 0..200 {
        let latest = log_in(&store, "ada", 1).await;
        assert_eq!(keys(&store, "ada").await, [latest]);
    }
}

/// The layer refuses logins beyond the limit. One of the later sessions has ended by itself.
#[tokio::test]
async fn a_login_for_which_there_is_room_deletes_no_live_session() {
    const MAX: usize = 100;
    let store = MemoryStore::new();
    let mut all = Vec::new();
    for _ in 0..MAX {
        all.push(log_in(&store, "ada", MAX).await);
    }
    let ended = all.remove(MAX - 2);
    store.delete(&ended).await.expect("the store answers");
    let ada = UserKey::of("ada");
    let next = store.new_id().key();
    assert_eq!(has_room(&store, &ada, &next, MAX).await.ok(), Some(true));
    all.push(log_in(&store, "ada", MAX).await);
    all.reverse();
    assert_eq!(keys(&store, "ada").await, all);
}
