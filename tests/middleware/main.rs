//! Cookies in, cookies out: the middleware as a black box, through its public API.
//!
//! "Nodes" are routers with routes of their own on one store. What needs several processes or a
//! network is in `cluster.rs`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod after_response;
mod attributes;
mod commit_when;
mod commits;
mod cookies;
mod failing_store;
mod header;
mod layers;
mod lifetime;
mod persistence;
mod privacy;
mod rollback;
mod rotation;
mod routes;
mod session_data;
mod stragglers;
mod support;
mod users;
