//! The handlers, one per path. `router` lists the paths; their arguments are query parameters.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use distributable::{Peek, Root, Scope, Session, SessionError, UserKey};
use futures_util::stream;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::App;
use crate::reply::{Failure, Reply};

type Answer = Result<Reply, Failure>;

/// Every path of the probe.
pub(crate) fn router() -> Router<Arc<App>> {
    let both = MethodFilter::GET.or(MethodFilter::POST);
    Router::new()
        .route("/none", on(both, none))
        .route("/info", on(both, info))
        .route("/has", on(both, has))
        .route("/get", on(both, get))
        .route("/set", on(both, set))
        .route("/remove", on(both, remove))
        .route("/incr", on(both, incr))
        .route("/update", on(both, update))
        .route("/login", on(both, login))
        .route("/rotate", on(both, rotate))
        .route("/logout", on(both, logout))
        .route("/logout-user", on(both, logout_user))
        .route("/sessions", on(both, sessions))
        .route("/peek", on(both, peek))
        .route("/end", on(both, end))
        .route("/status", on(both, status))
        .route("/take", on(both, take))
        .route("/try_update", on(both, try_update))
        .route("/quiet", on(both, quiet))
        .route("/ttl", on(both, ttl))
        .route("/slow", on(both, slow))
        .route("/err", on(both, err))
        .route("/panic", on(both, panic))
        .route("/stream", on(both, stream))
        .route("/spawn", on(both, spawn))
        .route("/badattr", on(both, badattr))
        .route("/cluster", on(both, cluster))
        .route("/events", on(both, events))
        .route("/health", on(both, health))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
}

/// `/none`: never extracts the session.
async fn none() -> Reply {
    Reply::default()
}

/// `/info`: reads metadata.
async fn info(Taken(session): Taken) -> Answer {
    let idle = session.idle_timeout().filter(|_| session.exists());
    let requested = session.requested_route().map(|route| route.to_string());
    let reply = about(&session)
        .with("new", session.exists().then(|| session.is_new()))
        .with("key", session.key().map(|key| key.to_string()))
        .with("names", session.names())
        .with("created_at", session.created_at().map(|at| at.as_millis()))
        .with(
            "last_accessed_at",
            session.last_accessed_at().map(|at| at.as_millis()),
        )
        .with("max_inactive_secs", idle.map(|idle| idle.as_secs()))
        .with("uid", session.get::<String>(UID)?)
        .with("requested_route", requested);
    // The contract has no such field: it is present only if it is `true`.
    Ok(if session.is_ambiguous() {
        reply.with("ambiguous", true)
    } else {
        reply
    })
}

/// `/has?k`: asks for presence only.
async fn has(args: Args, Taken(session): Taken) -> Answer {
    let has = session.contains(args.need("k")?);
    Ok(about(&session).with("has", session.exists().then_some(has)))
}

/// `/get?k[&as=u64|string]`: a typed read.
async fn get(args: Args, Taken(session): Taken) -> Answer {
    let name = args.need("k")?;
    let value: Value = match args.get("as") {
        None | Some("string") => session.get::<String>(name)?.into(),
        Some("u64") => session.get::<u64>(name)?.into(),
        Some(_) => return Err(Failure::bad_argument("`as` is `u64` or `string`")),
    };
    Ok(about(&session).with("value", value))
}

/// `/set?k&v` and `/set?k&bytes=N`: writes a string.
async fn set(args: Args, Taken(session): Taken) -> Answer {
    let name = args.need("k")?;
    match args.number::<usize>("bytes")? {
        Some(bytes) => session.insert(name, &"x".repeat(bytes.min(SET_BYTES_MAX)))?,
        None => session.insert(name, args.need("v")?)?,
    }
    Ok(about(&session))
}

/// `/remove?k`.
async fn remove(args: Args, Taken(session): Taken) -> Answer {
    session.remove(args.need("k")?)?;
    Ok(about(&session))
}

