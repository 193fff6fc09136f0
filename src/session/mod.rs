//! What a session is: plain data, without HTTP and without IO.
//!
//! Everything in this folder is a value. A [`SessionId`] is the secret that a browser holds; a
//! [`Root`] is the part of it under which everybody else knows the session. A [`Record`] is
//! a session as a store keeps it, [`Changes`] is what one request did to it, and a [`Stamp`] orders
//! two writes of one attribute without asking that clocks agree.
//!
//! It promises: merging records is commutative, associative and idempotent, so copies of a record
//! agree after they have met, in whatever order and however often. It does not know time (every
//! function that needs *now* takes a [`Timestamp`]), stores, sockets or requests.

mod changes;
mod credential;
mod id;
mod idle;
pub(crate) mod json;
mod record;
mod stamp;
mod time;
mod user;
mod user_index;
mod value;

pub use changes::{Changes, Outcome, Rotation};
pub(crate) use credential::{Credential, Forked, Login, Presented};
#[cfg(any(feature = "redis", feature = "replicated", feature = "snapshot"))]
pub(crate) use credential::{Details, HISTORY_MAX};
pub use id::{Root, SLOTS, SecretHash, SessionId};
#[cfg(any(feature = "replicated", feature = "snapshot"))]
pub(crate) use idle::Idle;
pub(crate) use record::FLOOR;
#[cfg(any(feature = "redis", feature = "replicated", feature = "snapshot"))]
pub(crate) use record::Lifetime;
pub use record::{Loaded, Record, Register};
#[cfg(feature = "replicated")]
pub(crate) use record::{UPDATES_MAX, access_version};
pub use stamp::{Stamp, Writer};
pub use time::Timestamp;
pub use user::UserKey;
pub use user_index::SessionInfo;
pub(crate) use user_index::{
    IndexEntry, LABEL_MAX, Listed, index_root, new_index, note_end, prolong, put, remove,
};
pub use value::{Name, Value};
