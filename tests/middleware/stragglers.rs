//! Requests with a former id: sent, or still running, when another request rotates the id.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use distributable::{Persistence, Route, Session, SessionError, SessionErrorKind};
use tokio::time::advance;

use super::support::*;

/// A browser with a session in which `a` is 1.
async fn visitor(app: &Router) -> Browser {
    let mut browser = Browser::new();
    browser.get(app, "/set?k=a&v=1").await.ok();
    browser
}

#[track_caller]
fn superseded<T: std::fmt::Debug>(result: Result<T, SessionError>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::Superseded);
    assert_eq!(error.status(), StatusCode::CONFLICT);
}

/// W-04. The browser keeps the cookie of the response that it receives last.
#[tokio::test]
async fn a_login_among_eight_tabs_that_write_stays() {
    const TABS: usize = 8;
    let (mut landed, mut refused) = (0, 0);
    for round in 0..100 {
        let store = Spy::new();
        let (one, two) = (node(&store, "node1"), node(&store, "node2"));
        let old = visitor(&one).await;
        store.pauses.store(round % 7, Ordering::SeqCst);
        store.load_pauses.store(round % 3, Ordering::SeqCst);
        let jar = Arc::new(Mutex::new(old.clone()));
        let tabs = (0..TABS).map(|tab| {
            let (old, jar) = (old.clone(), jar.clone());
            let app = [&one, &two][tab % 2].clone();
            tokio::spawn(async move {
                let mut statuses = Vec::new();
                for n in 0..3 + tab {
                    let path = format!("/set?k=tab{tab}&v={n}");
                    let reply = send(&app, old.request(&path)).await;
                    jar.lock().unwrap().take(&reply);
                    statuses.push(reply);
                }
                statuses
            })
        });
        let tabs: Vec<_> = tabs.collect();
        for _ in 0..round % 11 {
            tokio::task::yield_now().await;
        }
        let reply = send(&one, old.request("/login?uid=joe")).await.ok();
        assert!(reply.set_cookie().is_some());
        jar.lock().unwrap().take(&reply);
        for tab in tabs {
            for reply in tab.await.unwrap() {
                match reply.status.as_u16() {
                    200 => landed += 1,
                    409 => {
                        refused += 1;
                        reply.assert_no_cookie();
                    }
                    _ => panic!("{reply:?}"),
                }
            }
        }
        store.pauses.store(0, Ordering::SeqCst);
        let mut browser = jar.lock().unwrap().clone();
        for app in [&one, &two] {
            let uid = browser.get(app, "/get?k=uid").await.ok().body;
            assert_eq!(uid, "joe", "round {round}");
        }
        assert_eq!(store.sessions(), 1, "round {round}");
    }
    assert!(
        landed > 100 && refused > 100,
        "{landed} landed, {refused} refused"
    );
}

/// W-04.
#[tokio::test]
async fn a_straggler_reads_nothing_writes_nothing_and_sets_no_cookie() {
    let store = Spy::new();
    // Another node than the cookie names would send the cookie again with its own route.
    let (one, two) = (node(&store, "node1"), node(&store, "node2"));
    let old = visitor(&one).await;
    let mut browser = old.clone();
    browser.get(&one, "/login?uid=joe").await.ok();
    for node in [&one, &two] {
        for (path, body) in [
            ("/get?k=a", ""),
            ("/get?k=uid", ""),
            ("/has?k=a", "false"),
            ("/info", "false"),
            ("/user", ""),
            ("/logout", "false"),
        ] {
            let reply = old.clone().get(node, path).await.ok();
            assert_eq!(reply.body, body, "{path}");
            reply.assert_no_cookie();
        }
        for path in [
            "/set?k=a&v=2",
            "/remove?k=a",
            "/update",
            "/ttl?s=9",
            "/rotate",
        ] {
            let reply = old.clone().get(node, path).await;
            assert_eq!(reply.status, StatusCode::CONFLICT, "{path}");
            assert_eq!(reply.body, "the session id has been rotated", "{path}");
            reply.assert_no_cookie();
        }
        assert_eq!(browser.get(node, "/get?k=a").await.ok().body, "1");
        assert_eq!(browser.get(node, "/get?k=uid").await.ok().body, "joe");
        assert_eq!(store.sessions(), 1);
    }
}

