use axum::Router;
use axum::http::HeaderName;
use axum::http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use distributable::{SessionLayer, SessionStore};
use tower::ServiceBuilder;
use tower_http::sensitive_headers::{
    SetSensitiveRequestHeadersLayer, SetSensitiveResponseHeadersLayer,
};
use tower_http::trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer};

pub fn with_logs(routes: Router, store: impl SessionStore) -> Router {
    let span = DefaultMakeSpan::new().include_headers(true);
    let answer = DefaultOnResponse::new().include_headers(true);
    let layers = ServiceBuilder::new()
        // Requests pass this before they are logged, and responses pass the other one.
        .layer(SetSensitiveRequestHeadersLayer::new([
            COOKIE,
            AUTHORIZATION,
            SESSION_ID,
        ]))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_response(answer),
        )
        .layer(SetSensitiveResponseHeadersLayer::new([
            SET_COOKIE, SESSION_ID,
        ]))
        .layer(SessionLayer::new(store));
    routes.layer(layers)
}

/// The header of a `SessionHeader`, if you use one.
const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");
