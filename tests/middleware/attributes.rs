//! Reading and writing attributes, alone and with others.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use distributable::session::Loaded;
use distributable::{Attribute, Limits, Session, SessionError, SessionErrorKind, SessionStore};
use serde::{Deserialize, Serialize};

use super::support::*;

#[tokio::test]
async fn what_one_node_writes_the_other_reads_replaces_and_removes() {
    let store = Spy::new();
    let (one, two) = (node(&store, "node1"), node(&store, "node2"));
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    assert_eq!(browser.get(&two, "/get?k=a").await.body, "1");
    browser.get(&two, "/set?k=a&v=2").await.ok();
    assert_eq!(browser.get(&one, "/get?k=a").await.body, "2");
    assert_eq!(browser.get(&one, "/remove?k=a").await.body, "true");
    assert_eq!(browser.get(&two, "/has?k=a").await.body, "false");
    assert_eq!(
        browser.get(&two, "/info").await.body,
        "true",
        "the session stays"
    );
}

#[tokio::test]
async fn a_write_leaves_the_other_attributes_alone() {
    let store = Spy::new();
    let (one, two) = (node(&store, "node1"), node(&store, "node2"));
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    browser.get(&one, "/set?k=b&v=1").await.ok();
    browser.get(&two, "/set?k=a&v=2").await.ok();
    assert_eq!(browser.get(&one, "/get?k=a").await.body, "2");
    assert_eq!(browser.get(&one, "/get?k=b").await.body, "1");
    assert_eq!(
        store
            .committed
            .lock()
            .unwrap()
            .last()
            .unwrap()
            .writes()
            .len(),
        1
    );
}

#[tokio::test]
async fn requests_that_write_different_attributes_at_once_are_both_kept() {
    let store = Spy::new();
    let (one, two) = (node(&store, "node1"), node(&store, "node2"));
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=k1&v=1").await.ok();
    let gate = store.close_gate();
    let slow = tokio::spawn({
        let mut browser = browser.clone();
        async move { browser.get(&one, "/set?k=k2&v=1").await }
    });
    eventually(|| store.commits.get() == 2).await;
    let fast = tokio::spawn({
        let (mut browser, two) = (browser.clone(), two.clone());
        async move { browser.get(&two, "/set?k=k3&v=1").await }
    });
    eventually(|| store.commits.get() == 3).await;
    gate.let_through(2);
    slow.await.unwrap().ok();
    fast.await.unwrap().ok();
    for name in ["k1", "k2", "k3"] {
        let reply = browser.get(&two, &format!("/get?k={name}")).await;
        assert_eq!(reply.body, "1", "{name}");
    }
}

