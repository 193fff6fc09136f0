use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use distributable::{Session, SessionError, SessionLayer};
use tokio::time::{Instant, sleep};

use crate::support::{Browser, cluster};

#[path = "../../src/docs/recipes/jobs.rs"]
mod recipe;

fn node(shop: recipe::Shop) -> Router {
    let report = async |session: Session| -> Result<String, SessionError> {
        Ok(session.get(recipe::REPORT)?.unwrap_or_default())
    };
    let is_paid = async |session: Session| -> Result<String, SessionError> {
        Ok(format!("{:?}", session.get(recipe::PAID)?))
    };
    let log_out = async |session: Session| session.log_out().await.map(|_| ());
    Router::new()
        .route("/report", get(report).post(recipe::start_report))
        .route("/order/{order}", post(recipe::order))
        .route("/paid/{order}", post(recipe::paid))
        .route("/paid", get(is_paid))
        .route("/logout", post(log_out))
        .layer(SessionLayer::new(shop.store.clone()))
        .with_state(shop)
}

async fn nodes() -> [Router; 2] {
    let orders = Arc::default();
    cluster(["one", "two"]).await.map(|store| {
        let orders = Arc::clone(&orders);
        node(recipe::Shop { store, orders })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_goes_on_after_the_response_stores_its_result() {
    let [one, two] = nodes().await;
    let mut browser = Browser::default();
    assert_eq!(
        browser.post(&one, "/report", "").await.0,
        StatusCode::ACCEPTED
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    while browser.get(&two, "/report").await.1 != "ready" {
        assert!(Instant::now() < deadline, "no report");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_reaches_the_session_of_its_order_on_another_node_and_brings_none_back() {
    let [one, two] = nodes().await;
    let [mut browser, mut provider] = [Browser::default(), Browser::default()];
    assert_eq!(
        browser.post(&one, "/order/7", "").await.0,
        StatusCode::CREATED
    );
    assert_eq!(
        provider.post(&two, "/paid/8", "").await.0,
        StatusCode::NOT_FOUND
    );
    for node in [&two, &one] {
        assert_eq!(provider.post(node, "/paid/7", "").await.0, StatusCode::OK);
    }
    assert_eq!(provider.cookie, None);
    assert_eq!(browser.get(&one, "/paid").await.1, "Some(7)");

    browser.post(&one, "/order/9", "").await;
    let former = browser.cookie.clone();
    browser.post(&one, "/logout", "").await;
    assert_eq!(provider.post(&two, "/paid/9", "").await.0, StatusCode::GONE);
    browser.cookie = former;
    assert_eq!(browser.get(&one, "/paid").await.1, "None");
}
