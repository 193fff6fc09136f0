//! The layer around routers, around other layers, and around services that are no axum routers.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::http::{Request, Response, StatusCode};
use axum::routing::get;
use distributable::{Session, SessionCookie, SessionError, SessionErrorKind, SessionLayer};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::timeout::TimeoutLayer;

use super::support::*;

#[tokio::test]
async fn a_missing_layer_is_explained_in_the_log_and_not_to_the_client() {
    let log = super::privacy::Log::default();
    let _listening = log.listen();
    // The second layer is added before the routes, and so is not around them.
    let before = Router::new().layer(layer(&Spy::new())).merge(routes());
    for app in [routes(), before] {
        let reply = send(&app, request("/incr", &[])).await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        reply.assert_untouched();
        assert_eq!(reply.body, "no session layer for this route");
    }
    for word in [
        "distributable",
        env!("CARGO_PKG_VERSION"),
        ".layer(SessionLayer::new(store))",
        "after the route",
        "ServiceBuilder",
        "runs first",
    ] {
        assert!(log.text().matches(word).count() >= 2, "{word}");
    }
}

/// A layer further out may answer in place of the handler, with a body that it makes itself.
#[tokio::test(start_paused = true)]
async fn a_time_out_goes_around_the_layer_in_a_service_builder() {
    async fn slow(session: Session) -> Result<(), SessionError> {
        session.insert("a", &1)?;
        session.save().await?;
        session.insert("b", &1)?;
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(())
    }
    let store = Spy::new();
    let time_out =
        TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(1));
    let layers = ServiceBuilder::new().layer(time_out).layer(layer(&store));
    let app = routes().route("/slow", get(slow)).layer(layers);
    let reply = send(&app, request("/slow", &[])).await;
    assert_eq!(
        (reply.status, &*reply.body),
        (StatusCode::GATEWAY_TIMEOUT, "")
    );
    reply.assert_untouched();
    assert_eq!(store.commits.get(), 1, "what was staged is dropped");
    assert_eq!(send(&app, request("/incr", &[])).await.ok().body, "1");

    let mut bare = ServiceBuilder::new()
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            Duration::from_secs(1),
        ))
        .layer(layer(&store))
        .service_fn(async |_: Request<Full<&'static [u8]>>| {
            std::future::pending::<Result<Response<Full<&'static [u8]>>, Infallible>>().await
        });
    let response = bare.call(Request::new(Full::default())).await.unwrap();
    let body = response.into_body();
    assert!(http_body::Body::is_end_stream(&body));
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
}

/// W-13: a timeout inside the layer, without and with the marker that the documentation shows.
#[tokio::test(start_paused = true)]
async fn a_time_out_inside_the_layer_stores_what_is_staged_unless_only_finished_handlers_commit() {
    use axum::extract::Request;
    use axum::middleware::{Next, from_fn, map_response};
    use axum::response::IntoResponse;

    #[derive(Clone)]
    struct Finished;

    async fn finish(mut response: axum::response::Response) -> axum::response::Response {
        response.extensions_mut().insert(Finished);
        response
    }
    async fn slow(session: Session) -> Result<(), SessionError> {
        session.insert("order", "begun")?;
        tokio::time::sleep(Duration::from_secs(60)).await;
        session.insert("order", "done")
    }
    async fn by_hand(request: Request, next: Next) -> axum::response::Response {
        let answer = tokio::time::timeout(Duration::from_secs(1), next.run(request));
        let late = || StatusCode::GATEWAY_TIMEOUT.into_response();
        answer.await.unwrap_or_else(|_| late())
    }
    let routes = || routes().route("/slow", get(slow));
    let limit =
        || TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(1));
    for marks in [false, true] {
        let marked = || {
            if marks {
                routes().layer(map_response(finish))
            } else {
                routes()
            }
        };
        for app in [marked().layer(limit()), marked().layer(from_fn(by_hand))] {
            let store = Spy::new();
            let layer = if marks {
                layer(&store).commit_when(|head| head.extensions.get::<Finished>().is_some())
            } else {
                layer(&store)
            };
            let app = app.layer(layer);
            let mut browser = Browser::new();
            browser.get(&app, "/set?k=order&v=none").await.ok();
            let reply = browser.get(&app, "/slow").await;
            assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT);
            reply.assert_no_cookie();
            let order = browser.get(&app, "/get?k=order").await.ok().body;
            assert_eq!(order, if marks { "none" } else { "begun" });
        }
    }
}

