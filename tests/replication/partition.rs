//! Partitions, in which connections stay open and carry nothing.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use distributable::session::{Changes, Outcome, Value};
use distributable::{ReplicatedStore, Root, SessionStore};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{create, describe, read, reads, settled};

/// A way to a node, which can be cut: then nothing gets through, and both ends stay open.
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    pub(crate) target: watch::Sender<Option<SocketAddr>>,
    /// How many connections have gone over it.
    pub(crate) carried: Arc<AtomicUsize>,
    cut: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Way {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, to) = watch::channel(None);
        let (cut, is_cut) = watch::channel(false);
        let mut task = JoinSet::new();
        let carried = Arc::<AtomicUsize>::default();
        task.spawn(forward(listener, to, is_cut, carried.clone()));
        Self {
            address,
            target,
            carried,
            cut,
            _task: task,
        }
    }
}

async fn forward(
    listener: TcpListener,
    target: watch::Receiver<Option<SocketAddr>>,
    cut: watch::Receiver<bool>,
    carried: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        carried.fetch_add(1, Relaxed);
        let (mut cut, target) = (cut.clone(), *target.borrow());
        connections.spawn(async move {
            let mut through = pin!(async {
                if let Some(target) = target
                    && let Ok(mut far) = TcpStream::connect(target).await
                {
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                }
            });
            let cut = async move {
                let _ = cut.wait_for(|cut| *cut).await;
            };
            tokio::select! {
                biased;
                // A connection that was cut never recovers, and its ends are not closed.
                () = cut => pending().await,
                () = &mut through => {}
            }
        });
    }
}

/// A node that is reached only by the way to it.
async fn behind(way: &Way, name: &str, peers: &[&Way]) -> ReplicatedStore {
    let peers: Vec<_> = peers.iter().map(|way| way.address).collect();
    let node = describe(name, &peers).advertise(way.address.to_string());
    let node = node.start().await.unwrap();
    way.target.send_replace(Some(node.local_addr()));
    node
}

async fn set(store: &ReplicatedStore, key: &Root, name: &str) {
    let base = store.load(key, None).await.unwrap().into_live();
    let mut changes = Changes::default();
    changes.insert(name.into(), Value::from_bytes(*b"set"));
    let outcome = store.commit(key, base.as_ref(), changes).await;
    assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
}

/// 58, K-05, K-06, K-07.
#[tokio::test]
async fn both_sides_of_a_partition_serve_and_agree_when_it_is_over() {
    let ways = [Way::new().await, Way::new().await];
    let one = behind(&ways[0], "node1", &[]).await;
    let two = behind(&ways[1], "node2", &[&ways[0]]).await;
    settled(&one, 2).await;
    settled(&two, 2).await;
    let key = create(&one, "before").await;
    let ended = create(&two, "before").await;

    for way in &ways {
        way.cut.send_replace(true);
    }
    settled(&one, 1).await;
    settled(&two, 1).await;
    set(&one, &key, "one").await;
    set(&two, &key, "two").await;
    set(&one, &key, "both").await;
    set(&two, &key, "both").await;
    assert!(one.delete(&ended).await.unwrap());
    set(&two, &ended, "late").await;

    let healed = Instant::now();
    for way in &ways {
        way.cut.send_replace(false);
    }
    settled(&one, 2).await;
    settled(&two, 2).await;
    let took = healed.elapsed();
    println!("the nodes met again after {took:?}");
    assert!(took < MET_WITHIN, "{took:?}");
    for store in [&one, &two] {
        reads(store, &key, Some("before")).await;
        let record = store.load(&key, None).await.unwrap().into_live().unwrap();
        assert!(record.get("one").is_some() && record.get("two").is_some());
        assert_eq!(read(store, &ended).await.unwrap(), None);
    }
    // The node that merges second may find that the first has done so already.
    let discarded = [&one, &two].map(|store| store.status().discarded_writes);
    assert!(
        discarded.contains(&1) && discarded.iter().all(|n| *n <= 1),
        "{discarded:?}"
    );
}

/// 58.
#[tokio::test]
async fn members_do_not_come_and_go_while_one_direction_is_dead() {
    let ways = [Way::new().await, Way::new().await];
    let one = behind(&ways[0], "node1", &[]).await;
    let two = behind(&ways[1], "node2", &[&ways[0]]).await;
    settled(&one, 2).await;
    settled(&two, 2).await;

    ways[1].cut.send_replace(true);
    settled(&one, 1).await;
    settled(&two, 1).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) {
        assert_eq!(one.status().members.len(), 1);
        assert_eq!(two.status().members.len(), 1);
        sleep(Duration::from_millis(5)).await;
    }
    let key = create(&one, "alone").await;

    ways[1].cut.send_replace(false);
    settled(&one, 2).await;
    settled(&two, 2).await;
    reads(&two, &key, Some("alone")).await;
}

/// A quarantine of four seconds, three seconds until the next attempt to reach a member that is
/// down and two for a handshake without an answer may follow each other, on a busy machine.
const MET_WITHIN: Duration = Duration::from_secs(30);
