use std::time::Duration;

use axum::Router;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Method, StatusCode};
use distributable::{SessionLayer, SessionStore};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

pub fn with_layers(routes: Router, store: impl SessionStore) -> Router {
    let shop = HeaderValue::from_static("https://shop.example");
    let cors = CorsLayer::new()
        .allow_origin(shop)
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([CONTENT_TYPE]);
    let timeout = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, LONGEST);
    let sessions = SessionLayer::new(store).commit_when(|head| !head.status.is_server_error());
    // The first is the outermost: it has the request first and the response last.
    let layers = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(cors)
        .layer(CompressionLayer::new())
        .layer(sessions)
        .layer(timeout)
        .layer(CatchPanicLayer::new());
    routes.layer(layers)
}

pub const LONGEST: Duration = Duration::from_secs(10);
