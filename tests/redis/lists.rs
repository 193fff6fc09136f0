//! The list of sessions, in pages.

use std::collections::HashSet;
use std::time::Instant;

use distributable::{Root, Scope, SessionPage, SessionStore, StoreErrorKind};

use crate::common::redis::Server;
use crate::support::{RECOVERY, create, patient};

/// Where the list goes on is a number that means something to one process of the server only: after
/// a restart, with other hashes of keys, sessions would be left out. A failover is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_list_is_not_continued_after_a_restart_of_the_server() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = patient(&server.url()).await;
    let mut live = HashSet::new();
    for _ in 0..500 {
        live.insert(create(&store, "a", "1").await.0);
    }
    let list = async |after| store.list(Scope::Cluster, after, 200).await;
    let page = list(None).await.unwrap();
    server.kill();
    server.restart();
    let start = Instant::now();
    let error = loop {
        let error = list(page.next.as_ref()).await.expect_err("it goes on");
        if error.kind() != StoreErrorKind::Unavailable {
            break error;
        }
        assert!(start.elapsed() < RECOVERY, "it does not recover");
    };
    assert_eq!(error.kind(), StoreErrorKind::InvalidCursor);

    // From the start it has all of them, whichever nodes are asked.
    let nodes = [&store, &patient(&server.url()).await];
    let (mut found, mut after) = (HashSet::new(), None);
    for turn in 0.. {
        let page = nodes[turn % 2].list(Scope::Cluster, after.as_ref(), 200);
        let page = page.await.unwrap();
        found.extend(roots(&page));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, live);
}

fn roots(page: &SessionPage) -> impl Iterator<Item = Root> {
    page.sessions.iter().map(|info| info.key)
}
