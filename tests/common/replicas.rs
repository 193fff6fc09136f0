//! Nodes of a replicated store in the test's process, over real connections.

#![allow(dead_code, reason = "every test binary uses its own part of this")]

use std::net::SocketAddr;
use std::time::Duration;

use distributable::session::{Changes, Outcome, SecretHash, Value};
use distributable::store::{MemberState, ReplicatedStoreBuilder, Secret};
use distributable::{ReplicatedStore, Root, SessionStore, StoreError};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// The time limit for all waits on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Held by tests that need most of the machine, so that they do not starve each other: a node that
/// is not scheduled for too long has to join again.
pub(crate) static MACHINE: Mutex<()> = Mutex::const_new(());

/// A secret; different numbers give different secrets.
pub(crate) fn secret(number: u8) -> Secret {
    let bytes: Vec<u8> = (0..32).map(|i| i ^ number).collect();
    Secret::from_bytes(bytes).unwrap()
}

/// A node on a free loopback port.
pub(crate) fn describe(name: &str) -> ReplicatedStoreBuilder {
    ReplicatedStore::builder(name).bind("127.0.0.1:0")
}

/// A node on a free loopback port with secret 1 and these peers.
pub(crate) fn describe_secure(name: &str, peers: &[SocketAddr]) -> ReplicatedStoreBuilder {
    let node = describe(name).secret(secret(1));
    let peers = peers.iter().map(SocketAddr::to_string);
    peers.fold(node, ReplicatedStoreBuilder::peer)
}

pub(crate) async fn secure(name: &str, peers: &[SocketAddr]) -> ReplicatedStore {
    describe_secure(name, peers).start().await.unwrap()
}

/// Two nodes with secret 1 that serve and are connected.
pub(crate) async fn secure_pair() -> [ReplicatedStore; 2] {
    let one = secure("node1", &[]).await;
    let two = secure("node2", &[one.local_addr()]).await;
    settled(&one, 2).await;
    settled(&two, 2).await;
    [one, two]
}

/// Waits until the node serves, as one of `members`.
pub(crate) async fn settled(node: &ReplicatedStore, members: usize) {
    let what = format!("{} serves with {members}", node.local_addr());
    eventually(&what, || is_settled(node, members)).await;
}

pub(crate) fn is_settled(node: &ReplicatedStore, members: usize) -> bool {
    let status = node.status();
    let ready = |state| state == MemberState::Ready;
    let all = status.members.iter().all(|member| ready(member.state));
    status.complete && all && status.members.len() == members
}

pub(crate) async fn eventually(what: &str, check: impl FnMut() -> bool) {
    within(PATIENCE, what, check).await;
}

/// Panics with `what` when a check that began after the limit fails.
pub(crate) async fn within(limit: Duration, what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    loop {
        let is_late = Instant::now() >= deadline;
        if check() {
            return;
        }
        assert!(!is_late, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The secret of all sessions here.
const SECRET: SecretHash = SecretHash::from_bytes([1; 16]);

/// A new session whose attribute `a` has this value.
pub(crate) async fn create(store: &ReplicatedStore, value: &str) -> Root {
    let key = store.new_id().key();
    try_create(store, &key, value).await.unwrap();
    key
}

pub(crate) async fn try_create(
    store: &ReplicatedStore,
    key: &Root,
    value: &str,
) -> Result<(), StoreError> {
    let mut changes = Changes::create(SECRET, Some(HOUR), HOUR);
    changes.insert("a".into(), Value::from_bytes(value.as_bytes()));
    let outcome = store.commit(key, None, changes).await?;
    assert!(matches!(outcome, Outcome::Committed(_)));
    Ok(())
}

/// The value of the attribute `a`.
pub(crate) async fn read(
    store: &ReplicatedStore,
    key: &Root,
) -> Result<Option<String>, StoreError> {
    let record = store.load(key, None).await?.into_live();
    let value = record.as_ref().and_then(|record| record.get("a"));
    Ok(value.map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()))
}
