//! The sweep of expired sessions, and the task that runs it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::runtime::{self, Runtime};
use tokio::{task, time};

use super::{IDLE, SECRET, at_once, commit, counted, create, find, key, value};
use crate::clock;
use crate::session::{Changes, Root};
use crate::{MemoryStore, SessionStore};

#[tokio::test(start_paused = true)]
async fn memory_comes_back_without_any_request() {
    let store = MemoryStore::new();
    let kept = key();
    let mut long = Changes::create(SECRET, None, 100 * IDLE);
    long.insert("a".into(), value(1));
    commit(&store, &kept, long).unwrap();
    for _ in 0..1_000 {
        commit(&store, &key(), create(100)).unwrap();
    }
    time::sleep(IDLE / 2).await;
    assert_eq!(store.status().sessions, 1_001);
    time::sleep(IDLE).await;
    assert_eq!(store.status().sessions, 1);
    assert_eq!(store.status(), counted(&store));
    assert!(find(&store, &kept).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_sweep_sees_deadlines_that_were_moved_and_those_that_were_brought_forward() {
    let store = MemoryStore::new();
    let (touched, shortened) = (key(), key());
    commit(&store, &touched, create(1)).unwrap();
    commit(
        &store,
        &shortened,
        Changes::create(SECRET, None, 100 * IDLE),
    )
    .unwrap();
    let mut shorter = Changes::default();
    shorter.set_idle_timeout(Some(IDLE));
    commit(&store, &shortened, shorter).unwrap();
    for _ in 0..4 {
        time::sleep(IDLE / 2).await;
        at_once(store.touch(&touched)).unwrap();
    }
    assert_eq!(store.status().sessions, 1);
    assert!(find(&store, &touched).is_some());
    time::sleep(2 * IDLE).await;
    assert_eq!(store.status().sessions, 0);
}

#[test]
fn a_sweep_works_in_slices_and_gives_maps_back() {
    let store = MemoryStore::new();
    let slot = [0x12, 0x34];
    for _ in 0..10_000 {
        let mut bytes = key().to_bytes();
        bytes[10..].copy_from_slice(&slot);
        let key = Root::from_bytes(bytes);
        commit(&store, &key, create(0)).unwrap();
    }
    let later = clock::now().plus(2 * IDLE);
    let mut slices = 0;
    let mut next = Some(0);
    while let Some(slot) = next {
        next = store.shared.sweep_slice(slot, later);
        slices += 1;
    }
    assert!((4..=6).contains(&slices), "{slices} slices");
    assert_eq!(store.status().bytes, 0);
    assert_eq!(store.shared.lock(0x1234).sessions.capacity(), 0);
    assert_eq!(
        store.shared.sweep_slice(0, later),
        None,
        "nothing is left to expire"
    );
}

fn runtime() -> Runtime {
    runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

#[test]
fn a_store_needs_no_runtime_and_is_swept_by_whichever_comes() {
    let store = MemoryStore::new();
    commit(&store, &key(), create(1)).unwrap();
    assert!(!store.shared.has_task.load(Relaxed));
    for _ in 0..2 {
        runtime().block_on(async {
            commit(&store, &key(), create(1)).unwrap();
            assert!(store.shared.has_task.load(Relaxed));
            time::sleep(2 * IDLE).await;
            assert_eq!(store.status().sessions, 0);
        });
        assert!(!store.shared.has_task.load(Relaxed));
    }
}

#[tokio::test(start_paused = true)]
async fn the_sweeping_task_ends_with_the_store() {
    let metrics = runtime::Handle::current().metrics();
    let store = MemoryStore::new();
    commit(&store, &key(), create(1)).unwrap();
    task::yield_now().await;
    assert_eq!(metrics.num_alive_tasks(), 1);
    drop(store);
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(metrics.num_alive_tasks(), 0);
}
