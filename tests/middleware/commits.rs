//! Timing of commits, and commits that a client's disconnect does not cut short.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get};
use distributable::{Session, SessionError};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use super::support::*;

#[tokio::test]
async fn every_status_commits() {
    let store = Spy::new();
    let app = app(&store);
    let statuses = [
        200, 201, 204, 301, 302, 304, 400, 401, 403, 404, 409, 413, 500, 502, 503,
    ];
    for status in statuses {
        for method in [Method::GET, Method::HEAD, Method::POST] {
            let mut browser = Browser::new();
            let mut request = browser.request(&format!("/err?status={status}&k=a&v=1"));
            *request.method_mut() = method;
            let reply = send(&app, request).await;
            assert_eq!(reply.status.as_u16(), status);
            browser.take(&reply);
            assert_eq!(browser.get(&app, "/get?k=a").await.body, "1", "{status}");
        }
    }
}

///
#[tokio::test]
async fn an_upgrade_commits() {
    let handler = async |session: Session| -> Result<_, SessionError> {
        session.insert("a", "1")?;
        let headers = [(CONNECTION, "upgrade"), (UPGRADE, "websocket")];
        Ok((StatusCode::SWITCHING_PROTOCOLS, headers))
    };
    let app = routes().route("/", get(handler)).layer(layer(&Spy::new()));
    let mut browser = Browser::new();
    let reply = browser.get(&app, "/").await;
    assert_eq!(reply.status, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(reply.all(UPGRADE), ["websocket"]);
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
}

#[tokio::test]
async fn an_error_of_the_handler_commits_what_was_written_before() {
    let handler = async |session: Session| -> Result<(), SessionError> {
        session.insert("a", "1")?;
        session.insert("b", &f64::NAN)
    };
    let app = routes().route("/", get(handler)).layer(layer(&Spy::new()));
    let mut browser = Browser::new();
    let reply = browser.get(&app, "/").await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
}

/// 14.
#[tokio::test]
async fn what_a_redirect_follows_is_there() {
    let store = Spy::new();
    let login = async |session: Session| -> Result<Redirect, SessionError> {
        session.insert("uid", "joe")?;
        Ok(Redirect::to("/get?k=uid"))
    };
    let one = Router::new().route("/", get(login)).layer(layer(&store));
    let two = node(&store, "node2");
    for _ in 0..1_000 {
        let mut browser = Browser::new();
        assert!(browser.get(&one, "/").await.status.is_redirection());
        assert_eq!(browser.get(&two, "/get?k=uid").await.body, "joe");
    }
}

#[tokio::test]
async fn a_panicking_handler_stores_nothing_and_leaks_nothing() {
    let kept = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = kept.clone();
    let handler = async move |session: Session| -> () {
        session.insert("a", "2").unwrap();
        keep.lock().unwrap().push(session.clone());
        panic!("a handler's bug");
    };
    let store = Spy::new();
    let app = routes()
        .route("/panic", any(handler))
        .layer(layer(&store))
        .layer(CatchPanicLayer::new());
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    for _ in 0..1_000 {
        let reply = browser.get(&app, "/panic").await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        reply.assert_no_cookie();
    }
    assert_eq!(store.commits.get(), 1);
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
    assert_eq!(Browser::new().get(&app, "/panic").await.status, 500);
    assert_eq!(store.sessions(), 1);
    // A clone that outlives the panic rejects writes: they come too late.
    let kept = kept.lock().unwrap();
    assert!(kept.iter().all(|session| session.insert("a", "3").is_err()));
}

#[tokio::test]
async fn the_response_waits_for_the_commit() {
    let store = Spy::new();
    let app = app(&store);
    let gate = store.close_gate();
    let mut response = Box::pin(app.oneshot(request("/set?k=a&v=1", &[])));
    let soon = Duration::from_millis(20);
    assert!(tokio::time::timeout(soon, &mut response).await.is_err());
    assert_eq!((store.commits.get(), store.sessions()), (1, 0));
    gate.let_through(1);
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    assert_eq!(store.sessions(), 1);
}

/// The handler is cut off while it saves a new session, whose cookie the response has to carry.
#[tokio::test]
async fn the_response_waits_for_a_save_that_the_handler_does_not() {
    let store = Spy::new();
    let soon = Duration::from_millis(20);
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session.insert("a", "1")?;
        let saved = tokio::time::timeout(soon, session.save()).await;
        assert!(saved.is_err());
        Ok(())
    };
    let app = routes().route("/late", get(handler)).layer(layer(&store));
    let gate = store.close_gate();
    let mut browser = Browser::new();
    let open = async {
        tokio::time::sleep(3 * soon).await;
        gate.let_through(1_000);
    };
    let (reply, ()) = tokio::join!(browser.get(&app, "/late"), open);
    assert!(reply.ok().set_cookie().is_some());
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
}

