//! A server that is away, in the log and in the health check.

use std::thread::sleep;
use std::time::{Duration, Instant};

use distributable::{RedisStore, SessionStore};

use crate::common::redis::Server;
use crate::common::{Browser, within};
use crate::support::{RECOVERY, create, patient};

/// the health check follows the server, without any traffic.
#[test]
fn a_node_is_not_healthy_while_redis_is_away() {
    let mut server = Server::start(&[]);
    let node = server.node(1).ready();
    let before = Instant::now();
    server.kill();
    // A restart takes no longer than that, and is not worth a balancer's while.
    assert!(node.is_ready() || before.elapsed() > READY_GRACE);
    within(RECOVERY, "the node is not healthy", || !node.is_ready());
    assert_eq!(node.cluster()["ready"], false);
    server.restart();
    within(RECOVERY, "the node is healthy again", || node.is_ready());
    assert_eq!(Browser::new().get(&node, "/set?k=a&v=1").status, 200);
    server.signal("STOP");
    within(RECOVERY, "the node is not healthy", || !node.is_ready());
    server.signal("CONT");
    within(RECOVERY, "the node is healthy again", || node.is_ready());
}

/// what has never been there, and what is there and of no use.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_is_ready_when_it_can_be_used() {
    let mut server = Server::start(&[]);
    let store = patient(&server.url()).await;
    assert!(store.is_ready());
    create(&store, "a", "1").await;
    let unused = RedisStore::builder(server.url()).build().unwrap();
    assert!(unused.is_ready());
    server.kill();
    let lazy = RedisStore::builder(server.url()).build().unwrap();
    let stores = [&store, &unused, &lazy];
    let wait = async |ready: bool| {
        let start = Instant::now();
        while stores.iter().any(|store| store.is_ready() != ready) {
            assert!(start.elapsed() < RECOVERY, "not {ready}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    wait(false).await;
    server.restart();
    wait(true).await;
    server.ok(&["REPLICAOF", "127.0.0.1", "1"]);
    wait(false).await;
    server.ok(&["REPLICAOF", "NO", "ONE"]);
    wait(true).await;
    assert!(store.load(&store.new_id().key(), None).await.is_ok());
}

/// a server that is away for some seconds is two lines in the log, whatever the traffic.
#[test]
fn an_absence_is_logged_when_it_begins_and_when_it_ends() {
    let mut server = Server::start(&[]);
    let node = server.node(1).log("distributable::store=info").ready();
    let browser = Browser::new();
    browser.twin().ok(&node, "/set?k=a&v=1");
    server.kill();
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(4) {
        assert_eq!(browser.twin().get(&node, "/set?k=a&v=1").status, 503);
    }
    server.restart();
    within(RECOVERY, "sessions work again", || {
        browser.twin().get(&node, "/set?k=a&v=1").status == 200
    });
    node.wait_log("connected to Redis again");
    sleep(Duration::from_millis(500));
    let log = node.log();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("Redis cannot be used"),
        "{log}"
    );
    assert!(lines[1].contains("connected to Redis again"), "{log}");
}

/// How long a node without its server is ready: longer than a restart.
const READY_GRACE: Duration = Duration::from_secs(3);