/// `/incr`: counts by reading and writing; two concurrent requests may count once.
async fn incr(Taken(session): Taken) -> Answer {
    let n = session.get::<u64>(COUNTER)?.unwrap_or(0) + 1;
    session.insert(COUNTER, &n)?;
    Ok(about(&session).with("n", n))
}

/// `/update`: counts atomically.
async fn update(Taken(session): Taken) -> Answer {
    let count = |old: Option<u64>| old.unwrap_or(0) + 1;
    let n = session.update(COUNTER, count).await?;
    Ok(about(&session).with("n", n))
}

/// `/login?uid[&label]`: changes the id, so that one planted before the login is worth nothing
/// after it, and binds the session to the user.
async fn login(State(app): State<Arc<App>>, args: Args, Taken(session): Taken) -> Answer {
    let uid = args.need("uid")?;
    app.users.note(uid);
    match args.get("label") {
        Some(label) => session.log_in_with_label(uid, label)?,
        None => session.log_in(uid)?,
    }
    session.insert(UID, uid)?;
    Ok(about(&session).with("uid", uid))
}

/// `/rotate`: changes the id.
async fn rotate(Taken(session): Taken) -> Answer {
    session.cycle_id()?;
    Ok(about(&session))
}

/// `/logout`: ends the session, at once and everywhere.
async fn logout(Taken(session): Taken) -> Answer {
    let ended = session.invalidate().await?;
    Ok(about(&session).with("ended", u64::from(ended)))
}

/// `/logout-user?uid[&keep=1]`: ends every session of the user; `keep=1` keeps this one.
async fn logout_user(State(app): State<Arc<App>>, args: Args, Taken(session): Taken) -> Answer {
    let user = UserKey::of(args.need("uid")?);
    let keep = args.get("keep") == Some("1");
    let kept = session.key().filter(|_| keep);
    let ended = app.backend.end_user(user, kept).await?;
    if kept.is_none() && session.user() == Some(user) {
        // It is among them: the reply is that of a browser without a session, and so is its cookie.
        session.log_out().await?;
    }
    Ok(about(&session).with("ended", ended))
}

/// `/sessions?uid`: the user's live sessions.
async fn sessions(State(app): State<Arc<App>>, args: Args, Taken(session): Taken) -> Answer {
    let user = UserKey::of(args.need("uid")?);
    let current = session.key();
    let found = app.backend.sessions_of(user).await?;
    let listed: Vec<_> = found
        .into_iter()
        .map(|info| {
            json!({
                "key": info.key.to_string(),
                "created_at": info.created_at.as_millis(),
                "last_accessed_at": info.last_accessed_at.as_millis(),
                "label": info.label,
                "current": current == Some(info.key),
            })
        })
        .collect();
    Ok(about(&session).with("sessions", listed))
}

/// `/peek?key`: a session's metadata, for administration.
async fn peek(State(app): State<Arc<App>>, args: Args) -> Answer {
    let Some(session) = app.backend.peek(&args.key()?).await? else {
        return Ok(Reply::default()
            .with("session", false)
            .with("new", Value::Null)
            .with("key", Value::Null)
            .with("names", Value::Array(Vec::new()))
            .with("created_at", Value::Null)
            .with("last_accessed_at", Value::Null)
            .with("max_inactive_secs", Value::Null)
            .with("uid", Value::Null));
    };
    let names: Vec<_> = session.attributes().map(|(name, _)| name).collect();
    let uid = session.get_typed::<String>(UID)?;
    let idle = session.idle_timeout();
    Ok(Reply::default()
        .with("session", true)
        .with("new", false)
        .with("key", args.need("key")?)
        .with("names", names)
        .with("created_at", session.created_at().as_millis())
        .with("last_accessed_at", session.last_accessed_at().as_millis())
        .with("max_inactive_secs", idle.map(|idle| idle.as_secs()))
        .with("uid", uid))
}

