//! Passwords, access lists, prefixes, and what a dump of the database shows.

use std::time::{Duration, Instant};

use distributable::session::{Changes, Outcome, Value};
use distributable::store::RedisErrorKind;
use distributable::testing::conformance;
use distributable::{Scope, SessionStore, StoreErrorKind};
use tokio::time::sleep;

use crate::common::redis::{Server, has_sharded_channels};
use crate::events::{create_brief, listen, next};
use crate::support::{
    HOUR, PATIENT, RECOVERY, SECRET, birth, builder, committed, create, find, insert, kind,
    patient, reason, rotation, secret, stored, text,
};

/// The permissions that the guide gives a user, for the prefix `sess`.
const RULES: [&str; 23] = [
    "on",
    ">open sesame",
    "~sess:*",
    "~sess-users:*",
    "~sess-expired:*",
    "resetchannels",
    "&sess:events*",
    "-@all",
    "+@connection",
    "+time",
    "+scan",
    "+info",
    "+hgetall",
    "+hget",
    "+hset",
    "+hdel",
    "+hkeys",
    "+exists",
    "+pexpire",
    "+pexpireat",
    "+evalsha",
    "+eval",
    "+publish",
];

/// What connections, clusters and waiting for replicas need besides.
const MORE: [&str; 6] = [
    "+script|load",
    "+cluster|slots",
    "+cluster|info",
    "+asking",
    "+role",
    "+wait",
];

/// What subscribers of events need besides.
const EVENTS: [&str; 4] = [
    "&__keyevent@0__:expired",
    "+set",
    "+subscribe",
    "+config|get",
];

/// What events need in a cluster, if its servers know these commands.
const SHARDED: [&str; 2] = ["+ssubscribe", "+spublish"];

/// a user that may do what we document, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_documented_permissions_are_enough() {
    let server = Server::start(&[]);
    let rules = [
        &["ACL", "SETUSER", "shop"][..],
        &RULES,
        &MORE,
        &EVENTS,
        if has_sharded_channels() {
            &SHARDED
        } else {
            &[]
        },
    ];
    server.ok(&rules.concat());
    // What does not belong to us stays as it is.
    server.ok(&["SET", "foreign", "value"]);
    let open = || async {
        let store = builder(server.url()).credentials(Some("shop"), "open sesame");
        store.connect().await.unwrap()
    };
    let store = open().await;
    let mut events = listen(&store, Scope::Node).await;
    let (key, _) = create(&store, "a", "1").await;
    let brief = create_brief(&store, HOUR).await;
    store.delete(&key).await.unwrap();
    for expected in [key, brief, key, brief] {
        assert_eq!(next(&mut events).await.key, expected);
    }
    drop(events);
    conformance(open().await, open().await).await;
    assert_eq!(server.cli(&["GET", "foreign"]), "value");
    let denied = server.cli(&["ACL", "LOG"]);
    assert_eq!(denied, "", "something was denied");
    let guide = include_str!("../../src/docs/redis.md");
    let guide: Vec<_> = guide.split_whitespace().collect();
    for rule in RULES
        .iter()
        .chain(&MORE)
        .chain(&EVENTS)
        .filter(|rule| rule.starts_with(['+', '-', '&']))
    {
        assert!(
            guide.iter().any(|word| word.trim_matches('`') == *rule),
            "the guide does not mention {rule}"
        );
    }
}

/// an error about credentials names the cause, and contains no secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrong_credentials_are_named_and_never_shown() {
    let server = Server::start_with_password("right");
    let attempts = [
        builder(server.url()),
        builder(format!("redis://:wr0ng@127.0.0.1:{}", server.port)),
        builder(server.url()).credentials(None, "wr0ng"),
        builder(server.url()).credentials(Some("nobody"), "wr0ng"),
    ];
    for builder in attempts {
        assert!(!format!("{builder:?}").contains("wr0ng"));
        let start = Instant::now();
        let error = builder.clone().connect().await.unwrap_err();
        assert_eq!(error.kind(), RedisErrorKind::Unauthenticated, "{error}");
        assert!(!format!("{error} {error:?}").contains("wr0ng"), "{error:?}");
        assert!(start.elapsed() < PATIENT, "it waited for another answer");
        let store = builder.build().unwrap();
        let error = store.load(&store.new_id().key(), None).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_eq!(kind(&error), Some(RedisErrorKind::Unauthenticated));
        assert!(!format!("{store:?} {error:?}").contains("wr0ng"));
    }
    let url = format!("redis://:right@127.0.0.1:{}", server.port);
    let store = patient(&url).await;
    create(&store, "a", "1").await;
}

