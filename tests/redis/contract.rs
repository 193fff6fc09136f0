//! One server: the contract, and what the hash looks like.

use std::sync::Arc;
use std::time::Duration;

use distributable::session::{Changes, Outcome, Record, Value};
use distributable::testing::conformance;
use distributable::{SessionStore, StoreErrorKind};

use crate::common::redis::Server;
use crate::support::{SECRET, builder, create, find, insert, patient};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_redis_store_keeps_the_contract() {
    let server = Server::start(&[]);
    conformance(patient(&server.url()).await, patient(&server.url()).await).await;
}

/// The limit is for the session as it becomes.
#[tokio::test]
async fn a_value_of_more_than_half_of_the_limit_can_be_replaced() {
    let server = Server::start(&[]);
    let builder = builder(server.url()).max_session_bytes(1_000);
    let store = builder.connect().await.unwrap();
    let (key, record) = create(&store, "a", &"x".repeat(600)).await;
    let outcome = store.commit(&key, Some(&record), insert("a", &"y".repeat(600)));
    let record = match outcome.await.unwrap() {
        Outcome::Committed(record) => record,
        other => panic!("{other:?}"),
    };
    let outcome = store.commit(&key, Some(&record), insert("b", &"y".repeat(600)));
    assert_eq!(outcome.await.unwrap_err().kind(), StoreErrorKind::TooLarge);
}

/// W-02: the attribute's field goes with it, and updates still detect a write in between.
#[tokio::test]
async fn a_removed_attribute_leaves_no_field() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let key = store.new_id().key();
    let hour = Duration::from_secs(3_600);
    let value = || Value::from_bytes(*b"1");
    let mut birth = Changes::create(SECRET, Some(hour), 24 * hour);
    birth.insert("kept".into(), value());
    let mut base = committed(store.commit(&key, None, birth).await.unwrap());
    for n in 0..1_500 {
        let name = format!("state_{n}");
        let mut insert = Changes::default();
        insert.insert(name.as_str().into(), value());
        base = committed(store.commit(&key, Some(&base), insert).await.unwrap());
        let mut removal = Changes::default();
        removal.remove(name.as_str().into());
        base = committed(store.commit(&key, Some(&base), removal).await.unwrap());
        assert_eq!(base.attributes().count(), 1);
        assert_eq!(
            base.version(&name),
            None,
            "no mark is left of a removed name"
        );
    }
    let loaded = find(&store, &key).await.expect("a session");
    assert!(loaded.attributes().eq(base.attributes()));
    assert_eq!(loaded.version("kept"), base.version("kept"));
    let fields = server.cli(&["HLEN", &server.cli(&["KEYS", "*"])]);
    assert_eq!(
        fields.trim(),
        "2",
        "the header and the attribute that is kept"
    );

    // Many at once, more than one command takes.
    let mut all = Changes::default();
    let mut none = Changes::default();
    for n in 0..3_000 {
        all.insert(format!("a{n}").as_str().into(), value());
        none.remove(format!("a{n}").as_str().into());
    }
    let base = committed(store.commit(&key, Some(&base), all).await.unwrap());
    let base = committed(store.commit(&key, Some(&base), none).await.unwrap());
    let loaded = find(&store, &key).await.unwrap();
    for record in [base, loaded] {
        assert_eq!(record.attributes().count(), 1);
        assert_eq!(
            (record.version("a0"), record.version("a2999")),
            (None, None)
        );
    }
}

fn committed(outcome: Outcome) -> Arc<Record> {
    match outcome {
        Outcome::Committed(record) => record,
        other => panic!("expected a session, got {other:?}"),
    }
}
