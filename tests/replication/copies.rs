//! Sessions that only some of the nodes hold.

use distributable::session::{Changes, Outcome, Value};
use distributable::testing::conformance;
use distributable::{Copies, ReplicatedStore, Root, SessionStore, StoreErrorKind};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::log::undisturbed;
use super::{PATIENCE, cluster_of, create, describe, eventually, read, reads, settled, write};

fn two() -> Copies {
    Copies::Count(2.try_into().unwrap())
}

const FOUR: [&str; 4] = ["node1", "node2", "node3", "node4"];

/// Waits until every session is on two of the nodes and nowhere else.
async fn spread(nodes: &[&ReplicatedStore], sessions: usize) {
    eventually("every session has two copies", || {
        let status = nodes.iter().map(|node| node.status());
        let copies = |total, status: distributable::store::ClusterStatus| {
            total + status.sessions + 1_000_000 * status.under_replicated
        };
        status.fold(0, copies) == 2 * sessions
    })
    .await;
}

#[test]
fn nodes_that_keep_some_of_the_sessions_keep_the_contract_of_stores() {
    undisturbed(4, async || {
        let [one, two, _three, _four] = cluster_of(FOUR, two()).await;
        conformance(one, two).await;
    });
}

#[test]
fn a_single_copy_keeps_the_contract_of_stores() {
    undisturbed(4, async || {
        let copies = Copies::Count(1.try_into().unwrap());
        let [one, two, _three] = cluster_of(["node1", "node2", "node3"], copies).await;
        conformance(one, two).await;
    });
}

#[test]
fn a_session_lives_on_two_nodes_and_is_read_and_written_on_all() {
    undisturbed(1, async || {
        let nodes = cluster_of(FOUR, two()).await;
        let mut keys = Vec::new();
        for number in 0..40 {
            keys.push(create(&nodes[number % 4], "first").await);
        }
        spread(&nodes.each_ref(), 40).await;
        for (number, key) in keys.iter().enumerate() {
            let writer = &nodes[(number + 1) % 4];
            let base = writer.load(key, None).await.unwrap().into_live();
            let outcome = writer.commit(key, base.as_ref(), write("second")).await;
            assert!(matches!(outcome.unwrap(), Outcome::Committed(_)));
            for node in &nodes {
                assert_eq!(read(node, key).await.unwrap().as_deref(), Some("second"));
            }
        }
        spread(&nodes.each_ref(), 40).await;
    });
}

#[test]
fn what_is_ended_anywhere_has_ended_everywhere() {
    undisturbed(1, async || {
        let nodes = cluster_of(FOUR, two()).await;
        for ender in &nodes {
            let key = create(&nodes[0], "here").await;
            let base = ender.load(&key, None).await.unwrap().into_live();
            assert!(ender.delete(&key).await.unwrap());
            assert!(!ender.delete(&key).await.unwrap());
            for node in &nodes {
                assert_eq!(read(node, &key).await.unwrap(), None);
                let outcome = node.commit(&key, base.as_ref(), write("late")).await;
                assert_eq!(outcome.unwrap(), Outcome::Gone);
            }
        }
    });
}

#[tokio::test]
async fn every_node_names_the_same_owner_who_is_the_one_that_drew_the_id() {
    let nodes = cluster_of(FOUR, two()).await;
    for (node, name) in nodes.iter().zip(FOUR) {
        let key = node.new_id().key();
        for other in &nodes {
            assert_eq!(other.route(&key).as_deref(), Some(name));
        }
    }
}

/// Case 54: one node after the other crashes, with time to make new copies in between.
#[test]
fn failures_one_after_another_lose_no_session() {
    undisturbed(1, async || {
        let [one, two, three, four] = cluster_of(FOUR, two()).await;
        let mut keys = Vec::new();
        for node in [&one, &two, &three, &four] {
            for _ in 0..10 {
                keys.push(create(node, "kept").await);
            }
        }
        drop(two);
        spread(&[&one, &three, &four], 40).await;
        drop(one);
        spread(&[&three, &four], 40).await;
        drop(four);
        settled(&three, 1).await;
        for key in &keys {
            assert_eq!(read(&three, key).await.unwrap().as_deref(), Some("kept"));
        }
    });
}

