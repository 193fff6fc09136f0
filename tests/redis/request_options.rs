//! Servers and proxies that do not run every command, and report it in their own words.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use distributable::session::Changes;
use distributable::store::RedisErrorKind;
use distributable::{RedisStore, SessionStore, StoreError, StoreErrorKind};

use crate::common::redis::{Server, free_port};
use crate::front::{Answer, Front};
use crate::support::{
    RECOVERY, SECRET, birth, builder, committed, create, find, kind, reason, rotation, secret,
    text, value,
};

/// whatever a server answers to `HELLO`, it is used without copies.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_does_not_know_hello_is_used_without_copies() {
    let server = Server::start(&[]);
    let answers = [
        Answer::Say("-ERR unknown command `HELLO`, with args beginning with: `3`, ".to_owned()),
        Answer::Say("-ERR unknown command 'HELLO', with args beginning with: '3' ".to_owned()),
        Answer::Say("-ERR unknown command 'hello'".to_owned()),
        Answer::Say("-ERR unknown command".to_owned()),
        Answer::Say("-NOPROTO unsupported protocol version".to_owned()),
        Answer::Say("-NOPROTO sorry this protocol version is not supported".to_owned()),
        Answer::Say("-NOPERM this user has no permissions to run the 'hello' command".to_owned()),
        Answer::Say("-ERR Command is not available: 'HELLO'".to_owned()),
        Answer::Say("-unsupported command".to_owned()),
        Answer::Say("-NOAUTH Authentication required.".to_owned()),
        Answer::Close,
        Answer::Silence,
    ];
    for answer in answers {
        let said = answer.clone();
        let front = Front::start(server.port, move |command| {
            match &*command[0].to_uppercase() {
                "HELLO" => said.clone(),
                _ => Answer::Pass,
            }
        })
        .await;
        let builder = builder(front.url()).near_cache(1 << 20);
        let store = builder.build().unwrap();
        let key = store.new_id().key();
        let start = Instant::now();
        // A proxy that answers nothing is given up after a while.
        let record = loop {
            match store.commit(&key, None, birth("a", "1")).await {
                Ok(outcome) => break committed(Ok(outcome)),
                Err(error) => {
                    let text = reason(&error);
                    let may_last = matches!(answer, Answer::Silence);
                    assert!(may_last && start.elapsed() < RECOVERY, "{answer:?}: {text}");
                }
            }
        };
        assert_eq!(value(&record, "a").as_deref(), Some("1"));
        for _ in 0..3 {
            assert!(find(&store, &key).await.is_some(), "{answer:?}");
        }
        let status = store.near_cache().unwrap();
        assert_eq!((status.sessions, status.hits), (0, 0), "{answer:?}");
    }
}

/// a real server whose administrator has renamed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_without_hello_is_warned_of_once() {
    let server = with_renamed("HELLO");
    let node = server.node(1).args(&["--near-cache"]).ready();
    let mut browser = crate::common::Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    for _ in 0..3 {
        server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        crate::common::eventually("the node is connected again", || {
            browser.get(&node, "/get?k=a").status == 200
        });
    }
    node.wait_log("no near-cache");
    assert_eq!(
        node.log().matches("no near-cache").count(),
        1,
        "{}",
        node.log()
    );
}

/// `ASK` and `MOVED` without a host lead to the host that has answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redirection_without_a_host_is_followed() {
    for (word, host) in [("ASK", "?"), ("ASK", ""), ("MOVED", "?"), ("MOVED", "")] {
        let server = Server::start(&[]);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        // The server that has the keys.
        let target = Front::start(server.port, move |command| {
            match &*command[0].to_uppercase() {
                "ASKING" => {
                    count.fetch_add(1, SeqCst);
                    Answer::Say("+OK".to_owned())
                }
                _ => Answer::Pass,
            }
        })
        .await;
        let to = target.port;
        // The server that owns their slots according to the table.
        let owner = Front::start(server.port, move |command| {
            match &*command[0].to_uppercase() {
                "EVALSHA" if command[2] == "0" => Answer::Pass,
                "EVALSHA" | "EVAL" | "HGETALL" => Answer::Say(format!("-{word} 1 {host}:{to}")),
                _ => Answer::Pass,
            }
        })
        .await;
        let own = owner.port;
        let table = Front::start(owner.port, move |command| {
            match &*command[0].to_uppercase() {
                "CLUSTER" => Answer::Say(format!(
                    "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1\r\n?\r\n:{own}"
                )),
                _ => Answer::Pass,
            }
        })
        .await;
        // The first address is of a host where nothing listens.
        let url = format!("redis-cluster://127.0.0.9:1,127.0.0.1:{}", table.port);
        let store = builder(url).build().unwrap();
        let key = store.new_id().key();
        match store.commit(&key, None, birth("a", "1")).await {
            Err(error) => panic!("{word} {host}: {}", reason(&error)),
            outcome => drop(committed(outcome)),
        }
        let found = store.load(&key, None).await;
        assert!(found.unwrap().into_live().is_some(), "{word} {host}");
        let asked = asked.load(SeqCst);
        assert!(word == "MOVED" || asked >= 2, "{asked}");
    }
}

