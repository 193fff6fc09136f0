//! Rotations: one key, one secret at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::routing::get;
use distributable::session::{Loaded, Outcome, Record, SecretHash};
use distributable::{
    RedisStore, Root, Session, SessionId, SessionLayer, SessionStore, StoreErrorKind, UserKey,
};
use tokio::join;
use tower::ServiceExt;

use crate::common::redis::Server;
use crate::support::{
    RECOVERY, SECRET, birth, builder, committed, create, find, in_one_of_some, insert, patient,
    rotation, secret, stored, text, value,
};

async fn near(server: &Server) -> RedisStore {
    let builder = builder(server.url()).near_cache(1 << 20);
    builder.connect().await.unwrap()
}

async fn load(store: &RedisStore, key: &Root, secret: SecretHash) -> Loaded {
    store.load(key, Some(&secret)).await.unwrap()
}

async fn finds(store: &RedisStore, key: &Root, secret: SecretHash) -> bool {
    matches!(load(store, key, secret).await, Loaded::Live(_))
}

/// Loads until a load costs the server nothing.
async fn warm(server: &Server, store: &RedisStore, key: &Root, secret: SecretHash) {
    let deadline = Instant::now() + RECOVERY;
    loop {
        let before = server.commands();
        assert!(finds(store, key, secret).await);
        if server.commands() == before {
            return;
        }
        assert!(Instant::now() < deadline, "it is never warm");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replaced_secret_is_dead_at_once() {
    let server = Server::start(&[]);
    let here = patient(&server.url()).await;
    let there = patient(&server.url()).await;
    let (copies, others) = (near(&server).await, near(&server).await);
    let (key, record) = create(&here, "a", "1").await;
    assert_eq!(load(&there, &key, secret(9)).await, Loaded::Absent);
    for store in [&copies, &others] {
        warm(&server, store, &key, SECRET).await;
    }
    committed(
        here.commit(&key, Some(&record), rotation(SECRET, secret(1)))
            .await,
    );
    for store in [&here, &there] {
        assert_eq!(load(store, &key, SECRET).await, Loaded::Superseded);
        assert!(finds(store, &key, secret(1)).await);
    }
    // A copy from before does not turn the new secret away, and a copy from after is the new one.
    for (turn, store) in [&copies, &others].into_iter().enumerate() {
        assert!(finds(store, &key, secret(1)).await);
        let deadline = Instant::now() + RECOVERY;
        while load(store, &key, SECRET).await != Loaded::Superseded {
            assert!(
                Instant::now() < deadline,
                "{turn}: a rotation is not detected"
            );
        }
        warm(&server, store, &key, secret(1)).await;
        for _ in 0..10 {
            assert_eq!(load(store, &key, SECRET).await, Loaded::Superseded);
            assert!(finds(store, &key, secret(1)).await);
        }
    }
    // The node that rotates has no copy from before for a moment.
    for n in 1..20 {
        warm(&server, &copies, &key, secret(n)).await;
        committed(
            copies
                .commit(&key, None, rotation(secret(n), secret(n + 1)))
                .await,
        );
        assert_eq!(load(&copies, &key, secret(n)).await, Loaded::Superseded);
        assert!(finds(&copies, &key, secret(n + 1)).await);
        assert!(finds(&others, &key, secret(n + 1)).await);
    }
}

/// The server is asked about a secret that the copy does not have, and the copy stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_answers_for_its_secret_alone() {
    let server = Server::start(&[]);
    let store = near(&server).await;
    let (key, _) = create(&store, "a", "1").await;
    // Copies count for two seconds from the last question to the server that it has answered.
    in_one_of_some("one command for each wrong secret", async || {
        warm(&server, &store, &key, SECRET).await;
        let before = server.commands();
        for _ in 0..10 {
            assert_eq!(load(&store, &key, secret(9)).await, Loaded::Absent);
        }
        let asked = server.commands() - before;
        assert!(finds(&store, &key, SECRET).await && find(&store, &key).await.is_some());
        (asked, server.commands() - before) == (10, 10)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn other_secrets_are_superseded_for_a_minute_after_a_rotation() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let (key, _) = create(&store, "a", "1").await;
    for n in 0..3 {
        committed(
            store
                .commit(&key, None, rotation(secret(n), secret(n + 1)))
                .await,
        );
    }
    for other in [0, 1, 2, 9] {
        assert_eq!(load(&store, &key, secret(other)).await, Loaded::Superseded);
    }
    // The time of the last rotation in the header, set back by a minute.
    let earlier = "local h = redis.call('HGET', KEYS[1], '') \
        local at = struct.unpack('>I6', h, 69) - 60000 \
        h = string.sub(h, 1, 68) .. struct.pack('>I6', at) .. string.sub(h, 75) \
        return redis.call('HSET', KEYS[1], '', h)";
    assert_eq!(server.cli(&["EVAL", earlier, "1", &stored(&key)]), "0");
    for other in [0, 1, 2, 9] {
        assert_eq!(load(&store, &key, secret(other)).await, Loaded::Absent);
    }
    assert!(finds(&store, &key, secret(3)).await);
    // A session that has ended supersedes nothing: a new one may begin.
    committed(
        store
            .commit(&key, None, rotation(secret(3), secret(4)))
            .await,
    );
    assert!(store.delete(&key).await.unwrap());
    assert_eq!(load(&store, &key, secret(3)).await, Loaded::Absent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_is_one_key_for_its_whole_life() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let (key, mut record) = create(&store, "a", "1").await;
    for n in 0..10 {
        let changes = rotation(secret(n), secret(n + 1));
        record = committed(store.commit(&key, Some(&record), changes).await);
        assert!(record.is_current(&secret(n + 1)));
        assert_eq!(server.cli(&["KEYS", "*"]), format!("sess:{key}"));
    }
    let found = find(&store, &key).await.unwrap();
    assert!(found.is_current(&secret(10)));
    assert!(found.attributes().eq(record.attributes()));
    assert_eq!(found.version("a"), record.version("a"));
    assert!(store.delete(&key).await.unwrap());
    assert_eq!(server.cli(&["KEYS", "*"]), stored(&key));
    assert_eq!(server.cli(&["HLEN", &stored(&key)]), "1");
    assert!(!store.delete(&key).await.unwrap());
    // What is on its way when a session ends does not bring it back.
    for late in [rotation(secret(10), secret(11)), birth("a", "1")] {
        assert_eq!(store.commit(&key, None, late).await.unwrap(), Outcome::Gone);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_rotations_of_one_secret_one_takes_place() {
    let server = Server::start(&[]);
    let stores = [near(&server).await, near(&server).await];
    for _ in 0..50 {
        let (key, base) = create(&stores[0], "a", "1").await;
        let rotate = async |at: u8| {
            let mut changes = rotation(SECRET, secret(at + 1));
            changes.insert("a".into(), text(&format!("by {at}")));
            let store = &stores[usize::from(at)];
            store.commit(&key, Some(&base), changes).await.unwrap()
        };
        let (winner, record) = match join!(rotate(0), rotate(1)) {
            (Outcome::Committed(record), Outcome::Superseded) => (0, record),
            (Outcome::Superseded, Outcome::Committed(record)) => (1, record),
            other => panic!("{other:?}"),
        };
        assert!(record.is_current(&secret(winner + 1)));
        for store in &stores {
            let Loaded::Live(found) = load(store, &key, secret(winner + 1)).await else {
                panic!("the winner's secret is dead");
            };
            assert_eq!(value(&found, "a"), Some(format!("by {winner}")));
            for other in [SECRET, secret(2 - winner)] {
                assert_eq!(load(store, &key, other).await, Loaded::Superseded);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_under_way_lands_in_the_session_that_was_rotated_meanwhile() {
    let server = Server::start(&[]);
    let (here, there) = (near(&server).await, near(&server).await);
    let (key, base) = create(&here, "a", "1").await;
    warm(&server, &there, &key, SECRET).await;
    let mut changes = rotation(SECRET, secret(1));
    changes.insert("a".into(), text("2"));
    committed(here.commit(&key, Some(&base), changes).await);
    let record = committed(there.commit(&key, Some(&base), insert("b", "3")).await);
    let holds = |record: &Record| {
        assert!(record.is_current(&secret(1)));
        assert_eq!(value(record, "a").as_deref(), Some("2"));
        assert_eq!(value(record, "b").as_deref(), Some("3"));
    };
    holds(&record);
    for store in [&here, &there] {
        holds(&find(store, &key).await.unwrap());
        warm(&server, store, &key, secret(1)).await;
        holds(&find(store, &key).await.unwrap());
    }
    // An access of such a request counts as well, and changes no secret.
    there.touch(&key).await.unwrap();
    holds(&find(&there, &key).await.unwrap());
    // With an expectation that does not hold any more it is a conflict before anything else.
    let mut stale = rotation(SECRET, secret(2));
    stale.require_version("a".into(), base.version("a"));
    let outcome = here.commit(&key, Some(&base), stale).await.unwrap();
    assert!(matches!(outcome, Outcome::Conflict(_)), "{outcome:?}");
}

/// A rotation whose caller was answered with an error is undone by the reverse one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rotation_can_be_taken_back() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let (key, _) = create(&store, "a", "1").await;
    let back = || store.commit(&key, None, rotation(secret(1), SECRET));
    assert_eq!(back().await.unwrap(), Outcome::Superseded);
    committed(store.commit(&key, None, rotation(SECRET, secret(1))).await);
    committed(back().await);
    assert!(finds(&store, &key, SECRET).await);
    assert_eq!(load(&store, &key, secret(1)).await, Loaded::Superseded);
    assert_eq!(back().await.unwrap(), Outcome::Superseded);
}

/// Secret, user and deadline, in one step.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_login_is_stored_with_its_user_and_its_deadline() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let app = Router::new()
        .route(
            "/set",
            get(async |session: Session| session.insert("a", "1")),
        )
        .route(
            "/login",
            get(async |session: Session| session.log_in("ada")),
        )
        .route("/rotate", get(async |session: Session| session.cycle_id()))
        .layer(SessionLayer::new(store.clone()));
    let mut ids: Vec<SessionId> = Vec::new();
    let mut records: Vec<Arc<Record>> = Vec::new();
    let mut ends = Vec::new();
    for path in ["/set", "/login", "/rotate"] {
        let cookie = ids.last().map(|id| format!("JSESSIONID={}", id.expose()));
        let request = Request::get(path).header(COOKIE, cookie.unwrap_or_default());
        let request = request.body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
        let text = cookie.strip_prefix("JSESSIONID=").unwrap();
        let id = SessionId::parse(&text.as_bytes()[..SessionId::TEXT_LEN]).unwrap();
        for former in &ids {
            let found = load(&store, &id.key(), former.hash()).await;
            assert_eq!(found, Loaded::Superseded, "{path}");
        }
        let found = load(&store, &id.key(), id.hash()).await;
        records.push(found.into_live().unwrap());
        // The absolute deadline, on the server's clock.
        let read = "return struct.unpack('>I6', redis.call('HGET', KEYS[1], ''), 19)";
        let end = server.cli(&["EVAL", read, "1", &stored(&id.key())]);
        ends.push(end.parse::<u64>().unwrap());
        ids.push(id);
        // A later moment than the last one.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let keys = server.cli(&["KEYS", "*"]);
    let own = stored(&ids[0].key());
    // Beside it the list of the user's sessions.
    assert!(keys.lines().count() == 2 && keys.contains(&own), "{keys}");
    let ada = Some(UserKey::of("ada"));
    let users: Vec<_> = records.iter().map(|record| record.user()).collect();
    assert_eq!(users, [None, ada, ada]);
    // The absolute lifetime begins with the login, and not with a rotation.
    assert!(ends[0] < ends[1] && ends[1] == ends[2], "{ends:?}");
    // A header that is cut inside the user is no session's.
    let cut = "local h = redis.call('HGET', KEYS[1], '') \
        return redis.call('HSET', KEYS[1], '', string.sub(h, 1, 90))";
    let key = ids[0].key();
    server.cli(&["EVAL", cut, "1", &stored(&key)]);
    let error = store.load(&key, None).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    let error = store
        .commit(&key, None, insert("a", "2"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
}

/// The list of a user's sessions belongs to all applications with its prefix, so that a change of
/// the name locks no user out.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_can_log_in_after_a_change_of_the_applications_name() {
    let server = Server::start(&[]);
    let login = async |session: Session| session.log_in("ada");
    for name in [Some("shop"), Some("shop2"), None, Some("shop")] {
        let builder = builder(server.url());
        let builder = match name {
            Some(name) => builder.application(name),
            None => builder,
        };
        let store = builder.connect().await.unwrap();
        let app = Router::new()
            .route("/login", get(login))
            .layer(SessionLayer::new(store.clone()));
        let request = Request::get("/login").body(Body::empty()).unwrap();
        let response = app.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{name:?}");
        assert_eq!(store.end_user("ada").await.unwrap(), 1, "{name:?}");
        assert_eq!(store.sessions_of("ada").await.unwrap(), []);
    }
}
