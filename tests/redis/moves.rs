//! Addresses that lead to another primary after a failover: of balancers, of cloud services. Nodes
//! of a cluster that name the former one.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use distributable::session::Loaded;
use distributable::store::RedisErrorKind;
use distributable::{RedisStore, Root, SessionStore, StoreError};
use tokio::time::sleep;

use crate::common::eventually;
use crate::common::redis::Server;
use crate::front::{Answer, Front};
use crate::proxy::Proxy;
use crate::support::{
    RECOVERY, SECRET, birth, builder, create, find, in_one_of_some, insert, kind, patient, reason,
};

/// A primary, its replica in step, and an address that leads to the primary.
struct Pair {
    old: Server,
    new: Server,
    address: Proxy,
}

impl Pair {
    async fn start() -> Self {
        let old = Server::start(&[]);
        let new = Server::start(&["--replicaof", "127.0.0.1", &old.port.to_string()]);
        eventually("the replica is in step", || {
            new.cli(&["INFO", "replication"])
                .contains("master_link_status:up")
        });
        let address = Proxy::start(old.port).await;
        Self { old, new, address }
    }

    /// Promotes the replica. The old primary is demoted, and receives no later changes.
    async fn fail_over(&self, keys: &[&Root]) {
        eventually("the replica has all sessions", || {
            self.new.cli(&["DBSIZE"]) == self.old.cli(&["DBSIZE"])
        });
        self.new.ok(&["REPLICAOF", "NO", "ONE"]);
        self.old.ok(&["REPLICAOF", "127.0.0.1", "1"]);
        self.address.lead_to(self.new.port);
        // The users log out at the new one.
        let there = patient(&self.new.url()).await;
        for key in keys {
            assert!(there.delete(key).await.unwrap());
        }
    }
}

/// within this time the new primary is in use.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);

/// Pauses before the next attempt; fails when the recovery has taken too long.
async fn retry(start: Instant, error: &StoreError) {
    assert!(start.elapsed() < RECOVERY, "{}", reason(error));
    sleep(Duration::from_millis(10)).await;
}

/// only reads, so that only the probe can detect it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_read_from_a_primary_that_was_demoted() {
    for near in [false, true] {
        in_one_of_some("the new primary is read soon", async || {
            let took = reads_move(near).await;
            eprintln!("near-cache {near}: read from the new one after {took:?}");
            took < FOLLOWED_WITHIN
        })
        .await;
    }
}

/// Returns how long it took until the new primary was read.
async fn reads_move(near: bool) -> Duration {
    let pair = Pair::start().await;
    let builder = builder(pair.address.url());
    let builder = if near {
        builder.near_cache(1 << 20)
    } else {
        builder
    };
    let store = builder.connect().await.unwrap();
    let (key, _) = create(&store, "a", "1").await;
    for _ in 0..5 {
        assert!(find(&store, &key).await.is_some());
    }
    pair.fail_over(&[&key]).await;
    let start = Instant::now();
    // An error is right as well; the session is not, for longer than the probe takes.
    while let Ok(Loaded::Live(_)) = store.load(&key, Some(&SECRET)).await {
        let late = format!("still read from the demoted server, near-cache: {near}");
        assert!(start.elapsed() < RECOVERY, "{late}");
        sleep(Duration::from_millis(10)).await;
    }
    while let Err(error) = store.load(&key, Some(&SECRET)).await {
        retry(start, &error).await;
    }
    let took = start.elapsed();
    assert_eq!(find(&store, &key).await, None);
    create(&store, "a", "1").await;
    took
}

/// writes, which the demoted server refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_address_that_leads_to_another_primary_is_followed() {
    in_one_of_some("writes succeed again soon", async || {
        let took = writes_move().await;
        eprintln!("writes succeeded after {took:?}");
        took.iter().all(|took| *took < FOLLOWED_WITHIN)
    })
    .await;
}

/// Returns how long it took until a write succeeded, there and back.
async fn writes_move() -> [Duration; 2] {
    let pair = Pair::start().await;
    let store = patient(&pair.address.url()).await;
    let (key, _) = create(&store, "a", "1").await;
    pair.fail_over(&[&key]).await;
    let start = Instant::now();
    let new = store.new_id().key();
    while let Err(error) = store.commit(&new, None, birth("a", "1")).await {
        retry(start, &error).await;
    }
    let there = start.elapsed();
    assert_eq!(find(&store, &key).await, None);
    // And back again.
    pair.old
        .ok(&["REPLICAOF", "127.0.0.1", &pair.new.port.to_string()]);
    eventually("the old primary is in step", || {
        pair.old
            .cli(&["INFO", "replication"])
            .contains("master_link_status:up")
    });
    pair.new.ok(&["REPLICAOF", "127.0.0.1", "1"]);
    pair.old.ok(&["REPLICAOF", "NO", "ONE"]);
    pair.address.lead_to(pair.old.port);
    let start = Instant::now();
    while let Err(error) = store.commit(&new, None, insert("a", "2")).await {
        retry(start, &error).await;
    }
    let back = start.elapsed();
    create(&store, "a", "1").await;
    [there, back]
}

