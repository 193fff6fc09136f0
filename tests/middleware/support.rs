//! A store that can be watched, delayed and broken; nodes on it; a browser with one cookie.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Query;
use axum::http::header::{AsHeaderName, CACHE_CONTROL, COOKIE, SET_COOKIE, VARY};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use axum::routing::any;
use distributable::session::{Changes, Loaded, Outcome, Record, SecretHash};
use distributable::{
    MemoryStore, Root, Route, Session, SessionError, SessionId, SessionLayer, SessionStore,
    StoreError, UserKey,
};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// A memory store that counts its calls, and waits or fails when a test requests it.
#[derive(Clone, Default)]
pub(crate) struct Spy {
    inner: MemoryStore,
    pub(crate) loads: Counter,
    pub(crate) commits: Counter,
    pub(crate) touches: Counter,
    pub(crate) ends: Counter,
    broken: Arc<Mutex<Option<Fault>>>,
    broken_for: Arc<Mutex<Option<&'static str>>>,
    doubt: Arc<Mutex<Option<Fault>>>,
    gate: Arc<Mutex<Option<Arc<Semaphore>>>>,
    /// How often a commit lets others go first before it begins, and again before it answers.
    pub(crate) pauses: Arc<AtomicUsize>,
    /// How often a load lets others go first before it begins.
    pub(crate) load_pauses: Arc<AtomicUsize>,
    pub(crate) owners: Arc<Mutex<Option<&'static str>>>,
    /// Commits and ends that have come back from the inner store.
    pub(crate) done: Counter,
    pub(crate) ids: Arc<Mutex<Vec<SessionId>>>,
    pub(crate) next_ids: Arc<Mutex<Vec<SessionId>>>,
    pub(crate) committed: Arc<Mutex<Vec<Changes>>>,
}

/// What makes an error.
pub(crate) type Fault = fn() -> StoreError;

#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

impl Counter {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn count(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Spy {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// From now on every call fails.
    pub(crate) fn break_with(&self, error: Fault) {
        *self.broken.lock().unwrap() = Some(error);
        *self.broken_for.lock().unwrap() = None;
    }

    /// From now on calls of this method fail.
    pub(crate) fn break_only(&self, method: &'static str, error: Fault) {
        *self.broken.lock().unwrap() = Some(error);
        *self.broken_for.lock().unwrap() = Some(method);
    }

    /// The next commit takes effect, and fails.
    pub(crate) fn doubt_once(&self, error: Fault) {
        *self.doubt.lock().unwrap() = Some(error);
    }

    pub(crate) fn repair(&self) {
        *self.broken.lock().unwrap() = None;
    }

    /// From now on commits and ends wait until they are let through.
    pub(crate) fn close_gate(&self) -> Gate {
        let semaphore = Arc::new(Semaphore::new(0));
        *self.gate.lock().unwrap() = Some(semaphore.clone());
        Gate(semaphore)
    }

    /// The same sessions, whose commits let no others go first.
    pub(crate) fn without_pauses(&self) -> Self {
        Self {
            pauses: Arc::default(),
            ..self.clone()
        }
    }

    /// The same sessions, with no gate before them.
    pub(crate) fn without_gate(&self) -> Self {
        Self {
            gate: Arc::default(),
            ..self.clone()
        }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.inner.status().sessions
    }

    pub(crate) fn bytes(&self) -> usize {
        self.inner.status().bytes
    }

    pub(crate) fn calls(&self) -> usize {
        [&self.loads, &self.commits, &self.touches, &self.ends]
            .iter()
            .map(|counter| counter.get())
            .sum()
    }

    fn check(&self, method: &'static str) -> Result<(), StoreError> {
        let only = *self.broken_for.lock().unwrap();
        let broken = *self.broken.lock().unwrap();
        match broken {
            Some(error) if only.is_none_or(|only| only == method) => Err(error()),
            _ => Ok(()),
        }
    }

    async fn wait(&self) {
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        pause(&self.pauses).await;
    }
}

async fn pause(times: &AtomicUsize) {
    for _ in 0..times.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
}

/// Lets waiting commits through, one by one.
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn let_through(&self, commits: usize) {
        self.0.add_permits(commits);
    }
}

impl SessionStore for Spy {
    fn new_id(&self) -> SessionId {
        let id = self.next_ids.lock().unwrap().pop();
        let id = id.unwrap_or_else(SessionId::generate);
        self.ids.lock().unwrap().push(id);
        id
    }