#[tokio::test]
async fn a_layer_inside_another_one_with_the_same_name_is_warned_of_once() {
    let log = super::privacy::Log::default();
    let _listening = log.listen();
    let warnings = || {
        log.text()
            .matches("inside another one with the same cookie")
            .count()
    };
    let named =
        |name: &str| layer(&Spy::new()).with_cookie(SessionCookie::builder(name).build().unwrap());
    // Clones of one layer, and layers with names of their own, are meant.
    let one = layer(&Spy::new());
    let clones = routes().layer(one.clone()).layer(named("OTHER")).layer(one);
    let others = routes().layer(named("A")).layer(named("B"));
    for app in [clones, others] {
        send(&app, request("/incr", &[])).await.ok();
    }
    assert_eq!(warnings(), 0);
    let twice = routes().layer(layer(&Spy::new())).layer(layer(&Spy::new()));
    for _ in 0..3 {
        send(&twice, request("/none", &[])).await.ok();
    }
    assert_eq!(warnings(), 1);
    assert!(log.text().contains("around all routes"));
}

///
#[tokio::test]
async fn two_layers_with_one_cookie_name_are_one_session_and_one_cookie() {
    let (outer, inner) = (Spy::new(), Spy::new());
    let app = routes().layer(layer(&inner)).layer(layer(&outer));
    let mut browser = Browser::new();
    for n in 1..=3 {
        assert_eq!(browser.get(&app, "/incr").await.ok().body, n.to_string());
    }
    assert_eq!(inner.calls(), 0, "the outer one is in charge");
    assert_eq!((outer.sessions(), outer.commits.get()), (1, 3));
}

#[tokio::test]
async fn two_layers_with_different_names_are_two_sessions() {
    let (outer, inner, innermost) = (Spy::new(), Spy::new(), Spy::new());
    let named = |store: &Spy, name: &str| {
        layer(store).with_cookie(SessionCookie::builder(name).build().unwrap())
    };
    let nested = Router::new().nest("/shop", routes().layer(named(&inner, "SHOP")));
    let app = nested.merge(routes()).layer(named(&outer, "SITE"));
    let site = send(&app, request("/incr", &[])).await.ok();
    let shop = send(&app, request("/shop/incr", &[])).await.ok();
    let (site, shop) = (site.set_cookie().unwrap(), shop.set_cookie().unwrap());
    assert!(site.starts_with("SITE=") && shop.starts_with("SHOP="));
    let pair = |cookie: &str| cookie.split(';').next().unwrap().to_owned();
    let both = format!("{}; {}", pair(&site), pair(&shop));
    for (path, n) in [
        ("/incr", "2"),
        ("/shop/incr", "2"),
        ("/shop/incr", "3"),
        ("/incr", "3"),
    ] {
        let reply = send(&app, request(path, &[both.as_bytes()])).await.ok();
        assert_eq!(reply.body, n);
        reply.assert_no_cookie();
    }
    // A third layer inside, with the first one's name, belongs to the first one.
    let app = routes()
        .layer(named(&innermost, "SITE"))
        .layer(named(&inner, "SHOP"))
        .layer(named(&outer, "SITE"));
    send(&app, request("/incr", &[both.as_bytes()]))
        .await
        .ok()
        .assert_no_cookie();
    assert_eq!(innermost.calls(), 0);
}

#[tokio::test]
async fn a_service_of_any_bodies_is_served() {
    struct Odd;

    async fn handle(request: Request<Odd>) -> Result<Response<Odd>, &'static str> {
        let (parts, _) = request.into_parts();
        let session = Session::from_parts(&parts)
            .await
            .map_err(|_| "no session")?;
        if session.contains("a") {
            return Err("the service's own error");
        }
        session.insert("a", &1).map_err(|_| "not written")?;
        Ok(Response::new(Odd))
    }

    let store = Spy::new();
    let mut service = layer(&store).layer(service_fn(handle));
    let service = ServiceExt::<Request<Odd>>::ready(&mut service)
        .await
        .unwrap();
    let response = service.call(Request::new(Odd)).await.unwrap();
    let cookie = response.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    let mut request = Request::new(Odd);
    let pair = cookie.split(';').next().unwrap().parse().unwrap();
    request.headers_mut().insert("cookie", pair);
    assert_eq!(
        service.call(request).await.err(),
        Some("the service's own error")
    );
}

