//! Nodes in one process that replicate over real connections.

#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

mod clock;
mod copies;
mod events;
mod handshakes;
mod lists;
#[path = "../common/log.rs"]
mod log;
mod partition;
mod removals;
mod undisturbed;

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use distributable::session::{Changes, Outcome, SecretHash, Value};
use distributable::store::{MemberState, ReplicatedStoreBuilder};
use distributable::testing::conformance;
use distributable::{
    Ack, Copies, ReplicatedStore, Root, SessionStore, SetupErrorKind, StoreError, StoreErrorKind,
};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use log::{Log, undisturbed};

const HOUR: Duration = Duration::from_secs(3600);
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn describe(name: &str, peers: &[SocketAddr]) -> ReplicatedStoreBuilder {
    let node = ReplicatedStore::builder(name).bind("127.0.0.1:0");
    let peers = peers.iter().map(SocketAddr::to_string);
    peers.fold(node, ReplicatedStoreBuilder::peer)
}

async fn node(name: &str, peers: &[SocketAddr]) -> ReplicatedStore {
    describe(name, peers).start().await.unwrap()
}

/// Nodes that serve, and are connected to each other.
async fn cluster<const N: usize>(names: [&str; N]) -> [ReplicatedStore; N] {
    cluster_of(names, Copies::All).await
}

async fn cluster_of<const N: usize>(names: [&str; N], copies: Copies) -> [ReplicatedStore; N] {
    let mut nodes: Vec<ReplicatedStore> = Vec::new();
    for name in names {
        let peers: Vec<_> = nodes.iter().map(ReplicatedStore::local_addr).collect();
        let node = describe(name, &peers).copies(copies).start().await;
        nodes.push(node.unwrap());
    }
    for node in &nodes {
        settled(node, N).await;
    }
    nodes.try_into().unwrap()
}

/// Waits until the node serves, and is one of `members`.
async fn settled(node: &ReplicatedStore, members: usize) {
    eventually("it serves and lists the others", || {
        let status = node.status();
        let ready = |state| state == MemberState::Ready;
        let all = status.members.iter().all(|member| ready(member.state));
        status.complete && all && status.members.len() == members
    })
    .await;
}

