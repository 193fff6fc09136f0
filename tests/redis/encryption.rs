//! Encryption of attribute values.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::routing::get;
use distributable::session::{Changes, Loaded};
use distributable::store::{PlainValues, RedisErrorKind, RedisStoreBuilder};
use distributable::testing::conformance;
use distributable::{RedisStore, Root, Session, SessionLayer, SessionStore, StoreErrorKind};
use tokio::time::timeout;
use tower::ServiceExt;

use crate::common::redis::Server;
use crate::support::{
    HOUR, PATIENT, committed, create, find, insert, kind, reason, stored, text, value,
};

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn builder(server: &Server) -> RedisStoreBuilder {
    RedisStore::builder(server.url()).operation_timeout(PATIENT)
}

async fn with_keys(server: &Server, keys: &[[u8; 32]]) -> RedisStore {
    let builder = keys
        .iter()
        .fold(builder(server), |builder, key| builder.encryption_key(*key));
    builder.connect().await.unwrap()
}

#[track_caller]
fn assert_undecipherable<T: std::fmt::Debug>(result: Result<T, distributable::StoreError>) {
    let error = result.unwrap_err();
    assert_eq!(
        error.kind(),
        StoreErrorKind::Unavailable,
        "{}",
        reason(&error)
    );
    assert_eq!(kind(&error), Some(RedisErrorKind::Encryption));
}

/// R-03, C-13.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_holds_and_no_value_is_in_the_database() {
    let server = Server::start(&[]);
    let cached = builder(&server).encryption_key(NEW).near_cache(1 << 20);
    let cached = cached.connect().await.unwrap();
    // Without a near-cache, which a change by another node reaches a moment later.
    let one = with_keys(&server, &[NEW]).await;
    conformance(one, with_keys(&server, &[NEW, OLD]).await).await;
    server.ok(&["FLUSHALL"]);
    let (key, record) = create(&cached, "name", "a readable value").await;
    committed(
        cached
            .commit(&key, Some(&record), insert("other", "another value"))
            .await,
    );
    let dump = server.cli(&["HGETALL", &stored(&key)]);
    assert!(
        dump.contains(":name") && dump.contains(":other"),
        "names stay plain: {dump}"
    );
    assert!(!dump.contains("value"), "{dump}");
    // The invalidation that follows its own write may come while it reads: then it reads once more.
    let hit = async {
        while cached.near_cache().unwrap().hits == 0 {
            let found = find(&cached, &key).await.unwrap();
            assert_eq!(value(&found, "name").as_deref(), Some("a readable value"));
        }
    };
    timeout(PATIENT, hit)
        .await
        .expect("a read without a command");
}

/// 29: an expectation and a comparison concern what was encrypted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_are_replaced_one_after_the_other() {
    let server = Server::start(&[]);
    let old = with_keys(&server, &[OLD]).await;
    let (key, record) = create(&old, "a", "1").await;
    let both = with_keys(&server, &[OLD, NEW]).await;
    let turned = with_keys(&server, &[NEW, OLD]).await;
    let record = committed(turned.commit(&key, Some(&record), insert("b", "2")).await);
    assert_eq!(
        value(&find(&both, &key).await.unwrap(), "b").as_deref(),
        Some("2")
    );
    let mut update = insert("a", "3");
    update.require_version("a".into(), record.version("a"));
    let record = committed(both.commit(&key, Some(&record), update.clone()).await);
    let outcome = turned.commit(&key, Some(&record), update).await.unwrap();
    assert!(matches!(
        outcome,
        distributable::session::Outcome::Conflict(_)
    ));
    let new = with_keys(&server, &[NEW]).await;
    assert_undecipherable(new.load(&key, None).await);
    committed(turned.commit(&key, Some(&record), insert("a", "4")).await);
    let found = find(&new, &key).await.unwrap();
    assert_eq!(value(&found, "a").as_deref(), Some("4"));
    assert_undecipherable(old.load(&key, None).await);
}

/// A store that lacks the key is no reason to log a user out.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_missing_or_wrong_key_is_an_error_and_loses_nothing() {
    let server = Server::start(&[]);
    let right = with_keys(&server, &[NEW]).await;
    let app = |store: RedisStore| {
        let read = async |session: Session| {
            let count: Option<u64> = session.get("n").expect("it is a number");
            count.unwrap_or_default().to_string()
        };
        let write = async |session: Session| session.insert("n", &7u64).expect("it encodes");
        let router = Router::new()
            .route("/read", get(read))
            .route("/write", get(write));
        router.layer(SessionLayer::new(store))
    };
    let ask = async |store: &RedisStore, path: &str, cookie: &str| {
        let request = Request::get(path).header(header::COOKIE, cookie);
        let request = request.body(Body::empty()).unwrap();
        app(store.clone()).oneshot(request).await.unwrap()
    };
    let written = ask(&right, "/write", "").await;
    let cookie = written.headers()[header::SET_COOKIE].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    for wrong in [
        with_keys(&server, &[OLD]).await,
        with_keys(&server, &[]).await,
    ] {
        let refused = ask(&wrong, "/read", &cookie).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(!refused.headers().contains_key(header::SET_COOKIE));
    }
    let read = ask(&right, "/read", &cookie).await;
    assert_eq!(read.status(), StatusCode::OK);
    let body = axum::body::to_bytes(read.into_body(), 100).await.unwrap();
    assert_eq!(body, "7");
    // Without the key a session can be ended, and it is.
    let key = server.cli(&["KEYS", "sess:*"]);
    let key = Root::parse(key.strip_prefix("sess:").unwrap()).unwrap();
    assert!(with_keys(&server, &[OLD]).await.delete(&key).await.unwrap());
    assert!(matches!(
        right.load(&key, None).await.unwrap(),
        Loaded::Absent
    ));
}

