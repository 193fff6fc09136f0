//! [`SessionEvent`]: the creation, rotation, end or expiry of a session, as it is reported.

#[cfg(any(feature = "memory", feature = "replicated"))]
use crate::session::Record;
use crate::session::{Root, Timestamp, UserKey};

/// Something that has happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionEvent {
    /// What has happened.
    pub kind: SessionEventKind,
    /// The root of the session's id: its name in stores and logs, and no secret.
    pub key: Root,
    /// The user who is logged in, or was; `None` also where the reporting node does not keep the
    /// session.
    pub user: Option<UserKey>,
    /// The node that reports it; `None` where the store has no nodes.
    pub node: Option<String>,
    /// When it has happened, on the clock of the node that hands out this event.
    pub at: Timestamp,
    /// Whether another node may have reported it before. Such an event is reported for a node that
    /// has failed, or when the session's owner has just changed; it can be received twice.
    pub possible_repeat: bool,
}

/// What can happen to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionEventKind {
    /// It was made.
    Created,
    /// It has a new id, mostly because of a login.
    Rotated,
    /// It was ended.
    Deleted(EndReason),
    /// Its time has run out: [`Idle`](EndReason::Idle) or [`Absolute`](EndReason::Absolute).
    Expired(EndReason),
}

/// Why a session is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// Its visitor has left: [`Session::invalidate`](crate::Session::invalidate) or
    /// [`log_out`](crate::Session::log_out).
    Logout,
    /// All sessions of its user were ended: [`end_user`](crate::SessionStore::end_user).
    User,
    /// The application has ended it by its key: [`delete`](crate::SessionStore::delete).
    Admin,
    /// Its user had too many.
    Limit,
    /// It was not used for its idle time.
    Idle,
    /// Its absolute lifetime was over.
    Absolute,
}

impl SessionEventKind {
    /// The kind in one word: `created`, `rotated`, `deleted` or `expired`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Rotated => "rotated",
            Self::Deleted(_) => "deleted",
            Self::Expired(_) => "expired",
        }
    }

    /// Why the session is no more, if it is.
    #[must_use]
    pub const fn reason(self) -> Option<EndReason> {
        match self {
            Self::Created | Self::Rotated => None,
            Self::Deleted(reason) | Self::Expired(reason) => Some(reason),
        }
    }

    /// How `record` expires.
    #[cfg(any(feature = "memory", feature = "replicated"))]
    pub(crate) fn expiry_of(record: &Record) -> Self {
        Self::Expired(if record.expires_at() < record.absolute_deadline() {
            EndReason::Idle
        } else {
            EndReason::Absolute
        })
    }
}

impl EndReason {
    /// The reason in one word, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::User => "user",
            Self::Admin => "admin",
            Self::Limit => "limit",
            Self::Idle => "idle",
            Self::Absolute => "absolute",
        }
    }
}
