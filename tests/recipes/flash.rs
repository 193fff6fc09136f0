use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use distributable::{MemoryStore, Session, SessionError, SessionLayer};
use tokio::sync::Barrier;

use crate::support::Browser;

#[path = "../../src/docs/recipes/flash.rs"]
mod recipe;

fn node(store: &MemoryStore, both: &Arc<Barrier>) -> Router {
    let many = async |session: Session| -> Result<(), SessionError> {
        for n in 0..20 {
            recipe::flash(&session, &format!("message {n}.")).await?;
        }
        Ok(())
    };
    // Two of these have loaded the session before one of them writes, and have written before one
    // of them ends.
    let both = both.clone();
    let together = async move |session: Session| -> Result<(), SessionError> {
        both.wait().await;
        recipe::flash(&session, "Together.").await?;
        both.wait().await;
        Ok(())
    };
    Router::new()
        .route("/", get(recipe::home))
        .route("/order", post(recipe::order))
        .route("/many", post(many))
        .route("/together", post(together))
        .layer(SessionLayer::new(store.clone()))
}

fn nodes() -> [Router; 2] {
    let (store, both) = (MemoryStore::new(), Arc::new(Barrier::new(2)));
    [(); 2].map(|()| node(&store, &both))
}

#[tokio::test]
async fn a_message_is_shown_once_by_whichever_node_has_the_next_page() {
    let [one, two] = nodes();
    let mut browser = Browser::default();
    assert_eq!(browser.get(&one, "/").await.1, "Shop. ");
    assert_eq!(
        browser.cookie, None,
        "a page without messages makes no session"
    );
    assert_eq!(
        browser.post(&one, "/order", "").await.0,
        StatusCode::SEE_OTHER
    );
    let shown = browser.get(&two, "/").await.1;
    assert_eq!(shown, "Shop. Thank you for your order.");
    for node in [&one, &two] {
        assert_eq!(browser.get(node, "/").await.1, "Shop. ");
    }
}

#[tokio::test]
async fn no_message_is_lost_to_another_request_and_there_are_never_too_many() {
    let [one, two] = nodes();
    let mut browser = Browser::default();
    browser.post(&one, "/order", "").await;
    let mut other = Browser {
        cookie: browser.cookie.clone(),
    };
    tokio::join!(
        browser.post(&one, "/together", ""),
        other.post(&two, "/together", "")
    );
    let shown = browser.get(&one, "/").await.1;
    assert_eq!(shown, "Shop. Thank you for your order. Together. Together.");
    browser.post(&one, "/many", "").await;
    let shown = browser.get(&one, "/").await.1;
    assert_eq!(shown.matches("message").count(), 10);
}
