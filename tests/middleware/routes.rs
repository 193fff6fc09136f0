//! Routes in cookies: the node that a cookie names, and the one that it named before.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::Request;
use axum::routing::any;
use distributable::{Affinity, Route, Session, SessionCookie, SessionError, SessionLayer};
use tower::Layer;

use super::support::*;

fn node_with(store: &Spy, route: &str, affinity: Affinity) -> Router {
    routes().layer(routed(store, route).with_affinity(affinity))
}

fn routed(store: &Spy, route: &str) -> SessionLayer {
    layer(store).with_route(Route::new(route).unwrap())
}

/// Everyday operations, and handlers that ask which node the request's cookie named.
fn asking(layer: &SessionLayer) -> Router {
    routes()
        .route("/asked", any(async |session: Session| asked(&session)))
        .route("/asked/new", any(asked_when_new))
        .route("/asked/cycled", any(asked_when_cycled))
        .route("/asked/ended", any(asked_when_ended))
        .route("/asked/twice", any(asked_twice))
        .layer(layer.clone())
}

/// The requested route, or `-`.
fn asked(session: &Session) -> String {
    let route = session.requested_route();
    route.map_or_else(|| "-".to_owned(), |route| route.to_string())
}

async fn asked_when_new(session: Session) -> Result<String, SessionError> {
    session.insert("a", &1)?;
    assert!(session.is_new());
    session.save().await?;
    Ok(asked(&session))
}

async fn asked_when_cycled(session: Session) -> Result<String, SessionError> {
    session.cycle_id()?;
    let cycled = asked(&session);
    session.save().await?;
    Ok(format!("{cycled} {}", asked(&session)))
}

async fn asked_when_ended(session: Session) -> Result<String, SessionError> {
    session.invalidate().await?;
    let ended = asked(&session);
    session.insert("a", &1)?;
    Ok(format!("{ended} {}", asked(&session)))
}

/// Takes the session twice at once, and a third time.
async fn asked_twice(request: Request) -> Result<String, SessionError> {
    let (parts, _) = request.into_parts();
    let (one, two) = tokio::join!(Session::from_parts(&parts), Session::from_parts(&parts));
    let three = Session::from_parts(&parts).await?;
    Ok([&one?, &two?, &three].map(asked).join(" "))
}

const AFFINITIES: [Affinity; 3] = [Affinity::Local, Affinity::Owner, Affinity::Off];

#[tokio::test]
async fn the_node_that_serves_puts_its_route_into_the_cookie_once() {
    let store = Spy::new();
    let (one, two) = (node(&store, "node1"), node(&store, "node2"));
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    let id = browser.bare();
    let reply = browser.get(&two, "/get?k=a").await.ok();
    assert_eq!(reply.body, "1");
    assert_eq!(reply.cookie_value(), Some(format!("{id}.node2")));
    browser.get(&two, "/get?k=a").await.ok().assert_no_cookie();
    assert_eq!(
        store.commits.get(),
        1,
        "the session is not written for its route"
    );
}

#[tokio::test]
async fn what_the_request_changes_on_the_new_node_is_kept() {
    let store = Spy::new();
    let (one, two) = (node(&store, "node1"), node(&store, "node2"));
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    let reply = browser.get(&two, "/set?k=a&v=2").await.ok();
    assert!(reply.cookie_value().unwrap().ends_with(".node2"));
    assert_eq!(browser.get(&one, "/get?k=a").await.body, "2");
}

#[tokio::test]
async fn nodes_without_routes_never_send_a_cookie_again() {
    let store = Spy::new();
    let (one, two) = (app(&store), app(&store));
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    browser.get(&two, "/get?k=a").await.ok().assert_no_cookie();
    let mut routed = Browser::holding(format!("{}.node9", browser.bare()));
    let reply = routed.get(&two, "/get?k=a").await.ok();
    assert_eq!(reply.body, "1");
    reply.assert_no_cookie();
}

#[tokio::test]
async fn with_affinity_off_the_cookie_stays_as_it_was() {
    let store = Spy::new();
    let one = node_with(&store, "node1", Affinity::Off);
    let two = node_with(&store, "node2", Affinity::Off);
    let mut browser = Browser::new();
    browser.get(&one, "/set?k=a&v=1").await.ok();
    let cookie = browser.cookie.clone();
    browser
        .get(&two, "/set?k=a&v=2")
        .await
        .ok()
        .assert_no_cookie();
    assert_eq!(browser.cookie, cookie);
    assert_eq!(browser.get(&one, "/get?k=a").await.body, "2");
}

