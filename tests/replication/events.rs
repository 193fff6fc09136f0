//! Events that subscribers receive at several nodes.

use super::*;
use distributable::{EndReason, Scope, SessionEvent, SessionEventKind, SessionEvents};

async fn next(events: &mut SessionEvents) -> SessionEvent {
    let event = timeout(PATIENCE, events.recv()).await;
    event.expect("an event").expect("a store").expect("no loss")
}

/// Subscribers to everything at each node, once each node reports to all of them.
async fn subscribe<const N: usize>(nodes: &[ReplicatedStore; N]) -> [SessionEvents; N] {
    let subscribers = nodes
        .each_ref()
        .map(|node| node.events(Scope::Cluster).unwrap());
    for events in &subscribers {
        while !events.ready().await {}
    }
    subscribers
}

/// Ends sessions one way and another, and looks at what each node's subscriber receives.
async fn everything_is_received_once(nodes: [ReplicatedStore; 3]) {
    let mut everywhere = subscribe(&nodes).await;
    let mut here = nodes
        .each_ref()
        .map(|node| node.events(Scope::Node).unwrap());
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
            assert!(!event.possible_repeat, "{event:?}");
            received.push(event);
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
    let received = received_here(&mut here, expected.len() + 1).await;
    assert_eq!(received.len(), expected.len() + 1, "{received:?}");
}

/// At least this many events, each at the node that it names.
async fn received_here(here: &mut [SessionEvents; 3], least: usize) -> Vec<SessionEvent> {
    let mut received = Vec::new();
    while received.len() < least {
        for (number, events) in here.iter_mut().enumerate() {
            while let Ok(event) = timeout(Duration::from_millis(20), events.recv()).await {
                let event = event.unwrap().unwrap();
                assert_eq!(event.node, Some(format!("node{}", number + 1)));
                received.push(event);
            }
        }
    }
    received
}

#[test]
fn each_node_receives_each_event_once() {
    undisturbed(1, async || {
        everything_is_received_once(cluster(["node1", "node2", "node3"]).await).await;
    });
}

#[test]
fn nodes_that_do_not_keep_a_session_receive_its_events() {
    undisturbed(1, async || {
        let copies = Copies::Count(1.try_into().unwrap());
        everything_is_received_once(cluster_of(["node1", "node2", "node3"], copies).await).await;
    });
}

/// A node without a subscription of its own confirms the one of another node.
#[test]
fn what_follows_a_confirmed_subscription_is_received() {
    undisturbed(1, async || {
        let nodes = cluster(["node1", "node2", "node3"]).await;
        for round in 0..20 {
            let [here, there] = [&nodes[round % 3], &nodes[(round + 1) % 3]];
            let mut events = here.events(Scope::Cluster).unwrap();
            while !events.ready().await {}
            let key = create(there, "one").await;
            let event = next(&mut events).await;
            assert_eq!((event.key, event.kind), (key, SessionEventKind::Created));
            let here = here.events(Scope::Node).unwrap();
            assert!(here.ready().await);
        }
    });
}

/// Returns `true` if a watch wakes after a change at another node. `is_due` is the expectation: a
/// busy machine may delay a wakeup, and the absence of one is known after a moment.
async fn wakes(
    is_due: bool,
    watcher: &ReplicatedStore,
    key: &Root,
    change: impl AsyncFn(),
) -> bool {
    let wait = if is_due {
        PATIENCE
    } else {
        Duration::from_millis(500)
    };
    let mut watch = watcher.watch(key).unwrap();
    change().await;
    timeout(wait, watch.changed()).await.is_ok()
}

/// Written, rotated and ended on one node, and watched on another one that holds the session.
#[test]
fn a_watch_wakes_when_another_node_changes_the_session() {
    undisturbed(1, async || {
        let [one, two] = cluster(["node1", "node2"]).await;
        let key = create(&one, "1").await;
        let other = create(&one, "1").await;
        let written = async || {
            let base = one.load(&key, None).await.unwrap().into_live();
            one.commit(&key, base.as_ref(), write("2")).await.unwrap();
        };
        let rotated = async || {
            let mut rotation = Changes::default();
            let (from, to) = ([1; 16], [2; 16]);
            rotation.rotate(SecretHash::from_bytes(from), SecretHash::from_bytes(to));
            one.commit(&key, None, rotation).await.unwrap();
        };
        let ended = async || assert!(one.delete(&key).await.unwrap());
        assert!(wakes(true, &two, &key, written).await);
        assert!(!wakes(false, &two, &other, written).await);
        assert!(wakes(true, &two, &key, rotated).await);
        assert!(wakes(true, &two, &key, ended).await);
    });
}
