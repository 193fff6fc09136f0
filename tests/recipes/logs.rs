use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use axum::routing::get;
use distributable::{MemoryStore, Session, SessionHeader, SessionLayer};
use tower::ServiceExt;

#[path = "../../src/docs/recipes/logs.rs"]
mod recipe;

#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The secret part of an id, which no log may have.
fn secret(value: &str) -> String {
    value
        .chars()
        .rev()
        .take(20)
        .collect::<Vec<_>>()
        .iter()
        .rev()
        .collect()
}

#[tokio::test]
async fn logs_have_the_headers_and_no_secret() {
    let logs = Logs::default();
    // For the whole process: no other test looks at logs.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer({
            let logs = logs.clone();
            move || logs.clone()
        })
        .init();
    let visit = async |session: Session| session.insert("visited", &true);
    // Its own layer, inside the recipe's one: as for programs that send their id in a header.
    let header = SessionHeader::new("x-session-id").unwrap();
    let programs = Router::new()
        .route("/program", get(visit))
        .layer(SessionLayer::new(MemoryStore::new()).with_header(header));
    let own_cookie = async || [(SET_COOKIE, "other=a-cookie")];
    let routes = Router::new()
        .route("/visit", get(visit))
        .route("/other", get(own_cookie))
        .merge(programs);
    let app = recipe::with_logs(routes, MemoryStore::new());

    let request = Request::get("/other").body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap();
    let mut secrets = vec!["a-password".to_owned(), "a-cookie".to_owned()];
    for (path, header) in [
        ("/visit", SET_COOKIE.as_str()),
        ("/program", "x-session-id"),
    ] {
        let mut back = None;
        for _ in 0..2 {
            let mut request = Request::get(path)
                .header("user-agent", "a-browser")
                .header(AUTHORIZATION, "Basic a-password");
            if let Some(id) = &back {
                let name = if path == "/visit" {
                    COOKIE.as_str()
                } else {
                    header
                };
                request = request.header(name, id);
            }
            let request = request.body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            if let Some(id) = response.headers().get(header) {
                let id = id.to_str().unwrap().split(';').next().unwrap();
                secrets.push(secret(id));
                back = Some(id.to_owned());
            }
        }
    }
    assert_eq!(secrets.len(), 4);
    let logs = String::from_utf8(logs.0.lock().unwrap().clone()).unwrap();
    for part in [
        "/visit",
        "/program",
        "a-browser",
        "\"cookie\": Sensitive",
        "set-cookie\": Sensitive",
    ] {
        assert!(logs.contains(part), "{part}: {logs}");
    }
    for secret in secrets {
        assert!(!logs.contains(&secret), "{secret}: {logs}");
    }
}
