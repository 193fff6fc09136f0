//! The clock of a test, moved under replicated nodes.

use distributable::testing::{TestClock, TestSession};

use super::*;

/// The nodes take a leap for a pause of their machine, and rejoin.
#[tokio::test(flavor = "multi_thread")]
async fn hours_that_pass_at_once_end_what_is_idle_and_lose_nothing_else() {
    for names in [&["one"][..], &["one", "two"]] {
        let clock = TestClock::new();
        let mut nodes = Vec::new();
        for name in names {
            let peers: Vec<_> = nodes.iter().map(ReplicatedStore::local_addr).collect();
            nodes.push(node(name, &peers).await);
        }
        for node in &nodes {
            settled(node, names.len()).await;
        }
        let idle = TestSession::new().create(&nodes[0]).await.unwrap();
        let long = TestSession::new().with("a", "1").with_idle_timeout(None);
        let long = long.create(&nodes[0]).await.unwrap();
        clock.advance(8 * HOUR);
        for node in &nodes {
            settled(node, names.len()).await;
            let found = peek(node, &long.key()).await;
            assert!(found.is_some(), "{names:?}");
            assert!(peek(node, &idle.key()).await.is_none(), "{names:?}");
        }
        clock.advance(24 * HOUR);
        for node in &nodes {
            settled(node, names.len()).await;
            assert!(peek(node, &long.key()).await.is_none(), "{names:?}");
        }
    }
}

/// The session, as soon as the node is certain of its state.
async fn peek(
    store: &ReplicatedStore,
    key: &Root,
) -> Option<std::sync::Arc<distributable::session::Record>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store.peek(key).await {
            Ok(found) => return found,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}