#[tokio::test]
async fn with_affinity_owner_the_cookie_names_the_owner() {
    let store = Spy::new();
    let one = node_with(&store, "node1", Affinity::Owner);
    let two = node_with(&store, "node2", Affinity::Owner);
    *store.owners.lock().unwrap() = Some("node2");
    let mut browser = Browser::new();
    let reply = browser.get(&one, "/set?k=a&v=1").await.ok();
    assert!(reply.cookie_value().unwrap().ends_with(".node2"));
    browser.get(&one, "/get?k=a").await.ok().assert_no_cookie();
    browser.get(&two, "/get?k=a").await.ok().assert_no_cookie();
    // The owner changes, and the client follows it.
    *store.owners.lock().unwrap() = Some("node1");
    let reply = browser.get(&two, "/get?k=a").await.ok();
    assert!(reply.cookie_value().unwrap().ends_with(".node1"));
    // A store without an owner: the node that serves.
    *store.owners.lock().unwrap() = None;
    let reply = browser.get(&two, "/get?k=a").await.ok();
    assert!(reply.cookie_value().unwrap().ends_with(".node2"));
    // A route from a store is validated.
    *store.owners.lock().unwrap() = Some("node3; Path=/evil");
    browser.get(&two, "/get?k=a").await.ok().assert_no_cookie();
}

/// C-11.
#[tokio::test]
async fn whatever_stands_behind_the_dot_is_compared_and_never_repeated() {
    let store = Spy::new();
    let app = node(&store, "node1");
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let id = browser.bare();
    let long = "x".repeat(4_000);
    for behind in [
        "",
        ".",
        ".node9",
        ".node1.node2",
        "..node1",
        ".Node1",
        ".\"",
        ".a b",
        &long,
    ] {
        let behind = match behind.len() {
            4_000 => format!(".{behind}"),
            _ => behind.to_owned(),
        };
        let mut browser = Browser::holding(format!("{id}{behind}"));
        let reply = browser.get(&app, "/get?k=a").await.ok();
        assert_eq!(reply.body, "1", "{behind}");
        assert_eq!(
            reply.cookie_value(),
            Some(format!("{id}.node1")),
            "{behind}"
        );
        browser.get(&app, "/get?k=a").await.ok().assert_no_cookie();
    }
    let line = [format!("JSESSIONID={id}.").as_bytes(), b"\xff\xfe"].concat();
    let reply = send(&app, request("/get?k=a", &[&line])).await.ok();
    assert_eq!(reply.cookie_value(), Some(format!("{id}.node1")));
}

/// 46.
#[tokio::test]
async fn a_handler_sees_which_node_its_cookie_named_with_every_affinity() {
    for affinity in AFFINITIES {
        let store = Spy::new();
        *store.owners.lock().unwrap() = Some("node1");
        let node = |route| asking(&routed(&store, route).with_affinity(affinity));
        let (one, two) = (node("node1"), node("node2"));
        let mut browser = Browser::new();
        browser.get(&one, "/set?k=a&v=1").await.ok();
        assert_eq!(browser.get(&one, "/asked").await.body, "node1");
        assert_eq!(
            browser.get(&two, "/asked").await.body,
            "node1",
            "{affinity:?}"
        );
        let then = if affinity == Affinity::Local {
            "node2"
        } else {
            "node1"
        };
        assert_eq!(browser.get(&two, "/asked").await.body, then, "{affinity:?}");
        assert_eq!(browser.get(&one, "/asked").await.body, then, "{affinity:?}");
    }
}

#[tokio::test]
async fn a_node_without_a_route_shows_which_one_the_cookie_named_and_counts_nothing() {
    let store = Spy::new();
    let mut browser = Browser::new();
    browser
        .get(&node(&store, "node1"), "/set?k=a&v=1")
        .await
        .ok();
    let layer = layer(&store);
    assert_eq!(browser.get(&asking(&layer), "/asked").await.body, "node1");
    assert_eq!(layer.misrouted_requests(), 0);
}

/// 46.
#[tokio::test]
async fn a_new_id_changes_nothing_about_the_route_that_was_requested() {
    for affinity in AFFINITIES {
        let store = Spy::new();
        let node = |route| asking(&routed(&store, route).with_affinity(affinity));
        let (one, two) = (node("node1"), node("node2"));
        let mut browser = Browser::new();
        browser.get(&one, "/set?k=a&v=1").await.ok();
        let reply = browser.get(&two, "/asked/cycled").await.ok();
        assert_eq!(reply.body, "node1 node1", "{affinity:?}");
        assert!(reply.cookie_value().unwrap().ends_with(".node2"));
        assert_eq!(browser.get(&two, "/asked").await.body, "node2");
    }
}

