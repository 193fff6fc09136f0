//! Sessions in the states that a failover, a failed commit or another clock may leave.

use std::time::Duration;

use distributable::session::{Changes, Outcome, Timestamp};
use distributable::{RedisStore, Root, SessionStore};
use tokio::time::sleep;

use crate::common::redis::Server;
use crate::support::{HOUR, SECRET, committed, create, find, insert, patient, stored, text, value};

/// Runs a script of the server with the session's key.
fn run(server: &Server, script: &str, key: &Root) {
    let answer = server.cli(&[
        "EVAL",
        &format!("{script} return 'done'"),
        "1",
        &stored(key),
    ]);
    assert_eq!(answer, "done");
}

/// the new primary lacks the last commits, and a request has loaded the session before.
#[tokio::test]
async fn a_version_that_a_request_has_seen_is_not_used_again() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let (key, mut base) = create(&store, "a", "1").await;
    run(&server, "redis.call('COPY', KEYS[1], 'former')", &key);
    for number in ["2", "3", "4"] {
        base = committed(store.commit(&key, Some(&base), insert("a", number)).await);
    }
    run(&server, "redis.call('RENAME', 'former', KEYS[1])", &key);
    let after = committed(store.commit(&key, Some(&base), insert("a", "5")).await);
    assert!(after.version("a") > base.version("a"));
}

/// the clock of the former primary was ahead.
#[tokio::test]
async fn a_clock_that_is_behind_ends_no_session_early() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let ahead = "local time = redis.call('TIME')[1] * 1000 + 1800000
        local h = redis.call('HGET', KEYS[1], '')
        h = string.sub(h, 1, 24) .. struct.pack('>I6', time) .. string.sub(h, 31)
        redis.call('HSET', KEYS[1], '', h)";
    let (key, base) = create(&store, "a", "1").await;
    run(&server, ahead, &key);
    let ahead = Timestamp::now().as_millis() + 1_200_000;
    committed(store.commit(&key, Some(&base), insert("a", "2")).await);
    let found = find(&store, &key).await.unwrap();
    assert!(found.last_accessed_at().as_millis() > ahead);
    store.touch(&key).await.unwrap();
    let found = find(&store, &key).await.unwrap();
    assert!(found.last_accessed_at().as_millis() > ahead);
}

/// a commit that fails after its first command leaves a key that outlives its session.
#[tokio::test]
async fn a_session_ends_in_time_whatever_the_expiry_of_its_key() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let key = store.new_id().key();
    let mut birth = Changes::create(SECRET, Some(Duration::from_millis(500)), HOUR);
    birth.insert("a".into(), text("1"));
    let base = committed(store.commit(&key, None, birth).await);
    run(&server, "redis.call('PEXPIRE', KEYS[1], 3600000)", &key);
    sleep(Duration::from_millis(600)).await;
    assert_eq!(find(&store, &key).await, None);
    let outcome = store.commit(&key, Some(&base), insert("a", "2")).await;
    assert_eq!(outcome.unwrap(), Outcome::Gone);
    store.touch(&key).await.unwrap();
    assert!(!store.delete(&key).await.unwrap());
    assert_eq!(find(&store, &key).await, None);
}

/// the key is removed by the commit itself, which has to return the whole session because
/// another one came in between.
#[tokio::test]
async fn a_commit_that_ends_its_session_is_answered() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let (key, base) = create(&store, "a", "1").await;
    committed(store.commit(&key, Some(&base), insert("b", "2")).await);
    sleep(Duration::from_millis(50)).await;
    let mut shorter = insert("a", "3");
    shorter.set_idle_timeout(Some(Duration::from_millis(1)));
    shorter.without_access();
    let record = committed(store.commit(&key, Some(&base), shorter).await);
    assert_eq!(value(&record, "b").as_deref(), Some("2"));
    assert_eq!(server.cli(&["EXISTS", &stored(&key)]), "0");
}

/// The limit was lowered, or other requests have added to the session as well.
#[tokio::test]
async fn a_session_above_the_limit_can_be_made_smaller() {
    let server = Server::start(&[]);
    let (key, base) = create(&patient(&server.url()).await, "a", &"x".repeat(900)).await;
    let builder = RedisStore::builder(server.url()).max_session_bytes(100);
    let store = builder.connect().await.unwrap();
    let base = committed(store.commit(&key, Some(&base), removal("none")).await);
    let record = committed(store.commit(&key, Some(&base), removal("a")).await);
    assert_eq!(value(&record, "a"), None);
}

fn removal(name: &str) -> Changes {
    let mut changes = Changes::default();
    changes.remove(name.into());
    changes
}
