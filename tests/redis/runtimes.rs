//! Stores that are used in one runtime after another, such as a static one in several tests.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};

use distributable::RedisStore;
use distributable::session::Loaded;
use distributable::testing::conformance;
use distributable::{Root, Scope, SessionStore};
use tokio::runtime::{Builder, Runtime};

use crate::common::eventually;
use crate::common::redis::Server;
use crate::events::{listen, next, receive};
use crate::front::{Answer, Front};
use crate::support::{SECRET, builder, create};

fn runtime() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}

/// Runs this in a runtime of its own, which then ends.
fn run<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

async fn is_live(store: &RedisStore, key: &Root) -> bool {
    let loaded = store.load(key, Some(&SECRET)).await.unwrap();
    matches!(loaded, Loaded::Live(_))
}

/// The connections end with the runtime of the first use.
#[test]
fn a_store_is_used_in_one_runtime_after_another() {
    let server = Server::start(&[]);
    let store = builder(server.url()).near_cache(1 << 20).build().unwrap();
    let (key, _) = run(create(&store, "a", "1"));
    for _ in 0..3 {
        assert!(run(is_live(&store, &key)));
    }
    run(conformance(store.clone(), store.clone()));
    let last = runtime();
    eventually("it is ready without operations", || {
        let _entered = last.enter();
        store.is_ready()
    });
}

/// the sentinels name another primary while no runtime exists.
#[test]
fn a_primary_that_was_replaced_between_two_runtimes_is_not_used() {
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let (port, epoch) = (
        Arc::new(AtomicU16::new(old.port)),
        Arc::new(AtomicU64::new(1)),
    );
    let named = (port.clone(), epoch.clone());
    // The sentinel stays.
    let outer = runtime();
    let sentinel = outer.block_on(Front::start(old.port, move |command| {
        if command[0].to_uppercase() != "SENTINEL" {
            return Answer::Pass;
        }
        let (port, epoch) = (named.0.load(Relaxed), named.1.load(Relaxed));
        let (port, epoch) = (port.to_string(), epoch.to_string());
        let fields = ["ip", "127.0.0.1", "port", &port, "config-epoch", &epoch];
        let fields = fields.map(|text| format!("${}\r\n{text}", text.len()));
        Answer::Say(format!("*{}\r\n{}", fields.len(), fields.join("\r\n")))
    }));
    let url = format!("redis-sentinel://127.0.0.1:{}/main", sentinel.port);
    let store = builder(url).build().unwrap();
    let (key, _) = run(create(&store, "a", "1"));
    port.store(new.port, Relaxed);
    epoch.store(2, Relaxed);
    // It was ended at the new primary.
    assert!(!run(is_live(&store, &key)));
    let (key, _) = run(create(&store, "a", "1"));
    assert!(run(is_live(&store, &key)));
    assert_eq!(new.cli(&["DBSIZE"]), "1");
}

/// the owner of every slot is another one while no runtime exists.
#[test]
fn slots_that_move_between_two_runtimes_are_found() {
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let owner = Arc::new(AtomicU16::new(old.port));
    let (outer, named) = (runtime(), owner.clone());
    let node = outer.block_on(Front::start(new.port, move |command| {
        match &*command[0].to_uppercase() {
            "CLUSTER" => Answer::Say(format!(
                "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{}",
                named.load(Relaxed)
            )),
            _ => Answer::Pass,
        }
    }));
    let store = builder(format!("redis-cluster://127.0.0.1:{}", node.port));
    let store = store.build().unwrap();
    run(create(&store, "a", "1"));
    owner.store(new.port, Relaxed);
    drop(old);
    let (key, _) = run(create(&store, "a", "1"));
    assert!(run(is_live(&store, &key)));
}

/// The tasks that receive events end with the runtime of the first subscriber.
#[test]
fn a_subscriber_in_a_later_runtime_receives_the_events_of_other_nodes() {
    let server = Server::start(&[]);
    let store = builder(server.url()).build().unwrap();
    let other = builder(server.url()).build().unwrap();
    for _ in 0..2 {
        run(async {
            let mut events = listen(&store, Scope::Cluster).await;
            let (key, _) = create(&other, "a", "1").await;
            assert_eq!(next(&mut events).await.key, key);
        });
    }
}

/// Events are lost between the end of a runtime and the next subscription: a subscriber from before
/// is informed of that.
#[test]
fn a_subscriber_of_an_earlier_runtime_is_informed_of_lost_events() {
    let server = Server::start(&[]);
    let store = builder(server.url()).build().unwrap();
    let mut first = run(listen(&store, Scope::Cluster));
    run(async {
        let _second = listen(&store, Scope::Cluster).await;
        receive(&mut first).await.unwrap_err();
    });
}
