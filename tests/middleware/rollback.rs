//! Rotations whose outcome is unknown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use distributable::session::{Changes, Loaded, Outcome, Record, SecretHash};
use distributable::{
    MemoryStore, Root, Session, SessionError, SessionLayer, SessionStore, StoreError,
};
use tokio::time::advance;

use super::support::*;

/// Waits until the browser's id opens its session again.
async fn until_it_works(browser: &Browser, app: &Router) {
    for _ in 0..10_000 {
        if browser.clone().get(app, "/info").await.ok().body == "true" {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the former id stays dead");
}

/// S3.
#[tokio::test]
async fn a_login_of_unknown_outcome_is_taken_back_with_all_that_it_wrote() {
    let store = Spy::new();
    let handler = async |session: Session| -> Result<(), SessionError> {
        session.log_in("joe")?;
        session.insert("uid", "joe")?;
        session.insert("a", "2")?;
        session.remove("b")?;
        session.set_idle_timeout(Some(Duration::from_secs(99)))
    };
    let app = routes().route("/doubt", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    for path in ["/set?k=a&v=1", "/set?k=b&v=1"] {
        browser.get(&app, path).await.ok();
    }
    let key = store.ids.lock().unwrap()[0].key();
    let before = find(&store, &key).await;
    store.doubt_once(in_doubt);
    let reply = browser.get(&app, "/doubt").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    reply.assert_no_cookie();

    until_it_works(&browser, &app).await;
    for (path, body) in [
        ("/get?k=a", "1"),
        ("/get?k=b", "1"),
        ("/has?k=uid", "false"),
        ("/user", ""),
    ] {
        assert_eq!(browser.get(&app, path).await.ok().body, body, "{path}");
    }
    let after = find(&store, &key).await;
    assert_eq!(after.idle_timeout(), before.idle_timeout());
    let later = after.absolute_deadline().since(before.absolute_deadline());
    assert!(later < Duration::from_secs(5), "{later:?}");
    browser.get(&app, "/login?uid=joe").await.ok();
    assert_eq!(browser.get(&app, "/get?k=uid").await.ok().body, "joe");
}

/// S3. The store is away for a while before it can be asked.
#[tokio::test(start_paused = true)]
async fn a_rotation_is_taken_back_when_the_store_answers_again() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    store.doubt_once(in_doubt);
    let reply = browser.get(&app, "/rotate").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    store.break_with(down);
    for _ in 0..30 {
        advance(Duration::from_secs(1)).await;
    }
    store.repair();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
    assert_eq!(browser.get(&app, "/info").await.ok().body, "true");
}

/// A handler that tries again after the error must not lose what its second attempt has done.
#[tokio::test(start_paused = true)]
async fn a_rotation_that_is_tried_again_is_not_taken_back() {
    let store = Spy::new();
    let watcher = store.clone();
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session.log_in("joe")?;
        watcher.break_only("commit", in_doubt);
        session.save().await.unwrap_err();
        watcher.repair();
        session.save().await
    };
    let app = routes().route("/again", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/again").await.ok();
    // The task that takes the first attempt back tries for ten seconds.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(browser.get(&app, "/user").await.ok().body, user_key("joe"));
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
}

/// A store that cannot write the lists of users' sessions for a while.
#[derive(Clone, Default)]
struct WithoutLists {
    inner: MemoryStore,
    is_broken: Arc<AtomicBool>,
}

impl SessionStore for WithoutLists {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        self.inner.load(key, secret).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        if key.is_index() && self.is_broken.load(Ordering::SeqCst) {
            return Err(down());
        }
        self.inner.commit(key, base, changes).await
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        self.inner.touch(key).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        self.inner.delete(key).await
    }
}

/// "Log out everywhere" would not find the session.
#[tokio::test]
async fn a_login_that_is_not_listed_is_taken_back() {
    let store = WithoutLists::default();
    let app = routes().layer(SessionLayer::new(store.clone()));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    store.is_broken.store(true, Ordering::SeqCst);
    // In a session that exists, and in a new one.
    let reply = browser.get(&app, "/login?uid=joe").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    reply.assert_no_cookie();
    until_it_works(&browser, &app).await;
    assert_eq!(browser.get(&app, "/user").await.ok().body, "");
    assert_eq!(browser.get(&app, "/has?k=uid").await.ok().body, "false");
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
    let reply = Browser::new().get(&app, "/login?uid=joe").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    reply.assert_no_cookie();
    assert_eq!(store.inner.status().sessions, 1);
}
