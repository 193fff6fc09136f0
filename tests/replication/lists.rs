//! The list of sessions, over the nodes of a cluster.

use std::collections::BTreeMap;

use distributable::{
    Copies, ListScope, ReplicatedStore, Root, SessionStore, StoreError, StoreErrorKind,
};
use tokio::time::{Instant, sleep};

use super::*;

/// All pages of a list, and how often each session is in it.
async fn walk(
    store: &ReplicatedStore,
    scope: ListScope,
    found: &mut BTreeMap<Root, usize>,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = match store.list(scope, after.as_ref(), 10).await {
            Err(error) if is_passing(&error) => {
                sleep(Duration::from_millis(5)).await;
                continue;
            }
            page => page?,
        };
        assert!(page.sessions.len() <= 10);
        for session in page.sessions {
            *found.entry(session.key).or_default() += 1;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// Returns `true` for the errors after which the list goes on with the same cursor.
fn is_passing(error: &StoreError) -> bool {
    let kind = error.kind();
    matches!(kind, StoreErrorKind::NotReady | StoreErrorKind::Unavailable)
}

fn once(keys: &[Root]) -> BTreeMap<Root, usize> {
    keys.iter().map(|key| (*key, 1)).collect()
}

/// P-01.
#[tokio::test]
async fn the_lists_of_all_nodes_have_each_session_once() {
    for copies in [Copies::All, Copies::Count(2.try_into().unwrap())] {
        let nodes = cluster_of(["node1", "node2", "node3"], copies).await;
        let mut keys = Vec::new();
        for number in 0..200 {
            keys.push(create(&nodes[number % 3], "a").await);
        }
        // On a busy machine a node may leave and join again meanwhile.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut found = BTreeMap::new();
            for node in &nodes {
                walk(node, ListScope::Node, &mut found).await.unwrap();
            }
            if found == once(&keys) {
                break;
            }
            assert!(Instant::now() < deadline, "{found:?}");
        }
        for node in &nodes {
            let mut found = BTreeMap::new();
            let whole = walk(node, ListScope::Cluster, &mut found).await;
            match copies {
                Copies::All => assert_eq!((whole.is_ok(), found), (true, once(&keys))),
                Copies::Count(_) => {
                    assert_eq!(whole.unwrap_err().kind(), StoreErrorKind::Unsupported);
                }
            }
        }
    }
}

/// P-01: sessions come and go, and a node leaves, between two pages.
#[tokio::test]
async fn a_list_of_the_cluster_goes_on_when_a_node_leaves() {
    let [one, two, three] = cluster(["node1", "node2", "node3"]).await;
    let mut keys = Vec::new();
    for _ in 0..100 {
        keys.push(create(&one, "stays").await);
        keys.push(create(&three, "stays").await);
    }
    let gone = create(&two, "goes").await;
    let mut found: BTreeMap<Root, usize> = BTreeMap::new();
    let mut page = two.list(ListScope::Cluster, None, 50).await.unwrap();
    three.drain().await;
    drop(three);
    two.delete(&gone).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        for session in page.sessions {
            *found.entry(session.key).or_default() += 1;
        }
        create(&one, "comes").await;
        let Some(next) = page.next else { break };
        // While the others take over what the node had, an error and never a short page.
        page = loop {
            match two.list(ListScope::Cluster, Some(&next), 50).await {
                Ok(page) => break page,
                Err(error) => assert!(is_passing(&error), "{error}"),
            }
            assert!(Instant::now() < deadline, "the list does not go on");
            sleep(Duration::from_millis(5)).await;
        };
    }
    for key in &keys {
        assert_eq!(found.get(key), Some(&1));
    }
}