/// W-04. A write at another node than the cookie names is stored, and a login is answered before
/// the write is: the cookie with this node's route would replace that of the login.
#[tokio::test]
async fn a_write_that_is_acknowledged_after_a_login_sets_no_cookie() {
    let slow = Spy::new();
    let quick = slow.without_pauses();
    let (one, two) = (node(&quick, "node1"), node(&slow, "node2"));
    let mut browser = visitor(&one).await;
    let mut late = browser.clone();
    slow.pauses.store(100, Ordering::SeqCst);
    let stored = slow.committed.lock().unwrap().len() + 1;
    let write = late.get(&two, "/set?k=b&v=1");
    let login = async {
        while slow.committed.lock().unwrap().len() < stored {
            tokio::task::yield_now().await;
        }
        browser.get(&one, "/login?uid=joe").await.ok()
    };
    let (write, login) = tokio::join!(write, login);
    assert!(login.set_cookie().is_some());
    write.ok().assert_no_cookie();
    assert_eq!(browser.get(&two, "/get?k=b").await.ok().body, "1");
    assert_eq!(browser.get(&two, "/get?k=uid").await.ok().body, "joe");
}

/// W-04. A second press of the login button.
#[tokio::test]
async fn a_straggler_that_logs_in_makes_a_session_of_its_own() {
    let store = Spy::new();
    let app = app(&store);
    let mut old = visitor(&app).await;
    let mut browser = old.clone();
    browser.get(&app, "/login?uid=joe").await.ok();
    old.get(&app, "/login?uid=eve").await.ok();
    assert_ne!(old.bare()[..24], browser.bare()[..24], "another root");
    for (browser, uid, a) in [(&mut browser, "joe", "1"), (&mut old, "eve", "")] {
        assert_eq!(browser.get(&app, "/get?k=uid").await.ok().body, uid);
        assert_eq!(browser.get(&app, "/user").await.ok().body, user_key(uid));
        assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, a);
    }
    assert_eq!(store.sessions(), 2);
}

/// W-04. A logout handler that greets, in a request that was sent before the login.
#[tokio::test]
async fn a_straggler_cannot_invalidate_its_way_to_a_new_session() {
    let store = Spy::new();
    let handler = async |session: Session| -> Result<(), SessionError> {
        assert!(!session.invalidate().await?);
        session.insert("flash", "goodbye")
    };
    let app = routes().route("/bye", get(handler)).layer(layer(&store));
    let old = visitor(&app).await;
    let mut browser = old.clone();
    browser.get(&app, "/login?uid=joe").await.ok();
    let reply = old.clone().get(&app, "/bye").await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    reply.assert_no_cookie();
    assert_eq!(browser.get(&app, "/get?k=uid").await.ok().body, "joe");
}

/// W-04.
#[tokio::test]
async fn after_a_logout_a_former_id_starts_a_new_session_at_once() {
    let store = Spy::new();
    let app = app(&store);
    let old = visitor(&app).await;
    let mut browser = old.clone();
    browser.get(&app, "/login?uid=joe").await.ok();
    let live = browser.clone();
    browser.get(&app, "/logout").await.ok();
    assert_eq!(browser.cookie, None);
    for mut former in [old, live] {
        let before = former.bare();
        former.get(&app, "/set?k=a&v=2").await.ok();
        assert_ne!(former.bare()[..24], before[..24]);
        assert_eq!(former.get(&app, "/get?k=a").await.ok().body, "2");
    }
    assert_eq!(store.sessions(), 2);
}

/// W-04.
#[tokio::test(start_paused = true)]
async fn a_minute_after_the_rotation_a_former_id_is_like_any_unknown_one() {
    let store = Spy::new();
    let app = app(&store);
    let old = visitor(&app).await;
    let mut browser = old.clone();
    browser.get(&app, "/rotate").await.ok();
    advance(Duration::from_millis(59_990)).await;
    let reply = old.clone().get(&app, "/set?k=a&v=2").await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    advance(Duration::from_millis(20)).await;
    let mut former = old.clone();
    former.get(&app, "/get?k=a").await.ok().assert_no_cookie();
    former.get(&app, "/set?k=a&v=2").await.ok();
    assert_ne!(former.bare()[..24], old.bare()[..24]);
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
}