    async fn load(&self, key: &Root, secret: Option<&SecretHash>) -> Result<Loaded, StoreError> {
        self.loads.count();
        pause(&self.load_pauses).await;
        self.check("load")?;
        self.inner.load(key, secret).await
    }

    async fn commit(
        &self,
        key: &Root,
        base: Option<&Arc<Record>>,
        changes: Changes,
    ) -> Result<Outcome, StoreError> {
        self.commits.count();
        self.wait().await;
        self.check("commit")?;
        self.committed.lock().unwrap().push(changes.clone());
        let outcome = self.inner.commit(key, base, changes).await;
        pause(&self.pauses).await;
        self.done.count();
        let doubt = self.doubt.lock().unwrap().take();
        doubt.map_or(outcome, |error| Err(error()))
    }

    async fn touch(&self, key: &Root) -> Result<(), StoreError> {
        self.touches.count();
        self.check("touch")?;
        self.inner.touch(key).await
    }

    async fn delete(&self, key: &Root) -> Result<bool, StoreError> {
        self.ends.count();
        self.wait().await;
        self.check("end")?;
        let ended = self.inner.delete(key).await;
        self.done.count();
        ended
    }

    fn route(&self, _: &Root) -> Option<String> {
        self.owners.lock().unwrap().map(str::to_owned)
    }
}

/// An error of a store that is down, with a message that no client may receive.
pub(crate) fn down() -> StoreError {
    StoreError::unavailable("10.1.2.3:6379 refused the password hunter2")
}

/// An error that leaves open whether the operation has taken effect.
pub(crate) fn in_doubt() -> StoreError {
    StoreError::indeterminate("no answer within a second")
}

pub(crate) fn layer(store: &Spy) -> SessionLayer {
    SessionLayer::new(store.clone())
}

/// A node without a route.
pub(crate) fn app(store: &Spy) -> Router {
    routes().layer(layer(store))
}

/// A node with a route.
pub(crate) fn node(store: &Spy, route: &str) -> Router {
    routes().layer(layer(store).with_route(Route::new(route).unwrap()))
}

type Args = Query<BTreeMap<String, String>>;
type Answer = Result<String, SessionError>;

/// The everyday operations, as the playground has them.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/none", any(|| async { "" }))
        .route("/info", any(info))
        .route("/has", any(has))
        .route("/get", any(get))
        .route("/set", any(set))
        .route("/remove", any(remove))
        .route("/incr", any(incr))
        .route("/update", any(update))
        .route("/login", any(login))
        .route("/rotate", any(rotate))
        .route("/logout", any(logout))
        .route("/user", any(user))
        .route("/ttl", any(ttl))
        .route("/err", any(err))
}

async fn info(session: Option<Session>) -> String {
    session.is_some().to_string()
}

async fn has(session: Session, Query(args): Args) -> String {
    session.contains(&args["k"]).to_string()
}

async fn get(session: Session, Query(args): Args) -> Answer {
    Ok(session.get::<String>(&args["k"])?.unwrap_or_default())
}

async fn set(session: Session, Query(args): Args) -> Answer {
    session.insert(&args["k"], &args["v"])?;
    Ok(String::new())
}

async fn remove(session: Session, Query(args): Args) -> Answer {
    Ok(session.remove(&args["k"])?.to_string())
}

async fn incr(session: Session) -> Answer {
    let n = session.get::<u64>("n")?.unwrap_or(0) + 1;
    session.insert("n", &n)?;
    Ok(n.to_string())
}

async fn update(session: Session) -> Answer {
    let n = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1);
    Ok(n.await?.to_string())
}

async fn login(session: Session, Query(args): Args) -> Answer {
    session.log_in(&args["uid"])?;
    session.insert("uid", &args["uid"])?;
    Ok(String::new())
}

async fn rotate(session: Session) -> Result<(), SessionError> {
    session.cycle_id()
}

async fn logout(session: Session) -> Answer {
    Ok(session.invalidate().await?.to_string())
}

async fn user(session: Session) -> String {
    session
        .user()
        .map_or_else(String::new, |user| user.to_string())
}

