//! Failures of the server, and of the connections to it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use distributable::session::{Changes, Loaded, Outcome};
use distributable::store::RedisErrorKind;
use distributable::{RedisStore, Root, SessionStore, StoreErrorKind};
use tokio::sync::watch;
use tokio::task::{self, JoinSet, yield_now};
use tokio::time::sleep;

use crate::common::redis::Server;
use crate::common::{PATIENCE, eventually};
use crate::front::{Answer, Front};
use crate::proxy::{Proxy, Replies};
use crate::support::{
    PATIENT, RECOVERY, SECRET, birth, committed, create, find, in_one_of_some, insert, kind,
    patient, reason, rotation, secret, stored, text, value,
};

/// Polls until a load succeeds, and returns its result; panics when it does not in time.
async fn recovers(store: &RedisStore, key: &Root) -> Loaded {
    let deadline = Instant::now() + RECOVERY;
    loop {
        match store.load(key, None).await {
            Ok(found) => return found,
            Err(error) => assert!(Instant::now() < deadline, "{}", reason(&error)),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// the server is gone, and comes back empty. R-13.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_gone_is_an_error_at_once_and_works_when_it_is_back() {
    let mut server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let (key, record) = create(&store, "a", "1").await;
    server.kill();
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let start = Instant::now();
        let error = store.load(&key, None).await.unwrap_err();
        assert_eq!(
            error.kind(),
            StoreErrorKind::Unavailable,
            "{}",
            reason(&error)
        );
        let error = store.commit(&key, Some(&record), insert("a", "2")).await;
        error.unwrap_err();
        slowest = slowest.max(start.elapsed());
    }
    // Nothing waits for the end of its time.
    assert!(slowest < PATIENT, "{slowest:?}");
    server.restart();
    // It has lost everything: no user is logged in, and nothing comes back.
    assert_eq!(recovers(&store, &key).await, Loaded::Absent);
    let outcome = store.commit(&key, Some(&record), insert("a", "2")).await;
    assert_eq!(outcome.unwrap(), Outcome::Gone);
    assert_eq!(server.cli(&["DBSIZE"]), "0");
    create(&store, "a", "1").await;
    // However long it was away, sessions work within two seconds.
    in_one_of_some("sessions work soon", async || {
        server.kill();
        sleep(Duration::from_secs(3)).await;
        assert!(store.load(&key, None).await.is_err());
        server.restart();
        let start = Instant::now();
        recovers(&store, &key).await;
        start.elapsed() < Duration::from_secs(2)
    })
    .await;
}

/// what an administrator may do meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flushed_server_goes_on() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let (key, record) = create(&store, "a", "1").await;
    server.ok(&["SCRIPT", "FLUSH"]);
    committed(store.commit(&key, Some(&record), insert("a", "2")).await);
    server.ok(&["FLUSHALL"]);
    assert_eq!(find(&store, &key).await, None);
    store.touch(&key).await.unwrap();
    assert!(!store.delete(&key).await.unwrap());
    let outcome = store.commit(&key, Some(&record), insert("a", "3")).await;
    assert_eq!(outcome.unwrap(), Outcome::Gone);
    assert_eq!(server.cli(&["DBSIZE"]), "0");
}

/// `CLIENT PAUSE`, and a process that stands still.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_stands_still_holds_no_request_longer_than_the_deadline() {
    const PAUSE: Duration = Duration::from_secs(8);
    let server = Server::start(&[]);
    let builder = RedisStore::builder(server.url()).operation_timeout(Duration::from_millis(600));
    let store = builder.connect().await.unwrap();
    let (key, record) = create(&patient(&server.url()).await, "a", "1").await;
    recovers(&store, &key).await;
    for round in ["CLIENT PAUSE", "SIGSTOP"] {
        match round {
            "SIGSTOP" => server.signal("STOP"),
            _ => server.ok(&["CLIENT", "PAUSE", &PAUSE.as_millis().to_string(), "ALL"]),
        }
        let start = Instant::now();
        let mut requests = JoinSet::new();
        for number in 0..200 {
            let (store, record) = (store.clone(), record.clone());
            requests.spawn(async move {
                let start = Instant::now();
                let error = match number % 2 {
                    0 => store.load(&key, None).await.unwrap_err(),
                    _ => {
                        let changes = insert(&format!("n{number}"), "1");
                        store
                            .commit(&key, Some(&record), changes)
                            .await
                            .unwrap_err()
                    }
                };
                (error.kind(), start.elapsed())
            });
        }
        for (kind, took) in requests.join_all().await {
            let kinds = [StoreErrorKind::Unavailable, StoreErrorKind::Indeterminate];
            assert!(kinds.contains(&kind), "{round}: {kind:?}");
            // It would be longer if it waited for the server.
            assert!(took < PAUSE, "{round}: {took:?}");
        }
        assert!(start.elapsed() < PAUSE);
        match round {
            "SIGSTOP" => server.signal("CONT"),
            _ => sleep(PAUSE.saturating_sub(start.elapsed())).await,
        }
        let found = recovers(&store, &key).await;
        assert!(found.into_live().is_some(), "{round}");
    }
}