/// an address that leads to a replica from the beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_is_not_read_from() {
    let pair = Pair::start().await;
    let (key, _) = {
        let store = patient(&pair.old.url()).await;
        create(&store, "a", "1").await
    };
    let error = RedisStore::connect(&pair.new.url()).await.unwrap_err();
    assert_eq!(error.kind(), RedisErrorKind::ReadOnly, "{error}");
    let store = RedisStore::builder(pair.new.url()).build().unwrap();
    let error = store.load(&key, None).await.unwrap_err();
    assert_eq!(kind(&error), Some(RedisErrorKind::ReadOnly));
    pair.new.ok(&["REPLICAOF", "NO", "ONE"]);
    let start = Instant::now();
    let found = loop {
        match store.load(&key, None).await {
            Ok(found) => break found,
            Err(error) => retry(start, &error).await,
        }
    };
    assert!(found.into_live().is_some());
}

/// a server that does not run `ROLE` is asked in another way; one that states no role at all
/// is used, and left when it refuses a write.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_hides_its_role_is_followed_as_well() {
    for hidden in [&["ROLE"][..], &["ROLE", "INFO"]] {
        let (old, new) = (Server::start(&[]), Server::start(&[]));
        let front = Front::start(old.port, |command| {
            if hidden.contains(&&*command[0].to_uppercase()) {
                Answer::Say("-ERR unknown command".to_owned())
            } else {
                Answer::Pass
            }
        })
        .await;
        let address = Proxy::start(front.port).await;
        let store = patient(&address.url()).await;
        create(&store, "a", "1").await;
        old.ok(&["REPLICAOF", "127.0.0.1", "1"]);
        address.lead_to(new.port);
        let start = Instant::now();
        let key = store.new_id().key();
        while let Err(error) = store.commit(&key, None, birth("a", "1")).await {
            retry(start, &error).await;
        }
        assert_eq!(new.cli(&["DBSIZE"]), "1");
    }
}

/// A node of a cluster that names the node at `owner` as the owner of all slots; `state` is the
/// cluster's, as far as this node sees it.
async fn cluster_node(
    server: &Server,
    delay: Duration,
    state: &'static str,
    owner: Arc<OnceLock<u16>>,
) -> Front {
    Front::start(server.port, move |command| match &*command[0] {
        "CLUSTER" if command[1] == "INFO" => {
            let info = format!("cluster_state:{state}\r\ncluster_current_epoch:7\r\n");
            Answer::Say(format!("${}\r\n{info}", info.len()))
        }
        "CLUSTER" => {
            std::thread::sleep(delay);
            let port = owner.get().unwrap();
            Answer::Say(format!(
                "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}"
            ))
        }
        "HGETALL" | "EVALSHA" | "EVAL" if state == "fail" => {
            Answer::Say("-CLUSTERDOWN The cluster is down".to_owned())
        }
        _ => Answer::Pass,
    })
    .await
}

/// the former owner is cut off from the others, and not from this node, to which it is the
/// nearest: its table is the first to arrive each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn the_table_of_a_node_that_is_cut_off_is_not_used() {
    let (isolated, server) = (Server::start(&[]), Server::start(&[]));
    let (former, owner) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
    let near = cluster_node(&isolated, Duration::ZERO, "fail", former.clone()).await;
    former.set(near.port).unwrap();
    let far = cluster_node(&server, Duration::from_millis(20), "ok", owner.clone()).await;
    owner.set(far.port).unwrap();
    let urls = [near.port, far.port].map(|port| format!("127.0.0.1:{port}"));
    let store = patient(&format!("redis-cluster://{}", urls.join(","))).await;
    create(&store, "a", "1").await;
    assert_eq!(server.cli(&["DBSIZE"]), "1");
}

/// without a better one, the table of such a node is used: it is right when the cluster is
/// up again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_table_is_used_if_every_node_is_cut_off() {
    let server = Server::start(&[]);
    let owner = Arc::new(OnceLock::new());
    let node = cluster_node(&server, Duration::ZERO, "fail", owner.clone()).await;
    owner.set(node.port).unwrap();
    let url = format!("redis-cluster://127.0.0.1:{}", node.port);
    let error = RedisStore::connect(&url).await.unwrap_err().to_string();
    // The owner's own words.
    assert!(error.contains("The cluster is down"), "{error}");
}
