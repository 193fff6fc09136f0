//! Sessions of tower-sessions on replicated nodes.

use std::sync::Arc;

use distributable::TowerSessions;
use tower_sessions::{Session, SessionStore};

use crate::support::cluster;

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_has_answered_is_read_from_the_other_after_its_death() {
    let [one, two] = cluster(["one", "two"]).await;
    let [one, two] = [one, two].map(|node| Arc::new(TowerSessions::new(node)));
    let session = Session::new(None, one.clone(), None);
    session.insert("a", 1).await.unwrap();
    session.save().await.unwrap();
    let again = Session::new(session.id(), two.clone(), None);
    assert_eq!(again.get::<u32>("a").await.unwrap(), Some(1));
    session.insert("b", 2).await.unwrap();
    session.save().await.unwrap();
    // Both are open when the first node goes: the other one's save loses nothing.
    again.insert("c", 3).await.unwrap();
    let id = session.id();
    drop((session, one));
    again.save().await.unwrap();
    let last = Session::new(id, two.clone(), None);
    for (name, value) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(last.get::<u32>(name).await.unwrap(), Some(value), "{name}");
    }
    last.flush().await.unwrap();
    assert_eq!(two.load(&id.unwrap()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_on_both_nodes_lose_nothing_and_a_logout_ends_the_session_on_both() {
    let [one, two] = cluster(["one", "two"]).await;
    let nodes = [one, two].map(|node| Arc::new(TowerSessions::new(node)));
    let first = Session::new(None, nodes[0].clone(), None);
    first.insert("count", 0).await.unwrap();
    first.save().await.unwrap();
    let id = first.id();
    for round in 0..20_u32 {
        let open = |node: &Arc<TowerSessions>| Session::new(id, node.clone(), None);
        let [a, b] = [open(&nodes[0]), open(&nodes[1])];
        a.insert(&format!("a{round}"), round).await.unwrap();
        b.insert(&format!("b{round}"), round).await.unwrap();
        let (saved, other) = tokio::join!(a.save(), b.save());
        saved.unwrap();
        other.unwrap();
    }
    for node in &nodes {
        let record = node.load(&id.unwrap()).await.unwrap().unwrap();
        assert_eq!(record.data.len(), 41);
    }
    let slow = Session::new(id, nodes[1].clone(), None);
    slow.insert("late", true).await.unwrap();
    first.flush().await.unwrap();
    assert!(slow.save().await.is_err());
    for node in &nodes {
        assert_eq!(node.load(&id.unwrap()).await.unwrap(), None);
    }
}
