//! The service that adds a session handle to each request and commits it before the response.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::middleware::body::ResponseBody;
use crate::middleware::config::Config;
use crate::middleware::future::ResponseFuture;
use crate::middleware::request::RequestSession;

/// A service that provides a session to the requests it passes on; made by
/// [`SessionLayer`](crate::SessionLayer).
///
/// It wraps any HTTP service with any bodies, keeps that service's error type and has no errors of
/// its own: a failed commit becomes a response, which carries the
/// [`SessionError`](crate::SessionError) in its extensions for outer layers.
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> SessionService<S> {
    pub(super) const fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SessionService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        // Inner services that log the request do not log the id.
        self.config.carrier.hide(request.headers_mut());
        let session = RequestSession::begin(&self.config, request.extensions_mut());
        ResponseFuture::new(self.inner.call(request), session)
    }
}
