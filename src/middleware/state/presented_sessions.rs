//! The ids that a request presents, and the live sessions found under them.

use std::sync::Arc;

use crate::middleware::cookie::route::RouteBuf;
use crate::session::{Record, Root, SessionId};

/// An id that a browser has presented.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PresentedId {
    pub(crate) id: SessionId,
    pub(crate) key: Root,
    /// The cookie's route is not the one that it should name.
    pub(crate) is_route_stale: bool,
    /// The route that the cookie names.
    pub(crate) requested_route: Option<RouteBuf>,
    /// The cookie names a node other than this one, and this one has a route.
    pub(crate) is_misrouted: bool,
}

/// The live session found under a presented id.
#[derive(Debug)]
pub(crate) struct LoadedSession {
    pub(crate) presented: PresentedId,
    pub(crate) record: Arc<Record>,
}

/// The live sessions that a request presents.
#[derive(Debug)]
pub(crate) enum PresentedSessions {
    None,
    One(LoadedSession),
    /// Their keys; empty if there were more cookies than are looked up.
    Several(Vec<Root>),
    /// No live session, but one whose id was rotated.
    Superseded,
}

impl PresentedSessions {
    /// Adds another live session.
    pub(crate) fn with(self, session: LoadedSession) -> Self {
        let key = session.presented.key;
        match self {
            Self::None | Self::Superseded => Self::One(session),
            Self::One(first) => Self::Several(vec![first.presented.key, key]),
            Self::Several(mut keys) => {
                keys.push(key);
                Self::Several(keys)
            }
        }
    }
}
