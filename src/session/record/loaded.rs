//! The result of looking up a session.

use std::sync::Arc;

use crate::session::record::Record;

/// The result of looking up a root with a presented secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "these three are the contract between stores and the middleware"
)]
pub enum Loaded {
    /// The session.
    Live(Arc<Record>),
    /// The session has had another secret for less than a minute. The request was sent before the
    /// response to the rotation arrived: it gets no session, and no new one either.
    Superseded,
    /// There is certainly no live session with this id.
    Absent,
}

impl Loaded {
    /// Returns the session, if it is live and the secret is current.
    #[must_use]
    pub fn into_live(self) -> Option<Arc<Record>> {
        match self {
            Self::Live(record) => Some(record),
            Self::Superseded | Self::Absent => None,
        }
    }
}