#[tokio::test]
async fn a_body_that_deals_in_something_else_than_bytes_is_replaced_by_nothing() {
    use std::collections::VecDeque;
    let store = Spy::new();
    store.break_only("commit", down);
    let service = layer(&store).layer(service_fn(async |request: Request<()>| {
        let session = Session::from_parts(&request.into_parts().0).await.unwrap();
        session.insert("a", &1).unwrap();
        Ok::<_, Infallible>(Response::new(Full::new(VecDeque::from([1_u8, 2]))))
    }));
    let response = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(http_body::Body::is_end_stream(response.body()));
    assert!(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
    store.repair();
    let response = service.oneshot(Request::new(())).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, &[1, 2][..]);
}

#[tokio::test]
async fn it_stacks_with_other_layers() {
    let store = Spy::new();
    let stack = ServiceBuilder::new()
        .layer(tower_http::trace::TraceLayer::new_for_http())
        .layer(tower_http::catch_panic::CatchPanicLayer::new())
        .layer(layer(&store))
        .map_response(|response: Response<axum::body::Body>| response);
    let app = routes().layer(stack);
    let mut browser = Browser::new();
    assert_eq!(browser.get(&app, "/incr").await.ok().body, "1");
    assert_eq!(browser.get(&app, "/incr").await.ok().body, "2");
}

#[tokio::test]
async fn a_layer_further_in_may_use_the_session_too() {
    async fn guard(
        session: Session,
        request: axum::extract::Request,
        next: axum::middleware::Next,
    ) -> Result<axum::response::Response, SessionError> {
        let n = session.get::<u64>("visits")?.unwrap_or(0);
        session.insert("visits", &(n + 1))?;
        Ok(next.run(request).await)
    }
    let store = Spy::new();
    let app = routes()
        .route(
            "/visits",
            get(async |session: Session| {
                session.get::<u64>("visits").unwrap().unwrap().to_string()
            }),
        )
        .layer(axum::middleware::from_fn(guard))
        .layer(layer(&store));
    let mut browser = Browser::new();
    browser.get(&app, "/none").await.ok();
    let commits = store.commits.get();
    assert_eq!(browser.get(&app, "/visits").await.ok().body, "2");
    assert_eq!(store.commits.get() - commits, 1);
}

#[tokio::test]
async fn without_a_runtime_the_commit_is_awaited_in_place() {
    let store = Spy::new();
    let gate = store.close_gate();
    gate.let_through(1);
    let app = app(&store);
    let reply = std::thread::spawn(move || {
        let future = app.oneshot(request("/set?k=a&v=1", &[]));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(future).unwrap().status()
    });
    assert_eq!(reply.join().unwrap(), StatusCode::OK);
    assert_eq!(store.sessions(), 1);
}

#[tokio::test]
async fn every_error_has_its_status() {
    use SessionErrorKind::*;
    for (kind, status) in [
        (NoSession, 409),
        (Invalidated, 409),
        (Conflict, 409),
        (TooLarge, 413),
        (Encode, 500),
        (Decode, 500),
        (TooLate, 500),
        (ReservedName, 500),
        (MissingLayer, 500),
        (Store(distributable::StoreErrorKind::Full), 503),
        (Store(distributable::StoreErrorKind::TooLarge), 413),
    ] {
        assert_eq!(
            SessionError::from(kind).status().as_u16(),
            status,
            "{kind:?}"
        );
    }
}

#[test]
fn a_layer_is_configured_once_and_cloned_freely() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let layer = SessionLayer::new(Spy::new())
        .with_idle_timeout(None)
        .with_absolute_timeout(Duration::MAX)
        .with_initial_idle_timeout(Duration::ZERO);
    shared(&layer);
    shared(&layer.layer(()));
}
