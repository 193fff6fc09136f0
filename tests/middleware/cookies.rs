//! Contents of session cookies, the values that are accepted, and the responses that set one.

use std::time::Duration;

use axum::Router;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HOST, SET_COOKIE, VARY};
use axum::http::{HeaderValue, Method, StatusCode, Version};
use axum::response::IntoResponse;
use axum::routing::get;
use distributable::{Route, SameSite, Secure, Session, SessionCookie, SessionError};
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::support::*;

/// 1, C-01.
#[tokio::test]
async fn the_first_write_sets_one_cookie_with_id_and_route() {
    let store = Spy::new();
    let reply = send(&node(&store, "node1"), request("/set?k=a&v=1", &[]))
        .await
        .ok();

    let cookie = reply.set_cookie().expect("a cookie");
    let (name, rest) = cookie.split_once('=').unwrap();
    let mut parts = rest.split("; ");
    let (id, route) = parts.next().unwrap().split_once('.').unwrap();
    assert_eq!(name, "JSESSIONID");
    assert_eq!(route, "node1");
    assert_eq!(id.len(), 56);
    assert!(
        id.bytes()
            .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
    );
    let mut attributes: Vec<_> = parts.collect();
    attributes.sort_unstable();
    assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]);
    assert!(cookie.len() <= 200);
}

#[tokio::test]
async fn a_node_without_a_route_sets_the_bare_id() {
    let reply = send(&app(&Spy::new()), request("/set?k=a&v=1", &[]))
        .await
        .ok();
    assert!(!reply.cookie_value().unwrap().contains('.'));
}

/// 4, C-04.
#[tokio::test]
async fn an_invented_id_is_not_adopted() {
    let (store, invented) = (Spy::new(), unknown_id());
    for cookie in ["DUMMY_SESSION_ID", &invented] {
        let mut browser = Browser::holding(cookie);
        let reply = browser.get(&app(&store), "/set?k=a&v=1").await.ok();
        assert!(reply.cookie_value().is_some());
        assert_ne!(browser.bare(), cookie);
    }
}

/// 5, 6.
#[tokio::test]
async fn a_route_that_does_not_ask_costs_no_store_call_and_no_header() {
    let store = Spy::new();
    let app = node(&store, "node1");
    send(&app, request("/none", &[]))
        .await
        .ok()
        .assert_untouched();
    assert_eq!((store.calls(), store.sessions()), (0, 0));

    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let calls = store.calls();
    browser.get(&app, "/none").await.ok().assert_untouched();
    assert_eq!(store.calls(), calls);
}

#[tokio::test]
async fn asking_without_writing_leaves_no_trace() {
    let store = Spy::new();
    let app = node(&store, "node1");
    for path in [
        "/info",
        "/get?k=a",
        "/has?k=a",
        "/remove?k=a",
        "/logout",
        "/ttl?s=60",
        "/nowhere",
    ] {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST] {
            let mut request = request(path, &[]);
            *request.method_mut() = method;
            send(&app, request).await.assert_no_cookie();
        }
    }
    assert_eq!((store.calls(), store.sessions()), (0, 0));
}

/// 7.
#[tokio::test]
async fn the_cookie_is_not_repeated() {
    let store = Spy::new();
    let app = node(&store, "node1");
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    for path in ["/get?k=a", "/set?k=a&v=2", "/incr", "/update", "/info"] {
        browser.get(&app, path).await.ok().assert_no_cookie();
    }
}

/// 8, C-07.
#[tokio::test]
async fn the_live_one_of_several_cookies_is_used_whatever_their_order() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let live = format!("JSESSIONID={}", browser.bare());
    let dead = format!("JSESSIONID={}", unknown_id());
    let other = format!("JSESSIONID={}", unknown_id());
    let bogus = "JSESSIONID=bogus".to_owned();
    for order in [
        [&live, &dead, &bogus, &other],
        [&bogus, &live, &other, &dead],
        [&dead, &bogus, &other, &live],
        [&live, &live, &dead, &live],
    ] {
        let one_line = order.map(String::as_str).join("; ");
        let crumbs = order.map(|it| it.as_bytes());
        for cookies in [&[one_line.as_bytes()][..], &crumbs[..]] {
            let loads = store.loads.get();
            let reply = send(&app, request("/get?k=a", cookies)).await.ok();
            assert_eq!(reply.body, "1", "{order:?}");
            reply.assert_no_cookie();
            assert!(store.loads.get() - loads <= 4);
        }
    }
}