async fn ttl(session: Session, Query(args): Args) -> Answer {
    let secs = args["s"].parse().unwrap();
    session.set_idle_timeout(Some(Duration::from_secs(secs)))?;
    Ok(format!("{:?}", session.idle_timeout()))
}

async fn err(
    session: Session,
    Query(args): Args,
) -> Result<(StatusCode, &'static str), SessionError> {
    session.insert(&args["k"], &args["v"])?;
    let status = args["status"].parse().unwrap();
    Ok((StatusCode::from_u16(status).unwrap(), "an error page"))
}

/// A response that has been read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn all(&self, name: impl AsHeaderName) -> Vec<String> {
        let lines = self.headers.get_all(name).iter();
        lines
            .map(|line| line.to_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn set_cookies(&self) -> Vec<String> {
        self.all(SET_COOKIE)
    }

    /// The one `Set-Cookie`, if there is one; several are a failure.
    pub(crate) fn set_cookie(&self) -> Option<String> {
        let mut cookies = self.set_cookies();
        assert!(cookies.len() <= 1, "several cookies: {cookies:?}");
        cookies.pop()
    }

    /// The value of the one cookie that was set.
    pub(crate) fn cookie_value(&self) -> Option<String> {
        let cookie = self.set_cookie()?;
        let (_, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
        Some(value.to_owned())
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn assert_no_cookie(&self) {
        assert_eq!(self.set_cookies(), Vec::<String>::new());
    }

    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        self.assert_no_cookie();
        assert_eq!(self.all(VARY), Vec::<String>::new());
        assert_eq!(self.all(CACHE_CONTROL), Vec::<String>::new());
    }
}

/// Sends a request and reads the whole response.
pub(crate) async fn send(app: &Router, request: Request<Body>) -> Reply {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Reply {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(body.into()).unwrap(),
    }
}

/// A request with these `Cookie` lines.
pub(crate) fn request(path: &str, cookies: &[&[u8]]) -> Request<Body> {
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .body(Body::empty())
        .unwrap();
    for line in cookies {
        let line = HeaderValue::from_bytes(line).unwrap();
        request.headers_mut().append(COOKIE, line);
    }
    request
}

/// The key of a user, as text.
pub(crate) fn user_key(user: &str) -> String {
    UserKey::of(user).to_string()
}

/// A browser with the cookie of one site.
#[derive(Clone, Default, Debug)]
pub(crate) struct Browser {
    /// The session cookie's value.
    pub(crate) cookie: Option<String>,
}

impl Browser {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn holding(cookie: impl Into<String>) -> Self {
        Self {
            cookie: Some(cookie.into()),
        }
    }

    pub(crate) async fn get(&mut self, app: &Router, path: &str) -> Reply {
        let reply = send(app, self.request(path)).await;
        self.take(&reply);
        reply
    }

    pub(crate) fn request(&self, path: &str) -> Request<Body> {
        match &self.cookie {
            Some(cookie) => request(path, &[format!("JSESSIONID={cookie}").as_bytes()]),
            None => request(path, &[]),
        }
    }

    /// What a browser does with the reply's cookie.
    pub(crate) fn take(&mut self, reply: &Reply) {
        if let Some(cookie) = reply.set_cookie() {
            let removed = cookie.contains("Max-Age=0");
            self.cookie = reply.cookie_value().filter(|_| !removed);
        }
    }

    /// The id in the cookie.
    #[track_caller]
    pub(crate) fn bare(&self) -> String {
        bare(self.cookie.as_deref().expect("the browser has a cookie")).to_owned()
    }
}

pub(crate) fn bare(cookie: &str) -> &str {
    cookie.split('.').next().unwrap()
}

/// The session as the store has it.
pub(crate) async fn find(store: &Spy, key: &Root) -> Arc<Record> {
    let loaded = store.load(key, None).await.unwrap();
    loaded.into_live().expect("a live session")
}

/// A well-formed id that no store has ever issued.
pub(crate) fn unknown_id() -> String {
    SessionId::generate().expose()
}

/// Waits until something holds, and fails if it does not within a minute.
#[track_caller]
pub(crate) fn eventually(what: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !what() {
            assert!(std::time::Instant::now() < deadline, "never: {caller}");
            tokio::task::yield_now().await;
        }
    }
}

/// A flag that is raised once.
#[derive(Clone, Default)]
pub(crate) struct Flag(Arc<AtomicBool>);

impl Flag {
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
