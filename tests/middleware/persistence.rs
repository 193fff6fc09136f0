//! "Remember me": how long the browser keeps the cookie.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use distributable::{Peek, Persistence, Session, SessionCookie, SessionError, SessionLayer};
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

/// The `Max-Age` of a cookie with this age: longer by what may pass before it is sent again.
const fn sent(age: u64) -> Option<u64> {
    let tenth = age.div_ceil(10);
    Some(age + if tenth < 86400 { tenth } else { 86400 })
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
        sent(86400)
    );
    browser
        .get(&one, "/get?k=uid")
        .await
        .ok()
        .assert_no_cookie();
    assert_eq!(age(&browser.get(&one, "/rotate").await.ok()), sent(86400));
    assert_eq!(
        age(&browser.get(&two, "/get?k=uid").await.ok()),
        sent(86400)
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

/// W-06.
#[tokio::test]
async fn setting_an_age_sends_the_cookie_again_and_no_age_again_does_not() {
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
    assert_eq!(age(&browser.get(&app, "/remember/60").await.ok()), sent(60));
    // The same again begins anew.
    assert_eq!(age(&browser.get(&app, "/remember/60").await.ok()), sent(60));
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

/// 39.
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
    let mut times = 0;
    for _ in 0..100 {
        advance(DAY / 10).await;
        let reply = browser.get(&app, "/get?k=uid").await.ok();
        assert_eq!(reply.body, "joe");
        if reply.set_cookie().is_some() {
            assert_eq!(age(&reply), sent(month));
            times += 1;
        }
    }
    assert_eq!(times, 10, "once a day");
}

/// To record that the cookie was sent again would be an access.
#[tokio::test(start_paused = true)]
async fn a_page_that_polls_does_not_renew_the_cookie() {
    let store = Spy::new();
    let minute = Duration::from_secs(60);
    let poll = async |session: Peek| session.exists().to_string();
    let app = with(patient(&store).with_idle_timeout(Some(minute)));
    let app = app.merge(
        Router::new()
            .route("/poll", get(poll))
            .layer(patient(&store).with_idle_timeout(Some(minute))),
    );
    let mut browser = Browser::new();
    browser.get(&app, "/login/100").await.ok();
    for _ in 0..2 {
        advance(minute / 2).await;
        let reply = browser.get(&app, "/poll").await.ok();
        assert_eq!(reply.body, "true");
        reply.assert_no_cookie();
    }
    advance(minute / 2).await;
    assert_eq!(browser.get(&app, "/poll").await.ok().body, "false");
}

/// W-06: age and idle timeout of 10 seconds, and visits just before the cookie is sent again.
#[tokio::test(start_paused = true)]
async fn a_cookie_lives_for_its_age_after_the_last_visit() {
    const SECOND: Duration = Duration::from_secs(1);
    for secs in [1, 7, 10, 86_400, 30 * 86_400] {
        let store = Spy::new();
        let app = with(patient(&store));
        let mut browser = Browser::new();
        let reply = browser.get(&app, &format!("/login/{secs}")).await.ok();
        let mut expires = age(&reply).unwrap() as f64;
        let mut now = 0.0;
        let step = Duration::from_secs(secs) / 21;
        for _ in 0..100 {
            advance(step).await;
            now += step.as_secs_f64();
            assert!(now < expires, "the browser has dropped it");
            let reply = browser.get(&app, "/get?k=uid").await.ok();
            if reply.set_cookie().is_some() {
                expires = now + age(&reply).unwrap() as f64;
            }
            assert!(expires >= now + secs as f64, "{secs}: {now} {expires}");
        }
        advance(SECOND).await;
    }
}

/// W-06: the layer has an age since the last restart, and the session is older.
#[tokio::test]
async fn a_session_without_an_age_gets_that_of_the_layer_when_it_is_used() {
    let store = Spy::new();
    let before = with(patient(&store));
    let cookie = SessionCookie::builder("JSESSIONID").persistence(Persistence::MaxAge(DAY));
    let after = with(patient(&store).with_cookie(cookie.build().unwrap()));
    let mut browser = Browser::new();
    browser.get(&before, "/set?k=a&v=1").await.ok();
    let reply = browser.get(&after, "/get?k=a").await.ok();
    assert_eq!(age(&reply), sent(86400));
    browser
        .get(&after, "/get?k=a")
        .await
        .ok()
        .assert_no_cookie();
}

#[tokio::test]
async fn the_layers_age_goes_for_sessions_that_say_nothing() {
    let store = Spy::new();
    let cookie = SessionCookie::builder("JSESSIONID").persistence(Persistence::MaxAge(DAY));
    let app = with(patient(&store).with_cookie(cookie.build().unwrap()));
    let mut browser = Browser::new();
    assert_eq!(
        age(&browser.get(&app, "/set?k=a&v=1").await.ok()),
        sent(86400)
    );
    browser.get(&app, "/get?k=a").await.ok().assert_no_cookie();
    assert_eq!(age(&browser.get(&app, "/remember/0").await.ok()), None);
    assert_eq!(age(&browser.get(&app, "/rotate").await.ok()), None);
    browser.get(&app, "/logout").await.ok();
    assert_eq!(store.sessions(), 0);
}

/// The cookie is to be sent again, and the commit of the request fails. A detached handle saves.
#[tokio::test(start_paused = true)]
async fn a_cookie_that_a_failed_response_did_not_carry_is_sent_with_the_next_one() {
    let store = Spy::new();
    let shelf = Arc::new(Mutex::new(None));
    let keep = shelf.clone();
    let handler = async move |session: Session| *keep.lock().unwrap() = Some(session.detached());
    let own = Router::new().route("/keep", get(handler));
    let app = with(patient(&store)).merge(own.layer(patient(&store)));
    let mut browser = Browser::new();
    let month = 30 * 86400;
    browser.get(&app, &format!("/login/{month}")).await.ok();
    advance(2 * DAY).await;
    store.break_only("commit", down);
    let reply = browser.get(&app, "/keep").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    store.repair();
    let session = shelf.lock().unwrap().take().unwrap();
    session.insert("a", "1").unwrap();
    session.save().await.unwrap();
    let reply = browser.get(&app, "/get?k=a").await.ok();
    assert_eq!((reply.body.as_str(), age(&reply)), ("1", sent(month)));
}
