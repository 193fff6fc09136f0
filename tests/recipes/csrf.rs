use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, COOKIE};
use axum::http::{Request, StatusCode};
use axum::middleware::from_fn;
use axum::routing::{get, post};
use axum::{Form, Router};
use distributable::{MemoryStore, Session, SessionError, SessionLayer};
use serde::Deserialize;
use tower::ServiceExt;

use crate::support::Browser;

#[path = "../../src/docs/recipes/csrf.rs"]
mod recipe;

#[derive(Deserialize)]
struct Order {
    tea: u32,
}

fn app() -> Router {
    let page = async |session: Session| recipe::token(&session);
    let order = async |Form(Order { tea }): Form<Order>| format!("{tea} bags");
    let log_in = async |session: Session| recipe::log_in(&session, "ada");
    let names =
        async |session: Session| -> Result<String, SessionError> { Ok(session.names().join(",")) };
    Router::new()
        .route("/", get(page))
        .route("/names", get(names))
        .route("/order", post(order))
        .route("/login", post(log_in))
        .layer(from_fn(recipe::check))
        .layer(SessionLayer::new(MemoryStore::new()))
}

#[tokio::test]
async fn a_form_is_accepted_with_the_token_of_its_own_session_only() {
    let app = app();
    let [mut visitor, mut attacker] = [Browser::default(), Browser::default()];
    assert_eq!(
        visitor.post(&app, "/order", "tea=1&csrf=").await.0,
        StatusCode::FORBIDDEN
    );
    let token = visitor.get(&app, "/").await.1;
    assert_eq!(visitor.get(&app, "/").await.1, token);
    let foreign = attacker.get(&app, "/").await.1;
    assert_ne!(foreign, token);
    let cut = &token[..31];
    for wrong in [
        "",
        "csrf=",
        &format!("csrf={foreign}"),
        &format!("csrf={cut}"),
    ] {
        let (status, _) = visitor
            .post(&app, "/order", &format!("tea=1&{wrong}"))
            .await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{wrong}");
    }
    let (status, text) = visitor
        .post(&app, "/order", &format!("tea=2&csrf={token}"))
        .await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "2 bags"));
}

#[tokio::test]
async fn scripts_send_the_token_in_a_header() {
    let app = app();
    let mut visitor = Browser::default();
    let token = visitor.get(&app, "/").await.1;
    for (token, status) in [("0", StatusCode::FORBIDDEN), (&token, StatusCode::OK)] {
        let request = Request::post("/order")
            .header(COOKIE, visitor.cookie.as_ref().unwrap())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("x-csrf-token", token)
            .body(Body::from("tea=3"))
            .unwrap();
        assert_eq!(app.clone().oneshot(request).await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn a_token_from_before_a_login_is_worthless_after_it() {
    let app = app();
    let mut visitor = Browser::default();
    let known = visitor.get(&app, "/").await.1;
    let form = format!("csrf={known}");
    assert_eq!(visitor.post(&app, "/login", &form).await.0, StatusCode::OK);
    let form = format!("tea=1&csrf={known}");
    assert_eq!(
        visitor.post(&app, "/order", &form).await.0,
        StatusCode::FORBIDDEN
    );
    assert_ne!(visitor.get(&app, "/").await.1, known);
    assert_eq!(
        visitor.post(&app, "/order", &form).await.0,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn reading_makes_no_session() {
    let app = app();
    let mut visitor = Browser::default();
    assert_eq!(
        visitor.get(&app, "/names").await,
        (StatusCode::OK, String::new())
    );
    assert_eq!(visitor.cookie, None);
}
