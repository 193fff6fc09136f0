//! Extractors and responses for axum.

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use crate::error::{SessionError, SessionErrorKind};
use crate::middleware::peek::Peek;
use crate::middleware::session::Session;
use crate::middleware::session_data::{SessionData, SessionDataMut};
use crate::session::attribute::SessionAttribute;

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

impl<S: Sync, T: SessionAttribute> FromRequestParts<S> for SessionData<T> {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        Self::from_parts(parts).await
    }
}

/// Extracts the attribute if the session has it.
impl<S: Sync, T: SessionAttribute> OptionalFromRequestParts<S> for SessionData<T> {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, SessionError> {
        match Self::from_parts(parts).await {
            Ok(data) => Ok(Some(data)),
            Err(error) if error.kind() == SessionErrorKind::NoAttribute => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl<S: Sync, T: SessionAttribute + Default> FromRequestParts<S> for SessionDataMut<T> {
    type Rejection = SessionError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionError> {
        Self::from_parts(parts).await
    }
}

/// The error is in the extensions of the response as well, for layers that make pages of errors.
impl IntoResponse for SessionError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.to_string()).into_response();
        response.extensions_mut().insert(self);
        response
    }
}
