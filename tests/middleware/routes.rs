//! Which node the cookie names.

use distributable::{Affinity, Route};

use super::support::*;

fn node_with(store: &Spy, route: &str, affinity: Affinity) -> axum::Router {
    let layer = layer(store).with_route(Route::new(route).unwrap());
    routes().layer(layer.with_affinity(affinity))
}

#[tokio::test]
async fn the_node_that_serves_puts_its_route_into_the_cookie_once() {
    let store = Spy::new();
    let (one, two) = (node(&store, "node1"), node(&store, "node2"));
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    let id = browser.bare();
    let reply = browser.get(&two, "/get?k=a").await.ok();
    assert_eq!(reply.body, "1");
    assert_eq!(reply.cookie_value(), Some(format!("{id}.node2")));
    browser.get(&two, "/get?k=a").await.ok().assert_no_cookie();
    assert_eq!(
        store.commits.get(),
        1,
        "the session is not written for its route"
    );
}

#[tokio::test]
async fn what_the_request_changes_on_the_new_node_is_kept() {
    let store = Spy::new();
    let (one, two) = (node(&store, "node1"), node(&store, "node2"));
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    let reply = browser.get(&two, "/set?k=a&v=2").await.ok();
    assert!(reply.cookie_value().unwrap().ends_with(".node2"));
    assert_eq!(browser.get(&one, "/get?k=a").await.body, "2");
}

#[tokio::test]
async fn nodes_without_routes_never_send_a_cookie_again() {
    let store = Spy::new();
    let (one, two) = (app(&store), app(&store));
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    browser.get(&two, "/get?k=a").await.ok().assert_no_cookie();
    let mut routed = Browser::holding(format!("{}.node9", browser.bare()));
    let reply = routed.get(&two, "/get?k=a").await.ok();
    assert_eq!(reply.body, "1");
    reply.assert_no_cookie();
}

#[tokio::test]
async fn with_affinity_off_the_cookie_stays_as_it_was() {
    let store = Spy::new();
    let one = node_with(&store, "node1", Affinity::Off);
    let two = node_with(&store, "node2", Affinity::Off);
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    let cookie = browser.cookie.clone();
    browser
        .get(&two, "/set?k=a&v=2")
        .await
        .ok()
        .assert_no_cookie();
    assert_eq!(browser.cookie, cookie);
    assert_eq!(browser.get(&one, "/get?k=a").await.body, "2");
}

#[tokio::test]
async fn with_affinity_owner_the_cookie_names_the_owner() {
    let store = Spy::new();
    let one = node_with(&store, "node1", Affinity::Owner);
    let two = node_with(&store, "node2", Affinity::Owner);
    *store.owners.lock().unwrap() = Some("node2");
    let mut browser = Browser::new();
    let reply = browser.get(&one, "/set?k=a&v=1").await.ok();
    assert!(reply.cookie_value().unwrap().ends_with(".node2"));
    browser.get(&one, "/get?k=a").await.ok().assert_no_cookie();
    browser.get(&two, "/get?k=a").await.ok().assert_no_cookie();
    // The owner changes, and the client follows it.
    *store.owners.lock().unwrap() = Some("node1");
    let reply = browser.get(&two, "/get?k=a").await.ok();
    assert!(reply.cookie_value().unwrap().ends_with(".node1"));
    // A store that knows no better: the node that serves.
    *store.owners.lock().unwrap() = None;
    let reply = browser.get(&two, "/get?k=a").await.ok();
    assert!(reply.cookie_value().unwrap().ends_with(".node2"));
    // A store's word is not taken on trust.
    *store.owners.lock().unwrap() = Some("node3; Path=/evil");
    browser.get(&two, "/get?k=a").await.ok().assert_no_cookie();
}

#[tokio::test]
async fn whatever_stands_behind_the_dot_is_compared_and_never_repeated() {
    let store = Spy::new();
    let app = node(&store, "node1");
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let id = browser.bare();
    let long = "x".repeat(4_000);
    for behind in [
        "",
        ".",
        ".node9",
        ".node1.node2",
        "..node1",
        ".Node1",
        ".\"",
        ".a b",
        &long,
    ] {
        let behind = match behind.len() {
            4_000 => format!(".{behind}"),
            _ => behind.to_owned(),
        };
        let mut browser = Browser::holding(format!("{id}{behind}"));
        let reply = browser.get(&app, "/get?k=a").await.ok();
        assert_eq!(reply.body, "1", "{behind}");
        assert_eq!(
            reply.cookie_value(),
            Some(format!("{id}.node1")),
            "{behind}"
        );
        browser.get(&app, "/get?k=a").await.ok().assert_no_cookie();
    }
    let line = [format!("JSESSIONID={id}.").as_bytes(), b"\xff\xfe"].concat();
    let reply = send(&app, request("/get?k=a", &[&line])).await.ok();
    assert_eq!(reply.cookie_value(), Some(format!("{id}.node1")));
}
