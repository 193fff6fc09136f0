//! Sentinels that count anew, and that name one primary in two ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use distributable::session::Loaded;
use distributable::{RedisStore, SessionStore};
use tokio::time::sleep;

use crate::common::redis::Server;
use crate::common::{Browser, Start, eventually};
use crate::front::{Answer, Front};
use crate::groups::Sentinels;
use crate::support::{
    RECOVERY, SECRET, birth, builder, committed, create, find, in_one_of_some, patient, reason,
};

/// Makes the first server the primary again by hand, as an administrator does.
fn swap(group: &Sentinels) {
    let port = group.servers[0].port.to_string();
    group.servers[0].ok(&["REPLICAOF", "NO", "ONE"]);
    group.servers[1].ok(&["REPLICAOF", "127.0.0.1", &port]);
}

/// A store that has seen a failover, and writes to the second server.
async fn after_a_failover(group: &Sentinels) -> RedisStore {
    let store = RedisStore::connect(&group.url()).await.unwrap();
    writes(&store, RECOVERY).await;
    group.fail_over_to(1);
    writes(&store, Duration::from_secs(10)).await;
    store
}

/// Polls until a write succeeds.
async fn writes(store: &RedisStore, within: Duration) {
    let start = Instant::now();
    loop {
        let key = store.new_id().key();
        match store.commit(&key, None, birth("a", "1")).await {
            Ok(outcome) => return drop(committed(Ok(outcome))),
            Err(error) => assert!(start.elapsed() < within, "{}", reason(&error)),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// `SENTINEL REMOVE` and `MONITOR`, on one sentinel after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sentinels_that_were_repaired_are_followed() {
    let group = Sentinels::start();
    let store = after_a_failover(&group).await;
    for sentinel in &group.sentinels {
        sentinel.ok(&["SENTINEL", "REMOVE", "main"]);
    }
    swap(&group);
    let port = group.servers[0].port.to_string();
    for sentinel in &group.sentinels {
        sentinel.ok(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "2"]);
        sleep(Duration::from_millis(300)).await;
    }
    let start = Instant::now();
    writes(&store, Duration::from_secs(10)).await;
    eprintln!("a write succeeded after {:?}", start.elapsed());
    assert!(group.servers[0].cli(&["DBSIZE"]).parse::<usize>().unwrap() >= 2);
    // Their reports from now on count again.
    let down_after = ["SENTINEL", "SET", "main", "down-after-milliseconds", "1000"];
    for sentinel in &group.sentinels {
        sentinel.ok(&down_after);
    }
    group.wait();
    group.fail_over_to(1);
    writes(&store, Duration::from_secs(10)).await;
}

/// new sentinels at the old addresses.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sentinels_that_were_redeployed_are_followed() {
    let mut group = Sentinels::start();
    let store = after_a_failover(&group).await;
    let ports: Vec<_> = group.sentinels.iter().map(|s| s.port).collect();
    group.sentinels.clear();
    swap(&group);
    for port in ports {
        let sentinel = Sentinels::sentinel(port, group.servers[0].port);
        group.sentinels.push(sentinel);
    }
    let start = Instant::now();
    writes(&store, Duration::from_secs(10)).await;
    eprintln!("a write succeeded after {:?}", start.elapsed());
    group.wait();
    group.fail_over_to(1);
    writes(&store, Duration::from_secs(10)).await;
}

/// A sentinel that names this primary, at this election.
async fn named(server: &Server, host: &'static str, epoch: u64) -> Front {
    named_until(server, host, epoch, Arc::default()).await
}

/// As `named`; it answers nothing once it is `gone`.
async fn named_until(
    server: &Server,
    host: &'static str,
    epoch: u64,
    gone: Arc<AtomicBool>,
) -> Front {
    let port = server.port.to_string();
    Front::start(server.port, move |command| {
        if gone.load(Relaxed) {
            return Answer::Close;
        }
        match &*command[0].to_uppercase() {
            "SENTINEL" => {
                let epoch = epoch.to_string();
                let fields = ["ip", host, "port", &port, "config-epoch", &epoch];
                let fields = fields.map(|text| format!("${}\r\n{text}", text.len()));
                Answer::Say(format!("*{}\r\n{}", fields.len(), fields.join("\r\n")))
            }
            _ => Answer::Pass,
        }
    })
    .await
}

