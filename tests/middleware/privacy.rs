//! Ids and secrets stay out of everything that is written down.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, Once};

use axum::Router;
use axum::routing::any;
use distributable::{Session, SessionError, UserKey};
use tower::{Layer, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::TraceLayer;
use tracing_subscriber::fmt::format::FmtSpan;

use super::support::*;

/// Everything that is traced on a thread while it listens.
///
/// One subscriber serves all tests of this process: with one for each, `tracing` may drop the
/// interest in an event when tests on other threads begin and end.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

/// While this lives, the thread listens.
pub(crate) struct Listening;

thread_local! {
    static LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
}

impl Log {
    pub(crate) fn listen(&self) -> Listening {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_span_events(FmtSpan::FULL)
                .with_ansi(false)
                .with_writer(|| ToListener)
                .init();
        });
        LOG.set(Some(self.clone()));
        Listening
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        LOG.set(None);
    }
}

struct ToListener;

impl Write for ToListener {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow(|log| {
            if let Some(Log(text)) = log {
                text.lock().unwrap().extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// C-12.
#[tokio::test]
async fn no_id_and_no_value_reaches_a_log_an_error_or_a_debug_output() {
    let log = Log::default();
    let _guard = log.listen();
    let store = Spy::new();
    let debug = async |session: Session| -> Result<String, SessionError> {
        let before = format!("{session:?}");
        session.insert("a", "value4711")?;
        session.cycle_id()?;
        let detached = session.detached();
        let id = session.id();
        Ok(format!(
            "{before} {session:?} {detached:?} {id:?} {:?}",
            session.key()
        ))
    };
    let panic = async |session: Session| -> () { panic!("{session:?}") };
    let layer = layer(&store).with_route(distributable::Route::new("node1").unwrap());
    let app = routes()
        .route("/debug", any(debug))
        .route("/panic", any(panic))
        .layer(layer.clone())
        .layer(CatchPanicLayer::new())
        .layer(TraceLayer::new_for_http());

    let mut seen = vec![format!("{layer:?} {:?}", layer.layer(()))];
    let mut secrets = vec!["value4711".to_owned(), "cookie4711".to_owned()];
    let mut browser = Browser::new();
    let paths = [
        "/set?k=a&v=1",
        "/get?k=a",
        "/debug",
        "/incr",
        "/update",
        "/login?uid=1",
        "/panic",
        "/rotate",
        "/ttl?s=10",
        "/err?status=500&k=b&v=2",
        "/info",
        "/none",
        "/logout",
        "/rotate",
    ];
    for round in 0..2 {
        if round == 1 {
            browser.get(&app, "/set?k=a&v=1").await;
            store.break_with(down);
        }
        for path in paths {
            secrets.extend(browser.cookie.clone());
            let reply = browser.get(&app, path).await;
            secrets.extend(reply.cookie_value().filter(|it| !it.is_empty()));
            seen.push(reply.body);
        }
        store.repair();
    }
    send_hostile_cookies(&app, &mut seen, &mut secrets).await;
    secrets.extend(store.ids.lock().unwrap().iter().map(|id| id.expose()));
    secrets.push("route4711".to_owned());
    secrets.push("hunter2".to_owned());

    let logged = log.text();
    assert!(logged.contains("session_commit") && logged.contains("session_load"));
    assert!(logged.contains("several live sessions"), "a security event");
    let error_words = "hunter2";
    assert!(
        logged.contains(error_words),
        "the log has the cause of the failure of the store"
    );
    seen.push(logged.replace(error_words, ""));
    assert_absent(&secrets, &seen);
}

/// Fails if one of the secrets is in one of the texts.
fn assert_absent(secrets: &[String], texts: &[String]) {
    for secret in secrets {
        // The tag is no secret; what follows it is.
        let secret = bare(secret)
            .get(8..)
            .filter(|it| it.len() > 20)
            .unwrap_or(secret);
        for text in texts {
            let at = text.to_uppercase().find(&secret.to_uppercase());
            assert_eq!(at, None, "{secret} in {text}");
        }
    }
}

/// Hostile cookies, and two live sessions at once.
async fn send_hostile_cookies(app: &Router, seen: &mut Vec<String>, secrets: &mut Vec<String>) {
    let (mut one, mut two) = (Browser::new(), Browser::new());
    one.get(app, "/set?k=a&v=1").await.ok();
    two.get(app, "/set?k=a&v=1").await.ok();
    let both = format!("JSESSIONID={}; JSESSIONID={}", one.bare(), two.bare());
    let unknown: Vec<_> = (0..6).map(|_| unknown_id()).collect();
    let crowd = unknown
        .iter()
        .map(|id| format!("JSESSIONID={id}.route4711;"))
        .collect::<String>();
    for line in [&both, "JSESSIONID=cookie4711.route4711", &crowd] {
        let reply = send(app, request("/get?k=a", &[line.as_bytes()])).await;
        seen.push(reply.ok().body);
    }
    let response = app.clone().oneshot(one.request("/rotate")).await.unwrap();
    seen.push(format!("{response:?}"));
    secrets.extend(unknown);
}

/// C-12: the hash of a guessable user id is as good as the id.
#[tokio::test]
async fn neither_a_user_nor_the_hash_of_one_reaches_a_log() {
    let log = Log::default();
    let _guard = log.listen();
    let app = routes().layer(layer(&Spy::new()).with_max_sessions_per_user(1));
    for _ in 0..3 {
        let mut browser = Browser::new();
        browser.get(&app, "/login?uid=ada4711").await.ok();
        browser.get(&app, "/user").await.ok();
    }
    let logged = log.text();
    assert!(
        logged.contains("too many sessions") && logged.contains("sessions=1"),
        "{logged}"
    );
    assert!(!logged.contains("ada4711"));
    let hash = UserKey::of("ada4711").to_string();
    assert!(!logged.contains(&hash), "{logged}");
}

#[tokio::test]
async fn garbage_raises_no_storm_and_is_not_repeated() {
    let log = Log::default();
    let _guard = log.listen();
    let app = app(&Spy::new());
    let line = "JSESSIONID=garbage4711; ".repeat(1_000);
    send(&app, request("/get?k=a", &[line.as_bytes()]))
        .await
        .ok();
    let logged = log.text();
    assert!(logged.lines().count() <= 2, "{logged}");
    assert!(
        logged.contains("1000") && logged.contains("DEBUG"),
        "{logged}"
    );
    assert!(!logged.contains("4711"));
}

/// C-12.
#[tokio::test]
async fn the_requests_cookies_are_marked_sensitive_for_everything_inside() {
    let inside = async |headers: http::HeaderMap| format!("{headers:?}");
    let app = Router::new()
        .route("/", any(inside))
        .layer(layer(&Spy::new()));
    let id = unknown_id();
    let lines = [format!("JSESSIONID={id}"), format!("a=b; JSESSIONID={id}")];
    let lines = lines.each_ref().map(|line| line.as_bytes());
    let shown = send(&app, request("/", &lines)).await.ok().body;
    assert!(!shown.contains(&id), "{shown}");
    assert_eq!(shown.matches("Sensitive").count(), 2, "{shown}");
}