/// `maxmemory` without eviction.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_server_refuses_what_adds_and_nothing_else() {
    let server = Server::start(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
    let store = patient(&server.url()).await;
    let (key, record) = create(&store, "a", "1").await;
    let (other, _) = create(&store, "a", "1").await;
    let large = "x".repeat(20_000);
    let full = loop {
        let key = store.new_id().key();
        match store.commit(&key, None, birth("a", &large)).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), StoreErrorKind::Full, "{}", reason(&full));
    let grow = store.commit(&key, Some(&record), insert("b", &large)).await;
    assert_eq!(grow.unwrap_err().kind(), StoreErrorKind::Full);
    let found = find(&store, &key).await.expect("it is still there");
    assert_eq!(value(&found, "b"), None, "a refused commit left a part");
    store.touch(&key).await.unwrap();
    let mut removal = Changes::default();
    removal.remove("a".into());
    let record = committed(store.commit(&key, Some(&found), removal).await);
    assert_eq!(value(&record, "a"), None);
    assert!(store.delete(&other).await.unwrap());
    assert!(store.delete(&key).await.unwrap());
}

/// a server that evicts sessions reports nothing, and they are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_evicted_session_is_no_session() {
    let server = Server::start(&["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random"]);
    let store = patient(&server.url()).await;
    let mut keys = Vec::new();
    let large = "x".repeat(20_000);
    for _ in 0..200 {
        keys.push(create(&store, "a", &large).await);
    }
    let mut gone = 0;
    for (key, record) in &keys {
        if find(&store, key).await.is_none() {
            gone += 1;
            let outcome = store.commit(key, Some(record), insert("a", "2")).await;
            assert_eq!(outcome.unwrap(), Outcome::Gone);
        }
    }
    assert!(gone > 50, "{gone} evicted");
}

/// a late or missing answer never becomes that of another request.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_answer_reaches_another_request() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let builder = RedisStore::builder(proxy.url()).operation_timeout(Duration::from_millis(900));
    let store = builder.connect().await.unwrap();
    let direct = patient(&server.url()).await;
    let mut sessions = Vec::new();
    for number in 0..64 {
        let name = number.to_string();
        let (key, _) = create(&direct, "whose", &name).await;
        sessions.push((key, name));
    }
    let sessions = Arc::new(sessions);
    let mut readers = JoinSet::new();
    let all_answered = Arc::new(AtomicUsize::new(0));
    let end = Instant::now() + Duration::from_secs(6);
    let last = end + PATIENCE;
    for reader in 0..16 {
        let (store, sessions) = (store.clone(), sessions.clone());
        let all_answered = all_answered.clone();
        readers.spawn(async move {
            let (mut answered, mut failed) = (0, 0);
            let mut turn = reader;
            let is_enough = || Instant::now() >= end && all_answered.load(Relaxed) > 500;
            while !is_enough() && Instant::now() < last {
                turn += 7;
                let (key, name) = &sessions[turn % sessions.len()];
                let found = match turn % 3 {
                    0 => store
                        .commit(key, None, insert("turn", &turn.to_string()))
                        .await
                        .map(|outcome| Some(committed(Ok(outcome)))),
                    _ => store.load(key, None).await.map(Loaded::into_live),
                };
                match found {
                    Ok(record) => {
                        let record = record.expect("no session ends here");
                        assert_eq!(value(&record, "whose").as_ref(), Some(name));
                        answered += 1;
                        all_answered.fetch_add(1, Relaxed);
                    }
                    Err(_) => failed += 1,
                }
            }
            (answered, failed)
        });
    }
    for round in 0..20 {
        let fault = match round % 2 {
            0 => Replies::Hold,
            _ => Replies::CutAfter(37 + 211 * round),
        };
        proxy.set(fault);
        sleep(Duration::from_millis(if round % 4 == 0 { 400 } else { 60 })).await;
        proxy.set(Replies::Pass);
        sleep(Duration::from_millis(150)).await;
    }
    let counts = readers.join_all().await;
    let answered: usize = counts.iter().map(|(answered, _)| answered).sum();
    assert!(answered > 500, "{counts:?}");
    assert!(proxy.accepted.load(Relaxed) > 5);
}