///
#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_what_has_begun() {
    let save_then_hang = async |session: Session| {
        session.insert("a", "2").unwrap();
        session.save().await.unwrap();
        std::future::pending::<()>().await;
    };
    for (path, alive, a) in [
        ("/set?k=a&v=2", true, "2"),
        ("/update", true, "1"),
        ("/hang", true, "2"),
        ("/rotate", false, ""),
        ("/logout", false, ""),
    ] {
        let store = Spy::new();
        let app = routes()
            .route("/hang", get(save_then_hang))
            .layer(layer(&store));
        let mut browser = Browser::new();
        browser.get(&app, "/set?k=a&v=1").await.ok();
        let gate = store.close_gate();
        let mut response = Box::pin(app.clone().oneshot(browser.request(path)));
        assert!(poll_once(&mut response).await.is_none());
        drop(response);
        gate.let_through(1_000);
        eventually(|| store.done.get() == 2).await;
        assert_eq!(
            browser.get(&app, "/info").await.body,
            alive.to_string(),
            "{path}"
        );
        assert_eq!(browser.get(&app, "/get?k=a").await.body, a, "{path}");
        let n = if path == "/update" { "2" } else { "1" };
        let reply = browser.get(&app, "/incr").await;
        if path == "/rotate" {
            // Its id is a former one.
            assert_eq!(reply.status, StatusCode::CONFLICT);
        } else {
            assert_eq!(reply.ok().body, n, "{path}");
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_while_the_handler_runs_leaves_the_session_as_it_was() {
    let store = Spy::new();
    let handler = async |session: Session| {
        session.insert("a", "2").unwrap();
        std::future::pending::<()>().await;
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let mut response = Box::pin(app.clone().oneshot(browser.request("/")));
    assert!(poll_once(&mut response).await.is_none());
    drop(response);
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
    assert_eq!(store.commits.get(), 1);
}

#[tokio::test]
async fn wherever_a_client_goes_away_the_session_is_the_old_or_the_new_one() {
    let both = async |session: Session, Path(n): Path<u64>| -> Result<(), SessionError> {
        session.insert("a", &n)?;
        tokio::task::yield_now().await;
        session.insert("b", &n)?;
        if n % 3 == 0 {
            session.update("c", |_| n).await?;
        }
        session.insert("c", &n)?;
        tokio::task::yield_now().await;
        Ok(())
    };
    let read = async |session: Session| {
        let read = |name| session.get::<u64>(name).unwrap();
        assert_eq!(read("a"), read("b"));
        assert_eq!(read("a"), read("c"));
        read("a").unwrap().to_string()
    };
    let store = Spy::new();
    let app = Router::new()
        .route("/write/{n}", get(both))
        .route("/read", get(read))
        .layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/write/1").await.ok();
    let (mut old, mut new) = (0, 0);
    for n in 2..2_000 {
        store.pauses.store(n % 5, Ordering::SeqCst);
        let path = format!("/write/{n}");
        let mut response = Box::pin(app.clone().oneshot(browser.request(&path)));
        for _ in 0..n % 17 {
            if poll_once(&mut response).await.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(response);
        eventually(|| store.commits.get() == store.done.get()).await;
        let reply = browser.get(&app, "/read").await.ok();
        if reply.body == n.to_string() {
            new += 1
        } else {
            old += 1
        }
    }
    assert!(old > 100 && new > 100, "{old} old, {new} new");
}

#[tokio::test]
async fn saving_early_stores_now_and_the_rest_later() {
    let store = Spy::new();
    let watcher = store.clone();
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session.save().await?;
        assert_eq!(watcher.commits.get(), 0, "nothing to save");
        session.insert("a", "1")?;
        session.save().await?;
        assert_eq!(watcher.sessions(), 1);
        session.save().await?;
        assert_eq!(watcher.commits.get(), 1);
        session.insert("b", "2")
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/").await.ok();
    assert_eq!(store.commits.get(), 2);
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
    assert_eq!(browser.get(&app, "/get?k=b").await.body, "2");
}

#[tokio::test]
async fn what_is_written_while_a_save_is_under_way_is_not_lost() {
    let store = Spy::new();
    let gate = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (watcher, doors) = (store.clone(), gate.clone());
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session.insert("a", "1")?;
        session.insert("b", "1")?;
        *doors.lock().unwrap() = Some(watcher.close_gate());
        let commits = watcher.commits.get();
        let save = tokio::spawn({
            let session = session.clone();
            async move { session.save().await }
        });
        eventually(|| watcher.commits.get() > commits).await;
        assert_eq!(
            session.get::<String>("a")?.as_deref(),
            Some("1"),
            "what is under way is seen"
        );
        session.insert("b", "2")?;
        session.insert("c", "2")?;
        session.remove("a")?;
        session.cycle_id()?;
        doors.lock().unwrap().as_ref().unwrap().let_through(1_000);
        save.await.unwrap()?;
        assert_eq!(session.names(), ["b", "c", "x"]);
        Ok(())
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=x&v=1").await.ok();
    let old = browser.bare();
    browser.get(&app, "/").await.ok();
    assert_ne!(browser.bare(), old);
    for (name, value) in [("a", ""), ("b", "2"), ("c", "2"), ("x", "1")] {
        let reply = browser.get(&app, &format!("/get?k={name}")).await.ok();
        assert_eq!(reply.body, value, "{name}");
    }
}

#[tokio::test]
async fn a_request_loads_once_however_often_it_asks() {
    let handler = async |one: Session, two: Option<Session>, three: Session| {
        one.insert("a", "2").unwrap();
        let seen = |session: &Session| session.get::<String>("a").unwrap().unwrap();
        seen(&two.unwrap()) + &seen(&three)
    };
    let store = Spy::new();
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let loads = store.loads.get();
    assert_eq!(browser.get(&app, "/").await.ok().body, "22");
    assert_eq!(store.loads.get() - loads, 1);
}

#[tokio::test]
async fn a_session_that_has_ended_meanwhile_says_so_and_takes_a_fresh_start_only_on_request() {
    let store = Spy::new();
    let rival = app(&store);
    let handler = async move |session: Session| -> Result<String, SessionError> {
        let mut browser = Browser::holding(session.routed_id().unwrap());
        browser.get(&rival, "/logout").await.ok();
        session.insert("a", "2")?;
        for error in [
            session.save().await.unwrap_err(),
            session.save().await.unwrap_err(),
            session.reload().await.unwrap_err(),
            session.insert("b", "1").unwrap_err(),
            session.remove("b").unwrap_err(),
            session.cycle_id().unwrap_err(),
            session.update("n", |_: Option<u8>| 1).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), distributable::SessionErrorKind::Invalidated);
            assert_eq!(error.status(), StatusCode::CONFLICT);
        }
        assert!(!session.exists() && session.names().is_empty() && session.id().is_none());
        session.invalidate().await?;
        session.insert("fresh", "1")?;
        Ok(session.names().join(" "))
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let old = browser.bare();
    assert_eq!(browser.get(&app, "/").await.ok().body, "fresh");
    assert_ne!(browser.bare(), old);
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "");
}

/// W-05.
#[tokio::test]
async fn reloading_a_session_that_has_ended_is_an_error_every_time() {
    let store = Spy::new();
    let rival = app(&store);
    let handler = async move |session: Session| -> Result<String, SessionError> {
        let (clone, detached) = (session.clone(), session.detached());
        let mut browser = Browser::holding(session.routed_id().unwrap());
        browser.get(&rival, "/logout").await.ok();
        for _ in 0..3 {
            for handle in [&session, &clone, &detached] {
                let error = handle.reload().await.unwrap_err();
                assert_eq!(error.kind(), distributable::SessionErrorKind::Invalidated);
                let error = handle.save().await.unwrap_err();
                assert_eq!(error.kind(), distributable::SessionErrorKind::Invalidated);
            }
        }
        // The request itself asks for a fresh start: there is nothing to load then.
        assert!(!clone.invalidate().await?);
        session.reload().await?;
        Ok("an answer".to_owned())
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    assert_eq!(browser.get(&app, "/").await.ok().body, "an answer");
}

#[tokio::test]
async fn reloading_shows_what_others_have_written_below_what_is_staged() {
    let store = Spy::new();
    let rival = app(&store);
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session.insert("a", "mine")?;
        let mut browser = Browser::holding(session.routed_id().unwrap());
        browser.get(&rival, "/set?k=a&v=theirs").await.ok();
        browser.get(&rival, "/set?k=b&v=theirs").await.ok();
        assert!(!session.contains("b"));
        session.reload().await?;
        assert_eq!(session.get::<String>("a")?.as_deref(), Some("mine"));
        assert_eq!(session.get::<String>("b")?.as_deref(), Some("theirs"));
        Ok(())
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/").await.ok();
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "mine");
    assert_eq!(browser.get(&app, "/get?k=b").await.body, "theirs");
}

#[tokio::test]
async fn errors_that_a_handler_returns_are_plain_words() {
    let app = app(&Spy::new());
    let reply = send(&app, request("/rotate", &[])).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert_eq!(reply.body, "there is no session");
    let missing: axum::response::Response<Body> =
        SessionError::from(distributable::SessionErrorKind::MissingLayer).into_response();
    assert_eq!(missing.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

/// Polls once.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

/// How a request that does not end by itself is cut off, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Panic,
    TimeOut,
}

/// W-13: the table in the layer's documentation, row by row.
#[tokio::test(start_paused = true)]
async fn what_is_stored_when_a_request_is_cut_off_is_what_the_documentation_says() {
    for cut in [Cut::Panic, Cut::TimeOut] {
        for inside in [true, false] {
            let app = app_that_is_cut_off(cut, inside, &Spy::new());
            let case = format!("{cut:?}, inside: {inside}");
            let status = match cut {
                Cut::Panic => StatusCode::INTERNAL_SERVER_ERROR,
                Cut::TimeOut => StatusCode::REQUEST_TIMEOUT,
            };

            let mut browser = Browser::new();
            browser.get(&app, "/set?k=a&v=1").await.ok();
            for (path, n) in [("/staged", ""), ("/updated", "1")] {
                let reply = browser.get(&app, path).await;
                assert_eq!(reply.status, status, "{case}");
                let staged = browser.get(&app, "/has?k=staged").await.ok().body;
                assert_eq!(staged, inside.to_string(), "{case}: {path}");
                browser.get(&app, "/remove?k=staged").await.ok();
                let saved = browser.get(&app, "/has?k=n").await.ok().body;
                assert_eq!(saved, (n == "1").to_string(), "{case}: {path}");
            }
            let old = browser.bare();
            let reply = browser.get(&app, "/cycled").await;
            assert_eq!(reply.status, status, "{case}");
            assert_eq!(reply.set_cookie().is_some(), inside, "{case}");
            assert_eq!(browser.bare() != old, inside, "{case}");
            // Outside, the new id has got lost on its way, and the old one is not valid any more.
            let known = browser.get(&app, "/info").await.ok().body;
            assert_eq!(known, inside.to_string(), "{case}");

            let mut browser = Browser::new();
            browser.get(&app, "/set?k=a&v=1").await.ok();
            let id = browser.bare();
            let reply = browser.get(&app, "/ended").await;
            assert_eq!(reply.status, status, "{case}");
            assert_eq!(reply.set_cookie().is_some(), inside, "{case}");
            let mut thief = Browser::holding(id);
            assert_eq!(thief.get(&app, "/info").await.ok().body, "false", "{case}");
        }
    }
}

/// Routes that change the session and are then cut off inside the session layer, or outside of it.
fn app_that_is_cut_off(cut: Cut, inside: bool, store: &Spy) -> Router {
    const SECOND: Duration = Duration::from_secs(1);
    let cut_off = async move || match cut {
        Cut::Panic => panic!("a handler's bug"),
        Cut::TimeOut => tokio::time::sleep(60 * SECOND).await,
    };
    let staged = async move |session: Session| -> Result<(), SessionError> {
        session.insert("staged", "1")?;
        cut_off().await;
        Ok(())
    };
    let updated = async move |session: Session| -> Result<(), SessionError> {
        session
            .update("n", |n: Option<u64>| n.unwrap_or(0) + 1)
            .await?;
        session.insert("staged", "1")?;
        cut_off().await;
        Ok(())
    };
    let cycled = async move |session: Session| -> Result<(), SessionError> {
        session.cycle_id()?;
        session.save().await?;
        session.insert("staged", "1")?;
        cut_off().await;
        Ok(())
    };
    let ended = async move |session: Session| -> Result<(), SessionError> {
        session.invalidate().await?;
        cut_off().await;
        Ok(())
    };
    let routes = routes()
        .route("/staged", get(staged))
        .route("/updated", get(updated))
        .route("/cycled", get(cycled))
        .route("/ended", get(ended));
    let timeouts = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, SECOND);
    let sessions = layer(store);
    if inside {
        let cut_inside = routes.layer(CatchPanicLayer::new()).layer(timeouts);
        cut_inside.layer(sessions)
    } else {
        let session_inside = routes.layer(sessions);
        session_inside.layer(CatchPanicLayer::new()).layer(timeouts)
    }
}

/// W-13: the row about a failing commit.
#[tokio::test]
async fn a_failing_last_commit_leaves_what_was_saved_before() {
    let store = Spy::new();
    let watcher = store.clone();
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session
            .update("n", |n: Option<u64>| n.unwrap_or(0) + 1)
            .await?;
        session.insert("staged", "1")?;
        watcher.break_only("commit", down);
        Ok(())
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let reply = browser.get(&app, "/").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    reply.assert_no_cookie();
    store.repair();
    assert_eq!(browser.get(&app, "/has?k=staged").await.ok().body, "false");
    assert_eq!(browser.get(&app, "/has?k=n").await.ok().body, "true");
}

#[tokio::test]
async fn none_is_a_value() {
    let session = Session::for_test();
    session.insert("a", &None::<String>).unwrap();
    assert!(session.contains("a"));
    assert_eq!(session.get::<Option<String>>("a").unwrap(), Some(None));
    assert!(session.get::<String>("a").is_err());
}
