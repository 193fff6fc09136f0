//! Clustered HTTP sessions for axum and tower.
//!
//! [`SessionLayer`] makes a session available to every request that it wraps; handlers extract it
//! as [`Session`]; a *store* decides where the data lives: in the memory of one node
//! ([`MemoryStore`][memory]), in the memory of all nodes ([`ReplicatedStore`][replicated], feature
//! `replicated`), or in Redis ([`RedisStore`][redis], feature `redis`).
//!
//! ```
//! # #[cfg(all(feature = "axum", feature = "memory"))] {
//! use axum::{Router, routing::get};
//! use distributable::{MemoryStore, Session, SessionError, SessionLayer};
//!
//! async fn counter(session: Session) -> Result<String, SessionError> {
//!     let count = session.get::<u32>("count")?.unwrap_or(0) + 1;
//!     session.insert("count", &count)?;
//!     Ok(format!("count = {count}"))
//! }
//!
//! let app: Router = Router::new()
//!     .route("/", get(counter))
//!     .layer(SessionLayer::new(MemoryStore::new()));
//! # }
//! ```
//!
//! # Overview
//!
//! - [`guide`]: quick start, guarantees, operations, migration, and the architecture.
//! - For handlers: [`Session`]; [`SessionData`] and [`SessionDataMut`] for one attribute as an
//!   argument; [`Peek`] to read without using the session; [`Attribute`] for typed names,
//!   [`Storable`] for values, [`SessionError`].
//! - For the application: [`SessionLayer`], [`SessionCookie`], [`SessionHeader`], [`Route`] and
//!   [`Affinity`] for sticky balancers, [`Limits`], [`SetupError`].
//! - [`SessionStore`], the contract of all stores, and [`store`]: their builders, states and
//!   errors.
//! - [`session`]: sessions as plain data, for authors of stores.
//! - [`middleware`]: types that appear in signatures only, such as the service of [`SessionLayer`].
//! - `testing` (feature `testing`): sessions, cookies and failures for tests of applications, and a
//!   suite that checks a store against the contract.
//!
//! # Features
//!
//! | feature | default | adds |
//! | --- | --- | --- |
//! | `axum` | yes | [`Session`] as an extractor, [`SessionError`] as a response |
//! | `memory` | yes | [`MemoryStore`][memory] |
//! | `redis` | no | [`RedisStore`][redis] |
//! | `replicated` | no | [`ReplicatedStore`][replicated] |
//! | `rustls` | no | `tls` of the replicated and the Redis builder: your own certificates |
//! | `snapshot` | no | [`SnapshotStore`][snapshot] (Unix) |
//! | `testing` | no | `Session::for_test`, and `testing`: helpers for tests, `conformance` |
//! | `tower-sessions` | no | `TowerSessions`: a store as one of tower-sessions 0.14 |
//! | `tower-sessions-0-15` | no | the same for tower-sessions 0.15 |
//!
// The first definition of a link counts: without the feature, it leads to the module.
#![cfg_attr(feature = "memory", doc = "[memory]: MemoryStore")]
#![cfg_attr(feature = "redis", doc = "[redis]: RedisStore")]
#![cfg_attr(feature = "replicated", doc = "[replicated]: ReplicatedStore")]
#![cfg_attr(all(feature = "snapshot", unix), doc = "[snapshot]: SnapshotStore")]
//! [memory]: store
//! [redis]: store
//! [replicated]: store
//! [snapshot]: store
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "tower-sessions", feature = "tower-sessions-0-15"))]
mod bridge;
mod clock;
#[cfg(feature = "replicated")]
mod cluster;
mod error;
#[cfg_attr(
    not(any(feature = "memory", feature = "replicated")),
    allow(dead_code, reason = "these stores report events")
)]
mod events;
#[path = "docs/mod.rs"]
pub mod guide;
pub mod middleware;
pub mod session;
#[cfg(any(
    feature = "redis",
    feature = "replicated",
    all(feature = "snapshot", unix)
))]
mod shutdown;
pub mod store;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg_attr(
    not(any(feature = "memory", feature = "replicated")),
    allow(dead_code, reason = "these stores wake tasks")
)]
mod watch;

#[cfg(any(feature = "tower-sessions", feature = "tower-sessions-0-15"))]
pub use bridge::TowerSessions;
#[cfg(feature = "replicated")]
pub use cluster::{Ack, Copies};
pub use error::{
    SessionError, SessionErrorKind, SetupError, SetupErrorKind, StoreError, StoreErrorKind,
};
pub use events::{Lagged, SessionEvents};
pub use middleware::cookie::route::{Affinity, Route};
pub use middleware::cookie::{Persistence, SameSite, Secure, SessionCookie};
pub use middleware::header::SessionHeader;
pub use middleware::layer::SessionLayer;
pub use middleware::limits::Limits;
pub use middleware::peek::Peek;
pub use middleware::session::Session;
pub use middleware::session_data::{SessionData, SessionDataMut};
pub use session::attribute::{Attribute, AttributeName, AttributeOf, SessionAttribute, Storable};
pub use session::event::{EndReason, SessionEvent, SessionEventKind};
pub use session::id::{Root, SessionId};
pub use session::list::{SessionCursor, SessionPage};
pub use session::scope::Scope;
pub use session::user::UserKey;
pub use session::user_index::SessionInfo;
#[cfg(any(
    feature = "redis",
    feature = "replicated",
    all(feature = "snapshot", unix)
))]
pub use shutdown::shutdown_signal;
#[cfg(feature = "memory")]
pub use store::memory::MemoryStore;
#[cfg(feature = "redis")]
pub use store::redis::RedisStore;
#[cfg(feature = "replicated")]
pub use store::replicated::ReplicatedStore;
pub use store::session_store::SessionStore;
#[cfg(all(feature = "snapshot", unix))]
pub use store::snapshot::SnapshotStore;

/// The README's examples are compiled with the tests of the documentation.
#[cfg(all(
    doctest,
    feature = "axum",
    feature = "redis",
    feature = "replicated",
    feature = "snapshot"
))]
#[doc = include_str!("../README.md")]
struct Readme;