async fn eventually(what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // On a busy machine, a check that began in time may return late.
        let is_late = Instant::now() >= deadline;
        if check() {
            return;
        }
        assert!(!is_late, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Like `eventually`, for checks that ask the store.
async fn reads(store: &ReplicatedStore, key: &Root, expected: Option<&str>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = read(store, key).await;
        if matches!(&found, Ok(value) if value.as_deref() == expected) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{expected:?} is read, not {found:?}"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

fn write(value: &str) -> Changes {
    let mut changes = Changes::default();
    changes.insert("a".into(), Value::from_bytes(value.as_bytes()));
    changes
}

async fn create(store: &ReplicatedStore, value: &str) -> Root {
    let key = store.new_id().key();
    let mut changes = Changes::create(SecretHash::from_bytes([1; 16]), Some(HOUR), HOUR);
    changes.insert("a".into(), Value::from_bytes(value.as_bytes()));
    let outcome = store.commit(&key, None, changes).await.unwrap();
    assert!(matches!(outcome, Outcome::Committed(_)));
    key
}

async fn read(store: &ReplicatedStore, key: &Root) -> Result<Option<String>, StoreError> {
    let record = store.load(key, None).await?.into_live();
    let value = record.as_ref().and_then(|record| record.get("a"));
    Ok(value.map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()))
}

#[test]
fn two_nodes_keep_the_contract_of_stores() {
    undisturbed(4, async || {
        let [one, two] = cluster(["node1", "node2"]).await;
        conformance(one, two).await;
    });
}

#[test]
fn three_nodes_keep_the_contract_of_stores() {
    undisturbed(4, async || {
        let [one, _two, three] = cluster(["node1", "node2", "node3"]).await;
        conformance(three, one).await;
    });
}

#[test]
fn a_node_alone_keeps_the_contract_of_stores() {
    undisturbed(4, async || {
        let store = node("node1", &[]).await;
        timeout(PATIENCE, store.ready()).await.unwrap();
        conformance(store.clone(), store).await;
    });
}

#[test]
fn what_is_written_on_one_node_is_read_on_every_other() {
    undisturbed(1, async || {
        let nodes = cluster(["node1", "node2", "node3"]).await;
        for writer in &nodes {
            let key = create(writer, "here").await;
            for reader in &nodes {
                let value = read(reader, &key).await.unwrap();
                assert_eq!(value.as_deref(), Some("here"));
            }
        }
    });
}

#[test]
fn what_is_ended_on_one_node_has_ended_on_every_other() {
    undisturbed(1, async || {
        let nodes = cluster(["node1", "node2", "node3"]).await;
        let key = create(&nodes[0], "here").await;
        let base = nodes[1].load(&key, None).await.unwrap().into_live();
        assert!(nodes[2].delete(&key).await.unwrap());
        for node in &nodes {
            assert_eq!(read(node, &key).await.unwrap(), None);
            let late = node.commit(&key, base.as_ref(), write("late")).await;
            assert_eq!(late.unwrap(), Outcome::Gone);
        }
    });
}

#[test]
fn the_others_go_on_at_once_when_a_node_fails() {
    undisturbed(1, async || {
        let (log, _guard) = Log::begin();
        let [one, two, three] = cluster(["node1", "node2", "node3"]).await;
        let key = create(&three, "before").await;
        drop(three);
        let base = one.load(&key, None).await.unwrap().into_live();
        let outcome = one.commit(&key, base.as_ref(), write("after")).await;
        assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
        // Without the closed connection, it would take two seconds until there is no answer.
        assert!(log.count("connection refused") > 0, "{:?}", log.lines());
        assert_eq!(read(&two, &key).await.unwrap().as_deref(), Some("after"));
        settled(&two, 2).await;
    });
}

#[test]
fn a_node_that_is_back_gets_everything_from_the_others() {
    undisturbed(1, async || {
        let [one, two] = cluster(["node1", "node2"]).await;
        let key = create(&two, "kept").await;
        let ended = create(&two, "ended").await;
        let address = two.local_addr();
        drop(two);
        settled(&one, 1).await;
        assert!(one.delete(&ended).await.unwrap());

        let back = describe("node2", &[one.local_addr()]).bind(address.to_string());
        let back = started(back).await;
        settled(&back, 2).await;
        assert_eq!(read(&back, &key).await.unwrap().as_deref(), Some("kept"));
        assert_eq!(read(&back, &ended).await.unwrap(), None);
    });
}

#[test]
fn a_node_that_restarts_before_it_is_declared_down_is_a_new_member() {
    undisturbed(1, async || {
        let [one, two] = cluster(["node1", "node2"]).await;
        let key = create(&one, "kept").await;
        let again = describe("node2", &[one.local_addr()]).bind(two.local_addr().to_string());
        drop(two);
        let two = started(again).await;
        settled(&two, 2).await;
        assert_eq!(read(&two, &key).await.unwrap().as_deref(), Some("kept"));
        settled(&one, 2).await;
    });
}

/// Starts a node at an address that is about to become free.
async fn started(node: ReplicatedStoreBuilder) -> ReplicatedStore {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match node.clone().start().await {
            Ok(store) => return store,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_node_that_was_stopped_does_not_serve_what_it_remembers() {
    let one = node("node1", &[]).await;
    let (two, stop) = stoppable("node2", one.local_addr()).await;
    settled(&one, 2).await;
    settled(&two, 2).await;
    let key = create(&one, "before").await;
    assert_eq!(read(&two, &key).await.unwrap().as_deref(), Some("before"));

    let go_on = stand_still(stop).await;
    settled(&one, 1).await;
    let base = one.load(&key, None).await.unwrap().into_live();
    let outcome = one.commit(&key, base.as_ref(), write("after")).await;
    assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
    sleep(Duration::from_secs(1)).await;
    go_on.send(()).unwrap();

    let deadline = Instant::now() + PATIENCE;
    loop {
        match read(&two, &key).await {
            Ok(value) => {
                assert_eq!(value.as_deref(), Some("after"));
                break;
            }
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::NotReady),
        }
        assert!(Instant::now() < deadline, "it serves again");
        sleep(Duration::from_millis(1)).await;
    }
    settled(&one, 2).await;
}

/// Has a thread report that it stands still, until it may go on.
type Stop = oneshot::Sender<(oneshot::Sender<()>, mpsc::Receiver<()>)>;

/// A node on a thread of its own, which can be made to stand still.
async fn stoppable(name: &'static str, peer: SocketAddr) -> (ReplicatedStore, Stop) {
    let (stop, stopped) = oneshot::channel();
    let (starting, started) = oneshot::channel();
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let node = node(name, &[peer]).await;
            starting.send(node.clone()).unwrap();
            let (standing, may_go_on): (oneshot::Sender<()>, mpsc::Receiver<()>) =
                stopped.await.unwrap();
            standing.send(()).unwrap();
            // Also when a test that has failed drops the other end.
            let _ = may_go_on.recv();
            // The test has its own handle; this one only has to outlive it.
            sleep(2 * PATIENCE).await;
            drop(node);
        });
    });
    (started.await.unwrap(), stop)
}

