//! Arbitrary bytes from browsers and stores, to which the layer must answer as promised.
//!
//! Two sources are fed to the public entry points: `Cookie` lines composed at random from odd
//! pieces, judged by a reader that is as simple as can be, and stored values of random bytes. Every
//! input comes from a seed, which a failure names.
#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderValue, Request, Response, StatusCode};
use axum::routing::get;
use distributable::session::{Changes, Loaded, Outcome, Record, SecretHash, Value};
use distributable::{
    MemoryStore, Root, Route, Session, SessionErrorKind, SessionId, SessionLayer, SessionStore,
    StoreError,
};
use http_body_util::BodyExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tower::ServiceExt;
use tracing_subscriber::fmt::format::FmtSpan;

/// How many requests are composed: some seconds without optimization.
const REQUESTS: u64 = 10_000;
/// Stands in the pieces that a client must never get back, and a log never hold.
const MARK: &str = "zz-mark";

/// 9, C-09.
#[tokio::test]
async fn no_cookie_line_makes_the_layer_do_anything_but_find_the_one_live_session() {
    let logs = Logs::default();
    // For the whole process: one thread's subscriber may miss what another thread has used before.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_writer({
            let logs = logs.clone();
            move || logs.clone()
        })
        .init();

    let store = Counting::default();
    let live = [store.session().await, store.session().await];
    let dead: Vec<_> = (0..5).map(|_| SessionId::generate()).collect();
    let pieces = pieces(&live, &dead);
    let app = app(store.clone());

    for seed in 0..REQUESTS {
        let lines = compose(&mut StdRng::seed_from_u64(seed), &pieces);
        let ids = simple_reader(&lines);
        let found: Vec<_> = live
            .iter()
            .filter(|id| ids.contains(&id.expose()))
            .collect();
        let before = store.calls();
        let (status, cookies, body) = send(&app, &lines).await;
        let calls = store.calls() - before;

        let context = format!(
            "seed {seed}: {:?}",
            lines.join(&b'\n').escape_ascii().to_string()
        );
        assert_eq!(status, StatusCode::OK, "{context}");
        if ids.len() > 4 {
            assert_eq!((body.as_str(), calls), ("none", 0), "{context}");
        } else if let [id] = found[..] {
            assert_eq!(body, id.key().to_string(), "{context}");
        } else {
            assert_eq!(body, "none", "{context}");
        }
        // Beside the look-ups an access that is due, and the check of a cookie that is sent again.
        assert!(calls <= ids.len() + 2, "{calls} calls: {context}");
        for cookie in cookies {
            let [id] = found[..] else {
                panic!("a cookie: {context}")
            };
            let ours = format!("JSESSIONID={}.node1;", id.expose());
            assert!(cookie.starts_with(&ours), "{cookie:?}: {context}");
        }
    }

    let logs = String::from_utf8_lossy(&logs.0.lock().unwrap()).into_owned();
    assert!(logs.contains("session_load"), "logs were captured");
    assert!(!logs.contains(MARK), "a received value was logged");
    for id in live.iter().chain(&dead) {
        assert!(!logs.contains(&id.expose()), "an id was logged");
        assert!(!logs.contains(&id.expose()[24..]), "a secret was logged");
    }
}

///
#[tokio::test]
async fn no_stored_bytes_make_reading_an_attribute_worse_than_an_error() {
    let store = Counting::default();
    let id = store.session().await;
    let app = app(store.clone());
    let cookie = format!("JSESSIONID={}", id.expose()).into_bytes();
    for seed in 0..2_000 {
        let value = value(&mut StdRng::seed_from_u64(seed));
        let context = format!("seed {seed}: {:?}", value.escape_ascii().to_string());
        let base = store.load(&id.key(), None).await.unwrap();
        let base = base.into_live().unwrap();
        let mut changes = Changes::default();
        changes.insert("broken".into(), Value::from_bytes(value));
        let outcome = store.commit(&id.key(), Some(&base), changes).await.unwrap();
        assert!(matches!(outcome, Outcome::Committed(_)), "{context}");

        let (status, _, body) = send(&app, std::slice::from_ref(&cookie)).await;
        assert_eq!(status, StatusCode::OK, "{context}");
        assert_eq!(body, id.key().to_string(), "{context}");
    }
}

/// Answers with the key of the session, and looks at its attributes.
async fn show(State(()): State<()>, session: Session) -> String {
    let Some(key) = session.key() else {
        return "none".to_owned();
    };
    let read = [
        session.get::<u32>("broken").map(drop),
        session.get::<String>("broken").map(drop),
        session.get::<Vec<Option<f64>>>("broken").map(drop),
        session.get::<serde_json::Value>("broken").map(drop),
    ];
    for error in read.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), SessionErrorKind::Decode);
        assert_eq!(error.attribute(), Some("broken"));
    }
    assert_eq!(session.get("sound").unwrap(), Some("as before".to_owned()));
    key.to_string()
}

fn app(store: Counting) -> Router {
    let layer = SessionLayer::new(store).with_route(Route::new("node1").unwrap());
    Router::new()
        .route("/", get(show))
        .layer(layer)
        .with_state(())
}

