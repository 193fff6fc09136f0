//! The shop on every store and on two nodes.

use axum::Router;
use distributable::{MemoryStore, RedisStore, SessionStore, SnapshotStore};

use crate::common::{Scratch, redis};
use crate::replicas::{describe, settled};
use crate::visitor::{Visitor, node};

/// A visit to two nodes that share a store, or to one.
async fn visit([one, two]: [&Router; 2]) {
    let mut ann = Visitor::new("Firefox");
    ann.submit(one, "/cart", "tea=assam").await;
    ann.submit(two, "/cart", "tea=sencha").await;
    ann.submit(one, "/login", "name=ann&password=apple").await;
    let mut phone = Visitor::logged_in(two, "Safari", "ann", "apple").await;
    let mut page = phone.events(one).await;
    page.expect("cart", "0").await;
    let counts = (ann.cart(one).await, ann.cart(two).await);
    assert_eq!(counts, ("2".to_owned(), "2".to_owned()));
    assert_eq!([ann.devices(one).await, phone.devices(two).await], [2, 2]);
    ann.submit(two, "/account/others", "").await;
    page.expect("end", "0").await;
    assert!(phone.page(one, "/account").await.contains("Log in first."));
    assert_eq!(ann.devices(one).await, 1);
    let page = ann.submit(two, "/order", "").await;
    assert!(page.contains("Thank you!"), "{page}");
    assert_eq!(ann.cart(one).await, "0");
}

async fn visit_one<S: SessionStore + Clone>(store: S) {
    let shop = node("node1", store);
    visit([&shop, &shop]).await;
}

#[tokio::test]
async fn the_shop_works_with_sessions_in_memory() {
    visit_one(MemoryStore::new()).await;
}

#[tokio::test]
async fn a_restart_with_a_file_keeps_cart_and_login() {
    let folder = Scratch::new();
    let open = async || {
        let file = SnapshotStore::builder(folder.path().join("sessions"));
        file.open(MemoryStore::new()).await.unwrap()
    };
    let store = open().await;
    visit_one(store.clone()).await;
    let shop = node("node1", store.clone());
    let mut ann = Visitor::logged_in(&shop, "Firefox", "ann", "apple").await;
    ann.submit(&shop, "/cart", "tea=assam").await;
    let devices = ann.devices(&shop).await;
    drop(shop);
    store.save().await.unwrap();
    drop(store);
    let shop = node("node1", open().await);
    assert_eq!(ann.cart(&shop).await, "1");
    assert_eq!(ann.devices(&shop).await, devices);
}

#[tokio::test]
async fn two_nodes_share_sessions_in_redis() {
    let server = redis::Server::start(&[]);
    let open = || RedisStore::builder(server.url()).build().unwrap();
    let nodes = [node("node1", open()), node("node2", open())];
    visit([&nodes[0], &nodes[1]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicated_nodes_share_sessions_and_one_goes_on_without_the_other() {
    let one = describe("node1").start().await.unwrap();
    let peer = one.local_addr().to_string();
    let two = describe("node2").peer(peer).start().await.unwrap();
    settled(&one, 2).await;
    settled(&two, 2).await;
    let [first, second] = [node("node1", one.clone()), node("node2", two.clone())];
    visit([&first, &second]).await;

    let mut ann = Visitor::logged_in(&first, "Firefox", "ann", "apple").await;
    ann.submit(&first, "/cart", "tea=assam").await;
    let devices = ann.devices(&first).await;
    drop((first, one));
    assert_eq!(ann.cart(&second).await, "1");
    assert_eq!(ann.devices(&second).await, devices);
    let page = ann.submit(&second, "/cart", "tea=mint").await;
    assert!(page.contains("Ann’s devices"), "{page}");
    assert_eq!(ann.cart(&second).await, "2");
}