/// C-11.
#[tokio::test]
async fn what_can_be_no_route_is_not_shown_and_is_not_misrouted() {
    let store = Spy::new();
    let layer = routed(&store, "node1");
    let app = asking(&layer);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let id = browser.bare();
    let (longest, long) = ("x".repeat(32), "x".repeat(33));
    for behind in [
        "", ".", "..node9", ".node9.", ".a.b", ".a b", ".a-b", ".\"a\"", ".%41",
    ] {
        let cookie = format!("{id}{behind}");
        let reply = Browser::holding(cookie).get(&app, "/asked").await.ok();
        assert_eq!(reply.body, "-", "{behind}");
    }
    for bytes in [&b"\xff\xfe"[..], "\u{e4}".as_bytes(), long.as_bytes()] {
        let line = [format!("JSESSIONID={id}.").as_bytes(), bytes].concat();
        assert_eq!(send(&app, request("/asked", &[&line])).await.ok().body, "-");
    }
    assert_eq!(layer.misrouted_requests(), 0);
    let mut browser = Browser::holding(format!("{id}.{longest}"));
    assert_eq!(browser.get(&app, "/asked").await.body, longest);
    assert_eq!(layer.misrouted_requests(), 1);
}

/// 46.
#[tokio::test]
async fn a_session_that_the_request_did_not_show_has_no_requested_route() {
    let store = Spy::new();
    let layer = routed(&store, "node1");
    let app = asking(&layer);
    for path in ["/asked", "/asked/new"] {
        let reply = Browser::new().get(&app, path).await.ok();
        assert_eq!(reply.body, "-", "{path} without a cookie");
        let mut stranger = Browser::holding(format!("{}.node2", unknown_id()));
        let reply = stranger.get(&app, path).await.ok();
        assert_eq!(reply.body, "-", "{path} with an unknown id");
    }
    assert_eq!(layer.misrouted_requests(), 0, "no session was found");
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    assert_eq!(browser.get(&app, "/asked/ended").await.ok().body, "- -");
    assert!(Session::for_test().requested_route().is_none());
}

/// 46.
#[tokio::test]
async fn of_several_cookies_the_one_that_led_to_the_session_has_the_route() {
    let store = Spy::new();
    let layer = routed(&store, "node1");
    let app = asking(&layer);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let (live, dead) = (browser.bare(), unknown_id());
    let mut other = Browser::new();
    other.get(&app, "/set?k=a&v=1").await.ok();
    let other = other.bare();
    for (cookies, route, misrouted) in [
        // A dead one names another node.
        (
            [format!("{live}.node1"), format!("{dead}.node2")],
            "node1",
            0,
        ),
        (
            [format!("{dead}.node2"), format!("{live}.node1")],
            "node1",
            0,
        ),
        // The dead one is from here, the live one is not.
        (
            [format!("{dead}.node1"), format!("{live}.node2")],
            "node2",
            1,
        ),
        // One id twice: either may have led here.
        (
            [format!("{live}.node1"), format!("{live}.node2")],
            "node1",
            0,
        ),
        (
            [format!("{live}.node2"), format!("{live}.node1")],
            "node1",
            0,
        ),
        (
            [format!("{live}.node2"), format!("{live}.node3")],
            "node2",
            1,
        ),
        ([live.clone(), format!("{live}.node3")], "node3", 1),
        // Two live sessions: none.
        ([format!("{live}.node2"), format!("{other}.node2")], "-", 0),
    ] {
        let before = layer.misrouted_requests();
        let line = cookies.each_ref().map(|it| format!("JSESSIONID={it}"));
        let line = line.join("; ");
        let reply = send(&app, request("/asked", &[line.as_bytes()])).await.ok();
        assert_eq!(reply.body, route, "{cookies:?}");
        assert_eq!(
            layer.misrouted_requests() - before,
            misrouted,
            "{cookies:?}"
        );
    }
}

/// 46.
#[tokio::test]
async fn a_request_that_its_cookie_did_not_send_here_is_misrouted_once_with_every_affinity() {
    for affinity in AFFINITIES {
        let store = Spy::new();
        *store.owners.lock().unwrap() = Some("node1");
        let layer = |route| routed(&store, route).with_affinity(affinity);
        let (one, two) = (layer("node1"), layer("node2"));
        let (first, second) = (asking(&one), asking(&two));
        let counted = || (one.misrouted_requests(), two.misrouted_requests());
        let mut browser = Browser::new();
        browser.get(&first, "/set?k=a&v=1").await.ok();
        browser.get(&first, "/incr").await.ok();
        assert_eq!(counted(), (0, 0), "{affinity:?}: its own node");
        let reply = browser.get(&second, "/incr").await.ok();
        assert_eq!((reply.body.as_str(), counted()), ("2", (0, 1)));
        browser.get(&second, "/incr").await.ok();
        let again = match affinity {
            // The cookie has named the second node since.
            Affinity::Local => (0, 1),
            _ => (0, 2),
        };
        assert_eq!(counted(), again, "{affinity:?}");
        browser.get(&first, "/incr").await.ok();
        let back = match affinity {
            Affinity::Local => (1, 1),
            _ => (0, 2),
        };
        assert_eq!(counted(), back, "{affinity:?}");
    }
}