/// A value in another place, an older format and damaged bytes are never another value.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn values_cannot_be_moved_within_the_database() {
    let server = Server::start(&[]);
    let store = with_keys(&server, &[NEW]).await;
    let (one, record) = create(&store, "a", "1").await;
    committed(store.commit(&one, Some(&record), insert("b", "2")).await);
    let (two, _) = create(&store, "a", "3").await;
    let copy = |from: &Root, name: &str, to: &Root, other: &str| {
        let script = "local v = redis.call('HGET', KEYS[1], ARGV[1]) \
            return redis.call('HSET', KEYS[2], ARGV[2], v)";
        let (from, to) = (stored(from), stored(to));
        server.cli(&["EVAL", script, "2", &from, &to, name, other]);
    };
    // In its own place it can be put back.
    copy(&one, ":a", &one, ":a");
    find(&store, &one).await.unwrap();
    copy(&one, ":b", &one, ":a");
    assert_undecipherable(store.load(&one, None).await);
    copy(&one, ":b", &two, ":b");
    assert_undecipherable(store.load(&two, None).await);
    for payload in ["\u{1}j1", "\u{2}", "\u{2}short"] {
        let (three, _) = create(&store, "a", "1").await;
        let bytes = format!("0123456789{payload}");
        server.cli(&["HSET", &stored(&three), ":a", &bytes]);
        assert_undecipherable(store.load(&three, None).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn encryption_is_introduced_and_ended_in_steps() {
    let server = Server::start(&[]);
    let step = async |plain: Option<PlainValues>| {
        let builder = builder(&server).encryption_key(NEW);
        match plain {
            Some(plain) => builder.plain_values(plain),
            None => builder,
        }
        .connect()
        .await
        .unwrap()
    };
    let before = with_keys(&server, &[]).await;
    let steps = [
        step(Some(PlainValues::Written)).await,
        step(Some(PlainValues::Accepted)).await,
        step(None).await,
    ];
    let (plain, _) = create(&before, "a", "1").await;
    assert_undecipherable(steps[2].load(&plain, None).await);
    let (first, _) = create(&steps[0], "a", "1").await;
    let (second, _) = create(&steps[1], "a", "1").await;
    // Nodes of one step and the next read each other's sessions.
    for (store, keys) in [
        (&before, &[plain, first][..]),
        (&steps[0], &[plain, first, second]),
        (&steps[1], &[plain, first, second]),
        (&steps[2], &[second]),
    ] {
        for key in keys {
            let found = find(store, key).await.unwrap();
            assert_eq!(value(&found, "a").as_deref(), Some("1"));
        }
    }
    let no_key = builder(&server).plain_values(PlainValues::Accepted);
    let many = (0..9).fold(builder(&server), |builder, key| {
        builder.encryption_key([key; 32])
    });
    for bad in [no_key, many] {
        let error = bad.build().unwrap_err();
        assert_eq!(error.kind(), RedisErrorKind::Config);
    }
    let shown = format!("{:?}", builder(&server).encryption_key([0xAB; 32]));
    assert!(!shown.contains("171"), "{shown}");
}

/// The labels of devices are values as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_list_of_a_users_sessions_is_encrypted() {
    let server = Server::start(&[]);
    let store = with_keys(&server, &[NEW]).await;
    let log_in = async |session: Session| session.log_in_with_label("ada", "kitchen");
    let app = Router::new()
        .route("/", get(log_in))
        .layer(SessionLayer::new(store.clone()));
    let request = Request::get("/").body(Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let list = server.cli(&["KEYS", "sess-users:*"]);
    let dump = server.cli(&["HGETALL", &list]);
    assert!(!dump.contains("kitchen"), "{dump}");
    let sessions = store.sessions_of("ada").await.unwrap();
    assert_eq!(sessions[0].label.as_deref(), Some("kitchen"));
    let wrong = with_keys(&server, &[OLD]).await;
    assert_undecipherable(wrong.sessions_of("ada").await);
    assert_undecipherable(wrong.end_user("ada").await);
    assert_eq!(store.end_user("ada").await.unwrap(), 1);
}

/// 33: the limit of a session counts what the application has written.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_and_empty_values_are_encrypted() {
    let server = Server::start(&[]);
    let store = with_keys(&server, &[NEW]).await;
    let large = "x".repeat(1 << 20);
    let key = store.new_id().key();
    let mut birth = Changes::create(crate::support::SECRET, Some(HOUR), HOUR);
    for (name, content) in [("large", &*large), ("empty", ""), ("", "1")] {
        birth.insert(name.into(), text(content));
    }
    committed(store.commit(&key, None, birth).await);
    let found = find(&store, &key).await.unwrap();
    assert_eq!(value(&found, "large"), Some(large));
    assert_eq!(value(&found, "empty").as_deref(), Some(""));
    assert_eq!(value(&found, "").as_deref(), Some("1"));
}