/// 8, C-07.
#[tokio::test]
async fn of_two_live_sessions_neither_is_used() {
    let store = Spy::new();
    let app = app(&store);
    let (mut one, mut two) = (Browser::new(), Browser::new());
    one.get(&app, "/set?k=a&v=1").await.ok();
    two.get(&app, "/set?k=a&v=2").await.ok();
    for (first, second) in [(&one, &two), (&two, &one)] {
        let line = format!("JSESSIONID={}; JSESSIONID={}", first.bare(), second.bare());
        let reply = send(&app, request("/get?k=a", &[line.as_bytes()]))
            .await
            .ok();
        assert_eq!(reply.body, "");
        reply.assert_no_cookie();
    }
    // Both are as they were.
    assert_eq!(one.get(&app, "/get?k=a").await.body, "1");
    assert_eq!(two.get(&app, "/get?k=a").await.body, "2");
}

/// The `Cookie` line with the cookies of all these browsers.
fn all_of(browsers: &[Browser]) -> String {
    let pairs = browsers
        .iter()
        .map(|it| format!("JSESSIONID={}", it.bare()));
    pairs.collect::<Vec<_>>().join("; ")
}

/// W-08.
#[tokio::test]
async fn the_first_write_ends_all_live_sessions_and_sets_one_good_cookie() {
    let state = async |session: Session| format!("{} {}", session.is_ambiguous(), session.exists());
    let write = async |session: Session| -> Result<String, SessionError> {
        session.insert("uid", "ann")?;
        session.save().await?;
        Ok(session.is_ambiguous().to_string())
    };
    for (domain, live) in [(None, 2), (None, 3), (Some("example.com"), 2)] {
        let store = Spy::new();
        let mut cookie = SessionCookie::builder("JSESSIONID");
        if let Some(domain) = domain {
            cookie = cookie.domain(domain);
        }
        let app = routes()
            .route("/state", get(state))
            .route("/write", get(write))
            .layer(layer(&store).with_cookie(cookie.build().unwrap()));
        for path in ["/login?uid=ann", "/write", "/update", "/set?k=uid&v=ann"] {
            let mut old = vec![Browser::new(); live];
            for browser in &mut old {
                browser.get(&app, "/set?k=a&v=1").await.ok();
            }
            let line = all_of(&old);
            let reply = send(&app, request("/state", &[line.as_bytes()])).await.ok();
            assert_eq!(reply.body, "true false");
            reply.assert_no_cookie();

            let reply = send(&app, request(path, &[line.as_bytes()])).await.ok();
            if path == "/write" {
                assert_eq!(reply.body, "false", "it is settled once that is stored");
            }
            let mut cookies = reply.set_cookies();
            let good = cookies.pop().unwrap();
            assert!(!good.contains("Max-Age=0"), "{good}");
            assert_eq!(good.contains("Domain=example.com"), domain.is_some());
            // The other one that can be named.
            assert_eq!(cookies.len(), usize::from(domain.is_some()));
            for other in cookies {
                assert!(other.starts_with("JSESSIONID=; ") && other.contains("Max-Age=0"));
                assert!(!other.contains("Domain"), "{other}");
            }
            for browser in &old {
                assert_eq!(browser.clone().get(&app, "/info").await.body, "false");
            }
            let (pair, _) = good.split_once(';').unwrap();
            let line = format!("{line}; {pair}");
            let reply = send(&app, request("/state", &[line.as_bytes()])).await.ok();
            assert_eq!(reply.body, "false true", "{path}");
        }
    }
}