/// Makes a node of [`stoppable`] stand still until a message is sent.
async fn stand_still(stop: Stop) -> mpsc::Sender<()> {
    let (standing, stands_still) = oneshot::channel();
    let (go_on, may_go_on) = mpsc::channel();
    stop.send((standing, may_go_on)).unwrap();
    stands_still.await.unwrap();
    go_on
}

#[test]
fn a_node_that_is_drained_leaves_everything_to_the_others() {
    undisturbed(1, async || {
        let (log, _guard) = Log::begin();
        let [one, two] = cluster(["node1", "node2"]).await;
        let key = create(&one, "kept").await;
        let address = one.local_addr();
        let report = one.drain().await;
        assert!(report.complete, "{report:?}");
        assert_eq!(
            (
                report.sessions,
                report.unacknowledged,
                report.members_remaining
            ),
            (1, 0, 1)
        );
        assert_eq!(one.drain().await, report, "leaving twice is leaving once");

        assert!(!one.is_ready());
        let refused = read(&one, &key).await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::NotReady);
        let free = TcpListener::bind(address).await;
        assert!(free.is_ok(), "the port is free again: {free:?}");

        settled(&two, 1).await;
        // It has announced its departure: no timeout has to pass.
        let left = log.count("a member has left the cluster");
        assert!(left > 0, "{:?}", log.lines());
        assert_eq!(read(&two, &key).await.unwrap().as_deref(), Some("kept"));
    });
}

#[tokio::test]
async fn a_node_that_drains_alone_reports_that_no_node_has_its_sessions() {
    let store = node("node1", &[]).await;
    timeout(PATIENCE, store.ready()).await.unwrap();
    create(&store, "lost").await;
    let report = store.drain().await;
    assert!(!report.complete, "{report:?}");
    assert_eq!((report.sessions, report.members_remaining), (1, 0));
}

#[tokio::test]
async fn a_wait_for_a_node_that_leaves_before_it_serves_ends() {
    let store = describe("node1", &[])
        .expect_nodes(2)
        .start()
        .await
        .unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.ready().await }
    });
    sleep(Duration::from_millis(50)).await;
    assert!(!store.is_ready() && !waiting.is_finished());
    store.drain().await;
    timeout(PATIENCE, waiting).await.unwrap().unwrap();
    timeout(PATIENCE, store.ready()).await.unwrap();
    assert!(!store.is_ready());
}

#[tokio::test]
async fn a_drain_that_is_given_up_leaves_the_node_serving() {
    in_time(async || {
        let one = node("node1", &[]).await;
        let (two, stop) = stoppable("node2", one.local_addr()).await;
        settled(&one, 2).await;
        settled(&two, 2).await;
        let key = create(&one, "here").await;
        // No node can acknowledge this write, so that draining waits.
        let stopping = Instant::now();
        let go_on = stand_still(stop).await;
        let base = one.load(&key, None).await.unwrap().into_live();
        let commit = timeout(
            Duration::from_millis(100),
            one.commit(&key, base.as_ref(), write("more")),
        );
        let has_waited = commit.await.is_err()
            && timeout(Duration::from_millis(100), one.drain())
                .await
                .is_err();
        if stopping.elapsed() > STILL_A_MEMBER {
            return None;
        }
        assert!(has_waited);
        assert!(one.is_ready());
        go_on.send(()).unwrap();
        reads(&one, &key, Some("more")).await;
        Some(())
    })
    .await;
}

/// Repeats a round whose steps a busy machine has delayed: it returns `None` then.
async fn in_time(round: impl AsyncFn() -> Option<()>) {
    const ROUNDS: usize = 8;
    for _ in 0..ROUNDS {
        if round().await.is_some() {
            return;
        }
    }
    panic!("no round was in time");
}

