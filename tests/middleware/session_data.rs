//! Attributes as arguments of handlers: `SessionData` and `SessionDataMut`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use distributable::{
    Attribute, Session, SessionAttribute, SessionData, SessionDataMut, SessionError,
    SessionErrorKind, StoreError,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tower_http::catch_panic::CatchPanicLayer;

use super::support::*;

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
struct Cart {
    items: Vec<String>,
}

impl SessionAttribute for Cart {
    const ATTRIBUTE: Attribute<Self> = Attribute::new("cart");
}

#[derive(Default, Deserialize, Serialize)]
#[serde(transparent)]
struct Visits(u32);

impl SessionAttribute for Visits {
    const ATTRIBUTE: Attribute<Self> = Attribute::new("visits");
}

#[derive(Deserialize)]
struct Item {
    item: String,
}

async fn add(mut cart: SessionDataMut<Cart>, Query(item): Query<Item>) -> String {
    cart.items.push(item.item);
    cart.items.len().to_string()
}

async fn list(SessionData(cart): SessionData<Cart>) -> String {
    cart.items.join(",")
}

async fn list_if_any(cart: Option<SessionData<Cart>>) -> String {
    let none = || "none".to_owned();
    cart.map_or_else(none, |cart| cart.items.join(","))
}

/// The application's own answer in place of the rejection.
struct MyCart(Cart);

impl<S: Sync> FromRequestParts<S> for MyCart {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match <SessionData<Cart> as FromRequestParts<S>>::from_request_parts(parts, state).await {
            Ok(SessionData(cart)) => Ok(Self(cart)),
            Err(error) if error.kind() == SessionErrorKind::NoAttribute => {
                Err(Redirect::to("/shop").into_response())
            }
            Err(error) => Err(error.into_response()),
        }
    }
}

fn shop() -> Router {
    routes()
        .route("/add", get(add))
        .route("/list", get(list))
        .route("/list_if_any", get(list_if_any))
        .route("/mine", get(async |MyCart(cart)| cart.items.join(",")))
        .route(
            "/touchy",
            get(async |mut cart: SessionDataMut<Cart>| cart.items.clear()),
        )
        .route(
            "/look",
            get(async |cart: SessionDataMut<Cart>| cart.items.join(",")),
        )
}

#[tokio::test]
async fn an_attribute_is_read_and_its_absence_has_a_type() {
    let store = Spy::new();
    let app = shop().layer(layer(&store));
    let mut browser = Browser::new();
    for path in ["/set?k=other&v=1", "/none"] {
        let reply = browser.get(&app, "/list").await;
        assert_eq!(reply.status, StatusCode::CONFLICT);
        assert_eq!(reply.body, "the session has no such attribute: \"cart\"");
        assert_eq!(browser.get(&app, "/list_if_any").await.ok().body, "none");
        let reply = browser.get(&app, "/mine").await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER);
        browser.get(&app, path).await.ok();
    }
    browser.get(&app, "/add?item=tea").await.ok();
    for path in ["/list", "/list_if_any", "/mine", "/look"] {
        assert_eq!(browser.get(&app, path).await.ok().body, "tea", "{path}");
    }
    // Neither another type under the name nor a failure of the store is an absent attribute.
    browser.get(&app, "/set?k=cart&v=text").await.ok();
    store.break_only("load", down);
    for (status, repairs) in [(503, false), (500, true)] {
        if repairs {
            store.repair();
        }
        for path in ["/list", "/list_if_any", "/mine", "/look"] {
            let reply = browser.get(&app, path).await;
            assert_eq!(reply.status.as_u16(), status, "{path}");
        }
    }
}

#[tokio::test]
async fn only_a_change_is_stored() {
    let store = Spy::new();
    let app = shop().layer(layer(&store));
    let mut browser = Browser::new();
    for path in ["/look", "/touchy"] {
        browser.get(&app, path).await.ok().assert_no_cookie();
    }
    assert_eq!((store.sessions(), store.commits.get()), (0, 0));
    assert_eq!(browser.get(&app, "/add?item=tea").await.ok().body, "1");
    assert_eq!(browser.get(&app, "/add?item=milk").await.ok().body, "2");
    assert_eq!(store.commits.get(), 2);
    browser.get(&app, "/look").await.ok();
    assert_eq!(store.commits.get(), 2);
    browser.get(&app, "/touchy").await.ok();
    browser.get(&app, "/touchy").await.ok();
    assert_eq!(store.commits.get(), 3);
    assert_eq!(browser.get(&app, "/list").await.ok().body, "");
}