/// W-08.
#[tokio::test]
async fn a_logout_ends_all_live_sessions_and_clears_every_cookie_that_can_be_named() {
    for domain in [None, Some("example.com")] {
        let store = Spy::new();
        let mut cookie = SessionCookie::builder("JSESSIONID");
        if let Some(domain) = domain {
            cookie = cookie.domain(domain);
        }
        let app = routes().layer(layer(&store).with_cookie(cookie.build().unwrap()));
        let mut old = vec![Browser::new(); 3];
        for browser in &mut old {
            browser.get(&app, "/set?k=a&v=1").await.ok();
        }
        let line = all_of(&old);
        let reply = send(&app, request("/logout", &[line.as_bytes()]))
            .await
            .ok();
        assert_eq!(reply.body, "true");
        let cookies = reply.set_cookies();
        assert_eq!(cookies.len(), 1 + usize::from(domain.is_some()));
        assert!(cookies.iter().all(|it| it.contains("Max-Age=0")));
        assert_eq!(store.sessions(), 0);
        let reply = send(&app, request("/logout", &[line.as_bytes()]))
            .await
            .ok();
        assert_eq!(reply.body, "false");
        reply.assert_no_cookie();
    }
}

/// W-08.
#[tokio::test]
async fn sessions_that_cannot_be_ended_let_no_other_begin() {
    let store = Spy::new();
    let app = app(&store);
    let mut old = vec![Browser::new(); 2];
    for browser in &mut old {
        browser.get(&app, "/set?k=a&v=1").await.ok();
    }
    store.break_only("end", down);
    for path in ["/login?uid=ann", "/logout"] {
        let line = all_of(&old);
        let reply = send(&app, request(path, &[line.as_bytes()])).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        reply.assert_no_cookie();
        assert_eq!(store.sessions(), 2);
    }
}

/// W-12.
#[tokio::test]
async fn a_cookie_in_a_joined_line_is_used_and_not_sent_again() {
    let app = node(&Spy::new(), "node1");
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let ours = format!("JSESSIONID={}", browser.cookie.unwrap());
    for line in [
        format!("{ours}, a=b"),
        format!("a=b, {ours}"),
        format!("a=b,{ours},c=d"),
        format!("a=b; c=d, {ours}; e=f"),
        format!("{ours}, {ours}"),
    ] {
        let reply = send(&app, request("/get?k=a", &[line.as_bytes()]));
        let reply = reply.await.ok();
        assert_eq!(reply.body, "1");
        reply.assert_no_cookie();
    }
}

/// 8, C-07.
#[tokio::test]
async fn with_more_ids_than_are_looked_up_none_is_used() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    for at in 0..6 {
        let mut ids: Vec<_> = (0..5).map(|_| unknown_id()).collect();
        ids.insert(at, browser.bare());
        let cookies: Vec<_> = ids.iter().map(|id| format!("JSESSIONID={id}")).collect();
        let loads = store.loads.get();
        let reply = send(&app, request("/get?k=a", &[cookies.join(";").as_bytes()]))
            .await
            .ok();
        assert_eq!(reply.body, "");
        assert!(store.loads.get() - loads <= 4);
    }
}

/// 9, C-09.
#[tokio::test]
async fn garbage_is_no_session_and_no_store_call() {
    let store = Spy::new();
    let app = node(&store, "node1");
    let long = vec![b'A'; 64 * 1024];
    let quoted = format!("\"{}\"", unknown_id());
    let lower = unknown_id().to_lowercase();
    let escaped = unknown_id().replacen('0', "%30", 1);
    let values: [&[u8]; 16] = [
        b"",
        b".",
        b".node1",
        b"..node1",
        &long,
        b"\xff\xfe\x80",
        b"../../x",
        b"/etc/passwd",
        b"%2e%2e",
        b"*",
        b"[a-z]",
        b"\"",
        b"a\tb",
        quoted.as_bytes(),
        lower.as_bytes(),
        escaped.as_bytes(),
    ];
    for value in values {
        if value == escaped.as_bytes() && !escaped.contains('%') {
            continue;
        }
        let line = [b"JSESSIONID=", value].concat();
        let reply = send(&app, request("/get?k=a", &[&line])).await.ok();
        assert_eq!(reply.body, "");
        reply.assert_no_cookie();
    }
    assert_eq!((store.calls(), store.sessions()), (0, 0));
}

