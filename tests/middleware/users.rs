//! Users and the lists of their sessions, as clients see them.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use distributable::{
    Root, Session, SessionError, SessionErrorKind, SessionId, SessionStore, UserKey,
};

use super::support::*;

/// The root of the list of a user's sessions, as an attacker with the user's id computes it.
fn list_of(user: &str) -> Root {
    let key = UserKey::of(user).to_bytes();
    let mut root: [u8; 12] = key[..12].try_into().unwrap();
    root[0] |= 0x80;
    let root = Root::from_bytes(root);
    assert!(root.is_index());
    root
}

/// C-04, A-16: no answer reveals whether a user has logged in, not even within the minute after the
/// list was prolonged, when a session would answer that its id has changed.
#[tokio::test]
async fn the_list_of_a_users_sessions_answers_like_an_unknown_id() {
    let store = Spy::new();
    let app = routes().layer(layer(&store).with_absolute_timeout(Duration::from_secs(3_600)));
    Browser::new().get(&app, "/login?uid=ada").await.ok();
    let longer = routes().layer(layer(&store));
    Browser::new().get(&longer, "/login?uid=ada").await.ok();
    let list = list_of("ada");
    assert!(store.load(&list, None).await.unwrap().into_live().is_some());
    for root in [list, list_of("nobody"), Root::generate()] {
        let id = SessionId::with_root(root);
        let loads = store.loads.get();
        for (path, body) in [("/info", "false"), ("/get?k=a", ""), ("/user", "")] {
            let mut client = Browser::holding(id.expose());
            let reply = client.get(&app, path).await.ok();
            assert_eq!(reply.body, body, "{path}");
            reply.assert_no_cookie();
        }
        // The store is not asked: the time of an answer reveals nothing either.
        let asked = store.loads.get() > loads;
        assert_eq!(asked, !root.is_index());
        for path in ["/set?k=a&v=1", "/login?uid=eve"] {
            let mut client = Browser::holding(id.expose());
            client.get(&app, path).await.ok();
            assert_ne!(client.bare()[..24], id.expose()[..24], "{path}");
        }
    }
    assert_eq!(store.sessions_of("ada").await.unwrap().len(), 2);
}

///
#[tokio::test]
async fn a_user_id_of_any_text_logs_in() {
    let long = "x".repeat(10_240);
    for user in [
        "",
        "\0",
        "\u{1b}[31m",
        "👤",
        "\u{202e}ada",
        "a\r\nb: c",
        &long,
    ] {
        let session = Session::for_test();
        session.log_in(user).unwrap();
        session.save().await.unwrap();
        assert_eq!(session.user(), Some(UserKey::of(user)));
    }
}

/// The login stays staged after a `save` that was refused, so the commit of the response is refused
/// as well.
#[tokio::test]
async fn a_refused_login_is_answered_409_even_if_the_handler_has_handled_the_error() {
    let handler = async |session: Session| -> Result<&'static str, SessionError> {
        session.log_in("ada")?;
        match session.save().await {
            Ok(()) => Ok("welcome"),
            Err(error) if error.kind() == SessionErrorKind::TooManySessions => Ok("sorry"),
            Err(error) => Err(error),
        }
    };
    let store = Spy::new();
    let layer = layer(&store)
        .with_max_sessions_per_user(1)
        .with_excess_logins_refused();
    let app = Router::new().route("/", get(handler)).layer(layer);
    assert_eq!(Browser::new().get(&app, "/").await.ok().body, "welcome");
    let refused = Browser::new().get(&app, "/").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.body, "the user has too many sessions");
    refused.assert_no_cookie();
}
