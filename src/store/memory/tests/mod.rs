mod expiry;

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time;

use super::*;
use crate::error::StoreErrorKind;
use crate::session::{Login, SLOTS, SessionId, UserKey, Value, index_root, new_index};

const IDLE: Duration = Duration::from_secs(10);
const SECRET: SecretHash = SecretHash::from_bytes([1; 16]);

fn create(value_bytes: usize) -> Changes {
    let mut changes = Changes::create(SECRET, Some(IDLE), 100 * IDLE);
    changes.insert("a".into(), value(value_bytes));
    changes
}

fn insert(value_bytes: usize) -> Changes {
    let mut changes = Changes::default();
    changes.insert("a".into(), value(value_bytes));
    changes
}

fn value(bytes: usize) -> Value {
    Value::from_bytes(vec![7; bytes])
}

fn key() -> Root {
    SessionId::generate().key()
}

/// The answer of a future that must be ready at once.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the memory store never waits"),
    }
}

fn commit(store: &MemoryStore, key: &Root, changes: Changes) -> Result<Outcome, StoreError> {
    at_once(store.commit(key, None, changes))
}

fn find(store: &MemoryStore, key: &Root) -> Option<Arc<Record>> {
    at_once(store.load(key, None)).unwrap().into_live()
}

fn refusal(result: Result<Outcome, StoreError>) -> StoreErrorKind {
    result.expect_err("the store is full").kind()
}

/// The expected counters.
fn counted(store: &MemoryStore) -> MemoryStatus {
    let mut status = MemoryStatus {
        sessions: 0,
        bytes: 0,
        ..store.status()
    };
    for slot in 0..SLOTS {
        for record in store.shared.lock(slot).sessions.values() {
            status.sessions += 1;
            status.bytes += record.footprint();
        }
    }
    status
}

#[test]
fn a_full_store_refuses_new_sessions_and_nothing_else() {
    let store = MemoryStore::builder().max_sessions(2).build();
    let (one, two) = (key(), key());
    commit(&store, &one, create(1)).unwrap();
    commit(&store, &two, create(1)).unwrap();
    let before = store.status();
    assert_eq!(
        refusal(commit(&store, &key(), create(1))),
        StoreErrorKind::Full
    );
    assert_eq!(store.status(), before);

    commit(&store, &one, insert(500)).unwrap();
    assert!(find(&store, &two).is_some());
    assert!(at_once(store.delete(&two)).unwrap());
    commit(&store, &key(), create(1)).unwrap();
    assert_eq!(store.status(), counted(&store));
}

#[test]
fn a_store_out_of_bytes_refuses_growth_and_nothing_else() {
    let store = MemoryStore::builder().max_bytes(2_000).build();
    let key = key();
    commit(&store, &key, create(1_000)).unwrap();
    let before = store.status();
    assert_eq!(
        refusal(commit(&store, &key, insert(3_000))),
        StoreErrorKind::Full
    );
    assert_eq!(
        refusal(commit(&store, &self::key(), create(1_000))),
        StoreErrorKind::Full
    );
    assert_eq!(store.status(), before);

    commit(&store, &key, insert(1_000)).unwrap();
    let mut removal = Changes::default();
    removal.remove("n".repeat(3_000).as_str().into());
    let before = store.status();
    commit(&store, &key, removal).unwrap();
    assert_eq!(store.status(), before, "a removed name takes nothing");
    commit(&store, &key, insert(10)).unwrap();
    assert_eq!(store.status(), counted(&store));
    assert!(at_once(store.delete(&key)).unwrap());
    assert_eq!(store.status(), counted(&store));
    assert_eq!(store.status().bytes, 0);
}

