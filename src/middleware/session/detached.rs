//! The loss of writes through detached handles.

use std::sync::Arc;

use crate::middleware::request::RequestSession;

/// State shared by the detached handles of a request: with the last of them, it warns of writes
/// that were not saved.
pub(super) struct Detached(Arc<RequestSession>);

impl Detached {
    pub(super) const fn of(request: Arc<RequestSession>) -> Self {
        Self(request)
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.warn_of_loss();
    }
}
