use std::sync::{Arc, RwLock};

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
    let store = MemoryStore::new();
    let users = recipe::Users {
        hashes: Arc::new(RwLock::new(hashes)),
        decoy: recipe::hash("decoy").unwrap().into(),
        store: store.clone(),
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
        .route("/password", post(recipe::change_password))
        .layer(SessionLayer::new(store))
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

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_and_replaces_the_id_of_this_one() {
    let app = app();
    let [mut here, mut elsewhere] = [Browser::default(), Browser::default()];
    for browser in [&mut here, &mut elsewhere] {
        let login = "name=ada&password=engine";
        assert_eq!(
            browser.post(&app, "/login", login).await.0,
            StatusCode::SEE_OTHER
        );
    }
    let mut thief = Browser {
        cookie: here.cookie.clone(),
    };
    let wrong = here.post(&app, "/password", "old=decoy&new=x").await;
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    assert_eq!(elsewhere.get(&app, "/").await.1, "ada");

    let changed = here.post(&app, "/password", "old=engine&new=loom").await;
    assert_eq!(changed.0, StatusCode::SEE_OTHER);
    assert_eq!(here.get(&app, "/").await.1, "ada");
    assert_eq!(elsewhere.get(&app, "/").await.1, "");
    assert_eq!(thief.get(&app, "/").await.1, "");

    let mut browser = Browser::default();
    for (password, status) in [
        ("engine", StatusCode::UNAUTHORIZED),
        ("loom", StatusCode::SEE_OTHER),
    ] {
        let form = format!("name=ada&password={password}");
        assert_eq!(browser.post(&app, "/login", &form).await.0, status);
    }
}