/// How a request that is running goes on when another one has rotated the id.
async fn go_on(how: &str, session: &Session) -> Result<(), SessionError> {
    match how {
        "insert" => session.insert("late", "1"),
        "save" => {
            session.insert("late", "1")?;
            session.save().await
        }
        "update" => session.update("late", |_| "1".to_owned()).await.map(drop),
        "confirm" => {
            session.insert("a", "1")?;
            session.insert("late", "1")
        }
        _ => Ok(()),
    }
}

/// W-04. Handlers that wait, while another request with their id does `meanwhile`; their node is
/// not the one that the cookie names.
#[tokio::test]
async fn what_a_running_request_writes_lands_and_its_response_sets_no_cookie() {
    for meanwhile in ["/login?uid=joe", "/rotate"] {
        for how in ["read", "insert", "save", "update", "confirm"] {
            for route in ["node1", "node2"] {
                let store = Spy::new();
                let one = node(&store, "node1");
                let (rival, jar) = (one.clone(), Arc::new(Mutex::new(Browser::new())));
                let shared = jar.clone();
                let handler = async move |session: Session| -> Result<(), SessionError> {
                    let mut browser = Browser::holding(session.id().unwrap().expose());
                    browser.get(&rival, meanwhile).await.ok();
                    *shared.lock().unwrap() = browser;
                    go_on(how, &session).await
                };
                let layer = layer(&store).with_route(Route::new(route).unwrap());
                let app = routes().route("/late", get(handler)).layer(layer);
                let case = format!("{meanwhile} {how} {route}");
                let mut old = visitor(&one).await;
                let reply = old.get(&app, "/late").await;
                assert_eq!(reply.status, StatusCode::OK, "{case}");
                assert_eq!(reply.set_cookies(), Vec::<String>::new(), "{case}");
                let mut browser = jar.lock().unwrap().clone();
                let late = browser.get(&one, "/get?k=late").await.ok().body;
                assert_eq!(late, if how == "read" { "" } else { "1" }, "{case}");
                assert_eq!(browser.get(&one, "/get?k=a").await.ok().body, "1");
                assert_eq!(store.sessions(), 1);
            }
        }
    }
}

/// A running request reads nothing of what a login has put into its session, and ends nothing.
#[tokio::test]
async fn a_running_request_does_not_see_another_users_session() {
    let store = Spy::new();
    let rival = app(&store);
    let handler = async move |session: Session| -> Result<(), SessionError> {
        let mut browser = Browser::holding(session.id().unwrap().expose());
        browser.get(&rival, "/login?uid=joe").await.ok();
        browser.get(&rival, "/set?k=a&v=secret").await.ok();
        let mut seen = Vec::new();
        let update = session.update("a", |a: Option<String>| {
            seen.extend(a);
            "mine".to_owned()
        });
        superseded(update.await);
        assert_eq!(seen, ["1"]);
        superseded(session.reload().await);
        superseded(session.insert("b", "1"));
        superseded(session.cycle_id());
        assert!(!session.exists() && session.names().is_empty() && session.user().is_none());
        assert!(!session.invalidate().await?);
        assert_eq!(browser.get(&rival, "/get?k=a").await.ok().body, "secret");
        Ok(())
    };
    let app = routes().route("/late", get(handler)).layer(layer(&store));
    let old = visitor(&app).await;
    old.clone().get(&app, "/late").await.ok().assert_no_cookie();
}

/// Nor if its first call to the store is the logout.
#[tokio::test]
async fn a_running_request_does_not_end_another_users_session() {
    let store = Spy::new();
    let rival = app(&store);
    let handler = async move |session: Session| -> Result<(), SessionError> {
        let mut browser = Browser::holding(session.id().unwrap().expose());
        browser.get(&rival, "/login?uid=joe").await.ok();
        assert!(!session.invalidate().await?);
        superseded(session.insert("b", "1"));
        browser.get(&rival, "/set?k=a&v=secret").await.ok();
        assert_eq!(browser.get(&rival, "/get?k=a").await.ok().body, "secret");
        Ok(())
    };
    let app = routes().route("/late", get(handler)).layer(layer(&store));
    let old = visitor(&app).await;
    old.clone().get(&app, "/late").await.ok().assert_no_cookie();
}

