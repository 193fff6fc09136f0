//! Lifetimes of sessions, and the accesses that prolong them. Time stands still here and moves by
//! hand.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{Method, StatusCode};
use axum::routing::{get, post};
use distributable::{Persistence, Session, SessionError, SessionErrorKind};
use futures_util::stream;
use tokio::time::{advance, sleep};

use super::support::*;

const SECOND: Duration = Duration::from_secs(1);

/// 35, 40, A-04.
#[tokio::test(start_paused = true)]
async fn a_session_expires_when_it_is_idle_too_long_and_not_before() {
    let store = Spy::new();
    let app = routes().layer(layer(&store).with_idle_timeout(Some(3 * SECOND)));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    advance(3 * SECOND - SECOND / 2).await;
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
    advance(3 * SECOND - SECOND / 2).await;
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
    advance(3 * SECOND + SECOND / 2).await;
    let reply = browser.get(&app, "/get?k=a").await.ok();
    assert_eq!(reply.body, "");
    reply.assert_no_cookie();

    let old = browser.bare();
    browser.get(&app, "/set?k=a&v=2").await.ok();
    assert_ne!(browser.bare(), old);
}

#[tokio::test(start_paused = true)]
async fn reading_keeps_a_session_alive_under_one_id() {
    let store = Spy::new();
    let app = routes().layer(layer(&store).with_idle_timeout(Some(SECOND)));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    for _ in 0..10 {
        advance(SECOND / 2).await;
        let reply = browser.get(&app, "/get?k=a").await.ok();
        assert_eq!(reply.body, "1");
        reply.assert_no_cookie();
    }
    assert_eq!(store.commits.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_access_is_written_down_only_when_enough_time_has_passed() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    for _ in 0..59 {
        advance(SECOND).await;
        browser.get(&app, "/get?k=a").await.ok();
    }
    assert_eq!(store.touches.get(), 0);
    advance(2 * SECOND).await;
    browser.get(&app, "/get?k=a").await.ok();
    browser.get(&app, "/get?k=a").await.ok();
    assert_eq!(store.touches.get(), 1);
    // A route that does not take the session is no access; one that writes is one when it begins.
    advance(61 * SECOND).await;
    browser.get(&app, "/none").await.ok();
    assert_eq!(store.touches.get(), 1);
    browser.get(&app, "/set?k=a&v=2").await.ok();
    browser.get(&app, "/get?k=a").await.ok();
    assert_eq!(store.touches.get(), 2);
}

/// Takes the session, lets time pass while nothing waits for a timer, and writes.
async fn leap(session: Session, Path(millis): Path<u64>) -> Result<String, SessionError> {
    advance(Duration::from_millis(millis)).await;
    session.insert("doc", "saved")?;
    Ok(session.get::<String>("a")?.unwrap_or_default())
}

/// W-01.
#[tokio::test(start_paused = true)]
async fn an_access_counts_when_the_handler_takes_the_session() {
    let store = Spy::new();
    let read = async |_: Session| advance(SECOND).await;
    let update = async |session: Session| -> Result<String, SessionError> {
        advance(SECOND).await;
        let n = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1);
        Ok(n.await?.to_string())
    };
    let app = routes()
        .route("/leap/{millis}", get(leap))
        .route("/read", get(read))
        .route("/slow_update", get(update))
        .layer(layer(&store).with_idle_timeout(Some(3 * SECOND)));
    for path in ["/leap/1000", "/read", "/slow_update"] {
        let mut browser = Browser::new();
        browser.get(&app, "/set?k=a&v=1").await.ok();
        // The access is at 2.5 s, the end of the request behind what the session had left.
        advance(5 * SECOND / 2).await;
        browser.get(&app, path).await.ok().assert_no_cookie();
        advance(SECOND).await;
        assert_eq!(browser.get(&app, "/get?k=a").await.body, "1", "{path}");
        advance(4 * SECOND).await;
        assert_eq!(browser.get(&app, "/get?k=a").await.body, "", "{path}");
    }
}

