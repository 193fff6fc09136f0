//! Changing the secret of a cluster that goes on working.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributable::{ReplicatedStore, Root, SessionStore};
use tokio::time::{Instant, sleep};

use super::log::undisturbed;
use super::replicas::{
    MACHINE, PATIENCE, describe, eventually, is_settled, read, secret, settled, try_create,
};

/// A node with these secrets, at an address that may be about to become free.
async fn node(name: &str, at: &str, secrets: &[u8], peers: &[&str]) -> ReplicatedStore {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let node = describe(name).bind(at);
        let node = secrets
            .iter()
            .fold(node, |node, number| node.secret(secret(*number)));
        let node = peers.iter().fold(node, |node, peer| node.peer(*peer));
        match node.start().await {
            Ok(node) => return node,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Creates one session after the other wherever it is possible, and keeps the acknowledged ones.
async fn load(
    nodes: Arc<Mutex<Vec<ReplicatedStore>>>,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
) -> Vec<(Root, String)> {
    let mut created = Vec::new();
    for i in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        let node = {
            let nodes = nodes.lock().unwrap();
            nodes[i % nodes.len()].clone()
        };
        if !node.is_ready() {
            sleep(Duration::from_millis(1)).await;
            continue;
        }
        let (key, value) = (node.new_id().key(), format!("value{i}"));
        if try_create(&node, &key, &value).await.is_ok() {
            created.push((key, value));
            count.fetch_add(1, Relaxed);
        }
    }
    created
}

/// N-12: both, then both the other way round, then the new one.
#[test]
fn a_secret_is_changed_under_load_and_nothing_is_lost() {
    undisturbed(2, async || {
        let _machine = MACHINE.lock().await;
        let one = node("node1", "127.0.0.1:0", &[1], &[]).await;
        let addresses = [one.local_addr().to_string(), "127.0.0.2:0".to_owned()];
        let two = node("node2", &addresses[1], &[1], &[&addresses[0]]).await;
        let addresses = [addresses[0].clone(), two.local_addr().to_string()];
        let nodes = Arc::new(Mutex::new(vec![one, two]));
        let settle = || async {
            for i in 0..2 {
                let node = nodes.lock().unwrap()[i].clone();
                settled(&node, 2).await;
            }
        };
        settle().await;
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let load = tokio::spawn(load(nodes.clone(), stop.clone(), count.clone()));
        for secrets in [&[1, 2][..], &[2, 1], &[2]] {
            for i in 0..2 {
                let name = format!("node{}", i + 1);
                let leaving = nodes.lock().unwrap()[i].clone();
                let report = leaving.drain().await;
                assert!(report.complete, "{report:?}");
                drop(leaving);
                let peers = [&*addresses[0], &*addresses[1]];
                let back = node(&name, &addresses[i], secrets, &peers).await;
                nodes.lock().unwrap()[i] = back;
                settle().await;
                let so_far = count.load(Relaxed);
                eventually("it works like this", || count.load(Relaxed) > so_far + 50).await;
            }
        }
        stop.store(true, Relaxed);
        let created = load.await.unwrap();
        println!("{} sessions were acknowledged meanwhile", created.len());
        assert!(created.len() > 300);
        let nodes = nodes.lock().unwrap().clone();
        for (key, value) in &created {
            for node in &nodes {
                assert_eq!(read(node, key).await.unwrap().as_ref(), Some(value));
            }
        }

        let before = nodes[0].status().rejected_connections;
        let late = node("node3", "127.0.0.1:0", &[1], &[&addresses[0]]).await;
        eventually("the old secret is refused", || {
            nodes[0].status().rejected_connections > before + 2
        })
        .await;
        assert_eq!(late.status().members.len(), 1);
        assert!(nodes.iter().all(|node| is_settled(node, 2)));
    });
}