#[tokio::test]
async fn a_counter_counts_on_alternating_nodes() {
    let store = Spy::new();
    let nodes = [node(&store, "node1"), node(&store, "node2")];
    let mut browser = Browser::new();
    for n in 1..=20 {
        let reply = browser.get(&nodes[n % 2], "/incr").await.ok();
        assert_eq!(reply.body, n.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_concurrent_updates_count_a_thousand() {
    let store = Spy::new();
    let nodes = [node(&store, "node1"), node(&store, "node2")];
    let mut browser = Browser::new();
    browser.get(&nodes[0], "/set?k=a&v=1").await.ok();
    let clients: Vec<_> = (0..10)
        .map(|i| {
            let (mut browser, app) = (browser.clone(), nodes[i % 2].clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    browser.get(&app, "/update").await.ok();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let reply = browser.get(&nodes[1], "/update").await.ok();
    assert_eq!(reply.body, "1001");
}

#[tokio::test]
async fn an_update_that_is_always_late_gives_up() {
    let store = Spy::new();
    let (app, rival) = (app(&store), app(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/update").await.ok();
    // Whenever f is called, another request writes first.
    let cookie = browser.clone();
    let handler = async move |session: Session| -> Result<String, SessionError> {
        let update = session.update("n", |n: Option<u64>| {
            let (rival, mut browser) = (rival.clone(), cookie.clone());
            let work = async move { browser.get(&rival, "/update").await.ok() };
            std::thread::scope(|scope| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                scope
                    .spawn(|| runtime.unwrap().block_on(work))
                    .join()
                    .unwrap();
            });
            n.unwrap_or(0) + 1
        });
        Ok(update.await?.to_string())
    };
    let app = routes().route("/late", get(handler)).layer(layer(&store));
    let reply = browser.get(&app, "/late").await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert!(!reply.body.is_empty());
}

#[tokio::test]
async fn an_update_sees_what_the_request_has_staged_and_stores_it_too() {
    let handler = async |session: Session| -> Result<(), SessionError> {
        session.insert("n", &40_u64)?;
        session.insert("other", "x")?;
        let n = session
            .update("n", |n: Option<u64>| n.unwrap_or(0) + 2)
            .await?;
        assert_eq!((n, session.get("n")?), (42, Some(42_u64)));
        session.insert("n", &7_u64)
    };
    let store = Spy::new();
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=old&v=1").await.ok();
    let commits = store.commits.get();
    browser.get(&app, "/").await.ok();
    assert_eq!(store.commits.get() - commits, 2);
    assert_eq!(browser.get(&app, "/incr").await.body, "8");
    assert_eq!(browser.get(&app, "/get?k=other").await.body, "x");
}

/// The closure's second result is that of the attempt that was stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_hands_out_each_ticket_once() {
    let take = async |session: Session| -> Result<String, SessionError> {
        let ticket = session.update_with("tickets", |tickets: &mut Option<Vec<u32>>| {
            let left = tickets.as_mut()?;
            let ticket = left.pop();
            if left.is_empty() {
                *tickets = None;
            }
            ticket
        });
        Ok(ticket.await?.map_or_else(String::new, |it| it.to_string()))
    };
    let print = async |session: Session| session.insert("tickets", &Vec::from_iter(0..200_u32));
    let store = Spy::new();
    let app = routes()
        .route("/take", get(take))
        .route("/print", get(print))
        .layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/take").await.ok().assert_no_cookie();
    assert_eq!(store.commits.get(), 0, "nothing has changed");
    browser.get(&app, "/print").await.ok();
    let clients: Vec<_> = (0..5)
        .map(|_| {
            let (mut browser, app) = (browser.clone(), app.clone());
            tokio::spawn(async move {
                let mut taken = Vec::new();
                for _ in 0..40 {
                    let ticket = browser.get(&app, "/take").await.ok().body;
                    taken.push(ticket.parse::<u32>().unwrap());
                }
                taken
            })
        })
        .collect();
    let mut taken = Vec::new();
    for client in clients {
        taken.extend(client.await.unwrap());
    }
    taken.sort_unstable();
    assert_eq!(taken, Vec::from_iter(0..200));
    assert_eq!(browser.get(&app, "/has?k=tickets").await.body, "false");
    let commits = store.commits.get();
    assert_eq!(browser.get(&app, "/take").await.ok().body, "");
    assert_eq!(store.commits.get(), commits);
}

#[tokio::test]
async fn an_update_with_a_result_fails_as_an_update_does_and_changes_nothing() {
    use SessionErrorKind::{Decode, ReservedName, TooLarge};
    let session = Session::for_test();
    session.insert("a", "text").unwrap();
    let kind = |result: Result<(), SessionError>| result.unwrap_err().kind();
    let number = session.update_with("a", |it: &mut Option<u32>| *it = Some(1));
    assert_eq!(kind(number.await), Decode);
    let name = session.update_with("\0a", |it: &mut Option<u32>| *it = None);
    assert_eq!(kind(name.await), ReservedName);
    let large = |it: &mut Option<String>| *it = Some("x".repeat(17 << 20));
    assert_eq!(kind(session.update_with("a", large).await), TooLarge);
    assert_eq!(session.get::<String>("a").unwrap().as_deref(), Some("text"));
}

#[tokio::test]
async fn an_update_makes_a_session_where_there_is_none() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    assert_eq!(browser.get(&app, "/update").await.ok().body, "1");
    assert_eq!(browser.get(&app, "/update").await.ok().body, "2");
    assert_eq!(store.sessions(), 1);
}

/// 29.
#[tokio::test]
async fn writing_what_is_there_already_is_no_write() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    assert_eq!(store.commits.get(), 1);
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/remove?k=b").await.ok();
    assert_eq!(store.commits.get(), 1);
    browser.get(&app, "/set?k=a&v=2").await.ok();
    assert_eq!(store.commits.get(), 2);
}

/// W-02.
#[tokio::test]
async fn removed_names_do_not_count_and_take_no_room() {
    let store = Spy::new();
    let limits = Limits::default().with_attributes(3);
    let replace = async |session: Session, Path(n): Path<u64>| -> Result<(), SessionError> {
        session.insert(format!("state_{n}"), "1")?;
        session.insert(format!("other_{n}"), "1")?;
        session.remove(format!("state_{n}"))?;
        session.insert(format!("state_{n}"), "2")
    };
    let clear = async |session: Session| session.clear();
    let app = routes()
        .route("/replace/{n}", get(replace))
        .route("/clear", get(clear))
        .layer(layer(&store).with_limits(limits));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=kept&v=1").await.ok();
    for n in 0..2_000 {
        browser.get(&app, &format!("/replace/{n}")).await.ok();
        assert_eq!(browser.get(&app, "/set?k=fourth&v=1").await.status, 413);
        browser.get(&app, "/clear").await.ok();
        browser.get(&app, "/set?k=kept&v=1").await.ok();
        if n % 100 == 0 {
            browser.get(&app, "/rotate").await.ok();
        }
    }
    let key = store.ids.lock().unwrap()[0].key();
    let id = store.ids.lock().unwrap()[0];
    let former = store.load(&key, Some(&id.hash())).await.unwrap();
    assert_eq!(former, Loaded::Superseded, "it has rotated");
    assert_eq!(store.sessions(), 1);
    assert!(store.bytes() < 1_024, "{}", store.bytes());
}

/// W-03: the rival writes between the load and the write; then nothing is left of it.
#[tokio::test]
async fn a_write_of_what_was_loaded_is_one_if_another_has_come_between() {
    let store = Spy::new();
    let rival = app(&store);
    let handler =
        async move |session: Session, Path(how): Path<String>| -> Result<(), SessionError> {
            let mut browser = Browser::holding(session.routed_id().unwrap());
            for path in [
                "/set?k=flag&v=off",
                "/set?k=absent&v=1",
                "/remove?k=gone",
                "/ttl?s=99",
            ] {
                browser.get(&rival, path).await.ok();
            }
            session.insert("flag", "on")?;
            session.remove("absent")?;
            session.insert("gone", "here")?;
            session.set_idle_timeout(Some(Duration::from_secs(1800)))?;
            match how.as_str() {
                "save" => session.save().await,
                "update" => session.update("n", |_| 1).await.map(drop),
                "reload" => session.reload().await,
                "mixed" => session.insert("other", "1"),
                "twice" => {
                    session.insert("flag", "off")?;
                    session.insert("flag", "on")
                }
                _ => Ok(()),
            }
        };
    let app = routes()
        .route("/late/{how}", get(handler))
        .layer(layer(&store));
    for how in ["response", "save", "update", "reload", "mixed", "twice"] {
        let mut browser = Browser::new();
        browser.get(&app, "/set?k=flag&v=on").await.ok();
        browser.get(&app, "/set?k=gone&v=here").await.ok();
        browser.get(&app, &format!("/late/{how}")).await.ok();
        for (name, value) in [("flag", "on"), ("absent", ""), ("gone", "here")] {
            let reply = browser.get(&app, &format!("/get?k={name}")).await.ok();
            assert_eq!(reply.body, value, "{how}: {name}");
        }
        let key = store.ids.lock().unwrap().last().unwrap().key();
        let record = find(&store, &key).await;
        let idle = record.idle_timeout();
        assert_eq!(idle, Some(Duration::from_secs(1800)), "{how}");
    }
}

/// W-03.
#[tokio::test]
async fn what_was_loaded_is_not_written_again_beside_other_writes() {
    let store = Spy::new();
    let handler = async |session: Session| -> Result<(), SessionError> {
        session.insert("a", "1")?;
        session.insert("b", "2")
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let key = store.ids.lock().unwrap()[0].key();
    let before = find(&store, &key).await;
    browser.get(&app, "/").await.ok();
    let after = find(&store, &key).await;
    assert_eq!(after.version("a"), before.version("a"));
    assert_eq!(store.commits.get(), 2);
}

/// W-03.
#[tokio::test]
async fn whether_a_write_changes_anything_is_not_guessed_when_the_store_fails() {
    let store = Spy::new();
    let watcher = store.clone();
    let handler = async move |session: Session| -> Result<(), SessionError> {
        watcher.break_only("load", down);
        session.insert("a", "1")
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let reply = browser.get(&app, "/").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    store.repair();

    // Nor when the session has ended.
    let rival = super::support::app(&store);
    let handler = async move |session: Session| -> Result<(), SessionError> {
        let mut browser = Browser::holding(session.routed_id().unwrap());
        browser.get(&rival, "/logout").await.ok();
        session.insert("a", "1")
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let reply = browser.get(&app, "/").await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_write_that_is_taken_back_is_no_write() {
    let handler = async |session: Session| -> Result<(), SessionError> {
        session.insert("a", "2")?;
        session.insert("b", "2")?;
        session.remove("c")?;
        session.remove("b")?;
        session.insert("a", "1")
    };
    let store = Spy::new();
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/").await.ok();
    assert_eq!(store.commits.get(), 1);
}

#[tokio::test]
async fn names_and_clear_see_what_is_staged() {
    let handler = async |session: Session| -> Result<(), SessionError> {
        assert_eq!(session.names(), ["a", "b"]);
        session.remove("a")?;
        session.insert("c", &1)?;
        assert_eq!(session.names(), ["b", "c"]);
        session.clear()?;
        assert!(session.names().is_empty());
        assert!(session.exists());
        session.insert("d", &1)?;
        assert_eq!(session.names(), ["d"]);
        Ok(())
    };
    let app = routes().route("/", get(handler)).layer(layer(&Spy::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/set?k=b&v=1").await.ok();
    browser.get(&app, "/").await.ok();
    assert_eq!(browser.get(&app, "/has?k=b").await.body, "false");
    assert_eq!(browser.get(&app, "/has?k=d").await.body, "true");
}

/// Fails, or panics, when it is to be serialized.
struct Bad(bool);

impl Serialize for Bad {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        assert!(self.0, "a panicking Serialize");
        Err(serde::ser::Error::custom("secret value 4711"))
    }
}

/// 31, A-11.
#[tokio::test]
async fn a_value_that_cannot_be_serialized_is_an_error_that_names_the_attribute_only() {
    let handler = async |session: Session| -> Result<String, SessionError> {
        session.insert("good", "1")?;
        let error = session.insert("bad", &Bad(true)).unwrap_err();
        assert_eq!(error.kind(), SessionErrorKind::Encode);
        assert_eq!(error.attribute(), Some("bad"));
        assert!(!session.contains("bad"));
        Ok(format!(
            "{error} {error:?} {:?}",
            std::error::Error::source(&error)
        ))
    };
    let app = routes().route("/", get(handler)).layer(layer(&Spy::new()));
    let mut browser = Browser::new();
    let reply = browser.get(&app, "/").await.ok();
    assert!(
        reply.body.contains("bad") && !reply.body.contains("4711"),
        "{}",
        reply.body
    );
    assert_eq!(browser.get(&app, "/get?k=good").await.body, "1");
}

/// 31, A-11.
#[tokio::test]
async fn a_panicking_serialize_leaves_the_session_as_it_was() {
    let handler = async |session: Session| {
        session.insert("a", "2").unwrap();
        session.insert("bad", &Bad(false)).unwrap();
    };
    let store = Spy::new();
    let app = routes()
        .route("/", get(handler))
        .layer(layer(&store))
        .layer(tower_http::catch_panic::CatchPanicLayer::new());
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    assert_eq!(
        browser.get(&app, "/").await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cart {
    items: Vec<String>,
    owner: String,
}

/// 32, A-14.
#[tokio::test]
async fn an_attribute_of_another_shape_is_an_error_for_that_attribute_alone() {
    const CART: Attribute<Cart> = Attribute::new("cart");
    let handler = async |session: Session| -> Result<(), SessionError> {
        let error = session.get(CART).unwrap_err();
        assert_eq!(error.kind(), SessionErrorKind::Decode);
        assert_eq!(error.attribute(), Some("cart"));
        assert!(session.contains(CART));
        assert_eq!(session.get::<String>("a")?.as_deref(), Some("1"));
        let error = session
            .update(CART, |_| panic!("not called"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), SessionErrorKind::Decode);
        Ok(())
    };
    let app = routes().route("/", get(handler)).layer(layer(&Spy::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/set?k=cart&v=old").await.ok();
    browser.get(&app, "/").await.ok();
    assert_eq!(
        browser.get(&app, "/get?k=cart").await.body,
        "old",
        "the value is kept"
    );
}

///
#[tokio::test]
async fn values_read_back_equal_or_are_refused() {
    let session = Session::for_test();
    let encode = |result: Result<(), SessionError>| result.unwrap_err().kind();

    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(
            encode(session.insert("x", &float)),
            SessionErrorKind::Encode
        );
    }
    let keys: BTreeMap<Vec<u8>, u8> = [(vec![1], 1)].into();
    assert_eq!(encode(session.insert("x", &keys)), SessionErrorKind::Encode);
    let mut deep = serde_json::Value::Null;
    for _ in 0..10_000 {
        deep = serde_json::Value::Array(vec![deep]);
    }
    assert_eq!(encode(session.insert("x", &deep)), SessionErrorKind::Encode);
    // Dropping it would recurse as deeply.
    std::mem::forget(deep);
    assert!(!session.exists());

    session.insert("big", &u64::MAX).unwrap();
    session.insert("small", &i64::MIN).unwrap();
    session.insert("float", &f64::MIN_POSITIVE).unwrap();
    session.insert("unit", &()).unwrap();
    session.insert("none", &None::<u8>).unwrap();
    assert_eq!(session.get("big").unwrap(), Some(u64::MAX));
    assert_eq!(session.get("small").unwrap(), Some(i64::MIN));
    assert_eq!(session.get("float").unwrap(), Some(f64::MIN_POSITIVE));
    assert_eq!(session.get::<Option<u8>>("none").unwrap(), Some(None));
    assert_eq!(session.get("unit").unwrap(), Some(()));
}

#[tokio::test]
async fn large_values_arrive_and_too_large_ones_are_refused_at_the_write() {
    let handler = async |session: Session| -> Result<(), SessionError> {
        session.insert("mib", &"x".repeat(1 << 20))?;
        session.insert("eight", &"y".repeat(8 << 20))?;
        let error = session.insert("too", &"z".repeat(16 << 20)).unwrap_err();
        assert_eq!(error.kind(), SessionErrorKind::TooLarge);
        assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
        // Each fits, together they do not.
        session.insert("more", &"z".repeat(8 << 20))
    };
    let app = routes().route("/", get(handler)).layer(layer(&Spy::new()));
    let mut browser = Browser::new();
    let reply = browser.get(&app, "/").await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    browser.take(&reply);
    assert_eq!(browser.get(&app, "/get?k=mib").await.body.len(), 1 << 20);
    assert_eq!(browser.get(&app, "/get?k=eight").await.body.len(), 8 << 20);
    assert_eq!(browser.get(&app, "/has?k=more").await.body, "false");
}

/// 33, A-12.
#[tokio::test]
async fn every_limit_holds_and_what_is_over_it_may_still_shrink() {
    let limits = Limits::default()
        .with_attributes(4)
        .with_name_bytes(8)
        .with_attribute_bytes(100)
        .with_session_bytes(200);
    let handler = async |session: Session| -> Result<(), SessionError> {
        let refused = |result: Result<(), SessionError>| {
            assert_eq!(result.unwrap_err().kind(), SessionErrorKind::TooLarge);
        };
        for name in ["a", "b", "c"] {
            session.insert(name, &1)?;
        }
        session.remove("c")?;
        session.insert("c", &1)?;
        session.insert("d", &1)?;
        refused(session.insert("e", &1));
        refused(session.insert("a", &"x".repeat(120)));
        refused(session.insert("too long a name", &1));
        session.insert("a", &"x".repeat(90))?;
        session.insert("b", &"x".repeat(80))?;
        refused(session.insert("c", &"x".repeat(50)));
        session.remove("a")?;
        session.insert("c", &"x".repeat(50))?;
        refused(session.update("a", |_| "x".repeat(90)).await.map(drop));
        Ok(())
    };
    let app = Router::new()
        .route("/", get(handler))
        .layer(layer(&Spy::new()).with_limits(limits));
    Browser::new().get(&app, "/").await.ok();
}

/// 33, A-12.
#[tokio::test]
async fn a_hundred_thousand_attributes_do_not_fit() {
    let session = Session::for_test();
    let refused = (0..100_000).filter(|i| session.insert(i.to_string(), i).is_err());
    assert_eq!(refused.count(), 100_000 - 1024);
    session.save().await.unwrap();
    assert_eq!(session.names().len(), 1024);
}

#[tokio::test]
async fn names_that_are_ours_cannot_be_used() {
    let session = Session::for_test();
    let kind = |result: Result<(), SessionError>| result.unwrap_err().kind();
    assert_eq!(
        kind(session.insert("\0cookie", &1)),
        SessionErrorKind::ReservedName
    );
    assert_eq!(
        kind(session.remove("\0cookie").map(drop)),
        SessionErrorKind::ReservedName
    );
    let update = session.update("\0cookie", |_: Option<u8>| 1).await;
    assert_eq!(kind(update.map(drop)), SessionErrorKind::ReservedName);
}

#[tokio::test]
async fn a_session_for_tests_works_without_a_layer() {
    let session = Session::for_test();
    assert!(!session.exists() && session.id().is_none());
    session.insert("a", "1").unwrap();
    assert!(session.exists() && session.is_new());
    assert_eq!(
        session
            .update("n", |n: Option<u8>| n.unwrap_or(0) + 1)
            .await
            .unwrap(),
        1
    );
    session.save().await.unwrap();
    session.reload().await.unwrap();
    assert_eq!(session.names(), ["a", "n"]);
    assert!(session.created_at().is_some());
    assert!(session.invalidate().await.unwrap());
    assert!(!session.exists());
}

#[test]
fn a_session_is_cheap_to_share() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Session>();
    shared::<SessionError>();
    assert!(size_of::<Session>() <= 2 * size_of::<usize>());
}