#[test]
fn a_rotated_session_counts_once() {
    let store = MemoryStore::builder().max_sessions(1).build();
    let key = key();
    commit(&store, &key, create(5)).unwrap();
    for n in 1..11 {
        let mut rotation = Changes::default();
        let [from, to] = [n, n + 1].map(|n| SecretHash::from_bytes([n; 16]));
        rotation.rotate(from, to);
        commit(&store, &key, rotation).unwrap();
        let former = at_once(store.load(&key, Some(&from))).unwrap();
        assert_eq!(former, Loaded::Superseded);
    }
    assert_eq!(store.status().sessions, 1);
    assert_eq!(store.status(), counted(&store));
}

#[test]
fn counters_are_exact_and_limits_hold_under_concurrency() {
    const THREADS: usize = 8;
    let store = MemoryStore::builder()
        .max_sessions(100)
        .max_bytes(60_000)
        .build();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut mine = Vec::new();
                for round in 0..2_000 {
                    let key = key();
                    if commit(&store, &key, create(round % 700)).is_ok() {
                        mine.push(key);
                    }
                    let status = store.status();
                    assert!(status.sessions <= 100 && status.bytes <= 60_000);
                    if round % 3 == 0
                        && let Some(key) = mine.pop()
                    {
                        let _full = commit(&store, &key, insert(round % 900));
                        assert!(at_once(store.delete(&key)).unwrap());
                    }
                }
            });
        }
    });
    assert!(store.status().sessions > 0);
    assert_eq!(store.status(), counted(&store));
}

