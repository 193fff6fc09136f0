use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::COOKIE;
use axum::http::{Request, StatusCode};
use axum::routing::{get, post};
use distributable::{ReplicatedStore, Session, SessionLayer};
use http_body_util::BodyExt;
use tokio::sync::broadcast;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::support::{Browser, cluster};

#[path = "../../src/docs/recipes/events.rs"]
mod recipe;

fn node(store: &ReplicatedStore, news: &broadcast::Sender<String>) -> Router {
    let log_in = async |session: Session| session.log_in("ada");
    let log_out = async |session: Session| session.log_out().await.map(|_| ());
    Router::new()
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .route("/news", get(recipe::news))
        .layer(SessionLayer::new(store.clone()))
        .with_state(news.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_after_a_logout_on_another_node_however_many_events_there_are() {
    let [one, two] = cluster(["one", "two"]).await;
    let (news, _) = broadcast::channel(16);
    let [one, two] = [&one, &two].map(|store| node(store, &news));
    let mut browser = Browser::default();
    assert_eq!(browser.get(&one, "/news").await.0, StatusCode::UNAUTHORIZED);
    browser.post(&one, "/login", "").await;

    let request = Request::get("/news")
        .header(COOKIE, browser.cookie.as_ref().unwrap())
        .body(Body::empty())
        .unwrap();
    let response = one.oneshot(request).await.unwrap();
    let mut body = response.into_body();
    news.send("tea has arrived".to_owned()).unwrap();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "data: tea has arrived\n\n");

    let flood = tokio::spawn(async move {
        // Fails when the stream, the only receiver, is gone.
        while news.send("more".to_owned()).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let goes_on = timeout(Duration::from_millis(1500), async {
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
    });
    assert!(goes_on.await.is_err(), "the stream ends without a reason");
    browser.post(&two, "/logout", "").await;
    let rest = async {
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
        drop(body);
        flood.await.unwrap();
    };
    timeout(PATIENCE, rest).await.expect("the stream ends");
}

const PATIENCE: Duration = Duration::from_secs(30);