/// a write that was refused until the end has not happened, as the error states. Most of the
/// time an attempt is under way: cut off at the end, some of these would be of unknown outcome. The
/// last one has an eighth of the timeout, two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_that_is_refused_until_the_deadline_is_known_not_to_have_happened() {
    let server = Server::start(&[]);
    // It is a primary, so that each attempt is sent to it.
    let front = Front::start(server.port, |command| match &*command[0].to_uppercase() {
        "EVALSHA" | "EVAL" if command[2] != "0" => {
            Answer::Say("-READONLY You can't write against a read only replica.".to_owned())
        }
        _ => Answer::Pass,
    })
    .await;
    let proxy = Proxy::start(front.port).await;
    let mut stores = Vec::new();
    for turn in 0..8 {
        let builder = RedisStore::builder(proxy.url());
        let timeout = Duration::from_millis(16_000 + 25 * turn);
        stores.push(builder.operation_timeout(timeout).connect().await.unwrap());
    }
    proxy.set(Replies::Late(Duration::from_millis(80)));
    let refused = stores.into_iter().map(|store| {
        tokio::spawn(async move {
            let key = store.new_id().key();
            store.commit(&key, None, birth("a", "1")).await.unwrap_err()
        })
    });
    for refused in refused.collect::<Vec<_>>() {
        let error = refused.await.unwrap();
        assert_eq!(kind(&error), Some(RedisErrorKind::ReadOnly));
        assert_eq!(
            error.kind(),
            StoreErrorKind::Unavailable,
            "{}",
            reason(&error)
        );
    }
}

/// a commit whose answer is lost takes effect once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_is_tried_again_takes_effect_once() {
    const UPDATES: usize = 150;
    const CUTS: usize = 5;
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let accepted = proxy.accepted.clone();
    let store = patient(&proxy.url()).await;
    let (key, _) = create(&store, "n", "0").await;
    let (acknowledged, mut seen) = watch::channel(0);
    let cutter = tokio::spawn(async move {
        let mut cut = 0;
        loop {
            proxy.set(Replies::CutAfter(cut % 90));
            sleep(Duration::from_millis(15)).await;
            proxy.set(Replies::Pass);
            // However long an attempt takes on a busy machine, it is not cut off every time.
            let before = *seen.borrow();
            if seen.wait_for(|count| *count > before).await.is_err() {
                return proxy;
            }
            sleep(Duration::from_millis(40)).await;
            cut += 13;
        }
    });
    let mut counted = 0;
    let mut unknown = Vec::new();
    // On a busy machine all updates can fall between the cuts.
    while counted < UPDATES || accepted.load(Relaxed) <= CUTS {
        let Ok(Loaded::Live(record)) = store.load(&key, None).await else {
            continue;
        };
        let n: usize = value(&record, "n").unwrap().parse().unwrap();
        let may_be_more = unknown.last() == Some(&counted);
        assert!(n == counted || (may_be_more && n == counted + 1));
        counted = n;
        let mut changes = insert("n", &(n + 1).to_string());
        changes.require_version("n".into(), record.version("n"));
        match store.commit(&key, Some(&record), changes).await {
            Ok(Outcome::Committed(record)) => {
                assert_eq!(value(&record, "n"), Some((n + 1).to_string()));
                counted += 1;
                acknowledged.send_replace(counted);
            }
            // There is no other writer: a conflict would be with an earlier attempt of this one.
            Ok(outcome) => panic!("{outcome:?}"),
            // The server did not accept a connection for half a second.
            Err(error) => {
                assert_eq!(
                    kind(&error),
                    Some(RedisErrorKind::Unreachable),
                    "{}",
                    reason(&error)
                );
                unknown.push(counted);
                assert!(unknown.len() < UPDATES / 10, "{}", reason(&error));
            }
        }
    }
    drop(acknowledged);
    let proxy = cutter.await.unwrap();
    let found = find(&store, &key).await.unwrap();
    assert_eq!(value(&found, "n"), Some(counted.to_string()));
    rotations_and_ends_take_effect_once(&store, &proxy).await;
}

