use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, VARY};
use axum::http::{Request, Response, StatusCode};
use axum::middleware::from_fn;
use axum::routing::get;
use distributable::testing::{CookieJar, FailingStore};
use distributable::{MemoryStore, Session, SessionError, SessionLayer, StoreErrorKind};
use tower::ServiceExt;

#[path = "../../src/docs/recipes/error_page.rs"]
mod recipe;

fn app(store: &FailingStore<MemoryStore>) -> Router {
    let visit = async |session: Session| session.insert("visited", &true);
    let rotate = async |session: Session| session.cycle_id();
    let own = async || (StatusCode::CONFLICT, "my own words");
    // The store fails after it has given the session a new id.
    let other = store.clone();
    let late = async move |session: Session| -> Result<(), SessionError> {
        session.cycle_id()?;
        session.save().await?;
        other.fail_writes(StoreErrorKind::Unavailable);
        session.insert("visited", &false)
    };
    Router::new()
        .route("/visit", get(visit))
        .route("/rotate", get(rotate))
        .route("/late", get(late))
        .route("/own", get(own))
        .layer(SessionLayer::new(store.clone()))
        .layer(from_fn(recipe::error_page))
}

async fn page(response: Response<Body>) -> String {
    let body = to_bytes(response.into_body(), 1000).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn errors_of_sessions_become_pages_wherever_they_arise() {
    let store = FailingStore::new(MemoryStore::new());
    let app = app(&store);
    let mut jar = CookieJar::new();
    let mut send = async |path: &str| {
        let request = jar.attach(Request::get(path).body(Body::empty()).unwrap());
        let response = app.clone().oneshot(request).await.unwrap();
        jar.keep(&response);
        response
    };
    let kind = |response: &Response<Body>| response.headers()[CONTENT_TYPE].clone();

    // From a handler.
    let response = send("/rotate").await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert_eq!(kind(&response), "text/html; charset=utf-8");
    let length = response.headers()[CONTENT_LENGTH].to_str().unwrap().parse();
    let text = page(response).await;
    assert!(text.contains("log in</a> again"));
    assert_eq!(length, Ok(text.len()));

    // From the commit after a handler.
    store.fail_writes(StoreErrorKind::Unavailable);
    let response = send("/visit").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(page(response).await.contains("try again"));

    // From the extractor.
    store.repair();
    assert_eq!(send("/visit").await.status(), StatusCode::OK);
    store.fail(StoreErrorKind::NotReady);
    let response = send("/visit").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(page(response).await.contains("try again"));
    store.repair();

    // The headers of the answer stay: without its new cookie, the visitor would be logged out.
    let response = send("/late").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(SET_COOKIE));
    assert_eq!(response.headers()[VARY], "Cookie");
    assert!(page(response).await.contains("try again"));
    store.repair();

    // What is no error of a session stays as it is.
    let response = send("/own").await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert_eq!(page(response).await, "my own words");
}
