//! The response future: it awaits the handler and then the commit.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use pin_project_lite::pin_project;

use crate::error::SessionError;
use crate::middleware::body::ResponseBody;
use crate::middleware::keep_alive::KeepAlive;
use crate::middleware::request::RequestSession;
use crate::middleware::run_to_completion::RunToCompletion;
use crate::middleware::state::OnResponse;

pin_project! {
    /// The future of [`SessionService`](crate::middleware::SessionService): the handler's,
    /// followed by the commit.
    ///
    /// Dropping it while the handler runs drops the handler's unsaved writes. Once the commit has
    /// begun, it continues even if this future is dropped.
    pub struct ResponseFuture<F, B> {
        // Present until the handler has returned. `None` from the start if an outer layer handles
        // it.
        session: Option<Arc<RequestSession>>,
        keep_alive: KeepAlive,
        #[pin]
        stage: ResponseStage<F, B>,
    }

    impl<F, B> PinnedDrop for ResponseFuture<F, B> {
        // A handler that panics or is dropped may leave handles, whose writes would never be
        // stored.
        fn drop(this: Pin<&mut Self>) {
            if let Some(session) = this.project().session {
                session.abandon();
            }
        }
    }
}

pin_project! {
    #[project = ResponseStageProjection]
    enum ResponseStage<F, B> {
        Handling {
            #[pin]
            handler: F,
        },
        Storing {
            commit: RunToCompletion<()>,
            session: Arc<RequestSession>,
            response: Option<Response<B>>,
        },
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(super) fn new(handler: F, session: Option<Arc<RequestSession>>) -> Self {
        Self {
            session,
            keep_alive: KeepAlive::default(),
            stage: ResponseStage::Handling { handler },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.stage.as_mut().project() {
                ResponseStageProjection::Handling { handler } => {
                    let Poll::Ready(response) = handler.poll(cx) else {
                        if let Some(session) = this.session {
                            this.keep_alive.poll(session, cx);
                        }
                        return Poll::Pending;
                    };
                    let response = response?;
                    let Some(session) = this.session.take() else {
                        return Poll::Ready(Ok(response.map(ResponseBody::handler)));
                    };
                    let (commits, response) = session.config().commit_when.decide(response);
                    let commit = match session.close(commits) {
                        OnResponse::Unused => {
                            return Poll::Ready(Ok(response.map(ResponseBody::handler)));
                        }
                        OnResponse::Clean => {
                            return Poll::Ready(Ok(with_headers(response, &session)));
                        }
                        OnResponse::Confirm => RunToCompletion::new(session.clone().confirm()),
                        OnResponse::Commit => RunToCompletion::new(session.clone().commit_last()),
                    };
                    this.stage.set(ResponseStage::Storing {
                        commit,
                        session,
                        response: Some(response),
                    });
                }
                ResponseStageProjection::Storing {
                    commit,
                    session,
                    response,
                } => {
                    let stored = ready!(Pin::new(commit).poll(cx));
                    let response = response
                        .take()
                        .expect("a completed future is not polled again");
                    return Poll::Ready(Ok(match stored {
                        Ok(()) => with_headers(response, session),
                        Err(error) => error_response(error, session),
                    }));
                }
            }
        }
    }
}

fn with_headers<B>(response: Response<B>, session: &RequestSession) -> Response<ResponseBody<B>> {
    let mut response = response.map(ResponseBody::handler);
    session.write_headers(response.headers_mut());
    response
}

/// The response sent instead of the handler's, which may describe changes that are not stored.
fn error_response<B>(error: SessionError, session: &RequestSession) -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::message(error.kind()));
    *response.status_mut() = error.status();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    session.write_headers_on_error(response.headers_mut());
    response.extensions_mut().insert(error);
    response
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