/// rights that are taken away while the store runs, and given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_permission_that_is_missing_is_named() {
    let server = Server::start(&[]);
    server.ok(&[&["ACL", "SETUSER", "shop"], &RULES[..], &MORE[..]].concat());
    let builder = builder(server.url()).credentials(Some("shop"), "open sesame");
    let store = builder.connect().await.unwrap();
    let (key, record) = create(&store, "a", "1").await;
    server.ok(&["ACL", "SETUSER", "shop", "-hset"]);
    let error = store.commit(&key, Some(&record), insert("a", "2")).await;
    let error = error.unwrap_err();
    assert_eq!(
        kind(&error),
        Some(RedisErrorKind::Denied),
        "{}",
        reason(&error)
    );
    server.ok(&["ACL", "SETUSER", "shop", "+hset", "resetpass", ">another"]);
    committed(store.commit(&key, Some(&record), insert("a", "2")).await);
    // A changed password counts for new connections.
    server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let deadline = Instant::now() + RECOVERY;
    loop {
        match store.load(&key, None).await {
            Err(error) if kind(&error) == Some(RedisErrorKind::Unauthenticated) => break,
            _ => assert!(Instant::now() < deadline, "the old password is still good"),
        }
        sleep(Duration::from_millis(20)).await;
    }
    server.ok(&["ACL", "SETUSER", "shop", ">open sesame"]);
    let deadline = Instant::now() + RECOVERY;
    while let Err(error) = store.load(&key, None).await {
        assert!(Instant::now() < deadline, "{}", reason(&error));
        sleep(Duration::from_millis(20)).await;
    }
}

/// prefixes keep applications apart, and bad ones are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn prefixes_keep_applications_apart() {
    let server = Server::start(&[]);
    let shop = builder(server.url())
        .prefix("shop")
        .connect()
        .await
        .unwrap();
    let other = builder(server.url())
        .prefix("shop:2")
        .connect()
        .await
        .unwrap();
    let (key, _) = create(&shop, "a", "1").await;
    assert_eq!(find(&other, &key).await, None);
    assert!(!other.delete(&key).await.unwrap());
    assert!(find(&shop, &key).await.is_some());
    let second = patient(&format!("{}/1", server.url())).await;
    assert_eq!(find(&second, &key).await, None);
    for bad in ["", "a{b", "a*", "a\r\nFLUSHALL", "a b"] {
        let error = builder(server.url()).prefix(bad).build();
        assert_eq!(error.unwrap_err().kind(), RedisErrorKind::Config);
    }
}

/// applications that share a database and a prefix by mistake, in two browsers' tabs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_of_another_application_is_no_session() {
    let server = Server::start(&[]);
    let open = async |name: Option<&str>, near: bool| {
        let builder = builder(server.url());
        let builder = match name {
            Some(name) => builder.application(name),
            None => builder,
        };
        let builder = if near {
            builder.near_cache(1 << 20)
        } else {
            builder
        };
        builder.connect().await.unwrap()
    };
    let shop = open(Some("shop"), false).await;
    let key = shop.new_id().key();
    let record = committed(shop.commit(&key, None, birth("a", "1")).await);
    let record = committed(shop.commit(&key, Some(&record), insert("b", "2")).await);
    let before = server.cli(&["DUMP", &stored(&key)]);
    for name in [Some("blog"), Some("shop2"), None] {
        for near in [false, true] {
            let other = open(name, near).await;
            assert_eq!(find(&other, &key).await, None);
            other.touch(&key).await.unwrap();
            assert!(!other.delete(&key).await.unwrap());
            let rotation = rotation(SECRET, secret(1));
            for changes in [insert("a", "2"), rotation, birth("a", "2")] {
                for base in [None, Some(&record)] {
                    let outcome = other.commit(&key, base, changes.clone()).await;
                    assert_eq!(outcome.unwrap(), Outcome::Gone);
                }
            }
            assert_eq!(server.cli(&["DUMP", &stored(&key)]), before, "{name:?}");
        }
    }
    // The name stays with the session, whatever happens to it.
    let mut rotation = rotation(SECRET, secret(1));
    rotation.insert("c".into(), text("3"));
    committed(shop.commit(&key, Some(&record), rotation).await);
    assert_eq!(find(&open(Some("blog"), false).await, &key).await, None);
    let again = open(Some("shop"), true).await;
    let found = find(&again, &key).await.unwrap();
    assert_eq!(found.attributes().count(), 3);
    assert!(again.delete(&key).await.unwrap());
    // An application that gets a name keeps its sessions.
    let (key, record) = create(&open(None, false).await, "a", "1").await;
    committed(shop.commit(&key, Some(&record), insert("a", "2")).await);
    assert!(find(&open(None, false).await, &key).await.is_some());
    for bad in ["", "a\nb", &"x".repeat(65)] {
        let builder = builder(server.url()).application(bad);
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), RedisErrorKind::Config);
    }
}

/// the contract holds for a store with a name.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_named_application_keeps_the_contract() {
    let server = Server::start(&[]);
    let open = async || {
        let builder = builder(server.url()).application("shop");
        builder.connect().await.unwrap()
    };
    conformance(open().await, open().await).await;
}

/// C-13: nothing in the database, or on its way there, opens a session.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dump_of_the_database_opens_no_session() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let id = store.new_id();
    let mut birth = Changes::create(id.hash(), Some(HOUR), HOUR);
    birth.insert("a".into(), Value::from_bytes(*b"1"));
    committed(store.commit(&id.key(), None, birth).await);
    let text = id.expose();
    let secret = &text[24..];
    let keys = server.cli(&["KEYS", "*"]);
    assert_eq!(keys, stored(&id.key()));
    let dump = server.cli(&["DUMP", &keys]) + &server.cli(&["HGETALL", &keys]) + &keys;
    assert!(!dump.to_uppercase().contains(secret));
}
