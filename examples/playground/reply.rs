//! Answers: every one is JSON and names this node.
//!
//! Handlers answer with fields; [`render`], the outermost layer, adds the node and writes the
//! JSON, also for what the layers between answered by themselves.

use std::any::Any;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::response::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{Extension, IntoResponse, Response};
use distributable::{SessionError, SessionErrorKind, StoreError, StoreErrorKind};
use serde_json::{Map, Value};

use crate::App;

/// The fields of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    status: StatusCode,
    fields: Map<String, Value>,
}

/// An answer that reports an error.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Reply {
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The whole answer, with the node it comes from.
    pub(crate) fn json(self, app: &App) -> Value {
        self.with("node", app.node.clone()).fields.into()
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (self.status, Extension(self)).into_response()
    }
}

impl Failure {
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn bad_argument(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_argument", message)
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Self::default()
            .with_status(failure.status)
            .with("error", failure.kind)
            .with("message", failure.message)
    }
}

impl From<&SessionError> for Failure {
    fn from(error: &SessionError) -> Self {
        let status = match error.kind() {
            // Here the time and the name are arguments of the request.
            SessionErrorKind::InvalidTimeout | SessionErrorKind::ReservedName => {
                StatusCode::BAD_REQUEST
            }
            _ => error.status(),
        };
        Self::new(status, word(error.kind()), error.to_string())
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self::from(&error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::from(SessionError::from(error))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        Reply::from(self).into_response()
    }
}

/// The name of a session error's kind.
fn word(kind: SessionErrorKind) -> &'static str {
    match kind {
        SessionErrorKind::NoSession => "no_session",
        SessionErrorKind::Conflict => "conflict",
        SessionErrorKind::Invalidated => "ended",
        SessionErrorKind::Superseded => "superseded",
        SessionErrorKind::TooManySessions => "too_many_sessions",
        SessionErrorKind::TooLarge | SessionErrorKind::Store(StoreErrorKind::TooLarge) => {
            "too_large"
        }
        SessionErrorKind::Encode => "encode",
        SessionErrorKind::Decode => "decode",
        SessionErrorKind::TooLate => "too_late",
        SessionErrorKind::InvalidTimeout => "invalid_timeout",
        SessionErrorKind::ReservedName => "reserved_name",
        SessionErrorKind::Store(StoreErrorKind::NotReady) => "not_ready",
        SessionErrorKind::Store(StoreErrorKind::Full) => "full",
        SessionErrorKind::Store(StoreErrorKind::Indeterminate) => "indeterminate",
        SessionErrorKind::Store(_) => "unavailable",
        _ => "session",
    }
}

/// The answer of a panicking handler.
pub(crate) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Failure::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "panic",
        "the handler panicked",
    )
    .into_response()
}

/// Writes the JSON of every answer, except of those that stream their own.
pub(crate) async fn render(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = next.run(request).await.into_parts();
    let reply = match parts.extensions.remove::<Reply>() {
        Some(reply) => reply,
        None if parts.status.is_success() => return Response::from_parts(parts, body),
        None => layer_failure(&parts).into(),
    };
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, JSON);
    Response::from_parts(parts, reply.json(&app).to_string().into())
}

/// The failure that the session layer returned instead of the handler's response: the commit
/// failed.
fn layer_failure(response: &Parts) -> Failure {
    match response.extensions.get::<SessionError>() {
        Some(error) => error.into(),
        None => Failure::new(response.status, "unknown", "no reason is known"),
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
