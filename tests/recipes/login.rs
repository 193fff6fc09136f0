use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use distributable::{MemoryStore, Session, SessionError, SessionLayer};

use crate::support::Browser;

#[path = "../../src/docs/recipes/login.rs"]
mod recipe;

fn app() -> Router {
    let hash = recipe::hash("engine").unwrap();
    assert!(hash.starts_with("$argon2id$"));
    assert_ne!(
        recipe::hash("engine").unwrap(),
        hash,
        "each has its own salt"
    );
    let hashes = [("ada".to_owned(), hash)].into_iter().collect();
    let users = recipe::Users {
        hashes: Arc::new(hashes),
        decoy: recipe::hash("decoy").unwrap().into(),
    };
    let visit = async |session: Session| session.insert("visited", &true);
    let home = async |session: Session| -> Result<String, SessionError> {
        Ok(session.get(recipe::NAME)?.unwrap_or_default())
    };
    Router::new()
        .route("/", get(home))
        .route("/visit", get(visit))
        .route("/login", post(recipe::log_in))
        .route("/logout", post(recipe::log_out))
        .layer(SessionLayer::new(MemoryStore::new()))
        .with_state(users)
}

#[tokio::test]
async fn the_right_password_logs_in_under_a_new_id_and_no_other_does() {
    let app = app();
    let mut browser = Browser::default();
    browser.get(&app, "/visit").await;
    let planted = browser.cookie.clone();
    // The password of the decoy is not one of a user who does not exist.
    for form in [
        "name=ada&password=wrong",
        "name=ada&password=decoy",
        "name=eve&password=engine",
        "name=eve&password=decoy",
    ] {
        let (status, text) = browser.post(&app, "/login", form).await;
        let expected = (StatusCode::UNAUTHORIZED, "wrong name or password");
        assert_eq!((status, text.as_str()), expected, "{form}");
        assert_eq!(browser.get(&app, "/").await.1, "", "{form}");
    }
    let (status, _) = browser
        .post(&app, "/login", "name=ada&password=engine")
        .await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert_eq!(browser.get(&app, "/").await.1, "ada");

    let mut attacker = Browser { cookie: planted };
    assert_eq!(attacker.get(&app, "/").await.1, "");

    let mut thief = Browser {
        cookie: browser.cookie.clone(),
    };
    browser.post(&app, "/logout", "").await;
    assert_eq!(browser.cookie, None);
    assert_eq!(thief.get(&app, "/").await.1, "");
}