/// `/end?key`: ends a session, for administration.
async fn end(State(app): State<Arc<App>>, args: Args) -> Answer {
    let ended = app.backend.delete(&args.key()?).await?;
    Ok(Reply::default().with("ended", u64::from(ended)))
}

/// `/status?code`: answers with that status, and never extracts the session.
async fn status(args: Args) -> Answer {
    let status = StatusCode::from_u16(args.need_number("code")?)
        .map_err(|_| Failure::bad_argument("`code` is a number from 100 to 999"))?;
    Ok(Reply::default().with_status(status))
}

/// `/take?k`: reads and removes.
async fn take(args: Args, Taken(session): Taken) -> Answer {
    let value = session.take::<String>(args.need("k")?)?;
    Ok(about(&session).with("value", value))
}

/// `/try_update?k&max=N`: counts atomically, up to a limit.
async fn try_update(args: Args, Taken(session): Taken) -> Answer {
    let (name, max) = (args.need("k")?, args.need_number::<u64>("max")?);
    let count = |old: Option<u64>| match old.unwrap_or(0) + 1 {
        n if n > max => Err(max),
        n => Ok(n),
    };
    match session.try_update(name, count).await? {
        Ok(n) => Ok(about(&session).with("n", n)),
        Err(max) => {
            let message = format!("it would exceed {max}");
            Err(Failure::new(StatusCode::CONFLICT, "rejected", message))
        }
    }
}

/// `/quiet?k`: reads without using the session.
async fn quiet(args: Args, session: Result<Peek, SessionError>) -> Answer {
    let session = session?;
    let value = session.get::<String>(args.need("k")?)?;
    Ok(Reply::default()
        .with("session", session.exists())
        .with("value", value))
}

/// `/ttl?s`: sets the idle timeout of this session.
async fn ttl(args: Args, Taken(session): Taken) -> Answer {
    let seconds = args.need_number("s")?;
    session.set_idle_timeout(Some(Duration::from_secs(seconds)))?;
    Ok(about(&session))
}

/// `/slow?ms[&k&v]`: writes, then waits.
async fn slow(args: Args, Taken(session): Taken) -> Answer {
    let wait = args.wait()?;
    if args.get("k").is_some() {
        args.write(&session)?;
    }
    tracing::debug!("a slow request has begun");
    sleep(wait).await;
    Ok(about(&session))
}

/// `/err?status&k&v`: writes, then answers with that status.
async fn err(args: Args, Taken(session): Taken) -> Answer {
    let status = StatusCode::from_u16(args.need_number("status")?)
        .map_err(|_| Failure::bad_argument("`status` is a number from 100 to 999"))?;
    args.write(&session)?;
    Ok(about(&session).with_status(status))
}

/// `/panic?k&v`: writes, then panics.
async fn panic(args: Args, Taken(session): Taken) -> Answer {
    args.write(&session)?;
    panic!("asked to panic");
}

/// `/stream?ms&k&v`: writes from inside the body, long after the head was sent, through a handle
/// that is not meant for that. The body contains the result.
async fn stream(
    State(app): State<Arc<App>>,
    args: Args,
    Taken(session): Taken,
) -> Result<Response, Failure> {
    let wait = args.wait()?;
    args.need("k")?;
    args.need("v")?;
    let body = stream::once(async move {
        sleep(wait).await;
        let reply = match args.write(&session) {
            Ok(()) => about(&session),
            Err(failure) => failure.into(),
        };
        Ok::<_, Infallible>(reply.json(&app).to_string())
    });
    let json = [(CONTENT_TYPE, "application/json")];
    Ok((json, Body::from_stream(body)).into_response())
}

