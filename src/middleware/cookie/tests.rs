//! Rendering and validation of the session cookie.

use http::header::COOKIE;
use proptest::prelude::*;

use super::*;
use crate::error::SetupErrorKind;

fn built(builder: SessionCookieBuilder) -> SessionCookie {
    builder.build().unwrap()
}

fn set(cookie: &SessionCookie, secure: bool) -> String {
    set_for(cookie, Persistence::BrowserSession, secure)
}

fn set_for(cookie: &SessionCookie, persistence: Persistence, secure: bool) -> String {
    let id = SessionId::parse(&[b'A'; 56]).unwrap();
    let route = Route::new("node1").unwrap();
    let content = CookieValue::Session {
        id: &id,
        route: Some(&route),
        persistence,
    };
    let header = cookie.header(content, secure);
    header.to_str().unwrap().replace(&"A".repeat(56), "ID")
}

fn removal(cookie: &SessionCookie) -> String {
    let header = cookie.header(CookieValue::Removal, true);
    header.to_str().unwrap().to_owned()
}

#[test]
fn the_default_is_what_a_session_cookie_should_be() {
    let cookie = SessionCookie::default();
    assert_eq!(
        set(&cookie, true),
        "JSESSIONID=ID.node1; HttpOnly; SameSite=Lax; Secure; Path=/"
    );
    assert_eq!(
        set(&cookie, false),
        "JSESSIONID=ID.node1; HttpOnly; SameSite=Lax; Path=/"
    );
}

#[test]
fn a_cookie_without_a_route_has_no_dot() {
    let id = SessionId::generate();
    let content = CookieValue::Session {
        id: &id,
        route: None,
        persistence: Persistence::BrowserSession,
    };
    let header = SessionCookie::default().header(content, true);
    assert!(!header.to_str().unwrap().contains('.'));
}

/// 12, C-15.
#[test]
fn a_removal_repeats_every_attribute() {
    let cookie = built(
        SessionCookie::builder("shop")
            .path("/shop")
            .domain("example.com")
            .same_site(SameSite::None)
            .partitioned(true)
            .persistence(Persistence::MaxAge(Duration::from_secs(60))),
    );
    let attributes =
        "HttpOnly; SameSite=None; Partitioned; Secure; Path=/shop; Domain=example.com; Max-Age";
    let aged = set_for(&cookie, cookie.persistence(), true);
    assert_eq!(aged, format!("shop=ID.node1; {attributes}=66"));
    assert_eq!(removal(&cookie), format!("shop=; {attributes}=0"));
}

#[test]
fn what_demands_secure_has_it_on_loopback_too() {
    for builder in [
        SessionCookie::builder("a").same_site(SameSite::None),
        SessionCookie::builder("a").partitioned(true),
        SessionCookie::builder("__secure-a"),
        SessionCookie::builder("__Host-a"),
    ] {
        assert!(set(&built(builder), false).contains("; Secure"));
    }
}

#[test]
fn the_host_profile_is_one_call() {
    let cookie = built(
        SessionCookie::builder("shop")
            .domain("x")
            .path("/x")
            .host_prefix(),
    );
    assert_eq!(
        set(&cookie, false),
        "__Host-shop=ID.node1; HttpOnly; SameSite=Lax; Secure; Path=/"
    );
    let named = built(SessionCookie::builder("__Host-shop").host_prefix());
    assert_eq!(named.name(), "__Host-shop");
}

/// 3, 10, C-02.
#[test]
fn what_browsers_refuse_cannot_be_built() {
    let never = |name: &str| SessionCookie::builder(name).secure(Secure::Never);
    let insecure = SetupErrorKind::CookieInsecure;
    let prefix = SetupErrorKind::CookieHostPrefix;
    let age = Persistence::MaxAge(Duration::ZERO);
    for (builder, kind) in [
        (never("__Host-a"), insecure),
        (never("__secure-a"), insecure),
        (never("__HTTP-a"), insecure),
        (never("a").same_site(SameSite::None), insecure),
        (never("a").partitioned(true), insecure),
        (SessionCookie::builder("__Host-a").path("/a"), prefix),
        (SessionCookie::builder("__host-a").domain("a.com"), prefix),
        (
            SessionCookie::builder("a").host_prefix().domain("a.com"),
            prefix,
        ),
        (
            SessionCookie::builder("a").persistence(age),
            SetupErrorKind::CookieAge,
        ),
    ] {
        assert_eq!(refusal(&builder), kind, "{builder:?}");
    }
}

