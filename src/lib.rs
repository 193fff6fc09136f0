//! Distributable HTTP sessions for axum and tower.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
#[cfg(feature = "replicated")]
mod cluster;
mod error;
mod middleware;
pub mod session;
pub mod store;

#[cfg(feature = "replicated")]
pub use cluster::{Ack, Copies};
pub use error::{StoreError, StoreErrorKind};
pub use middleware::{
    Affinity, Attribute, AttributeName, AttributeOf, InvalidCookie, InvalidRoute, Limits,
    Persistence, ResponseBody, ResponseFuture, Route, SameSite, Secure, Session, SessionCookie,
    SessionCookieBuilder, SessionError, SessionErrorKind, SessionLayer, SessionService, Storable,
};
pub use session::{SessionId, SessionKey};
#[cfg(feature = "memory")]
pub use store::MemoryStore;
#[cfg(feature = "replicated")]
pub use store::ReplicatedStore;
pub use store::SessionStore;
#[cfg(feature = "testing")]
pub use store::testing;