/// `/spawn?ms&k&v`: writes from a task, after the response, through a detached handle.
async fn spawn(args: Args, Taken(session): Taken) -> Answer {
    let wait = args.wait()?;
    args.need("k")?;
    args.need("v")?;
    let reply = about(&session);
    let session = session.detached();
    tokio::spawn(async move {
        sleep(wait).await;
        let written = match args.write(&session) {
            Ok(()) => session.save().await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match written {
            Ok(()) => tracing::info!("the task's write is stored"),
            Err(failure) => tracing::warn!(?failure, "the task's write is not stored"),
        }
    });
    Ok(reply)
}

/// `/badattr?k&v`: a good value, then one that cannot be encoded.
async fn badattr(args: Args, Taken(session): Taken) -> Answer {
    args.write(&session)?;
    session.insert("bad", &Unserializable)?;
    Ok(about(&session))
}

/// `/cluster`: the store's state, and the number of misrouted requests.
async fn cluster(State(app): State<Arc<App>>) -> Reply {
    app.backend
        .status(app.node.as_deref())
        .with("turnovers", app.sessions.misrouted_requests())
}

/// `/events[?scope=node|cluster]`: what happens to sessions from now on, as server-sent events.
async fn events(State(app): State<Arc<App>>, args: Args) -> Result<Response, Failure> {
    let scope = match args.get("scope") {
        None | Some("cluster") => Scope::Cluster,
        Some("node") => Scope::Node,
        Some(_) => return Err(Failure::bad_argument("`scope` is `node` or `cluster`")),
    };
    crate::events::serve(app, scope).await
}

/// `/health`: 200 if a balancer should send requests here.
async fn health(State(app): State<Arc<App>>) -> Reply {
    let draining = app.draining.load(Ordering::Relaxed);
    let ready = app.backend.is_ready() && !draining;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Reply::default()
        .with_status(status)
        .with("ready", ready)
        .with("draining", draining)
}

async fn unknown() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "not_found", "no such path")
}

async fn wrong_method(method: Method) -> Failure {
    let message = format!("{method} is not answered here, GET and POST are");
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message)
}

/// The fields about the session in the reply of every path that extracts it.
fn about(session: &Session) -> Reply {
    Reply::default().with("session", session.exists())
}

/// The session; if it cannot be loaded, the rejection is a reply in this program's format.
struct Taken(Session);

impl<S: Sync> FromRequestParts<S> for Taken {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Self(Session::from_request_parts(parts, state).await?))
    }
}

/// The query parameters.
struct Args(HashMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Args {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let odd = |error: QueryRejection| Failure::bad_argument(error.to_string());
        let Query(args) = Query::try_from_uri(&parts.uri).map_err(odd)?;
        Ok(Self(args))
    }
}

impl Args {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn need(&self, name: &str) -> Result<&str, Failure> {
        let missing = || Failure::bad_argument(format!("the argument `{name}` is missing"));
        self.get(name).ok_or_else(missing)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let odd = |_| Failure::bad_argument(format!("`{name}` is not such a number"));
        self.get(name)
            .map(|text| text.parse().map_err(odd))
            .transpose()
    }

    fn need_number<T: std::str::FromStr>(&self, name: &str) -> Result<T, Failure> {
        self.need(name)?;
        let number = self.number(name)?;
        Ok(number.expect("it is not missing"))
    }

    /// The root of a session.
    fn key(&self) -> Result<Root, Failure> {
        let odd = || Failure::bad_argument("`key` is 24 lower-case hexadecimal digits");
        Root::parse(self.need("key")?).ok_or_else(odd)
    }

    fn wait(&self) -> Result<Duration, Failure> {
        Ok(Duration::from_millis(self.need_number("ms")?))
    }

    /// Writes `v` to `k`.
    fn write(&self, session: &Session) -> Result<(), Failure> {
        Ok(session.insert(self.need("k")?, self.need("v")?)?)
    }
}

/// A value that no codec can encode.
struct Unserializable;

impl Serialize for Unserializable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(
            "this value is never serializable",
        ))
    }
}

const COUNTER: &str = "session_counter";
const UID: &str = "uid";

/// More than any store accepts, so the reply is the same; but no request allocates all memory.
const SET_BYTES_MAX: usize = 64 << 20;
