use axum::Form;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use distributable::{Attribute, Session, SessionError};
use serde::Deserialize;
use subtle::ConstantTimeEq;

const TOKEN: Attribute<String> = Attribute::new("csrf");

/// The session's token, for `<input type="hidden" name="csrf" value="…">` in each form, and for
/// the header `X-CSRF-Token` of scripts.
pub fn token(session: &Session) -> Result<String, SessionError> {
    if let Some(token) = session.get(TOKEN)? {
        return Ok(token);
    }
    let token = format!("{:032x}", rand::random::<u128>());
    session.insert(TOKEN, &token)?;
    Ok(token)
}

/// Logs in. The token from before may be known to the sender of a planted session: it ends.
pub fn log_in(session: &Session, user: &str) -> Result<(), SessionError> {
    session.log_in(user)?;
    session.remove(TOKEN)?;
    Ok(())
}

/// A middleware around all routes and inside the session layer: requests that may change something
/// need the token.
pub async fn check(
    session: Session,
    request: Request,
    next: Next,
) -> Result<Response, SessionError> {
    if request.method().is_safe() {
        return Ok(next.run(request).await);
    }
    let Some(expected) = session.get(TOKEN)? else {
        return Ok(refused());
    };
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_MAX).await else {
        return Ok(StatusCode::PAYLOAD_TOO_LARGE.into_response());
    };
    let copy = Request::from_parts(head.clone(), Body::from(body.clone()));
    let sent = match head.headers.get("x-csrf-token") {
        Some(header) => header.to_str().ok().map(str::to_owned),
        None => Form::from_request(copy, &())
            .await
            .ok()
            .map(|Form(Field { csrf })| csrf),
    };
    // In constant time: the time that a comparison takes tells nothing of the token.
    if !sent.is_some_and(|sent| bool::from(sent.as_bytes().ct_eq(expected.as_bytes()))) {
        return Ok(refused());
    }
    Ok(next.run(Request::from_parts(head, Body::from(body))).await)
}

fn refused() -> Response {
    (
        StatusCode::FORBIDDEN,
        "The form is too old. Load the page again.",
    )
        .into_response()
}

#[derive(Deserialize)]
struct Field {
    csrf: String,
}

const BODY_MAX: usize = 64 << 10;
