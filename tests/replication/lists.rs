//! The list of sessions, over the nodes of a cluster.

use std::collections::BTreeMap;

use distributable::{
    Copies, ReplicatedStore, Root, Scope, SessionStore, StoreError, StoreErrorKind,
};
use tokio::time::{Instant, sleep};

use super::*;

/// All pages of a list, and how often each session is in it.
async fn walk(
    store: &ReplicatedStore,
    scope: Scope,
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
#[test]
fn the_lists_of_all_nodes_have_each_session_once() {
    undisturbed(1, async || {
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
                    walk(node, Scope::Node, &mut found).await.unwrap();
                }
                if found == once(&keys) {
                    break;
                }
                assert!(Instant::now() < deadline, "{found:?}");
            }
            for node in &nodes {
                let mut found = BTreeMap::new();
                walk(node, Scope::Cluster, &mut found).await.unwrap();
                assert_eq!(found, once(&keys), "{copies:?}");
            }
        }
    });
}

/// P-01: sessions come and go, and a node leaves, between two pages.
#[test]
fn a_list_of_the_cluster_goes_on_when_a_node_leaves() {
    undisturbed(1, async || {
        for copies in [Copies::All, Copies::Count(2.try_into().unwrap())] {
            let nodes = cluster_of(["node1", "node2", "node3"], copies).await;
            goes_on_without_a_node(nodes).await;
        }
    });
}

async fn goes_on_without_a_node([one, two, three]: [ReplicatedStore; 3]) {
    let mut keys = Vec::new();
    for _ in 0..100 {
        keys.push(create(&one, "stays").await);
        keys.push(create(&three, "stays").await);
    }
    let gone = create(&two, "goes").await;
    let mut found: BTreeMap<Root, usize> = BTreeMap::new();
    let mut page = two.list(Scope::Cluster, None, 50).await.unwrap();
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
            match two.list(Scope::Cluster, Some(&next), 50).await {
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

/// P-02: a page of a few sessions has them all, and takes no request for each slot.
#[test]
fn a_page_of_few_sessions_is_not_short() {
    undisturbed(1, async || {
        let copies = Copies::Count(2.try_into().unwrap());
        let nodes = cluster_of(["node1", "node2", "node3"], copies).await;
        let mut keys = Vec::new();
        for number in 0..30 {
            keys.push(create(&nodes[number % 3], "a").await);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no page is whole");
            let Ok(page) = nodes[0].list(Scope::Cluster, None, 1_000).await else {
                continue;
            };
            let found: Vec<_> = page.sessions.iter().map(|info| info.key).collect();
            if page.next.is_some() {
                continue;
            }
            assert_eq!(found.len(), keys.len());
            assert!(keys.iter().all(|key| found.contains(key)));
            break;
        }
        let first = nodes[1].list(Scope::Cluster, None, 10).await.unwrap();
        assert_eq!(first.sessions.len(), 10);
        // A cursor is meant for all nodes.
        let next = nodes[2].list(Scope::Cluster, first.next.as_ref(), 1_000);
        let next = next.await.unwrap();
        assert_eq!((next.sessions.len(), next.next), (20, None));
    });
}
