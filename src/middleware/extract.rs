//! Extractors and responses for axum.

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use super::error::SessionError;
use super::peek::Peek;
use super::session::Session;

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        Self::from_parts(parts).await
    }
}

impl<S: Sync> FromRequestParts<S> for Peek {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        Self::from_parts(parts).await
    }
}

/// Extracts the session if it exists.
impl<S: Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, SessionError> {
        let session = Self::from_parts(parts).await?;
        Ok(session.exists().then_some(session))
    }
}

impl IntoResponse for SessionError {
    fn into_response(self) -> Response {
        (self.status(), self.to_string()).into_response()
    }
}
