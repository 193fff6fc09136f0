use std::future::pending;

use axum::Router;
use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_ENCODING,
    ORIGIN, SET_COOKIE, VARY,
};
use axum::http::{Method, Request, StatusCode};
use axum::routing::get;
use distributable::testing::FailingStore;
use distributable::{MemoryStore, Session, SessionError, StoreErrorKind};
use tower::ServiceExt;

use crate::support::Browser;

#[path = "../../src/docs/recipes/layers.rs"]
mod recipe;

/// Logs in, stores that, and does half of something else.
async fn begin(session: &Session) -> Result<(), SessionError> {
    session.log_in("ada")?;
    session.save().await?;
    session.insert("half", &true)
}

fn app(store: FailingStore<MemoryStore>) -> Router {
    let hang = async |session: Session| {
        begin(&session).await.unwrap();
        pending::<()>().await;
    };
    let panic = async |session: Session| -> String {
        begin(&session).await.unwrap();
        panic!("a bug")
    };
    let look = async |session: Session| {
        let half = session.contains("half");
        format!("user {}, half {half}", session.user().is_some())
    };
    let visit = async |session: Session| session.insert("visited", &true).map(|()| TEXT);
    let routes = Router::new()
        .route("/", get(visit).post(visit))
        .route("/hang", get(hang))
        .route("/panic", get(panic))
        .route("/look", get(look));
    recipe::with_layers(routes, store)
}

const TEXT: &str = "long enough to be worth a compression, as almost every page of a shop is";

fn store() -> FailingStore<MemoryStore> {
    FailingStore::new(MemoryStore::new())
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_cut_off_leaves_no_half_of_its_work_and_no_visitor_without_a_cookie() {
    for (path, status) in [
        ("/hang", StatusCode::GATEWAY_TIMEOUT),
        ("/panic", StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let app = app(store());
        let mut browser = Browser::default();
        browser.get(&app, "/").await;
        let before = browser.cookie.clone();
        assert_eq!(browser.get(&app, path).await.0, status);
        // The login is stored, and so its answer carries the new id.
        assert_ne!(browser.cookie, before);
        let seen = browser.get(&app, "/look").await.1;
        assert_eq!(seen, "user true, half false", "{path}");
    }
    assert_eq!(recipe::LONGEST.as_secs(), 10);
}

#[tokio::test]
async fn other_origins_may_read_failures_and_ask_first_without_a_session() {
    let store = store();
    let app = app(store.clone());
    let request = |method: Method| {
        Request::builder()
            .method(method)
            .uri("/")
            .header(ORIGIN, "https://shop.example")
            .header(ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .body(Body::empty())
            .unwrap()
    };
    store.fail_writes(StoreErrorKind::Unavailable);
    for (method, status) in [
        (Method::OPTIONS, StatusCode::OK),
        (Method::POST, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let response = app.clone().oneshot(request(method)).await.unwrap();
        assert_eq!(response.status(), status);
        let allowed = &response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN];
        assert_eq!(allowed, "https://shop.example");
    }
}

#[tokio::test]
async fn answers_are_compressed_and_set_their_cookie() {
    let request = Request::get("/")
        .header(ACCEPT_ENCODING, "gzip")
        .body(Body::empty())
        .unwrap();
    let response = app(store()).oneshot(request).await.unwrap();
    assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
    assert!(response.headers().contains_key(SET_COOKIE));
    let vary: Vec<_> = response.headers().get_all(VARY).iter().collect();
    let vary = format!("{vary:?}").to_lowercase();
    assert!(
        vary.contains("cookie") && vary.contains("accept-encoding"),
        "{vary}"
    );
}