/// A rotation and an end whose answers are lost.
async fn rotations_and_ends_take_effect_once(store: &RedisStore, proxy: &Proxy) {
    for turn in 0..20 {
        let (key, record) = create(store, "a", "1").await;
        let mut rotation = rotation(SECRET, secret(1));
        rotation.insert("b".into(), text("2"));
        proxy.set(Replies::CutAfter(turn * 3));
        let (rotated, ()) = tokio::join!(store.commit(&key, Some(&record), rotation), async {
            sleep(Duration::from_millis(30)).await;
            proxy.set(Replies::Pass);
        });
        let record = committed(rotated);
        assert_eq!(value(&record, "b").as_deref(), Some("2"));
        assert!(record.is_current(&secret(1)));
        let former = store.load(&key, Some(&SECRET)).await;
        assert_eq!(former.unwrap(), Loaded::Superseded);
        proxy.set(Replies::CutAfter(turn % 7));
        let (ended, ()) = tokio::join!(store.delete(&key), async {
            sleep(Duration::from_millis(30)).await;
            proxy.set(Replies::Pass);
        });
        assert!(ended.unwrap(), "it was alive when it was asked to end");
    }
}

/// what is stored under our keys and is not ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_cannot_be_read_is_an_error_for_that_session_or_attribute_alone() {
    let server = Server::start(&[]);
    let store = patient(&server.url()).await;
    let (good, _) = create(&store, "a", "1").await;
    let foreign = |commands: &[&[&str]]| {
        let key = store.new_id().key();
        for command in commands {
            let name = stored(&key);
            let command: Vec<_> = command
                .iter()
                .map(|w| if *w == "KEY" { &name } else { *w })
                .collect();
            server.cli(&command);
        }
        key
    };
    let older = format!("\u{1}{}", "of an older format".repeat(6));
    let newer = format!("\u{3}{}", "of a newer format".repeat(6));
    let bound = format!("\u{2}\u{4}{}", "x".repeat(80));
    let keys = [
        foreign(&[&["SET", "KEY", "text"]]),
        foreign(&[&["RPUSH", "KEY", "a"]]),
        foreign(&[&["HSET", "KEY", "field", "value"]]),
        foreign(&[&["HSET", "KEY", "", "short"]]),
        foreign(&[&["HSET", "KEY", "", "\u{2}short"]]),
        foreign(&[&["HSET", "KEY", "", &bound]]),
        foreign(&[&["HSET", "KEY", "", &older]]),
        foreign(&[&["HSET", "KEY", "", &newer]]),
        foreign(&[&["SET", "KEY", "text", "EX", "100"]]),
    ];
    for (key, says) in keys[6..8]
        .iter()
        .zip(["an older version", "a newer version"])
    {
        let error = store.load(key, None).await.unwrap_err();
        assert!(reason(&error).contains(says), "{}", reason(&error));
    }
    for key in &keys {
        let before = server.cli(&["DUMP", &stored(key)]);
        is_refused(&store, key).await;
        assert_eq!(
            server.cli(&["DUMP", &stored(key)]),
            before,
            "it is not ours"
        );
    }
    // Attributes that cannot be read are errors where they are read, by their empty value.
    server.cli(&["HSET", &stored(&good), ":short", "x"]);
    server.cli(&["HSET", &stored(&good), ":newer", "0123456789\u{7}value"]);
    server.cli(&["HSET", &stored(&good), "stranger", "x"]);
    let found = find(&store, &good).await.expect("it is a session");
    assert_eq!(found.get("a"), Some(&text("1")));
    assert_eq!(found.get("short"), Some(&text("")));
    assert_eq!(found.get("newer"), Some(&text("")));
    assert_eq!(found.attributes().count(), 3);
    committed(
        store
            .commit(&good, Some(&found), insert("short", "long"))
            .await,
    );
    // A key that has lost its limit gets one by the next write, and is dead by its own header.
    server.cli(&["PERSIST", &stored(&good)]);
    store.touch(&good).await.unwrap();
    assert_ne!(server.cli(&["PTTL", &stored(&good)]), "-1");
}

/// Every operation on the key fails, because what is stored under it is not ours.
async fn is_refused(store: &RedisStore, key: &Root) {
    let errors = [
        store.load(key, None).await.map(drop).unwrap_err(),
        store
            .commit(key, None, birth("a", "1"))
            .await
            .map(drop)
            .unwrap_err(),
        store
            .commit(key, None, insert("a", "1"))
            .await
            .map(drop)
            .unwrap_err(),
        store.touch(key).await.unwrap_err(),
        store.delete(key).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{}", reason(&error));
        assert_eq!(kind(&error), Some(RedisErrorKind::Foreign));
    }
}

/// A script that looks at every key.
const CHECK: &str = "local checked = 0 \
    for _, key in ipairs(redis.call('KEYS', '*')) do \
      local ttl = redis.call('PTTL', key) \
      if ttl < 0 or ttl > 86400000 then return 'no limit: ' .. key end \
      if not redis.call('HGET', key, '') then return 'no header: ' .. key end \
      checked = checked + 1 \
    end \
    return 'fine'";