/// A node is declared down when it has not answered for two seconds, and its last answer may be
/// some time ago.
const STILL_A_MEMBER: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_dropped_store_leaves_neither_port_nor_tasks() {
    let metrics = runtime::Handle::current().metrics();
    let [one, two] = cluster(["node1", "node2"]).await;
    let addresses = [one.local_addr(), two.local_addr()];
    drop((one.clone(), one, two));
    eventually("all tasks end", || metrics.num_alive_tasks() == 0).await;
    for address in addresses {
        assert!(TcpListener::bind(address).await.is_ok());
    }
}

#[tokio::test]
async fn a_node_does_not_mistake_itself_for_another() {
    let address = free_address().await;
    // Under its own address, and under another one that leads back to it.
    let way = partition::Way::new().await;
    way.target.send_replace(Some(address));
    let store = describe("node1", &[address, way.address]).bind(address.to_string());
    let store = store.start().await.unwrap();
    eventually("it has met itself", || way.carried.load(Relaxed) > 1).await;
    timeout(PATIENCE, store.ready()).await.unwrap();
    let met = way.carried.load(Relaxed);
    assert!(met <= 2, "it was asked what it has seen, and dialed: {met}");
    assert_eq!(store.status().members.len(), 1);
}

async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn nodes_find_each_other_in_any_order_of_start() {
    undisturbed(1, async || {
        // Kept from other programs until its node starts.
        let second = TcpSocket::new_v4().unwrap();
        second.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let both = [free_address().await, second.local_addr().unwrap()];
        let start = |name, at: SocketAddr| describe(name, &both).bind(at.to_string()).start();
        let one = start("node1", both[0]).await.unwrap();
        timeout(PATIENCE, one.ready()).await.unwrap();
        let key = create(&one, "alone").await;
        drop(second);
        let two = start("node2", both[1]).await.unwrap();
        settled(&two, 2).await;
        assert_eq!(read(&two, &key).await.unwrap().as_deref(), Some("alone"));
    });
}

/// Q-05, N-11.
#[test]
fn two_nodes_with_one_name_do_not_mix() {
    undisturbed(1, async || {
        let [one, two] = cluster(["node1", "node2"]).await;
        let double = node("node2", &[one.local_addr()]).await;
        eventually("it is refused", || {
            double.status().refused.len() == 1 && one.status().refused.len() == 1
        })
        .await;
        // Longer than a node waits that finds no other.
        sleep(Duration::from_secs(3)).await;
        assert!(!double.is_ready());
        assert_eq!(double.status().members.len(), 1);
        assert_eq!(one.status().members.len(), 2);
        assert_eq!(two.status().members.len(), 2);
    });
}

#[test]
fn clusters_with_different_names_do_not_mix() {
    undisturbed(1, async || {
        let one = node("node1", &[]).await;
        let other = describe("node2", &[one.local_addr()]).cluster_name("other");
        let other = other.start().await.unwrap();
        timeout(PATIENCE, one.ready()).await.unwrap();
        let key = create(&one, "here").await;
        eventually("it is refused", || other.status().refused.len() == 1).await;
        assert!(read(&other, &key).await.is_err());
        assert_eq!(one.status().members.len(), 1);
    });
}

#[tokio::test]
async fn a_local_acknowledgement_waits_for_no_node() {
    in_time(async || {
        let one = describe("node1", &[]).ack(Ack::Local).start();
        let one = one.await.unwrap();
        let (two, stop) = stoppable("node2", one.local_addr()).await;
        settled(&one, 2).await;
        settled(&two, 2).await;
        let stopping = Instant::now();
        let go_on = stand_still(stop).await;
        let key = create(&one, "here").await;
        // A write that waits is answered when the other node is declared down, after two seconds.
        if stopping.elapsed() > STILL_A_MEMBER {
            return None;
        }
        assert_eq!(one.status().members.len(), 2);
        go_on.send(()).unwrap();
        reads(&two, &key, Some("here")).await;
        Some(())
    })
    .await;
}

#[tokio::test]
async fn too_few_nodes_refuse_to_write() {
    let store = describe("node1", &[]).min_copies(2).start().await.unwrap();
    timeout(PATIENCE, store.ready()).await.unwrap();
    let changes = Changes::create(SecretHash::from_bytes([1; 16]), Some(HOUR), HOUR);
    let refused = store.commit(&store.new_id().key(), None, changes).await;
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Unavailable);
}