/// 46.
#[tokio::test]
async fn with_affinity_owner_a_request_counts_where_its_cookie_did_not_send_it() {
    let store = Spy::new();
    let layer = routed(&store, "node1").with_affinity(Affinity::Owner);
    let app = asking(&layer);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    // The owner changes. The cookie is sent anew, but the request was at the node that it named.
    *store.owners.lock().unwrap() = Some("node2");
    let reply = browser.get(&app, "/asked").await.ok();
    assert!(reply.cookie_value().unwrap().ends_with(".node2"));
    assert_eq!(layer.misrouted_requests(), 0);
    // Now the cookie is right and stays, and the balancer does not follow it.
    browser.get(&app, "/asked").await.ok().assert_no_cookie();
    assert_eq!(layer.misrouted_requests(), 1);
}

/// 46.
#[tokio::test]
async fn a_misrouted_request_counts_once_however_often_the_session_is_taken() {
    let store = Spy::new();
    let layer = routed(&store, "node2");
    let app = asking(&layer);
    let mut browser = Browser::new();
    let first = node(&store, "node1");
    browser.get(&first, "/set?k=a&v=1").await.ok();
    store.load_pauses.store(3, Ordering::SeqCst);
    let before = store.loads.get();
    let reply = browser.get(&app, "/asked/twice").await.ok();
    assert_eq!(reply.body, "node1 node1 node1");
    // Two were under way at once, and one has confirmed the cookie that is sent again.
    assert_eq!(store.loads.get() - before, 3);
    assert_eq!(layer.misrouted_requests(), 1);
}

/// 46.
#[tokio::test]
async fn a_request_whose_session_was_not_found_is_not_misrouted() {
    let store = Spy::new();
    let layer = routed(&store, "node2");
    let app = asking(&layer);
    let mut browser = Browser::new();
    let first = node(&store, "node1");
    browser.get(&first, "/set?k=a&v=1").await.ok();
    browser.get(&app, "/none").await.ok();
    assert_eq!(layer.misrouted_requests(), 0, "no handler has asked");
    store.break_only("load", down);
    assert!(browser.get(&app, "/asked").await.status.is_server_error());
    assert_eq!(layer.misrouted_requests(), 0, "the store could not answer");
    store.repair();
    let mut again = browser.clone();
    browser.get(&app, "/logout").await.ok();
    assert_eq!(
        layer.misrouted_requests(),
        1,
        "it was found, and then ended"
    );
    again.get(&app, "/asked").await.ok();
    assert_eq!(layer.misrouted_requests(), 1, "it is dead");
}

/// 46.
#[tokio::test]
async fn clones_of_a_layer_count_together_and_one_configured_further_for_itself() {
    let store = Spy::new();
    let layer = routed(&store, "node2").with_affinity(Affinity::Off);
    let clone = layer.clone();
    let service = clone.layer(routes());
    let (app, twin) = (asking(&layer), asking(&clone));
    let third = Router::new().fallback_service(service.clone());
    let mut browser = Browser::new();
    let first = node(&store, "node1");
    browser.get(&first, "/set?k=a&v=1").await.ok();
    for app in [&app, &twin, &third] {
        browser.get(app, "/get?k=a").await.ok();
    }
    assert_eq!(
        (layer.misrouted_requests(), clone.misrouted_requests()),
        (3, 3)
    );
    let other = clone.with_route(Route::new("node3").unwrap());
    assert_eq!(other.misrouted_requests(), 0);
    browser.get(&asking(&other), "/get?k=a").await.ok();
    assert_eq!(
        (layer.misrouted_requests(), other.misrouted_requests()),
        (3, 1)
    );
}

#[tokio::test]
async fn of_nested_layers_each_counts_what_its_own_cookie_named() {
    let (outer, inner) = (Spy::new(), Spy::new());
    let site = SessionCookie::builder("SITE").build().unwrap();
    let outer = routed(&outer, "node1").with_cookie(site);
    let inner = routed(&inner, "node1");
    let mut browser = Browser::new();
    browser.get(&asking(&inner), "/set?k=a&v=1").await.ok();
    let line = format!(
        "SITE={}.node3; JSESSIONID={}.node2",
        unknown_id(),
        browser.bare()
    );
    let app = asking(&inner).layer(outer.clone());
    let reply = send(&app, request("/asked", &[line.as_bytes()])).await.ok();
    assert_eq!(reply.body, "node2");
    assert_eq!(
        (outer.misrouted_requests(), inner.misrouted_requests()),
        (0, 1)
    );
}