/// Case 52: there are no requests while all four nodes are replaced.
#[test]
fn a_silent_rolling_restart_loses_nothing() {
    undisturbed(1, async || {
        let mut nodes: Vec<_> = cluster_of(FOUR, two()).await.into();
        let mut keys = Vec::new();
        for number in 0..200 {
            keys.push(create(&nodes[number % 4], "kept").await);
        }
        for name in FOUR {
            let leaving = nodes.remove(0);
            let report = leaving.drain().await;
            assert!(report.complete, "{report:?}");
            let peers: Vec<_> = nodes.iter().map(ReplicatedStore::local_addr).collect();
            let back = describe(name, &peers).copies(two()).start().await.unwrap();
            timeout(PATIENCE, back.ready()).await.unwrap();
            nodes.push(back);
        }
        let nodes: Vec<_> = nodes.iter().collect();
        spread(&nodes, 200).await;
        for (number, key) in keys.iter().enumerate() {
            reads(nodes[number % 4], key, Some("kept")).await;
        }
    });
}

/// 60 (i).
#[test]
fn a_draining_node_still_serves_and_keeps_nothing_new() {
    undisturbed(1, async || {
        let [one, two, three] = cluster_of(["node1", "node2", "node3"], two()).await;
        let old = create(&one, "old").await;
        one.start_draining();
        assert!(!one.is_ready());
        eventually("everything is elsewhere", || one.status().sessions == 0).await;
        let new = create(&one, "new").await;
        assert_eq!(read(&one, &old).await.unwrap().as_deref(), Some("old"));
        assert_eq!(read(&one, &new).await.unwrap().as_deref(), Some("new"));
        assert_eq!(one.status().sessions, 0);
        spread(&[&two, &three], 2).await;
        assert!(one.drain().await.complete);
        for key in [old, new] {
            assert!(read(&two, &key).await.unwrap().is_some());
        }
    });
}

/// Counts up as `Session::update` does: compare, set, and again after a conflict.
async fn count_up(node: &ReplicatedStore, key: &Root) {
    let mut current = node.load(key, None).await.unwrap().into_live().unwrap();
    loop {
        let text = current.get("n").map_or(&b"0"[..], Value::as_bytes);
        let n: u32 = std::str::from_utf8(text).unwrap().parse().unwrap();
        let mut changes = Changes::default();
        let next = (n + 1).to_string();
        changes.insert("n".into(), Value::from_bytes(next.as_bytes()));
        changes.require_version("n".into(), current.version("n"));
        match node.commit(key, Some(&current), changes).await.unwrap() {
            Outcome::Committed(_) => return,
            Outcome::Conflict(record) => current = record,
            other => panic!("{other:?}"),
        }
    }
}

/// Case A-07 across nodes.
#[test]
fn atomic_updates_from_all_nodes_at_once_count_exactly() {
    undisturbed(4, async || {
        let nodes = cluster_of(FOUR, two()).await;
        let key = create(&nodes[0], "counted").await;
        let mut tasks = JoinSet::new();
        for node in &nodes {
            for _ in 0..5 {
                let node = node.clone();
                tasks.spawn(async move {
                    for _ in 0..10 {
                        count_up(&node, &key).await;
                    }
                });
            }
        }
        timeout(PATIENCE, tasks.join_all()).await.unwrap();
        for node in &nodes {
            let record = node.load(&key, None).await.unwrap().into_live().unwrap();
            assert_eq!(record.get("n"), Some(&Value::from_bytes(b"200".as_slice())));
        }
    });
}

///
#[tokio::test]
async fn nodes_that_keep_other_numbers_of_copies_do_not_mix() {
    let one = describe("node1", &[]).copies(two()).start().await.unwrap();
    let other = describe("node2", &[one.local_addr()])
        .start()
        .await
        .unwrap();
    settled(&one, 1).await;
    eventually("both list the other", || {
        one.status().refused.len() == 1 && other.status().refused.len() == 1
    })
    .await;
    let key = create(&one, "here").await;
    assert!(read(&other, &key).await.is_err());
    assert_eq!(one.status().members.len() + other.status().members.len(), 2);
}

/// 54, K-02. As many nodes as keep a session have vanished: no node can distinguish a session that
/// was lost from one that has ended.
#[test]
fn an_unknown_session_is_an_error_while_it_may_have_been_lost() {
    undisturbed(1, async || {
        let [one, two, three, four] = cluster_of(FOUR, two()).await;
        let ended = create(&one, "ended").await;
        one.delete(&ended).await.unwrap();
        let unknown = one.new_id().key();
        assert_eq!(read(&one, &unknown).await.unwrap(), None);
        drop(two);
        drop(three);
        settled(&one, 2).await;
        eventually("both have what there is", || {
            one.status().complete && four.status().complete
        })
        .await;
        // Its tombstone is where its id was drawn.
        assert_eq!(read(&one, &ended).await.unwrap(), None);
        for node in [&one, &four] {
            let error = read(node, &unknown).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        }
        let key = create(&one, "new").await;
        assert_eq!(read(&four, &key).await.unwrap().as_deref(), Some("new"));
    });
}