/// whatever happens, no key without a limit, and no half of a session.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_key_ever_lives_without_a_limit() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let store = RedisStore::builder(proxy.url())
        .operation_timeout(Duration::from_millis(300))
        .connect()
        .await
        .unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    for worker in 0..8u32 {
        let (store, stop) = (store.clone(), stop.clone());
        workers.spawn(async move {
            let mut key = store.new_id().key();
            let (mut current, mut rotations) = (SECRET, 0);
            let mut turn = worker;
            while !stop.load(Relaxed) {
                turn = turn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Failures are a part of this.
                match turn >> 29 {
                    0 => {
                        key = store.new_id().key();
                        current = SECRET;
                        drop(store.commit(&key, None, birth("a", "1")).await);
                    }
                    1 => drop(store.touch(&key).await),
                    2 => drop(store.delete(&key).await),
                    3 | 4 => {
                        rotations = rotations % 100 + 1;
                        let mut changes = rotation(current, secret(rotations));
                        changes.insert("b".into(), text("2"));
                        if store.commit(&key, None, changes).await.is_ok() {
                            current = secret(rotations);
                        }
                    }
                    5 => {
                        let mut changes = Changes::default();
                        changes.set_idle_timeout(Some(Duration::from_secs(turn as u64 % 100)));
                        drop(store.commit(&key, None, changes).await);
                    }
                    _ => drop(store.commit(&key, None, insert("c", "3")).await),
                }
                // Without a connection the store refuses at once and without waiting. Tasks that
                // only ask again would leave no thread to those that connect.
                yield_now().await;
            }
        });
    }
    let mut checks = 0;
    // On a busy machine it takes longer until there are enough sessions.
    let is_few = || server.cli(&["DBSIZE"]).parse::<usize>().unwrap() <= 50;
    while Instant::now() < end || checks <= 10 || (is_few() && Instant::now() < end + PATIENCE) {
        proxy.set(Replies::CutAfter(checks * 17 % 300));
        assert_eq!(server.cli(&["EVAL", CHECK, "0"]), "fine");
        sleep(Duration::from_millis(20)).await;
        proxy.set(Replies::Pass);
        sleep(Duration::from_millis(60)).await;
        assert_eq!(server.cli(&["EVAL", CHECK, "0"]), "fine");
        checks += 1;
    }
    stop.store(true, Relaxed);
    workers.join_all().await;
    assert_eq!(server.cli(&["EVAL", CHECK, "0"]), "fine");
    let distinct: HashSet<_> = server
        .cli(&["KEYS", "*"])
        .lines()
        .map(str::to_owned)
        .collect();
    assert!(distinct.len() > 50, "{}", distinct.len());
}

/// the server keeps the marks of the last eight attempts. A repeated attempt after more
/// commits than that is not applied, because it may have been applied before them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_retry_after_many_other_commits_is_of_unknown_outcome() {
    const KEPT: usize = 8;
    let server = Server::start(&[]);
    let direct = patient(&server.url()).await;
    let (is_open, was_cut) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicBool::new(false)),
    );
    let (open, cut) = (is_open.clone(), was_cut.clone());
    let front = Front::start(server.port, move |command| {
        let is_commit = command[0] == "EVALSHA" && command.len() > 10;
        if !is_commit || open.load(Relaxed) {
            return Answer::Pass;
        }
        cut.store(true, Relaxed);
        Answer::Close
    })
    .await;
    let store = patient(&front.url()).await;
    for others in [KEPT - 1, KEPT] {
        let (key, base) = create(&direct, "a", "0").await;
        is_open.store(false, Relaxed);
        was_cut.store(false, Relaxed);
        let commit = task::spawn({
            let store = store.clone();
            async move { store.commit(&key, Some(&base), insert("a", "1")).await }
        });
        eventually("the first attempt is cut off", || was_cut.load(Relaxed));
        for _ in 0..others {
            committed(direct.commit(&key, None, insert("b", "1")).await);
        }
        is_open.store(true, Relaxed);
        let outcome = commit.await.unwrap();
        let found = find(&direct, &key).await.unwrap();
        if others < KEPT {
            committed(outcome);
            assert_eq!(value(&found, "a").as_deref(), Some("1"));
        } else {
            assert_eq!(outcome.unwrap_err().kind(), StoreErrorKind::Indeterminate);
            assert_eq!(value(&found, "a").as_deref(), Some("0"));
        }
    }
}