#[test]
fn a_poisoned_slot_serves_on() {
    let store = MemoryStore::new();
    let key = key();
    commit(&store, &key, create(1)).unwrap();
    let poisoned = std::thread::scope(|scope| {
        let panics = scope.spawn(|| {
            let _slot = store.shared.slot(&key);
            panic!("poisons the lock");
        });
        panics.join().is_err()
    });
    assert!(poisoned);
    assert!(find(&store, &key).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_expired_session_is_never_returned_removed_or_not() {
    let store = MemoryStore::new();
    let key = key();
    commit(&store, &key, create(1)).unwrap();
    time::advance(2 * IDLE).await;
    assert_eq!(find(&store, &key), None);
    assert_eq!(commit(&store, &key, insert(1)).unwrap(), Outcome::Gone);
    assert!(!at_once(store.delete(&key)).unwrap());
    assert_eq!(store.status(), counted(&store));
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_sessions_is_reported_in_order() {
    let store = MemoryStore::new();
    let mut events = store.events(Scope::Node).unwrap();
    let mut everywhere = store.events(Scope::Cluster).unwrap();
    let user = UserKey::of("ada");
    let (one, two, three) = (key(), key(), key());
    commit(&store, &one, create(1)).unwrap();
    commit(&store, &one, insert(2)).unwrap();
    let mut login = insert(3);
    login.rotate(SECRET, SecretHash::from_bytes([2; 16]));
    login.log_in(Login {
        user: Some(user),
        absolute_timeout: 100 * IDLE,
    });
    commit(&store, &one, login).unwrap();
    at_once(store.delete_because(&one, EndReason::Limit)).unwrap();
    assert!(!at_once(store.delete(&one)).unwrap());
    commit(&store, &two, create(1)).unwrap();
    at_once(store.delete(&two)).unwrap();
    // The list of a user is no session.
    let list = index_root(&user);
    commit(&store, &list, new_index(IDLE)).unwrap();
    at_once(store.delete(&list)).unwrap();
    commit(&store, &two, create(1)).unwrap();
    time::advance(IDLE / 2).await;
    commit(&store, &three, Changes::create(SECRET, None, 2 * IDLE)).unwrap();
    // An expired one is not deleted, whether or not it has been removed.
    time::advance(IDLE).await;
    assert!(!at_once(store.delete(&two)).unwrap());
    use SessionEventKind::{Created, Deleted, Expired, Rotated};
    let expected = [
        (one, Created, None),
        (one, Rotated, Some(user)),
        (one, Deleted(EndReason::Limit), Some(user)),
        (two, Created, None),
        (two, Deleted(EndReason::Admin), None),
        (two, Created, None),
        (three, Created, None),
        (two, Expired(EndReason::Idle), None),
        (three, Expired(EndReason::Absolute), None),
    ];
    for events in [&mut events, &mut everywhere] {
        for expected in expected {
            let event = events.recv().await.unwrap().unwrap();
            assert_eq!((event.key, event.kind, event.user), expected);
        }
    }
    drop(store);
    assert_eq!(events.recv().await, None);
}

#[test]
fn a_store_and_its_futures_are_send() {
    fn send<T: Send>(_: T) {}
    fn send_sync<T: Send + Sync + 'static>() {}
    send_sync::<MemoryStore>();
    let store = MemoryStore::new();
    let key = key();
    send(store.load(&key, None));
    send(store.commit(&key, None, Changes::default()));
}

#[test]
fn a_list_has_each_session_that_lives_through_it_exactly_once() {
    let store = MemoryStore::new();
    let mut kept: Vec<_> = (0..3_000).map(|_| key()).collect();
    for key in &kept {
        commit(&store, key, create(1)).unwrap();
    }
    // Several in one slot, so that a page ends within it.
    let crowded = |turn: u8| {
        let mut root = kept[0].to_bytes();
        root[0] = turn;
        Root::from_bytes(root)
    };
    let same_slot: Vec<_> = (0..50).map(crowded).collect();
    for key in &same_slot {
        let _ = commit(&store, key, create(1));
    }
    kept.extend(same_slot);
    kept.sort_unstable();
    kept.dedup();
    let list = index_root(&UserKey::of("ada"));
    commit(&store, &list, new_index(IDLE)).unwrap();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = at_once(store.list(Scope::Node, after.as_ref(), 37)).unwrap();
        assert!(page.sessions.len() <= 37);
        found.extend(page.sessions.iter().map(|session| session.key));
        // Others come and go meanwhile.
        let other = key();
        commit(&store, &other, create(1)).unwrap();
        let Some(next) = page.next else { break };
        at_once(store.delete(&other)).unwrap();
        after = Some(next);
    }
    found.sort_unstable();
    let mut listed_once = found.clone();
    listed_once.dedup();
    assert_eq!(found, listed_once);
    assert!(kept.iter().all(|key| found.binary_search(key).is_ok()));
    assert!(!found.contains(&list));
    // A limit beyond the largest counts as that, and none as one.
    let pages = [0, usize::MAX].map(|limit| at_once(store.list(Scope::Node, None, limit)));
    let sizes = pages.map(|page| page.unwrap().sessions.len());
    assert_eq!(sizes, [1, SessionPage::LIMIT_MAX]);
}

/// A session in a file and the one in memory were rotated independently: neither is the right one.
#[cfg(all(feature = "snapshot", unix))]
#[test]
fn a_restored_session_that_has_forked_is_deleted() {
    use crate::store::export::{EntryState, StoredEntry};
    let (store, now, key) = (MemoryStore::new(), clock::now(), key());
    let rotated = |base: &Arc<Record>, to: u8| {
        let mut changes = Changes::default();
        changes.rotate(SECRET, SecretHash::from_bytes([to; 16]));
        match changes.apply_as(Some(base), None, now, u32::from(to)) {
            Outcome::Committed(record) => record,
            other => panic!("{other:?}"),
        }
    };
    let restore = |record| {
        let state = EntryState::Live(record);
        store.restore(vec![StoredEntry { key, state }])
    };
    let Outcome::Committed(base) = create(9).apply_as(None, None, now, 1) else {
        panic!("it is not created")
    };
    assert_eq!(restore(rotated(&base, 2)).sessions, 1);
    // Its predecessor changes nothing.
    restore(base.clone());
    assert!(find(&store, &key).is_some_and(|it| it.is_current(&SecretHash::from_bytes([2; 16]))));
    assert_eq!(restore(rotated(&base, 3)).sessions, 0);
    assert!(find(&store, &key).is_none());
    assert_eq!(store.status(), counted(&store));
}