async fn send(app: &Router, lines: &[Vec<u8>]) -> (StatusCode, Vec<String>, String) {
    let mut request = Request::get("/").body(Body::empty()).unwrap();
    for line in lines {
        let line = HeaderValue::from_bytes(line).unwrap();
        request.headers_mut().append(COOKIE, line);
    }
    let response: Response<Body> = app.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let cookies = head.headers.get_all(SET_COOKIE).iter();
    let cookies = cookies
        .map(|cookie| cookie.to_str().unwrap().to_owned())
        .collect();
    let body = body.collect().await.unwrap().to_bytes();
    (
        head.status,
        cookies,
        String::from_utf8(body.into()).unwrap(),
    )
}

/// What lines are made of. Every byte may stand in a header.
fn pieces(live: &[SessionId], dead: &[SessionId]) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = [
        "=",
        ";",
        "; ",
        ".",
        " ",
        "\t",
        ",",
        "\"",
        "%3D",
        "%",
        "$Version=1",
        "\\",
        "/",
        "../..",
        "*",
        "JSESSIONID",
        "JSESSIONID=",
        "jsessionid=",
        "JSESSIONID =",
        "__Host-JSESSIONID=",
        "a=b",
        "a",
        "node1",
        ".node1",
        ".node2",
        ".node1.node2",
        "0",
        "F",
        "G",
        MARK,
    ]
    .map(|piece| piece.as_bytes().to_vec())
    .into();
    pieces.extend([
        vec![0xff],
        vec![0x80, 0xbf],
        "é".into(),
        format!(".{MARK}").into(),
    ]);
    pieces.push(vec![b'A'; 5_000]);
    for id in live.iter().chain(dead) {
        let id = id.expose();
        for behind in ["", ".node1", ".node2", ".", &format!(".{MARK}")] {
            pieces.push(format!("JSESSIONID={id}{behind}; ").into());
        }
        pieces.push(id.to_lowercase().into());
        pieces.push(id[..55].into());
        pieces.push(id.into());
    }
    pieces
}

/// One to three lines of up to twelve pieces.
fn compose(random: &mut StdRng, pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let line = |random: &mut StdRng| {
        let count = random.random_range(0..=12);
        let chosen = (0..count).map(|_| pieces.choose(random).unwrap().clone());
        chosen.collect::<Vec<_>>().concat()
    };
    (0..random.random_range(1..=3))
        .map(|_| line(random))
        .collect()
}

/// The rule in its plainest form: the ids in all cookies called `JSESSIONID`.
fn simple_reader(lines: &[Vec<u8>]) -> BTreeSet<String> {
    let text: Vec<String> = lines
        .iter()
        .map(|line| line.iter().map(|&b| char::from(b)).collect())
        .collect();
    let trim = |text: &str| text.trim_matches([' ', '\t']).to_owned();
    let pairs = text.iter().flat_map(|line| line.split([';', ',']));
    let named = pairs.filter_map(|pair| pair.split_once('='));
    let ours = named.filter(|(name, _)| trim(name) == "JSESSIONID");
    let ids = ours.map(|(_, value)| trim(value).split('.').next().unwrap().to_owned());
    ids.filter(|id| id.len() == 56 && id.chars().all(|c| matches!(c, '0'..='9' | 'A'..='F')))
        .collect()
}

/// Bytes as a broken store might hand them out: with and without the codec's tag, random, JSON cut
/// short, JSON deeper than any stack.
fn value(random: &mut StdRng) -> Vec<u8> {
    let signs = b"[]{}\":,.-+0123456789eEnulltrfas\\ \xff\x00";
    let mut bytes = if random.random_bool(0.8) {
        vec![b'j']
    } else {
        Vec::new()
    };
    if random.random_bool(0.02) {
        bytes.extend([b'['; 100_000]);
    }
    let count = random.random_range(0..40);
    bytes.extend((0..count).map(|_| *signs.choose(random).unwrap()));
    bytes
}

/// A memory store that counts what it is asked.
#[derive(Clone, Default)]
struct Counting {
    inner: MemoryStore,
    calls: Arc<AtomicUsize>,
}

impl Counting {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn count(&self) -> &MemoryStore {
        self.calls.fetch_add(1, Ordering::SeqCst);
        &self.inner
    }

    /// A live session with one attribute.
    async fn session(&self) -> SessionId {
        let id = SessionId::generate();
        let hour = std::time::Duration::from_secs(3600);
        let mut changes = Changes::create(id.hash(), Some(hour), hour);
        changes.insert("sound".into(), Value::from_bytes(*b"j\"as before\""));
        let outcome = self.inner.commit(&id.key(), None, changes).await.unwrap();
        assert!(matches!(outcome, Outcome::Committed(_)));
        id
    }
}

impl SessionStore for Counting {
    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        self.count().load(key, secret).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        self.count().commit(key, base, changes).await
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        self.count().touch(key).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        self.count().delete(key).await
    }
}

/// Everything that was logged.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
