//! The data model of a session: plain data, without HTTP and without I/O.
//!
//! Everything in this folder is a value. A [`SessionId`] is the secret that a browser holds; a
//! [`Root`] is the part of it that names the session everywhere else. A [`Record`] is a session as
//! a store keeps it, [`Changes`] are the changes of one request to it, and a [`Version`] orders two
//! writes of one attribute without synchronized clocks.
//!
//! Merging records is commutative, associative and idempotent, so copies of a record converge, in
//! any order and with any repetition. No function here reads the clock; those that need the time
//! take a [`Timestamp`]. Nothing here depends on stores, sockets or requests.

pub(crate) mod attribute;
mod changes;
pub(crate) mod codec;
mod credential;
pub(crate) mod event;
pub(crate) mod id;
mod idle;
pub(crate) mod list;
mod record;
pub(crate) mod scope;
mod shown;
mod timestamp;
pub(crate) mod user;
pub(crate) mod user_index;
mod value;
mod version;

pub(crate) use attribute::{AttributeName, AttributeOf, Storable, is_reserved};
pub use changes::{Changes, Outcome, Rotation};
#[cfg(any(test, feature = "replicated", feature = "snapshot"))]
pub(crate) use credential::Forked;
pub(crate) use credential::{Credential, Details, HISTORY_MAX, Login, Presented};
#[cfg(any(feature = "memory", feature = "redis", feature = "replicated"))]
pub(crate) use event::SessionEventKind;
pub(crate) use event::{EndReason, SessionEvent};
#[cfg(any(feature = "memory", feature = "replicated"))]
pub(crate) use id::SLOTS;
pub use id::SecretHash;
pub(crate) use id::{Root, SessionId};
pub(crate) use idle::Idle;
#[cfg(feature = "replicated")]
pub(crate) use list::ListPart;
#[cfg(any(feature = "memory", feature = "replicated"))]
pub(crate) use list::PageBuilder;
pub(crate) use list::{SessionCursor, SessionPage};
#[cfg(feature = "replicated")]
pub(crate) use record::access_version;
pub(crate) use record::{AttributeEntry, FLOOR, Lifetime, UPDATES_MAX};
pub use record::{Loaded, Record};
pub(crate) use scope::Scope;
pub use timestamp::Timestamp;
pub(crate) use user::UserKey;
pub(crate) use user_index::{
    IndexEntry, LABEL_MAX, Listed, SessionInfo, expect_entry, index_root, new_index, note_end,
    prolong, put, remove,
};
pub use value::{Name, Value};
pub use version::Version;
pub(crate) use version::WriterId;