#[tokio::test]
async fn of_two_rotations_at_once_the_second_is_refused_with_what_it_wrote() {
    let store = Spy::new();
    let handler = async |session: Session| -> Result<(), SessionError> {
        session.cycle_id()?;
        session.insert("b", "1")
    };
    let app = routes().route("/both", get(handler)).layer(layer(&store));
    let old = visitor(&app).await;
    let gate = store.close_gate();
    let [rotation, late] = ["/rotate", "/both"].map(|path| {
        let (app, mut browser) = (app.clone(), old.clone());
        tokio::spawn(async move { (browser.get(&app, path).await, browser) })
    });
    eventually(|| store.commits.get() == 3).await;
    gate.let_through(100);
    let (reply, mut browser) = rotation.await.unwrap();
    reply.ok();
    let (reply, _) = late.await.unwrap();
    assert_eq!(reply.status, StatusCode::CONFLICT);
    reply.assert_no_cookie();
    assert_eq!(browser.get(&app, "/has?k=b").await.ok().body, "false");
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
}

/// W-04.
#[tokio::test]
async fn of_two_logins_at_once_each_gets_a_session_of_its_own() {
    let store = Spy::new();
    let month = Duration::from_secs(30 * 24 * 3_600);
    let remembered = async |session: Session| -> Result<(), SessionError> {
        session.insert("before", "1")?;
        session.log_in("eve")?;
        session.insert("uid", "eve")?;
        session.set_persistence(Persistence::MaxAge(Duration::from_secs(7_777)))
    };
    let updated = async |session: Session| -> Result<(), SessionError> {
        session.insert("before", "1")?;
        session.log_in("eve")?;
        session.update("uid", |_| "eve".to_owned()).await.map(drop)
    };
    let cookie = distributable::SessionCookie::builder("JSESSIONID")
        .persistence(Persistence::MaxAge(month))
        .build()
        .unwrap();
    let app = routes()
        .route("/remembered", get(remembered))
        .route("/updated", get(updated))
        .layer(layer(&store).with_cookie(cookie));
    for path in ["/login?uid=eve", "/remembered", "/updated"] {
        let old = visitor(&app).await;
        let (sessions, commits) = (store.sessions(), store.commits.get());
        let gate = store.close_gate();
        let logins = ["/login?uid=joe", path].map(|path| {
            let (app, mut browser) = (app.clone(), old.clone());
            tokio::spawn(async move { (browser.get(&app, path).await, browser) })
        });
        eventually(|| store.commits.get() == commits + 2).await;
        gate.let_through(100);
        let mut roots = Vec::new();
        for (login, uid) in logins.into_iter().zip(["joe", "eve"]) {
            let (reply, mut browser) = login.await.unwrap();
            assert_eq!(reply.status, StatusCode::OK, "{path} {uid}");
            let cookie = reply.set_cookie().unwrap();
            let (_, age) = cookie.split_once("Max-Age=").unwrap();
            let age: u64 = age.split(';').next().unwrap().parse().unwrap();
            let own_age = path == "/remembered" && uid == "eve";
            assert_eq!(age < month.as_secs(), own_age, "{path}: {age}");
            assert_eq!(browser.get(&app, "/get?k=uid").await.ok().body, uid);
            assert_eq!(browser.get(&app, "/user").await.ok().body, user_key(uid));
            let before = (path != "/login?uid=eve" && uid == "eve").to_string();
            assert_eq!(browser.get(&app, "/has?k=before").await.ok().body, before);
            roots.push(browser.bare()[..24].to_owned());
        }
        assert_eq!(roots[0], old.bare()[..24]);
        assert_ne!(roots[1], roots[0]);
        assert_eq!(store.sessions(), sessions + 1);
    }
}

