//! Marks of removed attributes, which do not accumulate.

use distributable::session::{Changes, Outcome, Value};
use distributable::{Copies, ReplicatedStore, Root, SessionStore};
use tokio::task::JoinSet;

use crate::log::undisturbed;
use crate::{create, describe, eventually, settled};

async fn cluster(nodes: usize, copies: Copies) -> Vec<ReplicatedStore> {
    let mut cluster: Vec<ReplicatedStore> = Vec::new();
    for number in 0..nodes {
        let mut node = describe(&format!("node{number}"), &[]).copies(copies);
        for known in &cluster {
            node = node.peer(known.local_addr().to_string());
        }
        cluster.push(node.start().await.unwrap());
    }
    for node in &cluster {
        settled(node, nodes).await;
    }
    cluster
}

async fn commit(node: &ReplicatedStore, key: &Root, changes: Changes) {
    let base = node.load(key, None).await.unwrap().into_live();
    let outcome = node.commit(key, base.as_ref(), changes).await.unwrap();
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
}

fn set(name: &str) -> Changes {
    let mut changes = Changes::default();
    changes.insert(name.into(), Value::from_bytes(&b"1"[..]));
    changes
}

fn removed(name: &str) -> Changes {
    let mut changes = Changes::default();
    changes.remove(name.into());
    changes
}

/// W-02. Distinct names, through all nodes in turn, by several clients at once.
async fn leave_little_behind(nodes: Vec<ReplicatedStore>) {
    let key = create(&nodes[0], "kept").await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let nodes = nodes.clone();
        clients.spawn(async move {
            for number in 0..PAIRS / CLIENTS {
                let name = format!("state_{client}_{number}");
                let turn = client + number;
                commit(&nodes[turn % nodes.len()], &key, set(&name)).await;
                commit(&nodes[(turn + 1) % nodes.len()], &key, removed(&name)).await;
                for node in &nodes {
                    let bytes = node.status().bytes;
                    assert!(bytes < BYTES_MAX, "{bytes} bytes after {number} pairs");
                }
            }
            commit(
                &nodes[client % nodes.len()],
                &key,
                set(&format!("kept_{client}")),
            )
            .await;
        });
    }
    clients.join_all().await;
    for node in &nodes {
        let record = node.load(&key, None).await.unwrap().into_live().unwrap();
        let names: Vec<_> = record.attributes().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "kept_0", "kept_1", "kept_2", "kept_3"]);
    }
    eventually("only the latest removals are remembered", || {
        nodes.iter().all(|node| node.status().bytes < BYTES_MAX / 2)
    })
    .await;
}

#[test]
fn thousands_of_removed_names_leave_little_behind_on_two_nodes() {
    undisturbed(2, async || {
        leave_little_behind(cluster(2, Copies::All).await).await;
    });
}

/// One of them does not hold the session, and has its changes ordered by the owner.
#[test]
fn thousands_of_removed_names_leave_little_behind_on_two_of_three_nodes() {
    undisturbed(2, async || {
        let copies = Copies::Count(2.try_into().unwrap());
        leave_little_behind(cluster(3, copies).await).await;
    });
}

/// Clients, and the attributes that they set and remove in all.
const CLIENTS: usize = 4;
const PAIRS: usize = 4_000;

/// What a session may take: marks included, well above what its attributes need.
const BYTES_MAX: usize = 16 << 10;
