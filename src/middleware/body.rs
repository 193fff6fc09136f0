//! The body of a response that the middleware may have to replace.

use std::any::Any;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::error::SessionErrorKind;

pin_project! {
    /// The body of the handler's response, or the message of a
    /// [`SessionError`](crate::SessionError).
    ///
    /// Handlers' bodies pass through unchanged. It requires nothing of `B`, in particular no
    /// `Default`; therefore it is a type of its own. The default is an empty body, for layers
    /// further out that answer in place of the handler.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        inner: BodyContent<B>,
    }
}

pin_project! {
    #[project = BodyContentProjection]
    #[derive(Debug)]
    enum BodyContent<B> {
        Handler { #[pin] body: B },
        // Fits beside the pointer of a boxed body: wrapping one costs no memory.
        Message { kind: SessionErrorKind, sent: bool },
    }
}

impl<B> ResponseBody<B> {
    pub(super) const fn handler(body: B) -> Self {
        Self {
            inner: BodyContent::Handler { body },
        }
    }

    pub(super) const fn message(kind: SessionErrorKind) -> Self {
        Self {
            inner: BodyContent::Message { kind, sent: false },
        }
    }
}

impl<B> Default for ResponseBody<B> {
    fn default() -> Self {
        Self {
            inner: BodyContent::Message {
                kind: SessionErrorKind::MissingLayer,
                sent: true,
            },
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
    B::Data: 'static,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().inner.project() {
            BodyContentProjection::Handler { body } => body.poll_frame(cx),
            BodyContentProjection::Message { kind, sent } => {
                let data = (!mem::replace(sent, true)).then(|| data_from(kind.message()));
                Poll::Ready(data.flatten().map(|data| Ok(Frame::data(data))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            BodyContent::Handler { body } => body.is_end_stream(),
            BodyContent::Message { sent, .. } => *sent || data_from::<B::Data>("").is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            BodyContent::Handler { body } => body.size_hint(),
            BodyContent::Message { .. } if self.is_end_stream() => SizeHint::with_exact(0),
            BodyContent::Message { kind, .. } => SizeHint::with_exact(kind.message().len() as u64),
        }
    }
}

/// The message in the body's own data type. Nearly every body uses `Bytes`; any other is replaced
/// by an empty body.
fn data_from<D: 'static>(message: &'static str) -> Option<D> {
    let mut data = Some(Bytes::from_static(message.as_bytes()));
    (&mut data as &mut dyn Any)
        .downcast_mut::<Option<D>>()?
        .take()
}
