//! New ids, ends and beginnings, in every order.

use std::collections::BTreeSet;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use distributable::{Session, SessionError, SessionErrorKind, SessionId};
use proptest::prelude::*;

use super::support::*;

#[tokio::test]
async fn rotation_keeps_the_attributes_and_kills_the_old_id() {
    let store = Spy::new();
    let (one, two) = (node(&store, "node1"), node(&store, "node2"));
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    let old = browser.clone();
    browser.get(&one, "/rotate").await.ok();

    assert_ne!(browser.bare(), old.bare());
    assert_eq!(browser.bare()[..24], old.bare()[..24], "the root stays");
    for node in [&one, &two] {
        assert_eq!(browser.get(node, "/get?k=a").await.ok().body, "1");
        let reply = old.clone().get(node, "/get?k=a").await.ok();
        assert_eq!(reply.body, "");
        reply.assert_no_cookie();
        let reply = old.clone().get(node, "/set?k=a&v=2").await;
        assert_eq!(reply.status, StatusCode::CONFLICT);
        reply.assert_no_cookie();
    }
}

/// 16.
#[tokio::test]
async fn rotation_and_writes_of_one_request_are_one_commit() {
    let store = Spy::new();
    let handler = async |session: Session| -> Result<(), SessionError> {
        session.insert("uid", "joe")?;
        session.cycle_id()
    };
    let app = routes().route("/both", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let commits = store.commits.get();
    browser.get(&app, "/both").await.ok();
    assert_eq!(store.commits.get() - commits, 1);
    assert_eq!(browser.get(&app, "/get?k=uid").await.body, "joe");
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
    assert_eq!(store.sessions(), 1);
}

/// C-05.
#[tokio::test]
async fn a_planted_id_is_worth_nothing_after_login() {
    let store = Spy::new();
    let app = app(&store);
    let mut attacker = Browser::new();
    attacker.get(&app, "/set?k=a&v=1").await.ok();
    let mut victim = attacker.clone();
    victim.get(&app, "/login?uid=joe").await.ok();
    assert_ne!(victim.bare(), attacker.bare());
    assert_eq!(attacker.get(&app, "/get?k=uid").await.ok().body, "");
    assert_eq!(victim.get(&app, "/get?k=uid").await.ok().body, "joe");
}

/// 15, 20.
#[tokio::test]
async fn rotation_without_a_session_is_an_error_and_no_cookie() {
    let store = Spy::new();
    for mut browser in [Browser::new(), Browser::holding(unknown_id())] {
        let reply = browser.get(&app(&store), "/rotate").await;
        assert_eq!(reply.status, StatusCode::CONFLICT);
        reply.assert_no_cookie();
    }
    assert_eq!((store.commits.get(), store.sessions()), (0, 0));
}

/// C-06.
#[tokio::test]
async fn of_many_requests_and_rotations_at_once_one_successor_survives() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let old = browser.clone();
    let gate = store.close_gate();
    let paths = ["/rotate", "/rotate", "/set?k=b&v=2", "/update", "/get?k=a"];
    let requests: Vec<_> = (0..50)
        .map(|i| {
            let (app, mut browser) = (app.clone(), old.clone());
            tokio::spawn(async move { browser.get(&app, paths[i % paths.len()]).await })
        })
        .collect();
    eventually(|| store.commits.get() >= 40).await;
    gate.let_through(1_000);

    let mut cookies = Vec::new();
    for request in requests {
        let reply = request.await.unwrap();
        assert!([200, 409].contains(&reply.status.as_u16()), "{reply:?}");
        cookies.extend(reply.cookie_value());
    }
    assert_eq!(cookies.len(), 1, "exactly one successor");
    assert_eq!(store.sessions(), 1);
    assert_eq!(old.clone().get(&app, "/get?k=a").await.ok().body, "");
    assert_eq!(
        Browser::holding(&cookies[0])
            .get(&app, "/get?k=a")
            .await
            .ok()
            .body,
        "1"
    );
}

/// What a handler did, and what came of it.
struct Story {
    /// One letter per step: `i`nsert the next attribute, `r`emove the last, `c`ycle, end (`x`),
    /// `s`ave, `u`pdate.
    steps: &'static str,
    /// Attributes afterward.
    names: &'static [&'static str],
    cookie: Cookie,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cookie {
    None,
    Fresh,
    Rotated,
    Removed,
}

async fn play(steps: &str, session: &Session) -> Result<(), SessionError> {
    let (mut next, mut last) = (0, "old".to_owned());
    for step in steps.chars() {
        match step {
            'i' | 'u' => {
                next += 1;
                last = format!("n{next}");
                if step == 'i' {
                    session.insert(&last, &next)?;
                } else {
                    session.update(&last, |_: Option<i32>| next).await?;
                }
            }
            'r' => drop(session.remove(&last)?),
            'c' if session.exists() => session.cycle_id()?,
            'c' => drop(session.cycle_id().unwrap_err()),
            'x' => drop(session.invalidate().await?),
            's' => session.save().await?,
            _ => panic!("no such step"),
        }
    }
    Ok(())
}