/// A server that does not support a command.
fn with_renamed(command: &str) -> Server {
    let port = free_port();
    let config = format!("port {port}\nsave \"\"\nrename-command {command} \"\"\n");
    Server::start_configured(port, &config, &[])
}

/// What a store reports when it is used in every way: the first error.
async fn first_error(store: &RedisStore) -> Option<StoreError> {
    let run = async {
        let key = store.new_id().key();
        store.commit(&key, None, birth("a", "1")).await?;
        let record = store.load(&key, None).await?.into_live();
        store.touch(&key).await?;
        let mut removal = Changes::default();
        removal.remove("a".into());
        store.commit(&key, record.as_ref(), removal).await?;
        let mut rotation = rotation(SECRET, secret(1));
        rotation.insert("b".into(), text("2"));
        store.commit(&key, None, rotation).await?;
        store.delete(&key).await
    };
    run.await.err()
}

fn names(error: &StoreError, command: &str) {
    let text = reason(error);
    assert!(text.to_uppercase().contains(command), "{command}: {text}");
    assert_eq!(
        kind(error),
        Some(RedisErrorKind::Denied),
        "{command}: {text}"
    );
    assert_eq!(
        error.kind(),
        StoreErrorKind::Unavailable,
        "{command}: {text}"
    );
}

const NEEDED: [&str; 10] = [
    "EVALSHA",
    "SCRIPT",
    "TIME",
    "HGETALL",
    "HGET",
    "HSET",
    "PEXPIRE",
    "PEXPIREAT",
    "HKEYS",
    "HDEL",
];

/// a command that the administrator has disabled.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_disabled_command_is_named() {
    for command in NEEDED {
        let server = with_renamed(command);
        let store = builder(server.url()).build().unwrap();
        let error = first_error(&store).await;
        names(
            &error.unwrap_or_else(|| panic!("{command} is not needed")),
            command,
        );
    }
}

/// a command that the user may not run, from the start and from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_forbidden_command_is_named() {
    let server = Server::start(&[]);
    for command in NEEDED {
        let rule = format!("-{}", command.to_lowercase());
        let allow = [
            "ACL", "SETUSER", "shop", "reset", "on", ">open", "~*", "&*", "+@all",
        ];
        server.ok(&allow);
        let builder = builder(server.url()).credentials(Some("shop"), "open");
        let running = builder.clone().connect().await.unwrap();
        server.ok(&["ACL", "SETUSER", "shop", &rule]);
        let store = builder.build().unwrap();
        names(&first_error(&store).await.expect(command), command);
        // Scripts are loaded by then.
        if command != "SCRIPT" {
            names(&first_error(&running).await.expect(command), command);
        }
        server.ok(&allow);
        let error = first_error(&running).await;
        assert!(error.is_none(), "{command}: {}", reason(&error.unwrap()));
    }
}

/// a logout that took effect, and cannot wait for replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_logout_that_may_not_wait_for_replicas_is_of_unknown_outcome() {
    let server = Server::start(&[]);
    server.ok(&[
        "ACL", "SETUSER", "shop", "on", ">open", "~*", "+@all", "-wait",
    ]);
    let store = builder(server.url())
        .credentials(Some("shop"), "open")
        .wait_for_replicas(1, Duration::from_millis(100))
        .connect()
        .await
        .unwrap();
    let (key, _) = create(&store, "a", "1").await;
    let error = store.delete(&key).await.unwrap_err();
    assert_eq!(
        error.kind(),
        StoreErrorKind::Indeterminate,
        "{}",
        reason(&error)
    );
    assert!(reason(&error).contains("WAIT"), "{}", reason(&error));
    assert_eq!(find(&store, &key).await, None);
}
