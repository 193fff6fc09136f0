//! What subscribers of several nodes receive.

use super::*;
use distributable::session::{EndReason, EventScope, SessionEventKind};
use distributable::{SessionEvent, SessionEvents};

async fn next(events: &mut SessionEvents) -> SessionEvent {
    let event = timeout(PATIENCE, events.recv()).await;
    event.expect("an event").expect("a store").expect("no loss")
}

/// Returns `true` if an event of a session comes soon.
async fn arrives(events: &mut SessionEvents, key: Root) -> bool {
    let arrival = async { while next(events).await.key != key {} };
    timeout(Duration::from_millis(200), arrival).await.is_ok()
}

/// Subscribers to everything at each node, once each node reports to all of them.
async fn subscribe<const N: usize>(nodes: &[ReplicatedStore; N]) -> [SessionEvents; N] {
    let mut subscribers = nodes
        .each_ref()
        .map(|node| node.events(EventScope::Cluster).unwrap());
    for reporter in nodes {
        for events in &mut subscribers {
            // A subscription takes a moment to reach the others.
            while !arrives(events, create(reporter, "trial").await).await {}
        }
    }
    subscribers
}

/// Ends sessions one way and another, and looks at what each node's subscriber receives.
async fn everything_is_received_once(nodes: [ReplicatedStore; 3]) {
    let mut everywhere = subscribe(&nodes).await;
    let mut here = nodes
        .each_ref()
        .map(|node| node.events(EventScope::Node).unwrap());
    let one = create(&nodes[0], "one").await;
    let two = create(&nodes[1], "two").await;
    let mut rotation = Changes::default();
    let (from, to) = ([1; 16], [2; 16]);
    rotation.rotate(SecretHash::from_bytes(from), SecretHash::from_bytes(to));
    let outcome = nodes[2].commit(&one, None, rotation).await.unwrap();
    assert!(matches!(outcome, Outcome::Committed(_)));
    assert!(nodes[1].delete(&one).await.unwrap());
    assert!(!nodes[2].delete(&one).await.unwrap());
    assert!(
        nodes[0]
            .delete_because(&two, EndReason::Limit)
            .await
            .unwrap()
    );
    let brief = nodes[2].new_id().key();
    let idle = Some(Duration::from_millis(300));
    let changes = Changes::create(SecretHash::from_bytes([1; 16]), idle, HOUR);
    nodes[2].commit(&brief, None, changes).await.unwrap();
    use SessionEventKind::{Created, Deleted, Expired, Rotated};
    let expected = [
        (one, Created, Some("node1")),
        (one, Rotated, Some("node3")),
        (one, Deleted(EndReason::Admin), Some("node2")),
        (two, Created, Some("node2")),
        (two, Deleted(EndReason::Limit), Some("node1")),
        (brief, Created, Some("node3")),
        // Whichever owns it.
        (brief, Expired(EndReason::Idle), None),
    ];
    for events in &mut everywhere {
        let mut received = Vec::new();
        while received.len() < expected.len() {
            let event = next(events).await;
            // A trial may come late: there is no order between nodes.
            if [one, two, brief].contains(&event.key) {
                received.push(event);
            }
        }
        for (key, kind, node) in expected {
            let is_it = |event: &&SessionEvent| event.key == key && event.kind == kind;
            let found: Vec<_> = received.iter().filter(is_it).collect();
            let [event] = found[..] else {
                panic!("{key} {kind:?} in {received:?}")
            };
            assert!(node.is_none() || event.node.as_deref() == node, "{event:?}");
        }
    }
    // With the narrow scope each event is at one node.
    let end = create(&nodes[0], "end").await;
    for events in &mut everywhere {
        loop {
            let event = next(events).await;
            assert!(![one, two, brief].contains(&event.key), "twice: {event:?}");
            if event.key == end {
                break;
            }
        }
    }
    let mut received = Vec::new();
    while received.len() < expected.len() + 1 {
        for (number, events) in here.iter_mut().enumerate() {
            while let Ok(event) = timeout(Duration::from_millis(20), events.recv()).await {
                let event = event.unwrap().unwrap();
                assert_eq!(event.node, Some(format!("node{}", number + 1)));
                received.push(event);
            }
        }
    }
    assert_eq!(received.len(), expected.len() + 1, "{received:?}");
}

#[tokio::test]
async fn each_node_receives_each_event_once() {
    everything_is_received_once(cluster(["node1", "node2", "node3"]).await).await;
}

#[tokio::test]
async fn nodes_that_do_not_keep_a_session_receive_its_events() {
    let copies = Copies::Count(1.try_into().unwrap());
    everything_is_received_once(cluster_of(["node1", "node2", "node3"], copies).await).await;
}