/// Runs the steps for a browser with or without a session, and checks everything that follows from
/// the expected result.
async fn check(steps: &str, had_session: bool, expected: Cookie, names: &[String]) {
    let (store, steps) = (Spy::new(), steps.to_owned());
    let context = format!("{steps:?} with a session: {had_session}");
    let app = routes()
        .route("/play", {
            get(async move |session: Session| play(&steps, &session).await)
        })
        .route(
            "/names",
            get(async |session: Session| session.names().join(" ")),
        )
        .layer(layer(&store));
    let mut browser = Browser::new();
    if had_session {
        browser.get(&app, "/set?k=old&v=1").await.ok();
    }
    let mut before = browser.clone();
    let reply = browser.get(&app, "/play").await.ok();

    let root = before.cookie.as_ref().map(|it| it[..24].to_owned());
    let cookie = match (reply.set_cookie(), reply.cookie_value()) {
        (None, _) => Cookie::None,
        (Some(cookie), _) if cookie.contains("Max-Age=0") => Cookie::Removed,
        (_, Some(value)) if Some(&value[..24]) == root.as_deref() => Cookie::Rotated,
        _ => Cookie::Fresh,
    };
    assert_eq!(cookie, expected, "{context}");
    let reply = browser.get(&app, "/names").await.ok();
    assert_eq!(reply.body, names.join(" "), "{context}");
    reply.assert_no_cookie();
    let lives = browser.get(&app, "/info").await.ok().body == "true";
    assert_eq!(
        store.sessions(),
        usize::from(lives),
        "{context}: nothing is left behind"
    );
    if had_session && cookie != Cookie::None {
        let reply = before.get(&app, "/info").await.ok();
        assert_eq!(reply.body, "false", "{context}: the old id is dead");
    }
}

async fn tell(stories: &[Story], had_session: bool) {
    for story in stories {
        let names: Vec<_> = story.names.iter().map(|&name| name.to_owned()).collect();
        check(story.steps, had_session, story.cookie, &names).await;
    }
}

/// The expected result of the steps, computed as simply as possible.
fn foretell(steps: &str, had_session: bool) -> (Cookie, Vec<String>) {
    let (mut names, mut next, mut last) = (BTreeSet::new(), 0, "old".to_owned());
    let (mut stored, mut id) = (had_session, Cookie::None);
    if had_session {
        names.insert(last.clone());
    }
    for step in steps.chars() {
        let exists = stored || !names.is_empty();
        match step {
            'i' | 'u' => {
                next += 1;
                last = format!("n{next}");
                names.insert(last.clone());
                if !exists {
                    id = Cookie::Fresh;
                }
                stored |= step == 'u';
            }
            'r' => drop(names.remove(&last)),
            'c' if stored && id == Cookie::None => id = Cookie::Rotated,
            'x' => {
                names.clear();
                stored = false;
            }
            's' => stored = exists,
            _ => {}
        }
    }
    let cookie = match (stored || !names.is_empty(), had_session) {
        (true, _) => id,
        (false, true) => Cookie::Removed,
        (false, false) => Cookie::None,
    };
    (cookie, names.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_steps_comes_to_what_it_should(steps in "[irucxs]{0,9}", had_session: bool) {
        let (cookie, names) = foretell(&steps, had_session);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(&steps, had_session, cookie, &names));
    }
}

/// 12, C-15.
#[tokio::test]
async fn every_order_of_steps_on_an_old_session_comes_out_right() {
    use Cookie::*;
    let story = |steps, names, cookie| Story {
        steps,
        names,
        cookie,
    };
    tell(
        &[
            story("", &["old"], None),
            story("r", &[], None),
            story("ri", &["n1"], None),
            story("i", &["n1", "old"], None),
            story("ir", &["old"], None),
            story("isr", &["old"], None),
            story("c", &["old"], Rotated),
            story("cc", &["old"], Rotated),
            story("csc", &["old"], Rotated),
            story("ci", &["n1", "old"], Rotated),
            story("ic", &["n1", "old"], Rotated),
            story("isc", &["n1", "old"], Rotated),
            story("csi", &["n1", "old"], Rotated),
            story("uc", &["n1", "old"], Rotated),
            story("cu", &["n1", "old"], Rotated),
            story("icu", &["n1", "n2", "old"], Rotated),
            story("x", &[], Removed),
            story("xx", &[], Removed),
            story("ix", &[], Removed),
            story("xs", &[], Removed),
            story("cx", &[], Removed),
            story("csx", &[], Removed),
            story("icx", &[], Removed),
            story("ux", &[], Removed),
            story("xi", &["n1"], Fresh),
            story("xic", &["n1"], Fresh),
            story("xisc", &["n1"], Fresh),
            story("xir", &[], Removed),
            story("ixi", &["n2"], Fresh),
            story("cxi", &["n1"], Fresh),
            story("csxi", &["n1"], Fresh),
            story("xu", &["n1"], Fresh),
            story("xixi", &["n2"], Fresh),
            story("xisxi", &["n2"], Fresh),
            story("xisx", &[], Removed),
            story("isxisc", &["n2"], Fresh),
        ],
        true,
    )
    .await;
}

