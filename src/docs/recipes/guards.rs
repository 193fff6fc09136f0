use axum::extract::{FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{RequestPartsExt, Router};
use distributable::{Attribute, Session, SessionError};

pub const NAME: Attribute<String> = Attribute::new("name");
pub const ROLES: Attribute<Vec<String>> = Attribute::new("roles");

/// A middleware for routes that only users who have logged in may see.
pub async fn only_users(
    session: Session,
    request: Request,
    next: Next,
) -> Result<Response, SessionError> {
    match session.user() {
        Some(_) => Ok(next.run(request).await),
        None => Ok(Redirect::to("/login").into_response()),
    }
}

/// An extractor of an administrator, by name: a handler that asks for it is closed to others.
pub struct Admin(pub String);

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        // The session is loaded once for a request, by whichever part asks first.
        let session: Session = parts.extract().await.map_err(failed)?;
        let roles = session.get(ROLES).map_err(failed)?.unwrap_or_default();
        let name = session.get(NAME).map_err(failed)?;
        match name.filter(|_| roles.iter().any(|role| role == "admin")) {
            Some(name) => Ok(Self(name)),
            None => Err(StatusCode::FORBIDDEN.into_response()),
        }
    }
}

fn failed(error: SessionError) -> Response {
    error.into_response()
}

/// To be wrapped by the session layer.
pub fn routes() -> Router {
    Router::new()
        .route("/account", get(async || "your orders"))
        .route(
            "/admin",
            get(async |Admin(name): Admin| format!("hello {name}")),
        )
        .route_layer(from_fn(only_users))
        .route("/login", get(async || "name and password, please"))
}