/// W-01: the runtime stands still for longer than the idle timeout.
#[tokio::test(start_paused = true)]
async fn a_commit_that_is_lost_to_expiry_is_an_error() {
    let store = Spy::new();
    let save = async |session: Session| -> Result<(), SessionError> {
        session.insert("a", "2")?;
        advance(10 * SECOND).await;
        let error = session.save().await.unwrap_err();
        assert_eq!(error.kind(), SessionErrorKind::Invalidated);
        Err(error)
    };
    let update = async |session: Session| -> Result<(), SessionError> {
        advance(10 * SECOND).await;
        session.update("n", |_: Option<u64>| 1).await?;
        Ok(())
    };
    let rotate = async |session: Session| -> Result<(), SessionError> {
        advance(10 * SECOND).await;
        session.cycle_id()
    };
    let app = routes()
        .route("/leap/{millis}", get(leap))
        .route("/save", get(save))
        .route("/late_update", get(update))
        .route("/late_rotate", get(rotate))
        .layer(layer(&store).with_idle_timeout(Some(3 * SECOND)));
    for path in ["/leap/10000", "/save", "/late_update", "/late_rotate"] {
        let mut browser = Browser::new();
        browser.get(&app, "/set?k=a&v=1").await.ok();
        let reply = browser.get(&app, path).await;
        assert_eq!(reply.status, StatusCode::CONFLICT, "{path}");
        reply.assert_no_cookie();
        assert_eq!(browser.get(&app, "/info").await.ok().body, "false");
    }
    // A request that has written nothing has lost nothing.
    let mut browser = Browser::new();
    browser.get(&app, "/leap/0").await.ok();
    let read = async |_: Session| advance(10 * SECOND).await;
    let app = Router::new().route("/", get(read));
    let app = app.layer(layer(&store).with_idle_timeout(Some(3 * SECOND)));
    browser.get(&app, "/").await.ok().assert_no_cookie();
}

/// W-01: time moves from timer to timer here.
#[tokio::test(start_paused = true)]
async fn a_session_does_not_idle_out_under_a_request() {
    let store = Spy::new();
    let slow = async |session: Session| -> Result<(), SessionError> {
        sleep(30 * SECOND).await;
        session.insert("doc", "saved")
    };
    let upload = async |session: Session, body: Bytes| -> Result<(), SessionError> {
        session.insert("doc", &body.len())
    };
    let touched = async |session: Session| -> Result<(), SessionError> {
        session.insert("a", "made here")?;
        session.save().await?;
        sleep(30 * SECOND).await;
        session.insert("doc", "saved")
    };
    let app = routes()
        .route("/slow", get(slow))
        .route("/upload", post(upload))
        .route("/make", get(touched))
        .layer(layer(&store).with_idle_timeout(Some(2 * SECOND)));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/slow").await.ok().assert_no_cookie();
    assert_eq!(store.touches.get(), 29);
    assert_eq!(browser.get(&app, "/get?k=doc").await.body, "saved");

    let frames = stream::unfold(0, |n| async move {
        sleep(SECOND).await;
        (n < 30).then(|| (Ok::<_, Infallible>("x"), n + 1))
    });
    let mut request = browser.request("/upload");
    *request.method_mut() = Method::POST;
    *request.body_mut() = Body::from_stream(frames);
    send(&app, request).await.ok();
    assert_eq!(browser.get(&app, "/has?k=doc").await.body, "true");

    let mut other = Browser::new();
    other.get(&app, "/make").await.ok();
    assert_eq!(other.get(&app, "/get?k=doc").await.body, "saved");
    // What is really idle still ends.
    advance(3 * SECOND).await;
    for mut browser in [browser, other] {
        assert_eq!(browser.get(&app, "/info").await.body, "false");
    }
}

/// A request from before a login is no use of the user's session.
#[tokio::test(start_paused = true)]
async fn a_running_request_does_not_keep_another_users_session_alive() {
    let store = Spy::new();
    let slow = async |_session: Session| sleep(60 * SECOND).await;
    let app = routes()
        .route("/slow", get(slow))
        .layer(layer(&store).with_idle_timeout(Some(2 * SECOND)));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let (mut planted, shared) = (browser.clone(), app.clone());
    let running = tokio::spawn(async move { planted.get(&shared, "/slow").await });
    sleep(SECOND / 2).await;
    browser.get(&app, "/login?uid=joe").await.ok();
    sleep(10 * SECOND).await;
    assert_eq!(browser.get(&app, "/info").await.body, "false");
    running.abort();
}

