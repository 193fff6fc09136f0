//! Events behind sentinels and in clusters.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use distributable::session::Outcome;
use distributable::{
    Lagged, RedisStore, Root, Scope, SessionEventKind, SessionEvents, SessionStore,
};
use tokio::time::sleep;

use crate::common::redis::has_sharded_channels;
use crate::events::{EXPIRED, create_brief, listen, node, receive};
use crate::groups::{AGREEMENT, Cluster, Sentinels};
use crate::support::{HOUR, birth, create};

/// Creates a session as soon as that is possible.
async fn create_again(store: &RedisStore) -> Root {
    let start = Instant::now();
    loop {
        let key = store.new_id().key();
        match store.commit(&key, None, birth("a", "1")).await {
            Ok(Outcome::Committed(_)) => return key,
            _ => assert!(start.elapsed() < AGREEMENT, "no session can be created"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Counts the events of these sessions until each has one; losses are passed over.
async fn count(events: &mut SessionEvents, keys: &[Root], kind: SessionEventKind) {
    let mut counts: HashMap<_, _> = keys.iter().map(|key| (*key, 0)).collect();
    while counts.values().any(|count| *count == 0) {
        if let Ok(event) = receive(events).await
            && event.kind == kind
            && let Some(count) = counts.get_mut(&event.key)
        {
            *count += 1;
        }
    }
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

async fn create_many(store: &RedisStore) -> Vec<Root> {
    let mut keys = Vec::new();
    for _ in 0..200 {
        keys.push(create(store, "a", "1").await.0);
    }
    keys
}

/// the primary dies, and another one takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_follow_the_primary_that_the_sentinels_name() {
    let mut group = Sentinels::start();
    let (one, two) = (
        node(&group.url(), "node1").await,
        node(&group.url(), "node2").await,
    );
    let mut all = [
        listen(&one, Scope::Cluster).await,
        listen(&two, Scope::Cluster).await,
    ];
    let key = create_again(&one).await;
    for events in &mut all {
        count(events, &[key], SessionEventKind::Created).await;
    }
    group.servers[0].kill();
    let lost = [create_again(&one).await, create_again(&two).await];
    // What was created before the subscription is lost, and a part of it need not be.
    for events in &mut all {
        loop {
            match receive(events).await {
                Err(lost) => break assert_eq!(lost, Lagged(1)),
                Ok(event) => assert!(lost.contains(&event.key)),
            }
        }
    }
    let keys = [create_again(&one).await, create_again(&two).await];
    for events in &mut all {
        count(events, &keys, SessionEventKind::Created).await;
    }
}

/// the sessions of every shard, a primary that dies, and slots that move.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_shard_of_a_cluster_sends_its_events_once() {
    let mut cluster = Cluster::start_with(&[]);
    let (one, two) = (
        node(&cluster.url(), "node1").await,
        node(&cluster.url(), "node2").await,
    );
    let mut all = [
        listen(&one, Scope::Cluster).await,
        listen(&two, Scope::Cluster).await,
    ];
    let keys = create_many(&one).await;
    for events in &mut all {
        count(events, &keys, SessionEventKind::Created).await;
    }
    // They stay in their shards: only what tries the subscriptions is sent to all servers.
    let sum = |command| {
        cluster
            .servers
            .iter()
            .map(|it| calls(it, command))
            .sum::<u64>()
    };
    let (published, sharded) = (sum("publish"), sum("spublish"));
    if has_sharded_channels() {
        assert!(published < 100 && sharded >= 200, "{published} {sharded}");
    }
    let mut brief = Vec::new();
    for _ in 0..20 {
        brief.push(create_brief(&two, HOUR).await);
    }
    for events in &mut all {
        count(events, &brief, EXPIRED).await;
    }

    reshard(&cluster);
    settle(&mut all, [&one, &two]).await;
    let keys = create_many(&two).await;
    for events in &mut all {
        count(events, &keys, SessionEventKind::Created).await;
    }

    cluster.replace_failing_nodes_soon();
    cluster.servers[2].kill();
    for events in &mut all {
        while receive(events).await != Err(Lagged(1)) {}
    }
    settle(&mut all, [&one, &two]).await;
    let keys = create_many(&one).await;
    for events in &mut all {
        count(events, &keys, SessionEventKind::Created).await;
    }
}

/// Waits until every server is subscribed to and its sessions can be created.
async fn settle(all: &mut [SessionEvents; 2], stores: [&RedisStore; 2]) {
    let start = Instant::now();
    let mut good = 0;
    while good < 60 {
        assert!(start.elapsed() < AGREEMENT, "no events of some shard");
        let key = create_again(stores[good % 2]).await;
        let mut is_good = true;
        for events in &mut *all {
            is_good &= arrives(events, &key).await;
        }
        good = if is_good { good + 1 } else { 0 };
    }
}

async fn arrives(events: &mut SessionEvents, key: &Root) -> bool {
    let arrived = async {
        loop {
            if let Some(Ok(event)) = events.recv().await
                && event.key == *key
            {
                return;
            }
        }
    };
    let arrived = tokio::time::timeout(Duration::from_millis(500), arrived);
    arrived.await.is_ok()
}

/// Moves slots from the first server to the second.
fn reshard(cluster: &Cluster) {
    let to = cluster.node_id(1);
    let from = cluster.node_id(0);
    let address = format!("127.0.0.1:{}", cluster.servers[0].port);
    let moved = Command::new("redis-cli")
        .args(["--cluster", "reshard", &address])
        .args(["--cluster-from", &from, "--cluster-to", &to])
        .args(["--cluster-slots", "1000", "--cluster-yes"])
        .output()
        .unwrap();
    assert!(moved.status.success(), "{moved:?}");
}

fn calls(server: &crate::common::redis::Server, command: &str) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let start = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&*start));
    let calls = line.and_then(|rest| rest.split(',').next()?.parse().ok());
    calls.unwrap_or_default()
}

/// servers before 7.0 do not support sharded channels, and send every event to all servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_without_sharded_channels_sends_each_event_once() {
    // A server that lacks the commands, Redis 6.2, does not start with them renamed.
    let without: &[&str] = if has_sharded_channels() {
        &[
            "--rename-command",
            "SPUBLISH",
            "",
            "--rename-command",
            "SSUBSCRIBE",
            "",
        ]
    } else {
        &[]
    };
    let cluster = Cluster::start_with(without);
    let store = node(&cluster.url(), "node1").await;
    let mut events = listen(&store, Scope::Cluster).await;
    let keys = create_many(&store).await;
    count(&mut events, &keys, SessionEventKind::Created).await;
    let key = create_brief(&store, HOUR).await;
    count(&mut events, &[key], EXPIRED).await;
}