/// C-08.
#[tokio::test]
async fn names_like_ours_are_not_ours() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let id = browser.bare();
    for line in [
        format!("jsessionid={id}"),
        format!("JSESSIONID2={id}"),
        format!("XJSESSIONID={id}"),
        format!("JSESSION ID={id}"),
        format!("$Version=1; $JSESSIONID={id}"),
        format!("={id}"),
        id.clone(),
        format!("x=JSESSIONID={id}"),
    ] {
        let reply = send(&app, request("/get?k=a", &[line.as_bytes()]))
            .await
            .ok();
        assert_eq!(reply.body, "", "{line:?}");
    }
    let odd = format!("a=\"b; ;;JSESSIONID \t= {id}\t;x=\u{fc}");
    assert_eq!(
        send(&app, request("/get?k=a", &[odd.as_bytes()]))
            .await
            .body,
        "1"
    );
}

/// C-17, 60 (k).
#[tokio::test]
async fn ids_are_taken_from_cookies_only() {
    let store = Spy::new();
    let app = app(&store)
        .fallback(|session: Option<Session>| async move { session.is_some().to_string() });
    let app = app.layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let id = browser.bare();
    for path in [
        format!("/get;jsessionid={id}"),
        format!("/get;JSESSIONID={id}?k=a"),
        format!("/info?JSESSIONID={id}&jsessionid={id}"),
    ] {
        let mut request = request(&path, &[]);
        let headers = request.headers_mut();
        headers.insert("x-session-id", id.parse().unwrap());
        headers.insert("jsessionid", id.parse().unwrap());
        headers.insert(AUTHORIZATION, format!("Bearer {id}").parse().unwrap());
        assert_eq!(send(&app, request).await.ok().body, "false", "{path}");
    }
}

/// C-10.
#[tokio::test]
async fn half_a_million_cookies_are_read_in_linear_time() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let mut line = "JSESSIONID=x; a=b; ".repeat(250_000);
    line.push_str(&format!("JSESSIONID={}", browser.bare()));
    let request = request("/get?k=a", &[line.as_bytes()]);
    // Time of the processor, since other tests run beside this one.
    let computing = || {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(tv_sec.try_into().unwrap(), tv_nsec.try_into().unwrap())
    };
    let start = computing();
    assert_eq!(send(&app, request).await.ok().body, "1");
    // A quadratic reader takes minutes, a linear one a part of a second.
    assert!(computing() - start < Duration::from_secs(10));
}

/// 10.
#[tokio::test]
async fn secure_follows_its_policy() {
    let store = Spy::new();
    let secure = |policy: Secure, host: &'static str, forwarded: bool| {
        let cookie = SessionCookie::builder("JSESSIONID").secure(policy).build();
        let app = routes().layer(layer(&store).with_cookie(cookie.unwrap()));
        let mut request = request("/set?k=a&v=1", &[]);
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static(host));
        if forwarded {
            let proto = HeaderValue::from_static("https");
            request.headers_mut().insert("x-forwarded-proto", proto);
        }
        async move {
            let cookie = send(&app, request).await.ok().set_cookie().unwrap();
            cookie.split("; ").filter(|it| *it == "Secure").count()
        }
    };
    assert_eq!(secure(Secure::Auto, "shop.example", false).await, 1);
    assert_eq!(secure(Secure::Auto, "localhost:8080", false).await, 0);
    assert_eq!(secure(Secure::Auto, "127.0.0.1", false).await, 0);
    assert_eq!(secure(Secure::Auto, "127.0.0.1", true).await, 1);
    assert_eq!(secure(Secure::Always, "localhost", false).await, 1);
    assert_eq!(secure(Secure::Never, "shop.example", true).await, 0);
}