#[tokio::test]
async fn of_two_cookies_of_one_session_the_live_one_is_used() {
    let store = Spy::new();
    let app = app(&store);
    let old = visitor(&app).await;
    let mut browser = old.clone();
    browser.get(&app, "/login?uid=joe").await.ok();
    let [old, new] = [&old, &browser].map(|it| format!("JSESSIONID={}", it.bare()));
    for cookies in [[&old, &new], [&new, &old]] {
        let lines = cookies.map(|cookie| cookie.as_bytes());
        let reply = send(&app, request("/get?k=uid", &lines)).await.ok();
        assert_eq!(reply.body, "joe");
        send(&app, request("/set?k=b&v=1", &lines))
            .await
            .ok()
            .assert_no_cookie();
    }
    assert_eq!(store.sessions(), 1);
}

type Shelf = Arc<Mutex<Option<Session>>>;

/// A node whose `/detach` leaves a detached handle on the shelf.
fn detaching(store: &Spy) -> (Router, Shelf) {
    let shelf = Shelf::default();
    let keep = shelf.clone();
    let detach = async move |session: Session| *keep.lock().unwrap() = Some(session.detached());
    let app = routes().route("/detach", get(detach)).layer(layer(store));
    (app, shelf)
}

/// W-14.
#[tokio::test]
async fn a_detached_handle_follows_a_rotation() {
    let store = Spy::new();
    let (app, shelf) = detaching(&store);
    let mut browser = visitor(&app).await;
    browser.get(&app, "/detach").await.ok();
    let session = shelf.lock().unwrap().take().unwrap();
    for n in 1..4_u64 {
        browser.get(&app, "/rotate").await.ok();
        session.touch().await.unwrap();
        session.insert("b", &n.to_string()).unwrap();
        session.save().await.unwrap();
        assert_eq!(browser.get(&app, "/get?k=b").await.ok().body, n.to_string());
        let count = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1);
        assert_eq!(count.await.unwrap(), n);
        browser.get(&app, &format!("/set?k=c&v={n}")).await.ok();
        session.reload().await.unwrap();
        assert_eq!(session.get::<String>("c").unwrap(), Some(n.to_string()));
    }
    assert!(session.invalidate().await.unwrap());
    assert_eq!(browser.get(&app, "/info").await.ok().body, "false");
}

/// W-14. A WebSocket that was opened with a planted id neither reads nor writes what is the
/// victim's after the login.
#[tokio::test]
async fn a_detached_handle_is_superseded_by_the_login_of_another_request() {
    for first in ["save", "update", "touch", "reload"] {
        let store = Spy::new();
        let (app, shelf) = detaching(&store);
        let mut browser = visitor(&app).await;
        browser.get(&app, "/detach").await.ok();
        let session = shelf.lock().unwrap().take().unwrap();
        session.insert("b", "1").unwrap();
        browser.get(&app, "/login?uid=joe").await.ok();
        for how in [first, "save", "update", "touch", "reload"] {
            superseded(match how {
                "save" => session.save().await,
                "update" => session.update("b", |_| "2".to_owned()).await.map(drop),
                "touch" => session.touch().await,
                _ => session.reload().await,
            });
            superseded(session.insert("b", "1"));
            assert!(!session.exists() && !session.contains("a"));
        }
        assert!(!session.invalidate().await.unwrap());
        assert_eq!(browser.get(&app, "/get?k=b").await.ok().body, "", "{first}");
        assert_eq!(browser.get(&app, "/get?k=uid").await.ok().body, "joe");
    }
}

/// The request's own login is no other request's.
#[tokio::test]
async fn a_detached_handle_goes_on_over_the_login_of_its_own_request() {
    let store = Spy::new();
    let shelf = Shelf::default();
    let keep = shelf.clone();
    let handler = async move |session: Session| -> Result<(), SessionError> {
        *keep.lock().unwrap() = Some(session.detached());
        session.log_in("joe")
    };
    let app = routes()
        .route("/login_with_handle", get(handler))
        .layer(layer(&store));
    let mut browser = visitor(&app).await;
    browser.get(&app, "/login_with_handle").await.ok();
    let session = shelf.lock().unwrap().take().unwrap();
    session.insert("b", "1").unwrap();
    session.save().await.unwrap();
    session.touch().await.unwrap();
    assert_eq!(browser.get(&app, "/get?k=b").await.ok().body, "1");
    assert_eq!(
        session.key().unwrap().to_string().to_uppercase(),
        browser.bare()[..24]
    );
}