/// Each request reads before any of them writes.
#[tokio::test]
async fn of_two_requests_that_read_the_same_value_one_stores_all_and_the_other_nothing() {
    let store = Spy::new();
    let (reading, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let handler = {
        let (reading, go) = (reading.clone(), go.clone());
        async move |mut cart: SessionDataMut<Cart>, session: Session, Query(item): Query<Item>| {
            let go = go.notified();
            reading.fetch_add(1, Ordering::SeqCst);
            go.await;
            session.insert(&item.item, &true)?;
            cart.items.push(item.item);
            Ok::<_, SessionError>(())
        }
    };
    let app = shop().route("/slow", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/add?item=tea").await.ok();
    let requests: Vec<_> = (0..10)
        .map(|n| {
            let (app, mut browser) = (app.clone(), browser.clone());
            tokio::spawn(async move {
                let reply = browser.get(&app, &format!("/slow?item=item{n}")).await;
                (n, reply)
            })
        })
        .collect();
    eventually(|| reading.load(Ordering::SeqCst) == 10).await;
    go.notify_waiters();
    let mut stored = vec!["tea".to_owned()];
    for request in requests {
        let (n, reply) = request.await.unwrap();
        reply.assert_no_cookie();
        let is_stored = reply.status == StatusCode::OK;
        if is_stored {
            stored.push(format!("item{n}"));
        } else {
            assert_eq!(reply.status, StatusCode::CONFLICT);
            assert_eq!(
                reply.body,
                "other requests have changed this session attribute"
            );
        }
        let reply = browser.get(&app, &format!("/has?k=item{n}")).await;
        assert_eq!(reply.body, is_stored.to_string());
    }
    assert_eq!(stored.len(), 2);
    assert_eq!(browser.get(&app, "/list").await.body, stored.join(","));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answered_change_of_concurrent_requests_is_there() {
    let store = Spy::new();
    store.load_pauses.store(3, Ordering::SeqCst);
    let nodes = ["node1", "node2"].map(|_| shop().layer(layer(&store)));
    let mut browser = Browser::new();
    browser.get(&nodes[0], "/add?item=tea").await.ok();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (mut browser, app) = (browser.clone(), nodes[client % 2].clone());
            tokio::spawn(async move {
                let mut answered = Vec::new();
                for n in 0..50 {
                    let item = format!("{client}-{n}");
                    let reply = browser.get(&app, &format!("/add?item={item}")).await;
                    match reply.status {
                        StatusCode::OK => answered.push(item),
                        status => assert_eq!(status, StatusCode::CONFLICT),
                    }
                }
                answered
            })
        })
        .collect();
    let mut answered = vec!["tea".to_owned()];
    for client in clients {
        answered.extend(client.await.unwrap());
    }
    let list = browser.get(&nodes[1], "/list").await.ok().body;
    let mut stored: Vec<_> = list.split(',').map(str::to_owned).collect();
    stored.sort();
    answered.sort();
    assert_eq!(stored, answered);
}

#[tokio::test]
async fn two_attributes_in_one_handler_are_both_stored() {
    let store = Spy::new();
    let handler = async |mut cart: SessionDataMut<Cart>,
                         mut visits: SessionDataMut<Visits>,
                         session: Session| {
        visits.0 += 1;
        cart.items.push(visits.0.to_string());
        session.insert("other", &visits.0)
    };
    let app = shop().route("/both", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    for n in 1..=3_u32 {
        browser.get(&app, "/both").await.ok();
        let key = store.ids.lock().unwrap()[0].key();
        let record = find(&store, &key).await;
        for (name, value) in [("visits", n.to_string()), ("other", n.to_string())] {
            assert_eq!(
                record
                    .get(name)
                    .unwrap()
                    .decode::<u32>()
                    .unwrap()
                    .to_string(),
                value
            );
        }
        assert_eq!(
            record
                .get("cart")
                .unwrap()
                .decode::<Cart>()
                .unwrap()
                .items
                .len(),
            n as usize
        );
    }
}

/// Nothing is left of the condition then.
#[tokio::test]
async fn a_changed_value_may_be_removed_before_it_is_stored() {
    let store = Spy::new();
    let handler = async |mut cart: SessionDataMut<Cart>, session: Session| {
        cart.items.push("rum".to_owned());
        drop(cart);
        session.remove(Cart::ATTRIBUTE)?;
        session.save().await?;
        session
            .update("n", |n: Option<u32>| n.unwrap_or(0) + 1)
            .await
            .map(drop)
    };
    let app = shop().route("/removes", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    for n in 1..=2 {
        browser.get(&app, "/removes").await.ok();
        assert_eq!(browser.get(&app, "/list_if_any").await.body, "none");
        browser.get(&app, "/add?item=tea").await.ok();
        assert_eq!(browser.get(&app, "/update").await.body, (2 * n).to_string());
    }
}

/// Each of two attributes is stored only if it is as it was read, in either order.
#[tokio::test]
async fn of_two_changed_values_neither_replaces_what_another_request_has_written() {
    for (path, cart, visits) in [("/add?item=milk", "milk", 2), ("/visit", "", 11)] {
        let store = Spy::new();
        let visit = async |mut visits: SessionDataMut<Visits>| visits.0 += 10;
        let others = shop()
            .route("/visit", get(visit))
            .route(
                "/visits",
                get(async |SessionData(visits): SessionData<Visits>| visits.0.to_string()),
            )
            .layer(layer(&store));
        let mut browser = Browser::new();
        let first = async |mut visits: SessionDataMut<Visits>| visits.0 = 1;
        let first = Router::new()
            .route("/first", get(first))
            .layer(layer(&store));
        browser.get(&first, "/first").await.ok();
        let (other, app) = (browser.clone(), others.clone());
        let both = async move |mut cart: SessionDataMut<Cart>,
                               mut visits: SessionDataMut<Visits>| {
            other.clone().get(&app, path).await.ok();
            cart.items.push("rum".to_owned());
            visits.0 += 1;
        };
        let app = Router::new().route("/both", get(both)).layer(layer(&store));
        let reply = browser.get(&app, "/both").await;
        assert_eq!(reply.status, StatusCode::CONFLICT, "{path}");
        let list = browser.get(&others, "/list_if_any").await.body;
        assert_eq!(list.replace("none", ""), cart, "{path}");
        // The one whose condition holds may be stored first.
        let left: u32 = browser.get(&others, "/visits").await.body.parse().unwrap();
        assert!(
            left == visits || path.starts_with("/add") && left == 1,
            "{path}: {left}"
        );
    }
}

/// The update is computed from the changed value, so it is no other write.
#[tokio::test]
async fn a_changed_value_may_be_updated_before_it_is_stored() {
    let store = Spy::new();
    let handler = async |mut cart: SessionDataMut<Cart>, session: Session| {
        cart.items.push("rum".to_owned());
        drop(cart);
        let add =
            |cart: &mut Option<Cart>| cart.as_mut().map(|cart| cart.items.push("milk".to_owned()));
        session.update_with(Cart::ATTRIBUTE, add).await.map(drop)
    };
    let app = shop().route("/updates", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    // A new session, and one that is stored.
    for list in ["rum,milk", "rum,milk,rum,milk"] {
        browser.get(&app, "/updates").await.ok();
        assert_eq!(browser.get(&app, "/list").await.body, list);
    }
}

#[tokio::test]
async fn a_handler_that_writes_the_attribute_in_two_ways_is_refused() {
    let store = Spy::new();
    let inserts = async |mut cart: SessionDataMut<Cart>, session: Session| {
        session.insert(
            Cart::ATTRIBUTE,
            &Cart {
                items: vec!["milk".to_owned()],
            },
        )?;
        cart.items.push("rum".to_owned());
        Ok::<_, SessionError>(())
    };
    let updates = async |mut cart: SessionDataMut<Cart>, session: Session| {
        session
            .update_with(Cart::ATTRIBUTE, |cart| *cart = None)
            .await?;
        cart.items.push("rum".to_owned());
        Ok::<_, SessionError>(())
    };
    let twice = async |mut cart: SessionDataMut<Cart>, mut again: SessionDataMut<Cart>| {
        cart.items.push("rum".to_owned());
        again.items.push("milk".to_owned());
    };
    // Not at the same time: the second one sees what the first one has left.
    let in_turn = async |session: Session, request: axum::extract::Request| {
        let (parts, _) = request.into_parts();
        session.insert(
            Cart::ATTRIBUTE,
            &Cart {
                items: vec!["milk".to_owned()],
            },
        )?;
        for item in ["rum", "salt"] {
            let mut cart = SessionDataMut::<Cart>::from_parts(&parts).await?;
            cart.items.push(item.to_owned());
            drop(cart);
            assert!(
                session
                    .get(Cart::ATTRIBUTE)?
                    .unwrap()
                    .items
                    .contains(&item.to_owned())
            );
        }
        session.save().await?;
        let mut cart = SessionDataMut::<Cart>::from_parts(&parts).await?;
        cart.items.push("last".to_owned());
        Ok::<_, SessionError>(())
    };
    let app = shop()
        .route("/inserts", get(inserts))
        .route("/updates", get(updates))
        .route("/twice", get(twice))
        .route("/in_turn", get(in_turn))
        .layer(layer(&store));
    let mut browser = Browser::new();
    for (path, left) in [("/inserts", "tea"), ("/updates", "none"), ("/twice", "tea")] {
        browser.get(&app, "/touchy").await.ok();
        browser.get(&app, "/add?item=tea").await.ok();
        assert_eq!(
            browser.get(&app, path).await.status,
            StatusCode::CONFLICT,
            "{path}"
        );
        assert_eq!(browser.get(&app, "/list_if_any").await.body, left, "{path}");
    }
    browser.get(&app, "/in_turn").await.ok();
    assert_eq!(browser.get(&app, "/list").await.body, "milk,rum,salt,last");
}

#[tokio::test]
async fn what_ends_before_the_value_is_dropped_drops_it() {
    let store = Spy::new();
    let logout = async |mut cart: SessionDataMut<Cart>, session: Session| {
        cart.items.push("rum".to_owned());
        session.invalidate().await.map(drop)
    };
    let panics = async |mut cart: SessionDataMut<Cart>| {
        cart.items.clear();
        if !cart.items.is_empty() {
            return "";
        }
        panic!("half way");
    };
    let app = shop()
        .route("/leave", get(logout))
        .route("/panics", get(panics))
        .layer(CatchPanicLayer::new())
        .layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/add?item=tea").await.ok();
    let reply = browser.get(&app, "/panics").await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(browser.get(&app, "/list").await.body, "tea");
    let old = browser.clone();
    browser.get(&app, "/leave").await.ok();
    assert_eq!((&browser.cookie, store.sessions()), (&None, 0));

    // Another request ends the session while this one holds its value.
    let (held, go) = (Flag::default(), Flag::default());
    let (holds, goes) = (held.clone(), go.clone());
    let slow = async move |mut cart: SessionDataMut<Cart>| {
        holds.raise();
        eventually(|| goes.is_raised()).await;
        cart.items.push("rum".to_owned());
    };
    let app = shop().route("/slow", get(slow)).layer(layer(&store));
    browser.get(&app, "/add?item=tea").await.ok();
    let (mut other, router) = (browser.clone(), app.clone());
    let request = tokio::spawn(async move { other.get(&router, "/slow").await });
    eventually(|| held.is_raised()).await;
    browser.get(&app, "/logout").await.ok();
    go.raise();
    let reply = request.await.unwrap();
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert_eq!(reply.body, "the session has ended meanwhile");
    assert_eq!(store.sessions(), 0);
    assert_eq!(old.clone().get(&app, "/list_if_any").await.body, "none");
}

#[tokio::test]
async fn a_value_that_cannot_be_stored_is_an_error_of_the_response() {
    let store = Spy::new();
    let grows = async |mut cart: SessionDataMut<Cart>, session: Session| {
        cart.items.push("x".repeat(1_000));
        session.insert("other", &1)
    };
    // The handler may have the error instead.
    let saves = async |mut cart: SessionDataMut<Cart>, session: Session| {
        cart.items.push("x".repeat(1_000));
        drop(cart);
        let refused = session.save().await.unwrap_err();
        refused.status().as_u16().to_string()
    };
    let limits = distributable::Limits::default().with_attribute_bytes(100);
    let app = shop()
        .route("/grows", get(grows))
        .route("/saves", get(saves))
        .layer(layer(&store).with_limits(limits));
    let mut browser = Browser::new();
    browser.get(&app, "/add?item=tea").await.ok();
    let reply = browser.get(&app, "/grows").await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(browser.get(&app, "/has?k=other").await.body, "false");
    assert_eq!(browser.get(&app, "/saves").await.ok().body, "413");
    assert_eq!(browser.get(&app, "/list").await.body, "tea");
}

/// The condition stays with the value until it is stored.
#[tokio::test]
async fn a_save_that_fails_keeps_the_condition() {
    for is_doubtful in [false, true] {
        let store = Spy::new();
        let (failed, go) = (Flag::default(), Flag::default());
        let handler = {
            let (store, failed, go) = (store.clone(), failed.clone(), go.clone());
            async move |mut cart: SessionDataMut<Cart>, session: Session| {
                cart.items.push("rum".to_owned());
                drop(cart);
                if !is_doubtful {
                    store.break_only("commit", down);
                }
                assert!(session.save().await.is_err());
                store.repair();
                failed.raise();
                eventually(|| go.is_raised()).await;
            }
        };
        let app = shop().route("/saves", get(handler)).layer(layer(&store));
        let mut browser = Browser::new();
        browser.get(&app, "/add?item=tea").await.ok();
        let (mut other, router) = (browser.clone(), app.clone());
        if is_doubtful {
            store.doubt_once(|| StoreError::indeterminate("no answer"));
        }
        let request = tokio::spawn(async move { other.get(&router, "/saves").await });
        eventually(|| failed.is_raised()).await;
        let before = browser.get(&app, "/list").await.body;
        assert_eq!(before, if is_doubtful { "tea,rum" } else { "tea" });
        browser.get(&app, "/add?item=milk").await.ok();
        go.raise();
        assert_eq!(request.await.unwrap().status, StatusCode::CONFLICT);
        assert_eq!(browser.get(&app, "/list").await.body, before + ",milk");
    }
}

#[tokio::test]
async fn a_value_that_outlives_the_response_is_not_stored_and_the_log_says_so() {
    let log = super::privacy::Log::default();
    let _listening = log.listen();
    let store = Spy::new();
    let shelf = Arc::new(Mutex::new(None));
    let keep = shelf.clone();
    let keeps = async move |mut cart: SessionDataMut<Cart>| {
        cart.items.push("rum".to_owned());
        *keep.lock().unwrap() = Some(cart);
    };
    let app = shop().route("/keeps", get(keeps)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/add?item=tea").await.ok();
    browser.get(&app, "/keeps").await.ok();
    let late = shelf.lock().unwrap().take().unwrap();
    assert_eq!(
        format!("{late:?}"),
        r#"SessionDataMut(Cart { items: ["tea", "rum"] })"#
    );
    drop(late);
    assert_eq!(browser.get(&app, "/list").await.body, "tea");
    let text = log.text();
    assert!(
        text.contains("changed too late") && text.contains("attribute=\"cart\""),
        "{text}"
    );

    // A request that is cut off loses its changes without an error, as any other write.
    let pending = async move |mut cart: SessionDataMut<Cart>| {
        cart.items.push("rum".to_owned());
        std::future::pending::<()>().await;
    };
    let app = shop().route("/pending", get(pending)).layer(layer(&store));
    let request = tokio::spawn(send_owned(app.clone(), browser.request("/pending")));
    tokio::task::yield_now().await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    assert_eq!(browser.get(&app, "/list").await.body, "tea");
    assert_eq!(log.text().matches("changed too late").count(), 1);
}

async fn send_owned(app: Router, request: Request<Body>) -> Reply {
    send(&app, request).await
}
