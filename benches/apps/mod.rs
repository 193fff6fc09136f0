//! One small application: without sessions, with a bare map, and with each of two session layers.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{AppendHeaders, IntoResponse};
use axum::routing::get;
use dashmap::DashMap;
use distributable::{MemoryStore, Session, SessionId, SessionLayer};

/// The session storage of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum App {
    /// None: the baseline.
    Plain,
    /// A concurrent map that the handlers use directly: the minimum.
    BareMap,
    TowerSessions,
    Distributable,
}

/// The page of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// A handler that does not extract the session; the request has the cookie.
    Untouched,
    /// Reads a counter.
    Read,
    /// Reads a counter and writes the next number.
    Counter,
}

impl App {
    pub(crate) const ALL: [Self; 4] = [
        Self::Plain,
        Self::BareMap,
        Self::TowerSessions,
        Self::Distributable,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::BareMap => "bare-map",
            Self::TowerSessions => "tower-sessions",
            Self::Distributable => "distributable",
        }
    }

    pub(crate) fn router(self) -> Router {
        let router = match self {
            Self::Plain => plain(),
            Self::BareMap => bare_map(),
            Self::TowerSessions => tower_sessions(),
            Self::Distributable => distributable(),
        };
        // As in `axum::serve`: handlers and layers are built once, not per request.
        router.with_state(())
    }
}

impl Page {
    pub(crate) const ALL: [Self; 3] = [Self::Untouched, Self::Read, Self::Counter];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::Read => "read",
            Self::Counter => "counter",
        }
    }

    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Untouched => "/untouched",
            Self::Read => "/read",
            Self::Counter => "/counter",
        }
    }

    /// Returns `true` if this is the response for a session that was found.
    pub(crate) fn is_kept(self, body: &[u8]) -> bool {
        match self {
            Self::Untouched => body == b"ok",
            Self::Read => body != b"0",
            Self::Counter => body != b"1",
        }
    }
}

impl FromStr for App {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let app = Self::ALL.into_iter().find(|app| app.name() == text);
        app.ok_or_else(|| format!("no such application: {text}"))
    }
}

impl FromStr for Page {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let page = Self::ALL.into_iter().find(|page| page.name() == text);
        page.ok_or_else(|| format!("no such page: {text}"))
    }
}

/// The cookie for the next request: that of a response, or one of equal length if there is none.
pub(crate) fn cookie(headers: &HeaderMap) -> String {
    let set = headers
        .get(header::SET_COOKIE)
        .and_then(|value| value.to_str().ok());
    match set.and_then(|set| set.split(';').next()) {
        Some(pair) => pair.to_owned(),
        None => format!("JSESSIONID={}", SessionId::generate().expose()),
    }
}

fn plain() -> Router {
    Router::new()
        .route("/untouched", get(untouched))
        .route("/read", get(async || 1u64.to_string()))
        .route("/counter", get(async || 2u64.to_string()))
}

async fn untouched() -> &'static str {
    "ok"
}

fn distributable() -> Router {
    async fn read(session: Session) -> String {
        let count: Option<u64> = session.get("counter").expect("it is a number");
        count.unwrap_or(0).to_string()
    }

    async fn counter(session: Session) -> String {
        let count: Option<u64> = session.get("counter").expect("it is a number");
        let next = count.unwrap_or(0) + 1;
        session.insert("counter", &next).expect("numbers encode");
        next.to_string()
    }

    Router::new()
        .route("/untouched", get(untouched))
        .route("/read", get(read))
        .route("/counter", get(counter))
        .layer(SessionLayer::new(MemoryStore::new()))
}

fn tower_sessions() -> Router {
    use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

    async fn read(session: Session) -> String {
        let count: Option<u64> = session.get("counter").await.expect("it is a number");
        count.unwrap_or(0).to_string()
    }

    async fn counter(session: Session) -> String {
        let count: Option<u64> = session.get("counter").await.expect("it is a number");
        let next = count.unwrap_or(0) + 1;
        let inserted = session.insert("counter", next).await;
        inserted.expect("numbers encode");
        next.to_string()
    }

    Router::new()
        .route("/untouched", get(untouched))
        .route("/read", get(read))
        .route("/counter", get(counter))
        .layer(SessionManagerLayer::new(MemoryStore::default()))
}

type Sessions = Arc<DashMap<String, HashMap<String, u64>>>;

fn bare_map() -> Router {
    async fn read(State(sessions): State<Sessions>, headers: HeaderMap) -> String {
        let session = sent(&headers).and_then(|id| sessions.get(id));
        let count = session.and_then(|session| session.get("counter").copied());
        count.unwrap_or(0).to_string()
    }

    async fn counter(State(sessions): State<Sessions>, headers: HeaderMap) -> impl IntoResponse {
        if let Some(mut session) = sent(&headers).and_then(|id| sessions.get_mut(id)) {
            let count = session.entry("counter".to_owned()).or_default();
            *count += 1;
            return (None, count.to_string());
        }
        let id = SessionId::generate().expose();
        let cookie = format!("JSESSIONID={id}; HttpOnly; SameSite=Lax; Path=/");
        sessions.insert(id, HashMap::from([("counter".to_owned(), 1)]));
        let headers = AppendHeaders([(header::SET_COOKIE, cookie)]);
        (Some(headers), 1.to_string())
    }

    fn sent(headers: &HeaderMap) -> Option<&str> {
        let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
        let mut pairs = cookies.split("; ");
        pairs.find_map(|pair| pair.strip_prefix("JSESSIONID="))
    }

    Router::new()
        .route("/untouched", get(untouched))
        .route("/read", get(read))
        .route("/counter", get(counter))
        .with_state(Sessions::default())
}
