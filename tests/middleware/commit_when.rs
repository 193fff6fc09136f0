//! Responses that decide by their head whether what was written is stored.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use distributable::{Session, SessionError};

use super::support::*;

type Written = Result<StatusCode, SessionError>;

const FAILED: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;

/// Commits unless the server has failed.
fn app(store: &Spy) -> Router {
    async fn saves(session: Session) -> Written {
        session.insert("saved", &true)?;
        session.save().await?;
        session.insert("staged", &true)?;
        Ok(FAILED)
    }
    async fn rotates_and_saves(session: Session) -> Written {
        session.cycle_id()?;
        session.save().await?;
        session.insert("staged", &true)?;
        Ok(FAILED)
    }
    async fn rotates(session: Session) -> Written {
        session.cycle_id()?;
        session.log_in("ada")?;
        Ok(FAILED)
    }
    async fn ends(session: Session) -> Written {
        session.invalidate().await?;
        session.insert("staged", &true)?;
        Ok(FAILED)
    }
    async fn detaches(session: Session) -> Written {
        let late = session.detached();
        session.insert("staged", &true)?;
        tokio::spawn(async move {
            late.insert("late", &true)?;
            late.save().await
        });
        Ok(FAILED)
    }
    routes()
        .route("/saves", get(saves))
        .route("/rotates_and_saves", get(rotates_and_saves))
        .route("/rotates", get(rotates))
        .route("/ends", get(ends))
        .route("/detaches", get(detaches))
        .layer(layer(store).commit_when(|head| !head.status.is_server_error()))
}

#[tokio::test]
async fn a_response_that_does_not_commit_makes_no_session_and_passes_unchanged() {
    let store = Spy::new();
    let app = app(&store);
    let reply = send(&app, request("/err?k=a&v=1&status=500", &[])).await;
    assert_eq!((reply.status, &*reply.body), (FAILED, "an error page"));
    reply.assert_no_cookie();
    assert_eq!((store.sessions(), store.commits.get()), (0, 0));
    let reply = send(&app, request("/err?k=a&v=1&status=404", &[])).await;
    assert!(reply.set_cookie().is_some());
    assert_eq!(store.sessions(), 1);
}

#[tokio::test]
async fn what_is_staged_is_dropped_and_the_session_stays() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=before").await.ok();
    let before = browser.clone();
    let commits = store.commits.get();
    let reply = browser.get(&app, "/err?k=a&v=after&status=500").await;
    assert_eq!(reply.status, FAILED);
    reply.assert_no_cookie();
    let reply = browser.get(&app, "/rotates").await;
    reply.assert_no_cookie();
    assert_eq!(store.commits.get(), commits);
    assert_eq!(browser.cookie, before.cookie);
    assert_eq!(browser.get(&app, "/get?k=a").await.ok().body, "before");
    assert_eq!(browser.get(&app, "/user").await.ok().body, "");
}

#[tokio::test]
async fn what_was_saved_before_stays_and_the_client_gets_its_cookie() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    assert_eq!(browser.get(&app, "/saves").await.status, FAILED);
    let has = async |browser: &mut Browser, name| {
        let reply = browser.get(&app, &format!("/has?k={name}")).await;
        reply.ok().body == "true"
    };
    assert!(has(&mut browser, "saved").await);
    assert!(!has(&mut browser, "staged").await);

    let before = browser.bare();
    assert_eq!(browser.get(&app, "/rotates_and_saves").await.status, FAILED);
    assert_ne!(browser.bare(), before);
    assert!(has(&mut browser, "saved").await);
    assert!(!has(&mut browser, "staged").await);

    assert_eq!(browser.get(&app, "/ends").await.status, FAILED);
    assert_eq!((browser.cookie, store.sessions()), (None, 0));
}

#[tokio::test]
async fn a_detached_handle_saves_what_it_writes_later_and_nothing_that_was_dropped() {
    let store = Spy::new();
    let app = app(&store);
    let mut browser = Browser::new();
    browser.get(&app, "/set?k=a&v=1").await.ok();
    let commits = store.commits.get();
    browser.get(&app, "/detaches").await;
    eventually(|| store.done.get() > commits).await;
    assert_eq!(browser.get(&app, "/has?k=late").await.ok().body, "true");
    assert_eq!(browser.get(&app, "/has?k=staged").await.ok().body, "false");
}
