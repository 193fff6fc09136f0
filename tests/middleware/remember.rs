//! "Remember me": how long the browser keeps the cookie.

use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use distributable::{Persistence, Session, SessionCookie, SessionError, SessionLayer};
use tokio::time::advance;

use super::support::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn with(layer: SessionLayer) -> Router {
    let remember = async |session: Session, Path(secs): Path<u64>| -> Result<(), SessionError> {
        session.set_persistence(match secs {
            0 => Persistence::BrowserSession,
            secs => Persistence::MaxAge(Duration::from_secs(secs)),
        })
    };
    let login = async |session: Session, Path(secs): Path<u64>| -> Result<(), SessionError> {
        session.set_persistence(Persistence::MaxAge(Duration::from_secs(secs)))?;
        session.insert("uid", "joe")
    };
    routes()
        .route("/remember/{secs}", get(remember))
        .route("/login/{secs}", get(login))
        .route(
            "/names",
            get(async |session: Session| session.names().join(" ")),
        )
        .layer(layer)
}

fn patient(store: &Spy) -> SessionLayer {
    layer(store)
        .with_idle_timeout(None)
        .with_absolute_timeout(500 * DAY)
}

fn age(reply: &Reply) -> Option<u64> {
    let cookie = reply.set_cookie().expect("a cookie");
    let age = cookie
        .split("; ")
        .find_map(|it| it.strip_prefix("Max-Age="))?;
    Some(age.parse().unwrap())
}

#[tokio::test]
async fn a_remembered_session_has_its_age_whenever_its_cookie_is_sent() {
    let store = Spy::new();
    let route = |name| distributable::Route::new(name).unwrap();
    let one = with(patient(&store).with_route(route("node1")));
    let two = with(patient(&store).with_route(route("node2")));
    let mut browser = Browser::new();
    assert_eq!(
        age(&browser.get(&one, "/login/86400").await.ok()),
        Some(86400)
    );
    browser
        .get(&one, "/get?k=uid")
        .await
        .ok()
        .assert_no_cookie();
    assert_eq!(age(&browser.get(&one, "/rotate").await.ok()), Some(86400));
    assert_eq!(
        age(&browser.get(&two, "/get?k=uid").await.ok()),
        Some(86400)
    );
    browser
        .get(&two, "/get?k=uid")
        .await
        .ok()
        .assert_no_cookie();
    assert_eq!(
        browser.get(&two, "/names").await.body,
        "uid",
        "ours is not shown"
    );
}

#[tokio::test]
async fn changing_it_sends_the_cookie_again_and_the_same_again_does_not() {
    let store = Spy::new();
    let app = with(patient(&store));
    let mut browser = Browser::new();
    assert_eq!(age(&browser.get(&app, "/set?k=a&v=1").await.ok()), None);
    let id = browser.bare();
    browser
        .get(&app, "/remember/0")
        .await
        .ok()
        .assert_no_cookie();
    assert_eq!(age(&browser.get(&app, "/remember/60").await.ok()), Some(60));
    browser
        .get(&app, "/remember/60")
        .await
        .ok()
        .assert_no_cookie();
    assert_eq!(age(&browser.get(&app, "/remember/0").await.ok()), None);
    browser
        .get(&app, "/remember/0")
        .await
        .ok()
        .assert_no_cookie();
    assert_eq!(browser.bare(), id);
}

#[tokio::test]
async fn alone_it_makes_no_session() {
    let store = Spy::new();
    let app = with(patient(&store));
    let mut browser = Browser::new();
    browser
        .get(&app, "/remember/60")
        .await
        .ok()
        .assert_no_cookie();
    assert_eq!(store.calls(), 0);
}

#[tokio::test]
async fn no_cookie_lives_longer_than_four_hundred_days() {
    let app = with(patient(&Spy::new()));
    let reply = Browser::new()
        .get(&app, &format!("/login/{}", u64::MAX))
        .await
        .ok();
    assert_eq!(age(&reply), Some(400 * 86400));
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_keeps_coming_back_keeps_its_cookie() {
    let store = Spy::new();
    let app = with(patient(&store));
    let mut browser = Browser::new();
    let month = 30 * 86400;
    browser.get(&app, &format!("/login/{month}")).await.ok();
    let mut sent = 0;
    for _ in 0..100 {
        advance(DAY / 10).await;
        let reply = browser.get(&app, "/get?k=uid").await.ok();
        assert_eq!(reply.body, "joe");
        if reply.set_cookie().is_some() {
            assert_eq!(age(&reply), Some(month));
            sent += 1;
        }
    }
    assert_eq!(sent, 10, "once a day");
}

#[tokio::test]
async fn the_layers_age_goes_for_sessions_that_say_nothing() {
    let store = Spy::new();
    let cookie = SessionCookie::builder("JSESSIONID").persistence(Persistence::MaxAge(DAY));
    let app = with(patient(&store).with_cookie(cookie.build().unwrap()));
    let mut browser = Browser::new();
    assert_eq!(
        age(&browser.get(&app, "/set?k=a&v=1").await.ok()),
        Some(86400)
    );
    browser.get(&app, "/get?k=a").await.ok().assert_no_cookie();
    assert_eq!(age(&browser.get(&app, "/remember/0").await.ok()), None);
    assert_eq!(age(&browser.get(&app, "/rotate").await.ok()), None);
    browser.get(&app, "/logout").await.ok();
    assert_eq!(store.sessions(), 0);
}
