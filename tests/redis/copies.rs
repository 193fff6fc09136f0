//! The near-cache: reads that cost no round trip, and are true.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use distributable::session::{Loaded, Outcome, Record, Version};
use distributable::testing::conformance;
use distributable::{RedisStore, Root, SessionStore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::common::redis::Server;
use crate::front::{Answer, Front};
use crate::groups::roots_of_a_slot;
use crate::proxy::{Proxy, Replies};
use crate::support::{
    RECOVERY, SECRET, birth, builder, committed, create, find, in_one_of_some, insert, patient,
    rotation, secret, value,
};

const MIB: usize = 1 << 20;

async fn near(url: &str) -> RedisStore {
    let builder = builder(url).near_cache(16 * MIB);
    builder.connect().await.unwrap()
}

/// Polls until the session has this value here. A copy whose invalidation is lost is returned for a
/// minute.
async fn sees(store: &RedisStore, key: &Root, expected: &str) -> Duration {
    let start = Instant::now();
    loop {
        let found = store.load(key, Some(&SECRET)).await;
        let found = found.ok().and_then(Loaded::into_live);
        if found.and_then(|found| value(&found, "a")).as_deref() == Some(expected) {
            return start.elapsed();
        }
        assert!(start.elapsed() < RECOVERY, "not {expected}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn warm_reads_cost_no_command_and_changes_are_seen() {
    let server = Server::start(&[]);
    let (here, there) = (near(&server.url()).await, near(&server.url()).await);
    let (key, _) = create(&here, "a", "1").await;
    for store in [&here, &there] {
        // The invalidation of its own write may reach the writer while it reads: then it reads once
        // more.
        let deadline = Instant::now() + RECOVERY;
        loop {
            let before = server.commands();
            find(store, &key).await.unwrap();
            if server.commands() == before {
                break;
            }
            assert!(Instant::now() < deadline, "it is never warm");
        }
    }
    // Copies count for two seconds from the last question to the server that it has answered.
    in_one_of_some("warm reads cost no command", async || {
        let before = server.commands();
        for _ in 0..1_000 {
            for store in [&here, &there] {
                let found = find(store, &key).await.unwrap();
                assert_eq!(value(&found, "a").as_deref(), Some("1"));
            }
        }
        server.commands() == before
    })
    .await;
    // The writer reads its write at once; the other node receives an invalidation.
    for round in 0..50 {
        let (writer, reader) = match round % 2 {
            0 => (&here, &there),
            _ => (&there, &here),
        };
        let next = round.to_string();
        let record = find(writer, &key).await.unwrap();
        committed(writer.commit(&key, Some(&record), insert("a", &next)).await);
        let found = find(writer, &key).await.unwrap();
        assert_eq!(
            value(&found, "a").as_deref(),
            Some(&*next),
            "not what it has written"
        );
        sees(reader, &key, &next).await;
    }
    assert!(here.delete(&key).await.unwrap());
    assert_eq!(find(&here, &key).await, None);
    let deadline = Instant::now() + RECOVERY;
    while find(&there, &key).await.is_some() {
        assert!(Instant::now() < deadline, "a logout is not detected");
    }
    let status = here.near_cache().unwrap();
    assert!(
        status.hits > 1_000 && status.invalidations > 0,
        "{status:?}"
    );
}

/// The contract as it holds for a writer: through one handle and its clone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_node_with_copies_keeps_the_contract() {
    let server = Server::start(&[]);
    let builder = builder(server.url()).near_cache(16 * MIB);
    let store = builder.connect().await.unwrap();
    conformance(store.clone(), store).await;
}

/// 20,000 checks and more: no read returns anything older than what was known when it began, after
/// the time that a message may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_is_stale() {
    const SESSIONS: usize = 100;
    const CHECKS: u64 = 20_000;
    let server = Server::start(&[]);
    let cached = near(&server.url()).await;
    let foreign = patient(&server.url()).await;
    let mut keys = Vec::new();
    for _ in 0..SESSIONS {
        keys.push(create(&foreign, "a", "0").await.0);
    }
    let keys = Arc::new(keys);
    let stop = Arc::new(AtomicBool::new(false));
    // What was acknowledged to this process itself: it must never read anything older.
    let own: Arc<Vec<Mutex<Option<Version>>>> =
        Arc::new((0..SESSIONS).map(|_| Mutex::default()).collect());
    let checks = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for worker in 0..10u64 {
        let (cached, keys, stop) = (cached.clone(), keys.clone(), stop.clone());
        let (own, checks) = (own.clone(), checks.clone());
        tasks.spawn(async move {
            let mut random = crate::common::Random(worker);
            while !stop.load(SeqCst) {
                let at = random.below(SESSIONS as u64) as usize;
                let floor = *own[at].lock().unwrap();
                let record = find(&cached, &keys[at]).await.unwrap();
                let read = record.version("a");
                assert!(read >= floor, "read {read:?} after writing {floor:?}");
                checks.fetch_add(1, SeqCst);
                if random.below(8) == 0 {
                    let changes = insert("a", &format!("own {worker}"));
                    let record = committed(cached.commit(&keys[at], Some(&record), changes).await);
                    let mut latest = own[at].lock().unwrap();
                    *latest = record.version("a").max(*latest);
                }
                tokio::task::yield_now().await;
            }
        });
    }
    for worker in 10..13u64 {
        let (foreign, keys, stop) = (foreign.clone(), keys.clone(), stop.clone());
        tasks.spawn(async move {
            let mut random = crate::common::Random(worker);
            while !stop.load(SeqCst) {
                let at = random.below(SESSIONS as u64) as usize;
                committed(
                    foreign
                        .commit(&keys[at], None, insert("a", "foreign"))
                        .await,
                );
                sleep(Duration::from_micros(300)).await;
            }
        });
    }
    let enough = async {
        while checks.load(SeqCst) < CHECKS {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(120), enough).await.unwrap();
    stop.store(true, SeqCst);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let compared = compare_in_silence(&cached, &foreign, &keys).await;
    let (checks, status) = (checks.load(SeqCst), cached.near_cache().unwrap());
    eprintln!("{checks} reads checked, {compared} compared; {status:?}");
    assert!(status.hits > 1_000, "{status:?}");
}

/// Rounds of silence: then every copy becomes what the server has, as its invalidation is on the
/// way. Returns how many were compared.
async fn compare_in_silence(cached: &RedisStore, foreign: &RedisStore, keys: &[Root]) -> usize {
    let mut compared = 0;
    for _ in 0..3 {
        sleep(Duration::from_millis(500)).await;
        for key in keys {
            let silent = Instant::now();
            while !is_equal(cached, foreign, key).await {
                assert!(silent.elapsed() < RECOVERY, "a copy stayed stale");
                sleep(Duration::from_millis(20)).await;
            }
            compared += 1;
        }
        for key in keys {
            committed(foreign.commit(key, None, insert("a", "again")).await);
        }
    }
    compared
}

/// Returns `true` if a session is the same in both stores.
async fn is_equal(cached: &RedisStore, foreign: &RedisStore, key: &Root) -> bool {
    let copy = find(cached, key).await.unwrap();
    let truth = find(foreign, key).await.unwrap();
    let versions = |record: &Record| {
        let names = record.attributes().map(|(name, _)| record.version(name));
        names.collect::<Vec<_>>()
    };
    versions(&copy) == versions(&truth) && copy.attributes().eq(truth.attributes())
}

/// A connection that is cut, one that stands still, and an emptied database.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn copies_end_with_their_connection() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    // With the timeout that a connection without answers has by default.
    let cached = RedisStore::builder(proxy.url()).near_cache(16 * MIB);
    let cached = cached.connect().await.unwrap();
    let foreign = patient(&server.url()).await;
    let (key, _) = create(&foreign, "a", "1").await;
    sees(&cached, &key, "1").await;
    // Cut: messages that were sent meanwhile are lost.
    proxy.set(Replies::CutAfter(0));
    committed(foreign.commit(&key, None, insert("a", "2")).await);
    sleep(Duration::from_millis(50)).await;
    proxy.set(Replies::Pass);
    let took = sees(&cached, &key, "2").await;
    eprintln!("seen {took:?} after a cut");
    // Half open: nothing arrives, not even the end of the connection.
    sleep(Duration::from_millis(200)).await;
    proxy.set(Replies::Hold);
    committed(foreign.commit(&key, None, insert("a", "3")).await);
    let start = Instant::now();
    loop {
        let age = start.elapsed();
        match cached.load(&key, Some(&SECRET)).await {
            Ok(Loaded::Live(found)) => {
                assert_eq!(value(&found, "a").as_deref(), Some("2"));
                assert!(
                    age < Duration::from_millis(2_600),
                    "a copy outlived the bound: {age:?}"
                );
            }
            Ok(_) => panic!("no session"),
            Err(_) => break,
        }
        sleep(Duration::from_millis(10)).await;
    }
    eprintln!(
        "a silent connection was detected after {:?}",
        start.elapsed()
    );
    proxy.set(Replies::Pass);
    sees(&cached, &key, "3").await;
    server.ok(&["FLUSHALL"]);
    let deadline = Instant::now() + RECOVERY;
    while !matches!(cached.load(&key, Some(&SECRET)).await, Ok(Loaded::Absent)) {
        assert!(
            Instant::now() < deadline,
            "an emptied database is not detected"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// A server that sends no invalidations is detected, and the store works without copies.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_sends_no_invalidations_is_not_trusted() {
    let server = Server::start(&[]);
    server.ok(&[
        "ACL", "SETUSER", "shop", "on", ">open", "~sess:*", "+@all", "-client",
    ]);
    let builder = builder(server.url()).credentials(Some("shop"), "open");
    let store = builder.near_cache(MIB).connect().await.unwrap();
    let (key, _) = create(&store, "a", "1").await;
    let before = server.commands();
    for _ in 0..10 {
        find(&store, &key).await.unwrap();
    }
    // A connection that was made anew costs some more.
    assert!(server.commands() >= before + 10);
    assert_eq!(store.near_cache().unwrap().sessions, 0);
}

/// The server refuses the write of the self-test when the store connects, and accepts it later.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_self_test_that_was_refused_is_repeated() {
    let server = Server::start(&["--min-replicas-to-write", "1"]);
    let store = near(&server.url()).await;
    server.ok(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    let (key, _) = create(&store, "a", "1").await;
    becomes_warm(&store, &key).await;
}

/// Polls until a read is of a copy.
async fn becomes_warm(store: &RedisStore, key: &Root) {
    let start = Instant::now();
    while store.near_cache().unwrap().hits == 0 {
        find(store, key).await.unwrap();
        assert!(start.elapsed() < RECOVERY, "it is never warm");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The cause is not a missing permission.
#[test]
fn the_warning_names_what_the_server_has_refused() {
    let server = Server::start(&["--min-replicas-to-write", "1"]);
    let node = server.node(1).args(&["--near-cache"]).ready();
    node.wait_log("no near-cache");
    let log = node.log();
    assert!(log.contains("Not enough good replicas"), "{log}");
}

/// a server with one slot, in which key 89 of the self-test is the first. To try all of them
/// takes longer than a connection may.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_server_with_few_slots_is_tested_at_once() {
    let server = Server::start(&[]);
    let own = Arc::new(OnceLock::new());
    let port: Arc<OnceLock<u16>> = own.clone();
    let front = Front::start(server.port, move |command| {
        if command[0] == "CLUSTER" {
            let range = |first, last, port| {
                format!("*3\r\n:{first}\r\n:{last}\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}")
            };
            let own = range(0, 0, *port.get().unwrap());
            return Answer::Say(format!("*2\r\n{own}\r\n{}", range(1, 16_383, 1)));
        }
        let probe = command
            .get(1)
            .and_then(|key| key.strip_prefix("sess:probe"));
        let number = probe.and_then(|number| number.parse::<usize>().ok());
        if command[0] == "HGETALL" && number.is_some_and(|number| number < 89) {
            // The round trip.
            std::thread::sleep(Duration::from_millis(30));
            return Answer::Say("-MOVED 1 127.0.0.1:1".to_owned());
        }
        Answer::Pass
    })
    .await;
    own.set(front.port).unwrap();
    let url = format!("redis-cluster://127.0.0.1:{}", front.port);
    let store = builder(url).near_cache(MIB).build().unwrap();
    let root = roots_of_a_slot().next().unwrap();
    committed(store.commit(&root, None, birth("a", "1")).await);
    becomes_warm(&store, &root).await;
}

/// A server with a small tracking table sends an invalidation for each key that it removes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_small_table_of_the_server_makes_nothing_stale() {
    let server = Server::start(&["--tracking-table-max-keys", "10"]);
    let cached = near(&server.url()).await;
    let foreign = patient(&server.url()).await;
    let mut keys = Vec::new();
    for _ in 0..100 {
        keys.push(create(&cached, "a", "1").await.0);
    }
    for key in &keys {
        committed(foreign.commit(key, None, insert("a", "2")).await);
    }
    for key in &keys {
        sees(&cached, key, "2").await;
    }
}

/// What a request costs, counted by the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_load_and_a_commit_are_one_round_trip_each() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let (key, record) = create(&store, "a", "1").await;
    // Everything but the time of day, which travels in the same write.
    let cost = |before: u64| server.commands() - before;
    let before = server.commands();
    find(&store, &key).await;
    assert_eq!(cost(before), 1);
    let before = server.commands();
    let mut changes = insert("a", "2");
    changes.insert("b".into(), crate::support::text("3"));
    changes.set_idle_timeout(Some(Duration::from_secs(60)));
    changes.require_version("a".into(), record.version("a"));
    let record = committed(store.commit(&key, Some(&record), changes).await);
    // What runs inside the script is not sent.
    let inside = cost(before) - 1;
    assert_eq!(inside, 0, "a commit on top of the latest is one script");
    // Conflicts bring the session along.
    let mut stale = insert("a", "3");
    stale.require_version("a".into(), None);
    let outcome = store.commit(&key, Some(&record), stale).await;
    assert!(matches!(outcome, Ok(Outcome::Conflict(_))));
    let before = server.commands();
    let rotation = rotation(SECRET, secret(1));
    committed(store.commit(&key, Some(&record), rotation).await);
    assert_eq!(cost(before) - 1, 0, "a rotation is one script");
}

/// the former owner is cut off from the others, and not from this node: it answers, and sends
/// no invalidations of changes that it has not received.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn copies_end_when_their_slot_has_another_owner() {
    let (former, owner) = (Server::start(&[]), Server::start(&[]));
    let has_moved = Arc::new(AtomicBool::new(false));
    let (moved, own) = (has_moved.clone(), Arc::new(OnceLock::new()));
    let (port, new) = (own.clone(), owner.port);
    let front = Front::start(former.port, move |command| {
        let moved = moved.load(SeqCst);
        match &*command[0] {
            "CLUSTER" => {
                // Both have slots before and after, so that both stay connected.
                let first = if moved { 0 } else { 16_382 };
                let node = |port: u16| format!("*2\r\n$9\r\n127.0.0.1\r\n:{port}");
                let front = node(*port.get().unwrap());
                let (owner, next) = (node(new), first + 1);
                Answer::Say(format!(
                    "*2\r\n*3\r\n:0\r\n:{first}\r\n{front}\r\n*3\r\n:{next}\r\n:16383\r\n{owner}"
                ))
            }
            "HGETALL" if moved => Answer::Say("-CLUSTERDOWN The cluster is down".to_owned()),
            _ => Answer::Pass,
        }
    })
    .await;
    own.set(front.port).unwrap();
    let url = format!("redis-cluster://127.0.0.1:{}", front.port);
    let store = near(&url).await;
    let (key, _) = create(&store, "a", "1").await;
    let start = Instant::now();
    while store.near_cache().unwrap().hits == 0 {
        find(&store, &key).await.unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it is never warm"
        );
    }
    has_moved.store(true, SeqCst);
    // Another session shows that the owner has changed. The first one has ended there.
    let other = store.new_id().key();
    assert_eq!(store.load(&other, None).await.unwrap(), Loaded::Absent);
    let found = store.load(&key, Some(&SECRET)).await.unwrap();
    assert_eq!(found, Loaded::Absent);
}