/// W-01.
#[tokio::test(start_paused = true)]
async fn a_touch_that_fails_while_the_request_runs_is_tried_again() {
    let store = Spy::new();
    let watcher = store.clone();
    let slow = async move |session: Session| -> Result<(), SessionError> {
        watcher.break_only("touch", down);
        sleep(SECOND + SECOND / 10).await;
        watcher.repair();
        sleep(10 * SECOND).await;
        session.insert("doc", "saved")
    };
    let app = routes()
        .route("/slow", get(slow))
        .layer(layer(&store).with_idle_timeout(Some(2 * SECOND)));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/slow").await.ok();
    assert_eq!(browser.get(&app, "/get?k=doc").await.body, "saved");
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_at_its_absolute_lifetime_whatever_happens() {
    let store = Spy::new();
    let layer = || layer(&store).with_absolute_timeout(10 * SECOND);
    let nodes = [routes().layer(layer()), routes().layer(layer())];
    let mut browser = Browser::new();
    browser.get(&nodes[0], "/set?k=a&v=1").await.ok();
    for n in 0..9 {
        advance(SECOND).await;
        browser.get(&nodes[n % 2], "/rotate").await.ok();
        assert_eq!(browser.get(&nodes[n % 2], "/get?k=a").await.body, "1");
    }
    advance(SECOND).await;
    assert_eq!(browser.get(&nodes[0], "/get?k=a").await.body, "");
}

/// 39.
#[tokio::test(start_paused = true)]
async fn without_an_idle_limit_only_the_absolute_one_counts() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    for idle in [None, Some(45 * DAY)] {
        let layer = layer(&Spy::new()).with_idle_timeout(idle);
        let app = routes().layer(layer.with_absolute_timeout(60 * DAY));
        let mut browser = Browser::new();
        browser.get(&app, "/set?k=a&v=1").await.ok();
        advance(44 * DAY).await;
        assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
        advance(17 * DAY).await;
        assert_eq!(browser.get(&app, "/get?k=a").await.body, "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sessions_own_idle_time_counts_on_every_node() {
    let store = Spy::new();
    let (one, two) = (node(&store, "node1"), node(&store, "node2"));
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    browser.get(&one, "/ttl?s=3000").await.ok();
    assert_eq!(
        browser.get(&two, "/ttl?s=3000").await.ok().body,
        "Some(3000s)"
    );
    assert_eq!(store.commits.get(), 2, "the same again is no change");
    advance(2900 * SECOND).await;
    assert_eq!(browser.get(&two, "/get?k=a").await.body, "1");
}

#[tokio::test]
async fn an_idle_time_goes_with_the_session_that_the_request_makes() {
    let handler = async |session: Session| {
        session.set_idle_timeout(None).unwrap();
        assert!(!session.exists());
        session.insert("a", "1").unwrap();
    };
    let seen = async |session: Session| format!("{:?}", session.idle_timeout());
    let app = Router::new()
        .route("/make", get(handler))
        .route("/seen", get(seen))
        .layer(layer(&Spy::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/make").await.ok();
    assert_eq!(browser.get(&app, "/seen").await.body, "None");
}

/// W-07.
#[tokio::test(start_paused = true)]
async fn an_idle_timeout_that_is_set_precedes_the_initial_one() {
    let make = async |session: Session, Path(secs): Path<u64>| -> Result<String, SessionError> {
        let before = session.idle_timeout();
        if secs > 0 {
            session.set_idle_timeout(Some(Duration::from_secs(secs)))?;
        }
        let set = session.idle_timeout();
        session.insert("a", "1")?;
        session.save().await?;
        let saved = session.idle_timeout();
        Ok(format!("{before:?} {set:?} {saved:?}"))
    };
    let seen = async |session: Session| format!("{:?}", session.idle_timeout());
    let store = Spy::new();
    let layer = layer(&store).with_initial_idle_timeout(60 * SECOND);
    let app = routes()
        .route("/make/{secs}", get(make))
        .route("/seen", get(seen))
        .layer(layer);
    for (secs, set, seen, lives) in [
        (0, 60, 1800, 60),
        (1800, 1800, 1800, 1800),
        (7200, 7200, 7200, 7200),
        (60, 60, 60, 60),
        (5, 5, 5, 5),
    ] {
        let mut browser = Browser::new();
        let reply = browser.get(&app, &format!("/make/{secs}")).await.ok();
        assert_eq!(reply.body, format!("Some(60s) Some({set}s) Some({set}s)"));
        let mut robot = browser.clone();
        let reply = browser.get(&app, "/seen").await.ok();
        assert_eq!(reply.body, format!("Some({seen}s)"));
        // A browser that comes back once, at the very end of what the first visit may take.
        let mut other = Browser::new();
        other.get(&app, &format!("/make/{secs}")).await.ok();
        advance(lives * SECOND - SECOND / 10).await;
        assert_eq!(other.get(&app, "/get?k=a").await.body, "1", "{secs}");
        advance(2 * Duration::from_secs(seen) + 120 * SECOND).await;
        for browser in [&mut robot, &mut browser, &mut other] {
            assert_eq!(browser.get(&app, "/get?k=a").await.body, "", "{secs}");
        }
    }
}

/// W-10: the layer is configured anew, over the same store.
#[tokio::test(start_paused = true)]
async fn shorter_limits_apply_to_stored_sessions_at_once_and_longer_ones_do_not() {
    let store = Spy::new();
    let with = |idle: u64, absolute: u64| {
        let idle = Some(Duration::from_secs(idle));
        let absolute = Duration::from_secs(absolute);
        let layer = layer(&store).with_idle_timeout(idle);
        routes().layer(layer.with_absolute_timeout(absolute))
    };
    let before = with(1800, 86_400);
    let make = async || {
        let mut browser = Browser::new();
        browser.get(&before, "/set?k=a&v=1").await.ok();
        browser
    };
    // The absolute lifetime.
    let mut old = make().await;
    advance(500 * SECOND).await;
    let mut young = make().await;
    let after = with(1800, 400);
    assert_eq!(old.get(&after, "/get?k=a").await.ok().body, "");
    assert_eq!(young.get(&after, "/get?k=a").await.ok().body, "1");
    // The idle timeout, and it is kept from running out by use.
    let (mut idle, mut used) = (make().await, make().await);
    let after = with(10, 86_400);
    for _ in 0..5 {
        advance(9 * SECOND).await;
        assert_eq!(used.get(&after, "/get?k=a").await.ok().body, "1");
    }
    assert_eq!(idle.get(&after, "/get?k=a").await.ok().body, "");
    idle.get(&after, "/set?k=a&v=2").await.ok();
    assert_eq!(idle.get(&after, "/get?k=a").await.ok().body, "2");
    // What was set for one session stays.
    let mut own = make().await;
    own.get(&before, "/ttl?s=3000").await.ok();
    advance(2_000 * SECOND).await;
    assert_eq!(own.get(&after, "/get?k=a").await.ok().body, "1");
    // Longer ones do not extend.
    let (mut idle, mut old) = (make().await, make().await);
    let longer = with(36_000, 8_640_000);
    advance(1_900 * SECOND).await;
    advance(100 * SECOND).await;
    assert_eq!(idle.get(&longer, "/get?k=a").await.ok().body, "");
    old.get(&before, "/set?k=a&v=1").await.ok();
    for _ in 0..86_400 / 1_500 {
        assert_eq!(old.get(&longer, "/get?k=a").await.ok().body, "1");
        advance(1_500 * SECOND).await;
    }
    advance(1_000 * SECOND).await;
    assert_eq!(old.get(&longer, "/get?k=a").await.ok().body, "");
}

/// W-09.
#[tokio::test]
async fn a_time_of_zero_is_an_error_and_a_huge_one_is_long() {
    let nothing = [Duration::ZERO, Duration::from_nanos(999_999)];
    for zero in nothing {
        let store = Spy::new();
        for layer in [
            layer(&store).with_idle_timeout(Some(zero)),
            layer(&store).with_absolute_timeout(zero),
            layer(&store).with_initial_idle_timeout(zero),
        ] {
            let app = routes().layer(layer);
            for path in ["/set?k=a&v=1", "/login?uid=ann", "/get?k=a"] {
                let reply = Browser::new().get(&app, path).await;
                assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
                assert_eq!(reply.body, "a session's time must not be zero");
                reply.assert_no_cookie();
            }
        }
        assert_eq!(store.sessions(), 0);
    }
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session.insert("a", "1")?;
        for zero in nothing {
            let error = session.set_idle_timeout(Some(zero)).unwrap_err();
            assert_eq!(error.kind(), SessionErrorKind::InvalidTimeout);
        }
        let age = Persistence::MaxAge(Duration::ZERO);
        let error = session.set_persistence(age).unwrap_err();
        assert_eq!(error.kind(), SessionErrorKind::InvalidTimeout);
        session.set_idle_timeout(Some(Duration::MAX))?;
        session.set_persistence(Persistence::MaxAge(Duration::MAX))
    };
    let layer = layer(&Spy::new())
        .with_idle_timeout(Some(Duration::MAX))
        .with_absolute_timeout(Duration::MAX)
        .with_initial_idle_timeout(Duration::MAX);
    let app = routes().route("/", get(handler)).layer(layer);
    let mut browser = Browser::new();
    let reply = browser.get(&app, "/").await.ok();
    assert!(reply.set_cookie().unwrap().contains("; Max-Age=34560000"));
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_never_comes_back_is_forgotten_sooner() {
    let store = Spy::new();
    let app = routes().layer(layer(&store).with_initial_idle_timeout(60 * SECOND));
    let (mut robot, mut person) = (Browser::new(), Browser::new());
    robot.get(&app, "/set?k=a&v=1").await.ok();
    person.get(&app, "/set?k=a&v=1").await.ok();
    person.get(&app, "/get?k=a").await.ok();
    advance(120 * SECOND).await;
    assert_eq!(robot.get(&app, "/get?k=a").await.body, "");
    assert_eq!(person.get(&app, "/get?k=a").await.body, "1");
}

#[tokio::test(start_paused = true)]
async fn a_session_is_new_until_the_browser_comes_back_with_it() {
    let times = async |session: Session| {
        let made = session.created_at().map(|it| it.as_millis());
        let seen = session.last_accessed_at().map(|it| it.as_millis());
        session.insert("a", &1).unwrap();
        let is_new = session.is_new();
        match (made, seen) {
            (Some(made), Some(seen)) => format!("{is_new} {}", seen - made),
            _ => format!("{is_new}, and not stored yet"),
        }
    };
    let app = routes()
        .route("/times", get(times))
        .layer(layer(&Spy::new()));
    let mut browser = Browser::new();
    assert_eq!(
        browser.get(&app, "/times").await.ok().body,
        "true, and not stored yet"
    );
    advance(30 * SECOND).await;
    assert_eq!(browser.get(&app, "/times").await.ok().body, "false 0");
    advance(90 * SECOND).await;
    assert_eq!(browser.get(&app, "/times").await.ok().body, "false 0");
    assert_eq!(browser.get(&app, "/times").await.ok().body, "false 120000");
}

#[tokio::test]
async fn logging_out_on_one_node_logs_out_on_all() {
    let store = Spy::new();
    let (one, two) = (node(&store, "node1"), node(&store, "node2"));
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    browser.get(&two, "/get?k=a").await.ok();
    let old = browser.clone();
    browser.get(&one, "/logout").await.ok();
    assert_eq!(store.sessions(), 0);
    for node in [&one, &two] {
        assert_eq!(old.clone().get(node, "/get?k=a").await.ok().body, "");
    }
    old.clone()
        .get(&two, "/logout")
        .await
        .ok()
        .assert_no_cookie();
}

#[tokio::test]
async fn logging_out_beats_a_slow_request() {
    let store = Spy::new();
    let (one, two) = (node(&store, "node1"), node(&store, "node2"));
    for path in ["/set?k=k&v=1", "/rotate", "/ttl?s=99", "/remove?k=a"] {
        let mut browser = Browser::new();
        browser.get(&one, "/set?k=a&v=1").await.ok();
        let old = browser.clone();
        let gate = store.close_gate();
        let commits = store.commits.get();
        let slow = tokio::spawn({
            let (mut browser, one) = (browser.clone(), one.clone());
            async move { browser.get(&one, path).await }
        });
        eventually(|| store.commits.get() > commits).await;
        // The log-out overtakes the commit that waits.
        let inner = store.without_gate();
        browser.get(&node(&inner, "node2"), "/logout").await.ok();
        gate.let_through(1_000);

        let reply = slow.await.unwrap();
        assert_eq!(reply.status, StatusCode::CONFLICT, "{path}");
        reply.assert_no_cookie();
        assert_eq!(store.sessions(), 0);
        assert_eq!(old.clone().get(&two, "/info").await.ok().body, "false");
    }
}

#[tokio::test]
async fn a_write_that_comes_after_a_rotation_elsewhere_lands_and_the_browser_stays_logged_in() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let gate = store.close_gate();
    let slow = tokio::spawn({
        let (mut browser, app) = (browser.clone(), app.clone());
        async move { browser.get(&app, "/set?k=b&v=1").await }
    });
    eventually(|| store.commits.get() == 2).await;
    let inner = store.without_gate();
    browser
        .get(&super::support::app(&inner), "/rotate")
        .await
        .ok();
    gate.let_through(1_000);
    slow.await.unwrap().ok().assert_no_cookie();
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
    assert_eq!(browser.get(&app, "/get?k=b").await.ok().body, "1");
}

///
#[tokio::test]
async fn touching_never_brings_a_session_back() {
    tokio::time::pause();
    let store = Spy::new();
    let inner = store.clone();
    let handler = async move |_: Session| {
        // The session ends before the first touch of a request that takes long.
        let path = routes().layer(layer(&inner));
        let ids = inner.ids.lock().unwrap().clone();
        let mut rival = Browser::holding(ids[0].expose());
        rival.get(&path, "/logout").await.ok();
        sleep(1_000 * SECOND).await;
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/").await.ok().assert_no_cookie();
    assert_eq!(store.touches.get(), 0);
    assert_eq!(store.sessions(), 0);
    assert_eq!(browser.get(&app, "/info").await.ok().body, "false");
}

/// The session was created with 30 minutes, the layer has 10 minutes now, and a handler sets the 30
/// minutes for this session.
#[tokio::test(start_paused = true)]
async fn an_idle_timeout_that_is_set_precedes_the_layers_also_if_the_session_was_created_with_it() {
    for secs in [1_799, 1_800] {
        let store = Spy::new();
        let before = routes().layer(layer(&store).with_idle_timeout(Some(1_800 * SECOND)));
        let after = routes().layer(layer(&store).with_idle_timeout(Some(600 * SECOND)));
        let mut browser = Browser::new();
        browser.get(&before, "/set?k=a&v=1").await.ok();
        let reply = browser.get(&after, &format!("/ttl?s={secs}")).await.ok();
        assert_eq!(reply.body, format!("Some({secs}s)"));
        advance(900 * SECOND).await;
        let reply = browser.get(&after, "/get?k=a").await.ok();
        assert_eq!(reply.body, "1", "{secs} s");
    }
}

/// The request that creates a session stores a second change in it. Its client keeps no cookies.
#[tokio::test(start_paused = true)]
async fn further_commits_of_the_request_that_creates_a_session_leave_the_initial_timeout() {
    let handler = async |session: Session| -> Result<(), SessionError> {
        let add = |n: Option<u64>| n.unwrap_or(0) + 1;
        session.update("visits", add).await?;
        session.update("visits", add).await?;
        session.insert("seen", "yes")
    };
    let store = Spy::new();
    let layer = layer(&store).with_initial_idle_timeout(60 * SECOND);
    let app = routes().route("/landing", get(handler)).layer(layer);
    let mut crawler = Browser::new();
    crawler.get(&app, "/landing").await.ok();
    advance(120 * SECOND).await;
    assert_eq!(crawler.get(&app, "/get?k=seen").await.ok().body, "");
    // A browser that returns has the layer's timeout from then on.
    let mut browser = Browser::new();
    browser.get(&app, "/landing").await.ok();
    browser.get(&app, "/landing").await.ok();
    advance(120 * SECOND).await;
    assert_eq!(browser.get(&app, "/get?k=seen").await.ok().body, "yes");
}