/// W-11.
#[tokio::test]
async fn cookies_that_never_come_back_are_worth_one_line_of_log() {
    const HINT: &str = "no session cookie has come back";
    let visit = async |app: &Router, header: &'static str, value: &'static str| {
        let mut request = request("/set?k=a&v=1", &[]);
        let host = HeaderValue::from_static("192.168.0.1:8080");
        request.headers_mut().insert(HOST, host);
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(header, value);
        send(app, request).await.ok()
    };
    let log = super::privacy::Log::default();
    let _listening = log.listen();
    let lan = app(&Spy::new());
    for _ in 0..19 {
        let reply = visit(&lan, "accept", "*/*").await;
        assert!(reply.set_cookie().unwrap().contains("Secure"));
    }
    assert!(!log.text().contains(HINT));
    for _ in 0..50 {
        visit(&lan, "accept", "*/*").await;
    }
    assert_eq!(log.text().matches(HINT).count(), 1);
    assert!(log.text().contains("X-Forwarded-Proto") && log.text().contains("Secure::Never"));

    // A cookie that comes back shows that browsers keep it; and a proxy sends the scheme.
    let log = super::privacy::Log::default();
    let _listening = log.listen();
    let kept = app(&Spy::new());
    let id = format!("JSESSIONID={}", unknown_id());
    send(&kept, request("/get?k=a", &[id.as_bytes()]))
        .await
        .ok();
    for _ in 0..50 {
        visit(&kept, "accept", "*/*").await;
    }
    let proxied = app(&Spy::new());
    for _ in 0..50 {
        visit(&proxied, "x-forwarded-proto", "https").await;
    }
    assert!(!log.text().contains(HINT));
}

/// 12, C-15.
#[tokio::test]
async fn a_removal_repeats_every_attribute() {
    let cookies = [
        SessionCookie::builder("JSESSIONID").secure(Secure::Always),
        SessionCookie::builder("JSESSIONID")
            .path("/shop")
            .domain("shop.example")
            .same_site(SameSite::Strict),
        SessionCookie::builder("JSESSIONID")
            .same_site(SameSite::None)
            .secure(Secure::Always)
            .partitioned(true),
    ];
    for cookie in cookies {
        let layer = layer(&Spy::new()).with_cookie(cookie.build().unwrap());
        let app = routes().layer(layer.with_route(Route::new("node1").unwrap()));
        let mut browser = Browser::new();
        let set = browser
            .get(&app, "/set?k=a&v=1")
            .await
            .ok()
            .set_cookie()
            .unwrap();
        let reply = browser.get(&app, "/logout").await.ok();
        let removal = reply.set_cookie().expect("a removal");
        assert_eq!(reply.body, "true");
        let attributes = |cookie: &str| {
            let parts = cookie
                .split("; ")
                .skip(1)
                .filter(|it| !it.starts_with("Max-Age"));
            let mut parts: Vec<_> = parts.map(str::to_owned).collect();
            parts.sort_unstable();
            parts
        };
        assert_eq!(attributes(&set), attributes(&removal));
        assert!(removal.starts_with("JSESSIONID=;"));
        assert!(removal.split("; ").any(|it| it == "Max-Age=0"));
        assert_eq!(browser.cookie, None);
    }
}

#[tokio::test]
async fn only_a_cookie_that_the_browser_had_is_removed() {
    let store = Spy::new();
    let app = app(&store);
    for mut browser in [
        Browser::new(),
        Browser::holding("x"),
        Browser::holding(unknown_id()),
    ] {
        let reply = browser.get(&app, "/logout").await.ok();
        assert_eq!(reply.body, "false");
        reply.assert_no_cookie();
    }
    assert_eq!(store.ends.get(), 0);
}