#[tokio::test]
async fn every_order_of_steps_without_a_session_comes_out_right() {
    use Cookie::*;
    let story = |steps, names, cookie| Story {
        steps,
        names,
        cookie,
    };
    tell(
        &[
            story("", &[], None),
            story("r", &[], None),
            story("s", &[], None),
            story("x", &[], None),
            story("i", &["n1"], Fresh),
            story("is", &["n1"], Fresh),
            story("ir", &[], None),
            story("ic", &["n1"], Fresh),
            story("isc", &["n1"], Fresh),
            story("icc", &["n1"], Fresh),
            story("u", &["n1"], Fresh),
            story("iu", &["n1", "n2"], Fresh),
            story("uc", &["n1"], Fresh),
            story("ix", &[], None),
            story("isx", &[], None),
            story("ux", &[], None),
            story("ixi", &["n2"], Fresh),
            story("isxi", &["n2"], Fresh),
            story("uxu", &["n2"], Fresh),
            story("iscx", &[], None),
            story("iscxi", &["n2"], Fresh),
        ],
        false,
    )
    .await;
}

/// 11.
#[tokio::test]
async fn a_session_made_ended_and_made_again_has_the_second_id_and_nothing_of_the_first() {
    async fn handler(session: Session) -> Result<String, SessionError> {
        session.insert("first", &1)?;
        session.save().await?;
        let first = session.routed_id();
        session.invalidate().await?;
        assert!(!session.exists());
        session.insert("second", &2)?;
        assert!(session.is_new());
        assert_ne!(session.routed_id(), first);
        Ok(session.routed_id().unwrap())
    }
    let store = Spy::new();
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    let reply = browser.get(&app, "/").await.ok();
    assert_eq!(reply.cookie_value(), Some(reply.body));
    assert_eq!(store.sessions(), 1);
    assert_eq!(browser.get(&app, "/has?k=first").await.body, "false");
    assert_eq!(browser.get(&app, "/has?k=second").await.body, "true");
}

#[tokio::test]
async fn ending_takes_effect_at_once() {
    let store = Spy::new();
    let watcher = store.clone();
    let handler = async move |session: Session| {
        assert!(session.invalidate().await.unwrap());
        assert_eq!(watcher.sessions(), 0);
        assert!(!session.invalidate().await.unwrap());
        assert!(!session.exists());
        assert!(session.names().is_empty());
    };
    let app = routes().route("/", get(handler)).layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/").await.ok();
    assert_eq!(store.ends.get(), 1);
}

#[tokio::test]
async fn the_handler_sees_the_id_that_the_browser_gets() {
    let handler = async |session: Session| -> Result<String, SessionError> {
        if session.exists() {
            session.cycle_id()?;
        }
        session.insert("a", &1)?;
        let id = session.id().unwrap();
        assert_eq!(session.key(), Some(id.key()));
        assert_eq!(
            session.routed_id().unwrap(),
            format!("{}.node1", id.expose())
        );
        Ok(session.routed_id().unwrap())
    };
    let route = distributable::Route::new("node1").unwrap();
    let app = Router::new()
        .route("/", get(handler))
        .layer(layer(&Spy::new()).with_route(route));
    let mut browser = Browser::new();
    for _ in 0..3 {
        let reply = browser.get(&app, "/").await.ok();
        assert_eq!(reply.cookie_value(), Some(reply.body));
    }
}

#[tokio::test]
async fn an_id_that_is_taken_is_drawn_again() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let taken = SessionId::parse(browser.bare().as_bytes()).unwrap();
    let free = SessionId::generate();
    *store.next_ids.lock().unwrap() = vec![free, taken, taken];
    let mut other = Browser::new();
    other.get(&app, "/set?k=a&v=2").await.ok();
    assert_eq!(other.bare(), free.expose());
    assert_eq!(browser.get(&app, "/get?k=a").await.body, "1");
}

#[tokio::test]
async fn a_store_that_draws_only_one_id_is_given_up() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let taken = SessionId::parse(browser.bare().as_bytes()).unwrap();
    *store.next_ids.lock().unwrap() = vec![taken; 100];
    let reply = Browser::new().get(&app, "/set?k=a&v=2").await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    reply.assert_no_cookie();
    assert!(store.next_ids.lock().unwrap().len() > 90);
}

#[tokio::test]
async fn cycling_without_a_session_is_an_error() {
    let session = Session::for_test();
    let error = session.cycle_id().unwrap_err();
    assert_eq!(error.kind(), SessionErrorKind::NoSession);
    session.insert("a", &1).unwrap();
    session.cycle_id().unwrap();
}
