//! The id in a header: in place of the cookie, and beside it.

use axum::Router;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, COOKIE, VARY};
use axum::http::{HeaderMap, HeaderValue, Request};
use axum::routing::get;
use distributable::{Persistence, Route, SessionCookie, SessionHeader, SessionLayer};

use super::support::*;

const NAME: &str = "x-session-id";

fn header() -> SessionHeader {
    SessionHeader::new("X-Session-Id").unwrap()
}

fn with_header(store: &Spy, route: &str) -> Router {
    let layer = layer(store).with_route(Route::new(route).unwrap());
    routes().layer(layer.with_header(header()))
}

fn with_either(store: &Spy) -> Router {
    let layer = layer(store).with_cookie_or_header(SessionCookie::default(), header());
    routes().layer(layer)
}

fn with_id(path: &str, id: &str) -> Request<Body> {
    let mut request = request(path, &[]);
    let value = HeaderValue::from_str(id).unwrap();
    request.headers_mut().append(NAME, value);
    request
}

/// The one value that the response has.
fn value(reply: &Reply) -> Option<String> {
    let mut values = reply.all(NAME);
    assert!(values.len() <= 1, "{values:?}");
    values.pop()
}

#[tokio::test]
async fn a_client_without_cookies_has_its_session_from_the_first_write_to_the_logout() {
    let store = Spy::new();
    let (one, two) = (with_header(&store, "n1"), with_header(&store, "n2"));
    let reply = send(&one, request("/info", &[])).await.ok();
    assert_eq!(
        (value(&reply), reply.all(VARY)),
        (None, vec![NAME.to_owned()])
    );

    let reply = send(&one, request("/incr", &[])).await.ok();
    reply.assert_no_cookie();
    assert_eq!(reply.all(CACHE_CONTROL), ["no-cache=\"x-session-id\""]);
    assert!(reply.headers[NAME].is_sensitive());
    let first = value(&reply).unwrap();
    assert!(first.len() == 56 + 3 && first.ends_with(".n1"), "{first}");

    let reply = send(&one, with_id("/incr", &first)).await.ok();
    assert_eq!((&*reply.body, value(&reply)), ("2", None));
    // Another node names itself.
    let reply = send(&two, with_id("/incr", &first)).await.ok();
    let second = value(&reply).unwrap();
    assert_eq!(
        (&*reply.body, &*second),
        ("3", &*format!("{}.n2", bare(&first)))
    );
    // A login has another id, and the former one is worth nothing.
    let reply = send(&two, with_id("/login?uid=ada", &second)).await.ok();
    let third = value(&reply).unwrap();
    assert_ne!(bare(&third)[24..], bare(&second)[24..]);
    let reply = send(&two, with_id("/get?k=uid", &second)).await.ok();
    assert_eq!((&*reply.body, value(&reply)), ("", None));

    let reply = send(&two, with_id("/logout", &third)).await.ok();
    assert_eq!((&*reply.body, value(&reply).as_deref()), ("true", Some("")));
    assert_eq!(store.sessions(), 0);
    // The client sends the empty value that it was given.
    let reply = send(&two, with_id("/incr", "")).await.ok();
    assert!(value(&reply).is_some_and(|id| !id.is_empty()));
}

#[tokio::test]
async fn a_layer_with_a_header_reads_no_cookie_and_one_with_a_cookie_no_header() {
    let store = Spy::new();
    let (cookies, headers) = (app(&store), with_header(&store, "n1"));
    let mut browser = Browser::new();
    browser.get(&cookies, "/incr").await.ok();
    let id = browser.bare();
    let line = format!("JSESSIONID={id}");
    let reply = send(&headers, request("/get?k=n", &[line.as_bytes()])).await;
    assert_eq!(reply.ok().body, "");
    assert_eq!(
        send(&cookies, with_id("/info", &id)).await.ok().body,
        "false"
    );
    // The setting that came last counts.
    let last = SessionLayer::new(store.clone())
        .with_header(header())
        .with_cookie(SessionCookie::default());
    let app = routes().layer(last);
    assert_eq!(send(&app, with_id("/info", &id)).await.ok().body, "false");
    assert_eq!(browser.get(&app, "/info").await.ok().body, "true");
}