/// C-14.
#[tokio::test]
async fn headers_for_caches_name_what_the_response_depends_on() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    const NO_CACHE: &str = "no-cache=\"Set-Cookie\"";

    let set = browser.get(&app, "/set?k=a&v=1").await.ok();
    assert_eq!(set.all(VARY), ["Cookie"]);
    assert_eq!(set.all(CACHE_CONTROL), [NO_CACHE]);
    for path in ["/get?k=a", "/has?k=a", "/info"] {
        let read = browser.get(&app, path).await.ok();
        assert_eq!(read.all(VARY), ["Cookie"]);
        assert!(read.all(CACHE_CONTROL).is_empty());
    }
    let logout = browser.get(&app, "/logout").await.ok();
    assert_eq!(logout.all(VARY), ["Cookie"]);
    assert_eq!(logout.all(CACHE_CONTROL), [NO_CACHE]);
    browser.get(&app, "/none").await.ok().assert_untouched();
}

#[tokio::test]
async fn what_the_handler_says_about_caching_and_cookies_stays() {
    async fn handler(session: Session) -> Result<impl IntoResponse, SessionError> {
        session.insert("a", &1)?;
        let headers = [
            (VARY, "accept-encoding"),
            (CACHE_CONTROL, "private, no-store"),
            (SET_COOKIE, "theme=dark"),
        ];
        Ok((headers, ""))
    }
    let app = Router::new()
        .route("/", get(handler))
        .layer(layer(&Spy::new()));
    let reply = send(&app, request("/", &[])).await.ok();
    assert_eq!(reply.all(VARY), ["accept-encoding", "Cookie"]);
    assert_eq!(reply.all(CACHE_CONTROL), ["private, no-store"]);
    let cookies = reply.set_cookies();
    assert_eq!(cookies.len(), 2);
    assert_eq!(cookies[0], "theme=dark");
    assert!(cookies[1].starts_with("JSESSIONID="));
}

#[tokio::test]
async fn a_cookie_can_have_another_name() {
    let store = Spy::new();
    let cookie = SessionCookie::builder("__Host-id")
        .secure(Secure::Always)
        .build()
        .unwrap();
    let app = routes().layer(layer(&store).with_cookie(cookie));
    let reply = send(&app, request("/set?k=a&v=1", &[])).await.ok();
    let value = reply.cookie_value().unwrap();
    let ours = format!("JSESSIONID={}; __Host-id={value}", unknown_id());
    let reply = send(&app, request("/get?k=a", &[ours.as_bytes()]))
        .await
        .ok();
    assert_eq!(reply.body, "1");
}

#[tokio::test]
async fn all_cookie_lines_of_a_request_are_read() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let mut request = request("/get?k=a", &[b"a=1", b"b=2; c=3"]);
    let ours = format!("JSESSIONID={}", browser.bare()).parse().unwrap();
    request.headers_mut().append(COOKIE, ours);
    *request.version_mut() = Version::HTTP_2;
    assert_eq!(send(&app, request).await.ok().body, "1");
}

/// C-03.
#[tokio::test]
async fn issued_ids_are_distinct_and_even() {
    let store = Spy::new();
    let app = app(&store);
    let mut seen = std::collections::BTreeSet::new();
    let mut counts = [[0_u32; 16]; 56];
    const ROUNDS: u32 = 4_000;
    for _ in 0..ROUNDS {
        let reply = send(&app, request("/set?k=a&v=1", &[])).await.ok();
        let id = reply.cookie_value().unwrap();
        for (place, digit) in counts.iter_mut().zip(id.chars()) {
            place[digit.to_digit(16).unwrap() as usize] += 1;
        }
        assert!(seen.insert(id));
    }
    // Chi-squared with 15 degrees of freedom stays below 60 but once in ten million tries.
    for (at, place) in counts.iter().enumerate() {
        // The first bit of a root is fixed.
        let (digits, never) = place.split_at(if at == 0 { 8 } else { 16 });
        assert!(never.iter().all(|n| *n == 0), "{place:?}");
        let expected = f64::from(ROUNDS) / digits.len() as f64;
        let chi: f64 = digits
            .iter()
            .map(|n| (f64::from(*n) - expected).powi(2) / expected)
            .sum();
        assert!(chi < 60.0, "{place:?}");
    }
}