#[tokio::test]
async fn what_a_logged_in_user_writes_after_the_logout_makes_a_new_session() {
    let store = Spy::new();
    let handler = async |session: Session| -> Result<(), SessionError> {
        session.invalidate().await?;
        session.insert("flash", "goodbye")?;
        session.save().await?;
        session.insert("more", "1")
    };
    let app = routes().route("/bye", get(handler)).layer(layer(&store));
    let mut browser = visitor(&app).await;
    browser.get(&app, "/login?uid=joe").await.ok();
    let before = browser.bare();
    browser.get(&app, "/bye").await.ok();
    assert_ne!(browser.bare()[..24], before[..24]);
    assert_eq!(browser.get(&app, "/get?k=flash").await.ok().body, "goodbye");
    assert_eq!(browser.get(&app, "/get?k=more").await.ok().body, "1");
    assert_eq!(browser.get(&app, "/user").await.ok().body, "");
}

/// Two clones in one request: one saves, the other goes on.
#[tokio::test]
async fn what_is_written_while_another_users_login_comes_between_is_refused_not_lost() {
    let store = Spy::new();
    let (watcher, rival) = (store.clone(), app(&store.without_gate()));
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session.insert("b", "1")?;
        let gate = watcher.close_gate();
        let commits = watcher.commits.get();
        let save = tokio::spawn({
            let session = session.clone();
            async move { session.save().await }
        });
        eventually(|| watcher.commits.get() > commits).await;
        let mut browser = Browser::holding(session.id().unwrap().expose());
        browser.get(&rival, "/login?uid=joe").await.ok();
        session.insert("c", "1")?;
        gate.let_through(100);
        // It was under way, and has landed.
        save.await.unwrap()?;
        assert_eq!(browser.get(&rival, "/get?k=b").await.ok().body, "1");
        assert_eq!(browser.get(&rival, "/get?k=c").await.ok().body, "");
        Ok(())
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let old = visitor(&app).await;
    let reply = old.clone().get(&app, "/").await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert_eq!(reply.body, "the session id has been rotated");
    reply.assert_no_cookie();
}

#[tokio::test]
async fn a_login_while_a_save_is_under_way_is_not_lost() {
    for (path, saves) in [
        ("/new", "creation"),
        ("/old", "write"),
        ("/old", "rotation"),
        ("/old", "login"),
    ] {
        let store = Spy::new();
        let watcher = store.clone();
        let handler = async move |session: Session| -> Result<(), SessionError> {
            session.insert("b", "1")?;
            match saves {
                "rotation" => session.cycle_id()?,
                "login" => session.log_in("eve")?,
                _ => {}
            }
            let gate = watcher.close_gate();
            let commits = watcher.commits.get();
            let save = tokio::spawn({
                let session = session.clone();
                async move { session.save().await }
            });
            eventually(|| watcher.commits.get() > commits).await;
            session.log_in("joe")?;
            gate.let_through(100);
            save.await.unwrap()
        };
        let app = routes().route("/during", get(handler)).layer(layer(&store));
        let mut browser = if path == "/old" {
            visitor(&app).await
        } else {
            Browser::new()
        };
        browser.get(&app, "/during").await.ok();
        assert_eq!(
            browser.get(&app, "/user").await.ok().body,
            user_key("joe"),
            "{saves}"
        );
        assert_eq!(
            browser.get(&app, "/get?k=b").await.ok().body,
            "1",
            "{saves}"
        );
        assert_eq!(store.sessions(), 1);
    }
}

#[tokio::test]
async fn a_saved_rotation_is_sent_although_the_next_one_fails() {
    let store = Spy::new();
    let watcher = store.clone();
    let handler = async move |session: Session| -> Result<(), SessionError> {
        session.cycle_id()?;
        session.save().await?;
        session.cycle_id()?;
        watcher.break_only("commit", down);
        Ok(())
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = visitor(&app).await;
    let old = browser.bare();
    let reply = browser.get(&app, "/").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_ne!(browser.bare(), old);
    store.repair();
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "1");
}
