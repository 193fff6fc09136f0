use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::LOCATION;
use axum::http::{Request, StatusCode};
use distributable::testing::TestSession;
use distributable::{MemoryStore, SessionLayer};
use tower::ServiceExt;

#[path = "../../src/docs/recipes/guards.rs"]
mod recipe;

fn app(store: &MemoryStore) -> Router {
    recipe::routes().layer(SessionLayer::new(store.clone()))
}

#[tokio::test]
async fn visitors_are_sent_to_the_login_and_see_it() {
    let app = app(&MemoryStore::new());
    for path in ["/account", "/admin"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        assert_eq!(response.headers()[LOCATION], "/login");
    }
    let request = Request::get("/login").body(Body::empty()).unwrap();
    assert_eq!(app.oneshot(request).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn users_see_their_account_and_administrators_the_rest() {
    let store = MemoryStore::new();
    let app = app(&store);
    let user = TestSession::new().with_user("ada").with("name", "Ada");
    let clerk = user.clone().with("roles", &["clerk"]);
    let admin = user.clone().with("roles", &["clerk", "admin"]);
    for (session, path, status, text) in [
        (&user, "/account", StatusCode::OK, "your orders"),
        (&user, "/admin", StatusCode::FORBIDDEN, ""),
        (&clerk, "/admin", StatusCode::FORBIDDEN, ""),
        (&admin, "/admin", StatusCode::OK, "hello Ada"),
    ] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let request = session.request(&store, request).await.unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let body = to_bytes(response.into_body(), 100).await.unwrap();
        assert_eq!(body, text, "{path}");
    }
}