/// 3, 10, C-02.
#[test]
fn what_breaks_a_header_cannot_be_built() {
    let long = "a".repeat(1025);
    for name in [
        "", "a b", "a=b", "a;b", "a,b", "a\"", "a\r\n", "ä", "a\0", &long,
    ] {
        let builder = SessionCookie::builder(name);
        assert_eq!(refusal(&builder), SetupErrorKind::CookieName, "{name:?}");
    }
    for path in ["", "a", "/a;b", "/a b", "/ä", "/a\r\nb", "/\0"] {
        let builder = SessionCookie::builder("a").path(path);
        assert_eq!(refusal(&builder), SetupErrorKind::CookiePath, "{path:?}");
    }
    for domain in [
        "", ".", "a..b", "a;b", "a b", "ä.com", "a\r\n", "a:80", "[::1]", "a,b",
    ] {
        let builder = SessionCookie::builder("a").domain(domain);
        assert_eq!(
            refusal(&builder),
            SetupErrorKind::CookieDomain,
            "{domain:?}"
        );
    }
}

fn refusal(builder: &SessionCookieBuilder) -> SetupErrorKind {
    builder.clone().build().unwrap_err().kind()
}

/// 3, 10, C-02.
#[test]
fn a_max_age_is_at_least_a_second_and_at_most_four_hundred_days() {
    for (age, secs) in [
        (Duration::ZERO, 2),
        (Duration::from_millis(1500), 3),
        (Duration::from_secs(60), 66),
        (Duration::from_secs(86_400), 86_400 + 8_640),
        (Duration::from_secs(30 * 86_400), 31 * 86_400),
        (Duration::from_secs(u64::MAX), 34_560_000),
        (Duration::MAX, 34_560_000),
    ] {
        let text = set_for(&SessionCookie::default(), Persistence::MaxAge(age), true);
        assert!(text.ends_with(&format!("; Max-Age={secs}")), "{text}");
    }
}

#[test]
fn debug_of_the_header_hides_the_id() {
    let id = SessionId::generate();
    let content = CookieValue::Session {
        id: &id,
        route: None,
        persistence: Persistence::BrowserSession,
    };
    let header = SessionCookie::default().header(content, true);
    assert!(!format!("{header:?}").contains(&id.expose()));
}

proptest! {
    #[test]
    fn what_is_set_is_read_back(name in "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", node in "[A-Za-z0-9_]{1,32}") {
        let cookie = SessionCookie::builder(name).build().unwrap();
        let (id, route) = (SessionId::generate(), Route::new(&node).unwrap());
        let content = CookieValue::Session { id: &id, route: Some(&route), persistence: Persistence::BrowserSession };
        let header = cookie.header(content, true);
        let pair = header.to_str().unwrap().split(';').next().unwrap();
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(pair).unwrap())]);
        let candidates = parse(&headers, cookie.name());
        let found: Vec<_> = candidates.iter().collect();
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(found[0].id(), &id);
        prop_assert!(found[0].carries(Some(&route)));
    }

    /// 10.
    #[test]
    fn nothing_that_can_be_built_breaks_a_header(name in ".{0,20}", path in "/?.{0,20}", domain in prop::option::of(".{0,20}")) {
        let mut builder = SessionCookie::builder(name).path(path);
        if let Some(domain) = domain {
            builder = builder.domain(domain);
        }
        if let Ok(cookie) = builder.build() {
            let text = set(&cookie, true);
            prop_assert_eq!(text.matches("Path=").count(), 1);
            prop_assert!(text.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
        }
    }
}