/// by its name and by its address.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_primary_with_two_names_is_one_primary() {
    let server = Server::start(&[]);
    let (one, other) = (
        named(&server, "localhost", 1).await,
        named(&server, "127.0.0.1", 1).await,
    );
    let url = format!(
        "redis-sentinel://127.0.0.1:{},127.0.0.1:{}/main",
        one.port, other.port
    );
    let node = Start::default()
        .args(&["--store", "redis", "--redis-url", &url, "--route", "node1"])
        .ready();
    let mut browser = Browser::new();
    browser.ok(&node, "/set?k=a&v=1");
    let store = builder(url).near_cache(1 << 20).connect().await.unwrap();
    let (key, _) = create(&store, "a", "1").await;
    let warm = Instant::now();
    while store.near_cache().unwrap().hits == 0 {
        find(&store, &key).await.unwrap();
        assert!(warm.elapsed() < RECOVERY, "it is never warm");
    }
    // Each sentinel is asked once a second. Copies count for two seconds from the last question to
    // the server that it has answered.
    in_one_of_some("no copy is dropped", async || {
        let misses = store.near_cache().unwrap().misses;
        for _ in 0..350 {
            find(&store, &key).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
        store.near_cache().unwrap().misses == misses
    })
    .await;
    assert_eq!(browser.ok(&node, "/get?k=a")["value"], "1");
    let log = node.log();
    assert_eq!(
        log.matches("the sentinels name a primary").count(),
        1,
        "{log}"
    );
}

/// the role that a server reports takes precedence over a sentinel with an old state.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_no_primary_is_not_followed_whatever_its_election() {
    let (primary, replica) = (Server::start(&[]), Server::start(&[]));
    replica.ok(&["REPLICAOF", "127.0.0.1", "1"]);
    let stale = named(&replica, "127.0.0.1", 9).await;
    let (one, other) = (
        named(&primary, "127.0.0.1", 1).await,
        named(&primary, "127.0.0.1", 1).await,
    );
    let ports = [stale.port, one.port, other.port].map(|port| format!("127.0.0.1:{port}"));
    let url = format!("redis-sentinel://{}/main", ports.join(","));
    let store = builder(url).build().unwrap();
    writes(&store, RECOVERY).await;
    for _ in 0..30 {
        create(&store, "a", "1").await;
        sleep(Duration::from_millis(50)).await;
    }
    eventually("all of them are there", || primary.cli(&["DBSIZE"]) == "31");
}

/// two sentinels name the new primary, at which a session was ended, and then cannot be
/// asked; the third one still names the old primary, which does not know either that it was
/// replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_primary_that_was_replaced_is_not_followed_again() {
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let (ended, _) = create(&patient(&old.url()).await, "a", "1").await;
    let gone = Arc::new(AtomicBool::new(false));
    let stale = named(&old, "127.0.0.1", 7).await;
    let (one, other) = (
        named_until(&new, "127.0.0.1", 8, gone.clone()).await,
        named_until(&new, "127.0.0.1", 8, gone.clone()).await,
    );
    let ports = [stale.port, one.port, other.port].map(|port| format!("127.0.0.1:{port}"));
    let url = format!("redis-sentinel://{}/main", ports.join(","));
    let store = RedisStore::builder(url).build().unwrap();
    let start = Instant::now();
    // The first answer may be that of the sentinel with the old state.
    while !matches!(store.load(&ended, Some(&SECRET)).await, Ok(Loaded::Absent)) {
        assert!(start.elapsed() < RECOVERY, "the latest election counts");
        sleep(Duration::from_millis(20)).await;
    }
    // All of them have been asked since.
    sleep(Duration::from_secs(2)).await;
    gone.store(true, Relaxed);
    drop((one, other));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let loaded = store.load(&ended, Some(&SECRET)).await;
        assert!(!matches!(loaded, Ok(Loaded::Live(_))), "{loaded:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// sentinels that support neither `HELLO` nor subscriptions are asked once a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sentinel_that_announces_nothing_is_asked() {
    let primary = Server::start(&[]);
    let names_it = named(&primary, "127.0.0.1", 1).await;
    for refused in ["HELLO", "SUBSCRIBE"] {
        let sentinel = Front::start(names_it.port, move |command| {
            if command[0].to_uppercase() == refused {
                Answer::Say(format!("-ERR unknown command '{refused}'"))
            } else {
                Answer::Pass
            }
        })
        .await;
        let url = format!("redis-sentinel://127.0.0.1:{}/main", sentinel.port);
        let store = patient(&url).await;
        create(&store, "a", "1").await;
    }
}
