//! Sessions after their response was sent.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use distributable::{
    MemoryStore, Persistence, Session, SessionError, SessionErrorKind, SessionLayer,
};
use futures_util::{FutureExt, stream};
use http_body_util::BodyExt;
use tokio::time::{advance, timeout};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;

use super::support::*;

/// Where a handler leaves a session for the test.
type Shelf = Arc<Mutex<Option<Session>>>;

/// A node whose `/keep` puts the session on the shelf, and whose `/detach` a detached one.
fn keeping(store: &Spy) -> (Router, Shelf) {
    let shelf = Shelf::default();
    let (one, two) = (shelf.clone(), shelf.clone());
    let keep = async move |session: Session| *one.lock().unwrap() = Some(session);
    let detach = async move |session: Session| *two.lock().unwrap() = Some(session.detached());
    let app = routes()
        .route("/keep", get(keep))
        .route("/detach", get(detach))
        .layer(layer(store));
    (app, shelf)
}

#[track_caller]
fn too_late<T: std::fmt::Debug>(result: Result<T, SessionError>) {
    assert_eq!(result.unwrap_err().kind(), SessionErrorKind::TooLate);
}

#[tokio::test]
async fn a_kept_clone_cannot_write_any_more_and_still_read() {
    let store = Spy::new();
    let (app, shelf) = keeping(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/keep").await.ok();

    let session = shelf.lock().unwrap().take().unwrap();
    too_late(session.insert("a", "2"));
    too_late(session.remove("a"));
    too_late(session.clear());
    too_late(session.cycle_id());
    too_late(session.set_idle_timeout(None));
    too_late(session.set_persistence(Persistence::MaxAge(Duration::from_secs(60))));
    too_late(session.update("a", |_: Option<String>| String::new()).await);
    assert_eq!(session.get::<String>("a").unwrap().as_deref(), Some("1"));
    session.save().await.unwrap();
    assert_eq!(store.commits.get(), 1);
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
    // Ending it is never too late.
    assert!(session.invalidate().await.unwrap());
    assert_eq!(browser.get(&app, "/info").await.body, "false");
}

#[tokio::test]
async fn a_detached_handle_saves_as_often_as_it_likes() {
    let store = Spy::new();
    let (app, shelf) = keeping(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/detach").await.ok();

    let session = shelf.lock().unwrap().take().unwrap();
    let clone = session.clone();
    for n in 2..5 {
        session.insert("a", &n.to_string()).unwrap();
        clone.insert("b", &n.to_string()).unwrap();
        assert_eq!(
            browser.get(&app, "/get?k=a").await.body,
            (n - 1).to_string()
        );
        clone.save().await.unwrap();
        assert_eq!(browser.get(&app, "/get?k=a").await.body, n.to_string());
        assert_eq!(browser.get(&app, "/get?k=b").await.body, n.to_string());
    }
    let n = session
        .update("n", |n: Option<u64>| n.unwrap_or(0) + 1)
        .await
        .unwrap();
    assert_eq!(n, 1);
    assert_eq!(browser.get(&app, "/incr").await.body, "2");
    too_late(session.cycle_id());
    too_late(session.set_persistence(Persistence::MaxAge(Duration::from_secs(60))));
}

/// The response is an error, and what it did not store is stored later.
#[tokio::test]
async fn a_detached_handle_saves_what_the_response_could_not() {
    let store = Spy::new();
    let shelf = Shelf::default();
    let kept = shelf.clone();
    let handler = async move |session: Session| {
        *kept.lock().unwrap() = Some(session.detached());
        session.insert("b", "1")
    };
    let app = routes().route("/write", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    store.break_only("commit", down);
    let reply = browser.get(&app, "/write").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    store.repair();
    let session = shelf.lock().unwrap().take().unwrap();
    session.save().await.unwrap();
    assert_eq!(browser.get(&app, "/get?k=b").await.ok().body, "1");
}

#[tokio::test]
async fn a_detached_handle_does_not_bring_a_session_back() {
    let store = Spy::new();
    let (app, shelf) = keeping(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/detach").await.ok();
    let old = browser.clone();
    browser.get(&app, "/logout").await.ok();

    let session = shelf.lock().unwrap().take().unwrap();
    session.insert("a", "2").unwrap();
    assert_eq!(
        session.save().await.unwrap_err().kind(),
        SessionErrorKind::Invalidated
    );
    assert_eq!(
        session.insert("a", "3").unwrap_err().kind(),
        SessionErrorKind::Invalidated
    );
    assert_eq!(store.sessions(), 0);
    assert_eq!(old.clone().get(&app, "/info").await.body, "false");
    // Nor does it create a new session, whose cookie no client would receive.
    session.invalidate().await.unwrap();
    too_late(session.insert("a", "3"));
}

#[tokio::test(start_paused = true)]
async fn a_detached_handle_wakes_when_another_request_changes_the_session() {
    let store = Spy::new();
    let (app, shelf) = keeping(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/detach").await.ok();
    let session = shelf.lock().unwrap().take().unwrap();
    let waits = async |session: &Session| {
        let changed = timeout(Duration::from_secs(30), session.changed()).await;
        changed.is_err()
    };
    // Neither reading nor what the handle writes itself is a change.
    browser.get(&app, "/get?k=a").await.ok();
    session.insert("b", "1").unwrap();
    session.save().await.unwrap();
    assert!(waits(&session).await);
    for path in ["/set?k=a&v=2", "/remove?k=b", "/rotate"] {
        let waiting = tokio::spawn({
            let session = session.clone();
            async move { session.changed().await }
        });
        tokio::task::yield_now().await;
        browser.get(&app, path).await.ok();
        waiting.await.unwrap().unwrap();
        assert!(waits(&session).await, "after {path}");
    }
    assert_eq!(session.get::<String>("a").unwrap().as_deref(), Some("2"));
    browser.get(&app, "/logout").await.ok();
    let ended = session.changed().await.unwrap_err();
    assert_eq!(ended.kind(), SessionErrorKind::Invalidated);
}

/// No timer runs out on the way: the clock is paused, and advances only when all tasks wait.
#[tokio::test(start_paused = true)]
async fn a_store_in_memory_wakes_a_detached_handle_at_once() {
    let shelf = Shelf::default();
    let keep = shelf.clone();
    let detach = async move |session: Session| *keep.lock().unwrap() = Some(session.detached());
    let store = MemoryStore::new();
    let layer = SessionLayer::new(store);
    let app = routes().route("/detach", get(detach)).layer(layer);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/detach").await.ok();
    let session = shelf.lock().unwrap().take().unwrap();
    // The handle follows the rotation and sees what is written under the new id.
    for path in ["/set?k=a&v=2", "/rotate", "/set?k=a&v=3", "/remove?k=a"] {
        let waiting = tokio::spawn({
            let session = session.clone();
            async move { session.changed().await }
        });
        tokio::task::yield_now().await;
        let start = tokio::time::Instant::now();
        browser.get(&app, path).await.ok();
        waiting.await.unwrap().unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO, "after {path}");
    }
    assert_eq!(session.get::<String>("a").unwrap(), None);
    let waiting = tokio::spawn(async move { session.changed().await });
    tokio::task::yield_now().await;
    let start = tokio::time::Instant::now();
    browser.get(&app, "/logout").await.ok();
    let ended = waiting.await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), SessionErrorKind::Invalidated);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// W-14.
#[tokio::test(start_paused = true)]
async fn a_detached_handle_uses_the_session_when_it_touches_it_and_fails_after_its_end() {
    let store = Spy::new();
    let shelf = Shelf::default();
    let keep = shelf.clone();
    let detach = async move |session: Session| *keep.lock().unwrap() = Some(session.detached());
    let second = Duration::from_secs(1);
    let layer = || layer(&store).with_idle_timeout(Some(10 * second));
    let app = routes().route("/detach", get(detach)).layer(layer());
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/detach").await.ok();
    let session = shelf.lock().unwrap().take().unwrap();
    for _ in 0..30 {
        advance(9 * second).await;
        session.touch().await.unwrap();
        session.clone().touch().await.unwrap();
    }
    assert_eq!(store.touches.get(), 30);
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
    // Holding it is no use.
    let mut other = Browser::new();
    other.get(&app, "/set?k=a&v=1").await.ok();
    other.get(&app, "/detach").await.ok();
    let idle = shelf.lock().unwrap().take().unwrap();
    advance(12 * second).await;
    let ended = |result: Result<(), SessionError>| result.unwrap_err().kind();
    for _ in 0..2 {
        assert_eq!(ended(idle.touch().await), SessionErrorKind::Invalidated);
    }
    assert_eq!(ended(session.touch().await), SessionErrorKind::Invalidated);
    assert_eq!(ended(session.reload().await), SessionErrorKind::Invalidated);
}

/// W-14.
#[tokio::test(start_paused = true)]
async fn touching_follows_a_rotation_and_not_a_login_and_goes_on_when_its_caller_has_left() {
    let store = Spy::new();
    let shelf = Shelf::default();
    let keep = shelf.clone();
    let detach = async move |session: Session| *keep.lock().unwrap() = Some(session.detached());
    let second = Duration::from_secs(1);
    let layer = || layer(&store).with_idle_timeout(Some(10 * second));
    let app = routes().route("/detach", get(detach)).layer(layer());
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/detach").await.ok();
    let session = shelf.lock().unwrap().take().unwrap();
    browser.get(&app, "/rotate").await.ok();
    for _ in 0..3 {
        advance(9 * second).await;
        session.touch().await.unwrap();
    }
    // The caller leaves while the store is busy.
    advance(9 * second).await;
    store
        .load_pauses
        .store(2, std::sync::atomic::Ordering::SeqCst);
    let touches = store.touches.get();
    assert!(session.touch().now_or_never().is_none());
    eventually(|| store.touches.get() > touches).await;
    store
        .load_pauses
        .store(0, std::sync::atomic::Ordering::SeqCst);
    advance(9 * second).await;
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");

    let touches = store.touches.get();
    browser.get(&app, "/login?uid=ada").await.ok();
    advance(9 * second).await;
    let refused = session.touch().await.unwrap_err();
    assert_eq!(refused.kind(), SessionErrorKind::Superseded);
    assert_eq!(store.touches.get(), touches);
    // A failing store is a typed error, and no end of the session.
    browser.get(&app, "/detach").await.ok();
    let session = shelf.lock().unwrap().take().unwrap();
    advance(9 * second).await;
    store.break_with(down);
    let refused = session.touch().await.unwrap_err();
    assert!(matches!(refused.kind(), SessionErrorKind::Store(_)));
    store.repair();
    session.touch().await.unwrap();
    advance(9 * second).await;
    assert_eq!(browser.get(&app, "/user").await.ok().body, user_key("ada"));
}

#[tokio::test]
async fn a_detached_handle_of_no_session_cannot_make_one() {
    let store = Spy::new();
    let (app, shelf) = keeping(&store);
    Browser::new().get(&app, "/detach").await.ok();
    let session = shelf.lock().unwrap().take().unwrap();
    too_late(session.insert("a", "2"));
    too_late(session.update("a", |_: Option<u8>| 1).await);
    assert_eq!(store.calls(), 0);
}

#[tokio::test]
async fn what_a_detached_handle_writes_before_the_response_goes_with_it() {
    let handler = async |session: Session| -> Result<(), SessionError> {
        session.detached().insert("a", "1")
    };
    let app = routes().route("/", get(handler)).layer(layer(&Spy::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/").await.ok();
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
}

#[tokio::test]
async fn a_task_that_was_spawned_saves_by_itself() {
    let store = Spy::new();
    let (go, done) = (Flag::default(), Flag::default());
    let (start, end) = (go.clone(), done.clone());
    let handler = async move |session: Session| {
        let (session, start, end) = (session.detached(), start.clone(), end.clone());
        tokio::spawn(async move {
            eventually(|| start.is_raised()).await;
            session.insert("a", "from the task").unwrap();
            session.save().await.unwrap();
            end.raise();
        });
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/").await.ok();
    go.raise();
    eventually(|| done.is_raised()).await;
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "from the task");
}

/// A body of one frame, created when it is read: after the head.
fn late_body(text: impl Future<Output = String> + Send + 'static) -> Body {
    Body::from_stream(stream::once(text.map(Ok::<_, Infallible>)))
}

/// 13.
#[tokio::test]
async fn asking_first_inside_a_body_comes_too_late() {
    let store = Spy::new();
    let handler = async |parts: Parts| {
        late_body(async move {
            let error = Session::from_parts(&parts).await.unwrap_err();
            format!("{:?}", error.kind())
        })
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let calls = store.calls();
    let response = app.oneshot(browser.request("/")).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "TooLate");
    assert_eq!(store.calls(), calls);
}

#[tokio::test]
async fn a_body_writes_through_a_detached_handle_only() {
    let store = Spy::new();
    let handler = async |session: Session| {
        let detached = session.detached();
        late_body(async move {
            let plain = session.insert("a", "plain").unwrap_err().kind();
            detached.insert("a", "detached").unwrap();
            detached.save().await.unwrap();
            format!("{plain:?}")
        })
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let response = app.clone().oneshot(browser.request("/")).await.unwrap();
    // While the stream is open, no request waits for it.
    assert_eq!(browser.get(&app, "/incr").await.ok().body, "1");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "TooLate");
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "detached");
    assert_eq!(browser.get(&app, "/incr").await.body, "2");
}

///
#[tokio::test]
async fn clones_in_two_tasks_are_one_session() {
    let handler = async |session: Session| -> Result<(), SessionError> {
        let tasks = ["a", "b"].map(|name| {
            let session = session.clone();
            tokio::spawn(async move {
                session.insert(name, "1")?;
                session.save().await?;
                session.insert(name, "2")
            })
        });
        for task in tasks {
            task.await.unwrap()?;
        }
        Ok(())
    };
    let store = Spy::new();
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/").await.ok();
    assert_eq!(store.sessions(), 1);
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "2");
    assert_eq!(browser.get(&app, "/get?k=b").await.body, "2");
}

#[tokio::test]
async fn losing_changes_of_a_detached_handle_is_logged() {
    let log = super::privacy::Log::default();
    let _guard = log.listen();
    let store = Spy::new();
    let (app, shelf) = keeping(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    for (write, save, warns) in [
        (false, false, false),
        (true, true, false),
        (true, false, true),
    ] {
        browser.get(&app, "/detach").await.ok();
        let session = shelf.lock().unwrap().take().unwrap();
        let clone = session.clone();
        if write {
            session.insert("a", &log.text().len()).unwrap();
        }
        if save {
            session.save().await.unwrap();
        }
        drop(session);
        assert!(!log.text().contains("unsaved"));
        drop(clone);
        assert_eq!(log.text().contains("unsaved"), warns);
    }
}

/// How a request ends without a response that carries its session's new id.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Silence {
    CommitFails,
    CommitPanics,
    Cancellation,
}

/// A handler stages a rotation or a login and hands a detached handle to a task. No response
/// carries the new id: the commit fails, or the request is canceled. Then the task saves. What the
/// handler has written for the new id is not readable with the former one, which may be planted.
#[tokio::test]
async fn a_detached_handle_stores_no_rotation_that_no_response_has_announced() {
    let paths = ["/rotation", "/user"];
    let ways = [
        Silence::CommitFails,
        Silence::CommitPanics,
        Silence::Cancellation,
    ];
    for (path, way) in paths
        .into_iter()
        .flat_map(|path| ways.map(|way| (path, way)))
    {
        let store = Spy::new();
        let shelf = Shelf::default();
        let keep = shelf.clone();
        let handler = async move |session: Session, uri: Uri| -> Result<(), SessionError> {
            session.insert("b", "1")?;
            match uri.path() {
                "/rotation" => session.cycle_id()?,
                _ => session.log_in("ada")?,
            }
            *keep.lock().unwrap() = Some(session.detached());
            if way == Silence::Cancellation {
                pending::<()>().await;
            }
            Ok(())
        };
        let own = Router::new().route(path, get(handler));
        let app = own.layer(layer(&store)).layer(CatchPanicLayer::new());
        let others = self::app(&store);
        let mut browser = Browser::new();
        browser.get(&others, "/set?k=a&v=1").await.ok();
        if way == Silence::Cancellation {
            let request = app.clone().oneshot(browser.request(path));
            assert!(request.now_or_never().is_none());
        } else {
            store.break_only(
                "commit",
                match way {
                    Silence::CommitPanics => || panic!("a store's bug"),
                    _ => down,
                },
            );
            let reply = browser.get(&app, path).await;
            assert!(reply.status.is_server_error());
            reply.assert_no_cookie();
            store.repair();
        }
        let session = shelf.lock().unwrap().take().unwrap();
        if way != Silence::CommitPanics {
            assert_eq!(session.user(), None, "{path} {way:?}");
        }
        too_late(session.save().await);
        assert_eq!(session.user(), None, "{path} {way:?}");
        session.insert("c", "1").unwrap();
        session.save().await.unwrap();
        session.update("n", |_: Option<u8>| 1).await.unwrap();
        for (name, value) in [("a", "1"), ("b", ""), ("c", "1")] {
            let reply = browser.get(&others, &format!("/get?k={name}")).await.ok();
            assert_eq!(reply.body, value, "{path} {way:?}");
        }
        assert_eq!(browser.get(&others, "/user").await.ok().body, "");
    }
}

/// As before, with a clone that is not detached.
#[tokio::test]
async fn a_kept_clone_stores_no_rotation_that_no_response_has_announced() {
    let store = Spy::new();
    let shelf = Shelf::default();
    let keep = shelf.clone();
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session.log_in("ada")?;
        *keep.lock().unwrap() = Some(session);
        Ok(())
    };
    let app = routes().route("/keep", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    store.break_only("commit", down);
    browser.get(&app, "/keep").await.assert_no_cookie();
    store.repair();
    let session = shelf.lock().unwrap().take().unwrap();
    too_late(session.save().await);
    session.save().await.unwrap();
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
}

#[tokio::test]
async fn a_detached_handle_keeps_the_session_when_its_user_logs_in_again() {
    let store = Spy::new();
    let (app, shelf) = keeping(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/login?uid=ada").await.ok();
    browser.get(&app, "/detach").await.ok();
    let session = shelf.lock().unwrap().take().unwrap();
    browser.get(&app, "/login?uid=ada").await.ok();
    session.insert("progress", "done").unwrap();
    session.save().await.unwrap();
    let reply = browser.get(&app, "/get?k=progress").await.ok();
    assert_eq!(reply.body, "done");
    browser.get(&app, "/login?uid=bob").await.ok();
    let lost = session.reload().await.unwrap_err();
    assert_eq!(lost.kind(), SessionErrorKind::Superseded);
}
