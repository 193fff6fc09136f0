//! Nodes in one process that replicate over real connections.

#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

use std::time::Duration;

use distributable::session::{Changes, Outcome, Value};
use distributable::testing::conformance;
use distributable::{ReplicatedStore, SessionKey, SessionStore, StoreError};
use tokio::time::{Instant, sleep, timeout};

const HOUR: Duration = Duration::from_secs(3600);
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn node(name: &str, peers: &[&ReplicatedStore]) -> ReplicatedStore {
    let mut node = ReplicatedStore::builder(name).bind("127.0.0.1:0");
    for peer in peers {
        node = node.peer(peer.local_addr().to_string());
    }
    node.start().await.unwrap()
}

/// Nodes that serve, and know each other.
async fn cluster<const N: usize>(names: [&str; N]) -> [ReplicatedStore; N] {
    let mut nodes: Vec<ReplicatedStore> = Vec::new();
    for name in names {
        let started = node(name, &nodes.iter().collect::<Vec<_>>()).await;
        nodes.push(started);
    }
    for node in &nodes {
        eventually("every node serves and knows the others", || {
            let status = node.status();
            status.ready && status.complete && status.members.len() == N
        })
        .await;
    }
    nodes.try_into().unwrap()
}

async fn eventually(what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn create(store: &ReplicatedStore, value: &str) -> SessionKey {
    let key = store.new_id().key();
    let mut changes = Changes::create(Some(HOUR), HOUR);
    changes.insert("a".into(), Value::from_bytes(value.as_bytes()));
    let outcome = store.commit(&key, None, changes).await.unwrap();
    assert!(matches!(outcome, Outcome::Committed(_)));
    key
}

async fn read(store: &ReplicatedStore, key: &SessionKey) -> Result<Option<String>, StoreError> {
    let record = store.load(key).await?;
    let value = record.as_ref().and_then(|record| record.get("a"));
    Ok(value.map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_keep_the_contract_of_stores() {
    let [one, two] = cluster(["node1", "node2"]).await;
    conformance(one, two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_nodes_keep_the_contract_of_stores() {
    let [one, _two, three] = cluster(["node1", "node2", "node3"]).await;
    conformance(three, one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_alone_keeps_the_contract_of_stores() {
    let store = node("node1", &[]).await;
    timeout(PATIENCE, store.ready()).await.unwrap();
    conformance(store.clone(), store).await;
}

#[tokio::test]
async fn what_is_written_on_one_node_is_read_on_every_other() {
    let nodes = cluster(["node1", "node2", "node3"]).await;
    for writer in &nodes {
        let key = create(writer, "here").await;
        for reader in &nodes {
            let value = read(reader, &key).await.unwrap();
            assert_eq!(value.as_deref(), Some("here"));
        }
    }
}