#[tokio::test]
async fn what_is_no_id_is_no_session_and_several_are_ambiguous() {
    let store = Spy::new();
    let app = with_header(&store, "n1");
    let new = async || {
        let reply = send(&app, request("/incr", &[])).await.ok();
        value(&reply).unwrap()
    };
    let (a, b) = (new().await, new().await);
    let lower = a.to_lowercase();
    let long = "A".repeat(64 * 1024);
    for odd in [
        "x",
        "Bearer x",
        &a[1..],
        &lower,
        &long,
        &unknown_id(),
        ",",
        " ",
    ] {
        let reply = send(&app, with_id("/info", odd)).await.ok();
        assert_eq!((&*reply.body, value(&reply)), ("false", None), "{odd}");
    }
    let joined = format!("{a}, {b}");
    assert_eq!(
        send(&app, with_id("/info", &joined)).await.ok().body,
        "false"
    );
    let mut two = with_id("/info", &a);
    two.headers_mut()
        .append(NAME, HeaderValue::from_str(&b).unwrap());
    assert_eq!(send(&app, two).await.ok().body, "false");
    let same = format!("{a},{a}");
    assert_eq!(send(&app, with_id("/info", &same)).await.ok().body, "true");
    let crowd = unknown_id() + &format!(",{a}").repeat(100);
    assert_eq!(send(&app, with_id("/info", &crowd)).await.ok().body, "true");
    let crowd: Vec<_> = (0..20).map(|_| unknown_id()).chain([a]).collect();
    let reply = send(&app, with_id("/info", &crowd.join(","))).await.ok();
    assert_eq!(reply.body, "false");
}

#[tokio::test]
async fn with_either_a_client_is_answered_in_what_it_has_sent() {
    let store = Spy::new();
    let app = with_either(&store);
    let reply = send(&app, request("/incr", &[])).await.ok();
    let id = value(&reply).unwrap();
    assert_eq!(reply.cookie_value().as_deref(), Some(&*id));
    assert_eq!(reply.all(VARY), ["Cookie", NAME]);

    let reply = send(&app, with_id("/incr", &id)).await.ok();
    assert_eq!(reply.body, "2");
    let reply = send(&app, with_id("/rotate", &id)).await.ok();
    reply.assert_no_cookie();
    let id = value(&reply).unwrap();

    let mut browser = Browser::holding(&id);
    let reply = browser.get(&app, "/rotate").await.ok();
    assert_eq!(value(&reply), None);
    let id = browser.bare();
    // The same id in both is one session, which is answered in both.
    let mut both = browser.request("/logout");
    let line = HeaderValue::from_str(&id).unwrap();
    both.headers_mut().append(NAME, line);
    let reply = send(&app, both).await.ok();
    assert_eq!((&*reply.body, value(&reply).as_deref()), ("true", Some("")));
    assert!(reply.set_cookie().unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn two_sessions_in_cookie_and_header_are_ambiguous() {
    let store = Spy::new();
    let app = with_either(&store);
    let [mut a, mut b] = [Browser::new(), Browser::new()];
    a.get(&app, "/incr").await.ok();
    b.get(&app, "/incr").await.ok();
    let mut both = a.request("/info");
    let line = HeaderValue::from_str(&b.bare()).unwrap();
    both.headers_mut().append(NAME, line);
    assert_eq!(send(&app, both).await.ok().body, "false");
    assert_eq!(store.sessions(), 2);
}

#[tokio::test]
async fn the_header_is_marked_sensitive_for_everything_inside_and_hidden_from_debug() {
    async fn look(headers: HeaderMap) -> String {
        let hidden = |name: &str| headers.get(name).is_none_or(HeaderValue::is_sensitive);
        format!("{} {}", hidden(NAME), hidden(COOKIE.as_str()))
    }
    let layer = layer(&Spy::new()).with_header(header());
    let app = Router::new().route("/", get(look)).layer(layer);
    let mut request = with_id("/", &unknown_id());
    request
        .headers_mut()
        .append(COOKIE, HeaderValue::from_static("a=b"));
    // Cookies are other layers' business here.
    assert_eq!(send(&app, request).await.ok().body, "true false");
}

#[tokio::test]
async fn nested_layers_with_one_header_are_one_session() {
    let (outer, inner) = (Spy::new(), Spy::new());
    let app = routes()
        .layer(layer(&inner).with_header(header()))
        .layer(layer(&outer).with_cookie_or_header(SessionCookie::default(), header()));
    send(&app, request("/incr", &[])).await.ok();
    assert_eq!((outer.sessions(), inner.calls()), (1, 0));
}

#[tokio::test]
async fn an_age_of_the_cookie_is_no_matter_to_a_header() {
    async fn keep(session: distributable::Session) -> Result<(), distributable::SessionError> {
        session.insert("a", &1)?;
        session.set_persistence(Persistence::MaxAge(std::time::Duration::from_secs(60)))
    }
    let layer = layer(&Spy::new()).with_header(header());
    let app = Router::new().route("/", get(keep)).layer(layer);
    let reply = send(&app, request("/", &[])).await.ok();
    assert_eq!(value(&reply).unwrap().len(), 56);
}
