//! [`SessionEvent`]: the creation, rotation, end or expiry of a session, as it is reported.

#[cfg(any(feature = "memory", feature = "replicated"))]
use crate::session::Record;
use crate::session::{Root, Timestamp, UserKey};

/// A change in the life of a session: its creation, a rotation of its id, its deletion or expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionEvent {
    /// The kind of the change.
    pub kind: SessionEventKind,
    /// The root of the session's id: its name in stores and logs, which is not a secret.
    pub key: Root,
    /// The user who is logged in, or was; `None` also where the reporting node does not keep the
    /// session.
    pub user: Option<UserKey>,
    /// The node that reports it; `None` where the store has no nodes.
    pub node: Option<String>,
    /// The time of the change, by the clock of the node that hands out this event.
    pub at: Timestamp,
    /// `true` if another node may have reported it before. Such an event is reported for a node
    /// that has failed, or when the session's owner has just changed; it can be received twice.
    pub possible_repeat: bool,
}

/// The kind of a [`SessionEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionEventKind {
    /// The session was created.
    Created,
    /// The session has a new id, usually because of a login.
    Rotated,
    /// The session was deleted.
    Deleted(EndReason),
    /// The session has expired: [`Idle`](EndReason::Idle) or [`Absolute`](EndReason::Absolute).
    Expired(EndReason),
}

/// Why a session was deleted or expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// Its visitor has logged out: [`Session::invalidate`](crate::Session::invalidate) or
    /// [`log_out`](crate::Session::log_out).
    Logout,
    /// All sessions of its user were ended: [`end_user`](crate::SessionStore::end_user).
    User,
    /// The application has deleted it by its key: [`delete`](crate::SessionStore::delete).
    Admin,
    /// Its user had more sessions than the limit.
    Limit,
    /// It was not used within its idle timeout.
    Idle,
    /// It reached its absolute deadline.
    Absolute,
}

impl SessionEventKind {
    /// Returns the kind in one word: `created`, `rotated`, `deleted` or `expired`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Rotated => "rotated",
            Self::Deleted(_) => "deleted",
            Self::Expired(_) => "expired",
        }
    }

    /// Returns why the session was deleted or expired, if it was.
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
    /// Returns the reason in one word, in lower case.
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
