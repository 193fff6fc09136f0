//! Distributable HTTP sessions for axum and tower: any node behind the balancer resumes any session.
//!
//! [`SessionLayer`] gives every request below it a session to ask for, [`Session`] is what a handler
//! holds, and a store says where sessions live: in the memory of one node
//! ([`MemoryStore`](store)), in the memory of every node of the application
//! ([`ReplicatedStore`](store), feature `replicated`), or in Redis ([`RedisStore`](store), feature
//! `redis`).
//!
//! ```
//! # #[cfg(all(feature = "axum", feature = "memory"))] {
//! use axum::{Router, routing::get};
//! use distributable::{MemoryStore, Session, SessionError, SessionLayer};
//!
//! async fn counter(session: Session) -> Result<String, SessionError> {
//!     let visit = |before: Option<u32>| before.unwrap_or(0) + 1;
//!     let n = session.update("session_counter", visit).await?;
//!     Ok(format!("Session Counter = {n}"))
//! }
//!
//! let app: Router = Router::new()
//!     .route("/", get(counter))
//!     .layer(SessionLayer::new(MemoryStore::new()));
//! # }
//! ```
//!
//! Taking [`Session`] in a handler loads the session; from then on it is synchronous. The first
//! write creates it. What was changed is stored before the head of the response leaves, whatever its
//! status; if that fails, an error response stands in for it (503 if the store is to blame). A handler
//! that does not take `Session` causes no call of the store and no header.
//!
//! # What is where
//!
//! - A handler's side: [`Session`], [`Attribute`] for typed names, [`Storable`] for what may be
//!   stored, [`SessionError`].
//! - The application's side: [`SessionLayer`], [`SessionCookie`], [`Route`] and [`Affinity`] for
//!   sticky balancers, [`Limits`].
//! - [`store`]: the stores and the contract that each of them keeps, [`SessionStore`].
//! - [`session`]: what a session is, as plain data, for those who write a store.
//! - `testing` (feature `testing`): the suite that holds a store to its contract.
//! - [`coming_from`]: Tomcat, WebLogic, JEUS and Spring Session, setting by setting.
//!
//! The [README](https://docs.rs/crate/distributable) says what is promised when nodes fail and what
//! is not, and how to run the examples.
//!
//! # Features
//!
//! | feature | default | gives |
//! | --- | --- | --- |
//! | `axum` | yes | [`Session`] as an extractor, [`SessionError`] as a response |
//! | `memory` | yes | [`MemoryStore`](store) |
//! | `redis` | no | [`RedisStore`](store): sessions in a Redis or Valkey server |
//! | `replicated` | no | [`ReplicatedStore`](store): sessions in the memory of every node |
//! | `rustls` | no | `ReplicatedStoreBuilder::tls`: replication under certificates of your own |
//! | `snapshot` | no | [`SnapshotStore`](store): the memory or the replicated store, in a file over a restart (Unix) |
//! | `testing` | no | `testing::conformance`, for authors of stores |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
#[cfg(feature = "replicated")]
mod cluster;
pub mod coming_from;
mod error;
mod middleware;
pub mod session;
#[cfg(feature = "replicated")]
mod signal;
pub mod store;

#[cfg(feature = "replicated")]
pub use cluster::{Ack, Copies};
pub use error::{StoreError, StoreErrorKind};
pub use middleware::{
    Affinity, Attribute, AttributeName, AttributeOf, InvalidCookie, InvalidRoute, Limits,
    Persistence, ResponseBody, ResponseFuture, Route, SameSite, Secure, Session, SessionCookie,
    SessionCookieBuilder, SessionError, SessionErrorKind, SessionLayer, SessionService, Storable,
};
pub use session::{Root, SessionId, SessionInfo, UserKey};
#[cfg(feature = "replicated")]
pub use signal::shutdown_signal;
#[cfg(feature = "memory")]
pub use store::MemoryStore;
#[cfg(feature = "redis")]
pub use store::RedisStore;
#[cfg(feature = "replicated")]
pub use store::ReplicatedStore;
pub use store::SessionStore;
#[cfg(all(feature = "snapshot", unix))]
pub use store::SnapshotStore;
#[cfg(feature = "testing")]
pub use store::testing;

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
