//! A failing store is a failure: never an empty session, never a cookie.

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, VARY};
use axum::routing::get;
use distributable::{
    Session, SessionError, SessionErrorKind, SessionId, StoreError, StoreErrorKind,
};

use super::support::*;

/// 60 (f).
#[tokio::test]
async fn a_store_that_is_down_answers_503_and_sets_no_cookie() {
    let store = Spy::new();
    let app = node(&store, "node1");
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();

    store.break_with(down);
    for path in [
        "/get?k=a",
        "/set?k=a&v=2",
        "/info",
        "/logout",
        "/update",
        "/rotate",
    ] {
        let reply = browser.get(&app, path).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        reply.assert_no_cookie();
        assert_eq!(reply.all(VARY), ["Cookie"]);
    }
    // Without a cookie there is nothing to look up, and something to store.
    let mut newcomer = Browser::new();
    newcomer.get(&app, "/get?k=a").await.ok();
    let reply = newcomer.get(&app, "/set?k=a&v=2").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    reply.assert_no_cookie();
    newcomer.get(&app, "/none").await.ok().assert_untouched();

    store.repair();
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
}

#[tokio::test]
async fn a_failed_commit_replaces_the_response_and_says_nothing_of_the_store() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    for (error, status) in [
        (down as Fault, 503),
        (StoreError::not_ready, 503),
        (StoreError::full, 503),
        (|| StoreError::indeterminate("node2 at 10.1.2.4"), 503),
        (|| StoreError::corrupt("offset 17"), 503),
        (StoreError::too_large, 413),
    ] {
        store.break_only("commit", error);
        for mut browser in [browser.clone(), Browser::new()] {
            let reply = browser.get(&app, "/err?status=201&k=a&v=2").await;
            assert_eq!(reply.status.as_u16(), status);
            reply.assert_no_cookie();
            assert_eq!(reply.all(VARY), ["Cookie"]);
            assert_eq!(reply.all(CONTENT_TYPE), ["text/plain; charset=utf-8"]);
            assert!(reply.body.contains("session"), "{}", reply.body);
            for word in ["10.1.2", "hunter2", "error page", "17"] {
                assert!(!reply.body.contains(word), "{}", reply.body);
            }
        }
    }
    store.repair();
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
}

#[tokio::test(start_paused = true)]
async fn a_failed_touch_is_a_failure_too() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    tokio::time::advance(std::time::Duration::from_secs(90)).await;
    store.break_only("touch", down);
    let reply = browser.get(&app, "/get?k=a").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_handler_may_deal_with_a_failing_store() {
    let handler = async |session: Result<Session, SessionError>| {
        let error = session.unwrap_err();
        assert_eq!(
            error.kind(),
            SessionErrorKind::Store(StoreErrorKind::Unavailable)
        );
        let source = std::error::Error::source(&error).expect("the store's error");
        assert!(std::error::Error::source(source).is_some());
        "without a session"
    };
    let store = Spy::new();
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    store.break_with(down);
    let reply = browser.get(&app, "/").await.ok();
    assert_eq!(reply.body, "without a session");
    reply.assert_no_cookie();
    assert_eq!(reply.all(VARY), ["Cookie"]);
}

#[tokio::test]
async fn what_could_not_be_saved_goes_with_the_next_attempt() {
    let store = Spy::new();
    let watcher = store.clone();
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session.insert("a", "2")?;
        session.cycle_id()?;
        watcher.break_only("commit", down);
        session.save().await.unwrap_err();
        session.update("n", |_: Option<u8>| 1).await.unwrap_err();
        assert_eq!(session.get::<String>("a")?.as_deref(), Some("2"));
        assert!(!session.contains("n"));
        session.insert("b", "3")?;
        watcher.repair();
        Ok(())
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let old = browser.bare();
    browser.get(&app, "/").await.ok();
    assert_ne!(browser.bare(), old);
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "2");
    assert_eq!(browser.get(&app, "/get?k=b").await.body, "3");
}

#[tokio::test]
async fn a_session_that_could_not_be_ended_is_alive() {
    let store = Spy::new();
    let handler = async |session: Session| {
        assert!(session.invalidate().await.is_err());
        assert!(session.exists());
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    store.break_only("end", down);
    browser.get(&app, "/").await.ok().assert_no_cookie();
    store.repair();
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
}

/// The look at the session before it decides nothing.
#[tokio::test]
async fn a_session_that_cannot_be_read_is_ended() {
    let store = Spy::new();
    let watcher = store.clone();
    let handler = async move |session: Session| {
        watcher.break_only("load", down);
        assert!(session.invalidate().await.unwrap());
        watcher.repair();
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/").await.ok();
    assert_eq!(store.sessions(), 0);
}

/// Another request has ended it, which this store cannot confirm.
#[tokio::test]
async fn an_end_that_is_not_certain_is_an_error_each_time() {
    let store = Spy::new();
    let (rival, watcher) = (app(&store), store.clone());
    let handler = async move |session: Session| {
        let mut browser = Browser::holding(session.id().unwrap().expose());
        browser.get(&rival, "/logout").await.ok();
        watcher.break_only("end", down);
        for _ in 0..2 {
            assert!(session.invalidate().await.is_err());
        }
        watcher.repair();
        assert!(!session.invalidate().await.unwrap());
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/").await.ok();
}

#[tokio::test]
async fn a_failed_commit_does_not_log_out_a_client_that_has_got_a_new_id_before() {
    let store = Spy::new();
    let watcher = store.clone();
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session.cycle_id()?;
        session.save().await?;
        session.insert("a", "2")?;
        watcher.break_only("commit", down);
        Ok(())
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let reply = browser.get(&app, "/").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    store.repair();
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
}

#[tokio::test]
async fn layers_further_out_learn_why() {
    use tower::ServiceExt;
    let store = Spy::new();
    let app: Router = app(&store);
    store.break_with(StoreError::full);
    let response = app.oneshot(request("/set?k=a&v=1", &[])).await.unwrap();
    let error = response
        .extensions()
        .get::<SessionError>()
        .expect("an error");
    assert_eq!(error.kind(), SessionErrorKind::Store(StoreErrorKind::Full));
}

/// An error that a handler, or the extractor, returns before a commit.
#[tokio::test]
async fn layers_further_out_learn_why_a_handler_has_failed() {
    use tower::ServiceExt;
    let store = Spy::new();
    let rotate = async |session: Session| session.cycle_id();
    let app = routes().route("/rotate", get(rotate)).layer(layer(&store));
    let id = format!("JSESSIONID={}", SessionId::generate().expose());
    for (path, expected) in [
        ("/rotate", SessionErrorKind::NoSession),
        ("/get?k=a", SessionErrorKind::Store(StoreErrorKind::Full)),
    ] {
        let response = app
            .clone()
            .oneshot(request(path, &[id.as_bytes()]))
            .await
            .unwrap();
        let error = response.extensions().get::<SessionError>();
        assert_eq!(error.map(SessionError::kind), Some(expected), "{path}");
        store.break_with(StoreError::full);
    }
}

#[tokio::test]
async fn a_panicking_store_does_not_wedge_the_session() {
    let store = Spy::new();
    let watcher = store.clone();
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session.insert("a", "2")?;
        watcher.break_only("commit", || panic!("a store's bug"));
        let save = session.clone();
        tokio::spawn(async move { save.save().await })
            .await
            .unwrap_err();
        watcher.repair();
        session.insert("b", "2")
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/").await.ok();
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "2");
    assert_eq!(browser.get(&app, "/get?k=b").await.body, "2");
}
