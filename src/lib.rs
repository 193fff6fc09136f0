//! Distributable HTTP sessions for axum and tower.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
#[cfg(feature = "replicated")]
mod cluster;
mod error;
mod middleware;
pub mod session;
pub mod store;

pub use error::{StoreError, StoreErrorKind};
pub use middleware::{
    Attribute, AttributeName, AttributeOf, InvalidCookie, InvalidRoute, Persistence, Route, SameSite,
    Secure, SessionCookie, SessionCookieBuilder, Storable,
};
pub use session::{SessionId, SessionKey};
#[cfg(feature = "memory")]
pub use store::MemoryStore;
pub use store::SessionStore;