/// Otherwise every write would end as indeterminate.
#[tokio::test]
async fn more_copies_are_not_required_than_are_kept() {
    let two = Copies::count(2).unwrap();
    let refused = describe("node1", &[]).copies(two).min_copies(3).start();
    let error = refused.await.unwrap_err();
    assert_eq!(error.kind(), SetupErrorKind::Copies);
    assert_eq!(error.to_string(), "min_copies(3) is more than 2 copies");
    let store = describe("node1", &[]).copies(two).min_copies(2).start();
    store.await.unwrap();
}

#[tokio::test]
async fn fewer_acknowledgements_than_asked_for_are_counted() {
    let ack = Ack::Copies(2.try_into().unwrap());
    let store = describe("node1", &[]).ack(ack).start().await.unwrap();
    timeout(PATIENCE, store.ready()).await.unwrap();
    create(&store, "here").await;
    assert_eq!(store.status().degraded_acks, 1);
}

/// 33, A-12.
#[test]
fn large_sessions_are_replicated_and_larger_ones_refused() {
    undisturbed(4, async || {
        let [one, two] = cluster(["node1", "node2"]).await;
        let large = "x".repeat(16 << 20);
        let key = create(&one, &large).await;
        assert!(read(&two, &key).await.unwrap().as_deref() == Some(&*large));

        let base = two.load(&key, None).await.unwrap().into_live();
        let mut changes = Changes::default();
        changes.insert("b".into(), Value::from_bytes(large.as_bytes()));
        let refused = two.commit(&key, base.as_ref(), changes).await;
        assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::TooLarge);

        let mut changes = Changes::default();
        changes.remove("x".repeat(257).as_str().into());
        let refused = two.commit(&key, base.as_ref(), changes).await;
        assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::TooLarge);
    });
}

/// What no other node would accept is refused before it is stored, and breaks no link.
#[test]
fn more_attributes_than_other_nodes_accept_are_refused() {
    undisturbed(4, async || {
        let [one, two] = cluster(["node1", "node2"]).await;
        let key = create(&one, "1").await;
        let fill = |count: usize| {
            let mut changes = Changes::default();
            for number in 0..count {
                let name = format!("a{number}");
                changes.insert(name.as_str().into(), Value::from_bytes(*b"1"));
            }
            changes
        };
        let base = one.load(&key, None).await.unwrap().into_live().unwrap();
        let refused = one.commit(&key, Some(&base), fill(1 << 15)).await;
        assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::TooLarge);
        let outcome = one.commit(&key, Some(&base), fill((1 << 15) - 1)).await;
        assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
        let found = two.load(&key, None).await.unwrap().into_live().unwrap();
        assert_eq!(found.attributes().count(), 1 << 15);
        assert_eq!(one.status().members.len(), 2);
    });
}

#[tokio::test]
async fn a_node_that_cannot_start_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let node = || ReplicatedStore::builder("node1").bind("127.0.0.1:0");
    let cases = [
        (node().bind(taken.as_str()), SetupErrorKind::Listen, "taken"),
        (
            node().bind("0.0.0.0:0"),
            SetupErrorKind::NotLoopback,
            "127.0.0.1",
        ),
        (
            node().advertise("192.0.2.1:4000"),
            SetupErrorKind::NotLoopback,
            "192.0.2.1",
        ),
        (
            node().peer("192.0.2.1:4000"),
            SetupErrorKind::NotLoopback,
            "192.0.2.1",
        ),
        (node().bind("4000"), SetupErrorKind::Node, "host:port"),
        (node().peer("localhost"), SetupErrorKind::Node, "host:port"),
        (
            node().peer("localhost:0"),
            SetupErrorKind::Node,
            "host:port",
        ),
        (node().cluster_name(""), SetupErrorKind::Node, "cluster"),
        (
            ReplicatedStore::builder("node.1"),
            SetupErrorKind::Node,
            "letters",
        ),
        (
            ReplicatedStore::builder(""),
            SetupErrorKind::Node,
            "letters",
        ),
    ];
    for (node, kind, advice) in cases {
        let error = node.start().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(advice), "{error}");
    }
}

#[tokio::test]
async fn nodes_take_the_first_free_ports_by_themselves() {
    let one = ReplicatedStore::builder("node1").start().await.unwrap();
    let two = ReplicatedStore::builder("node2").start().await.unwrap();
    let ports = [one, two].map(|node| node.local_addr().port());
    assert!(
        ports.iter().all(|port| (4000..=4100).contains(port)),
        "{ports:?}"
    );
    assert_ne!(ports[0], ports[1]);
}
