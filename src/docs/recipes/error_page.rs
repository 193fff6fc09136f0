use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use distributable::{SessionError, SessionErrorKind};

/// A middleware *outside* the session layer: a page in place of the plain text of session errors,
/// those that handlers return and those of the commit after them.
pub async fn error_page(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let Some(error) = response.extensions().get::<SessionError>() else {
        return response;
    };
    let advice = match error.kind() {
        SessionErrorKind::Invalidated
        | SessionErrorKind::Superseded
        | SessionErrorKind::NoSession => "Please <a href=\"/login\">log in</a> again.",
        SessionErrorKind::Store(_) | SessionErrorKind::Conflict => "Please try again in a minute.",
        SessionErrorKind::TooManySessions => "Please log out on another device first.",
        _ => "We are sorry, that did not work.",
    };
    let page = format!("<!doctype html><title>Shop</title><p>{advice}</p>");
    // The status stays, and so do headers such as `Set-Cookie` and `Vary`.
    let (mut head, _) = response.into_parts();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    head.headers.insert(CONTENT_TYPE, html);
    Response::from_parts(head, Body::from(page))
}
