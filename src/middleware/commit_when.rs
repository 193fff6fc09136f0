//! The condition under which the changes of a request are stored.

use std::fmt;
use std::sync::Arc;

use http::Response;
use http::response::Parts;

/// What decides whether the changes of a request are stored; `None`: they always are.
#[derive(Clone, Default)]
pub(super) struct CommitWhen(Option<Arc<Decide>>);

type Decide = dyn Fn(&Parts) -> bool + Send + Sync;

impl CommitWhen {
    pub(super) fn new(decide: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(decide)))
    }

    /// Returns `true` if the response with this head is to store what its handler has written.
    pub(super) fn decide<B>(&self, response: Response<B>) -> (bool, Response<B>) {
        let Some(decide) = &self.0 else {
            return (true, response);
        };
        let (head, body) = response.into_parts();
        let admitted = decide(&head);
        (admitted, Response::from_parts(head, body))
    }
}

impl fmt::Debug for CommitWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "CommitWhen(..)",
            None => "CommitWhen(always)",
        })
    }
}
