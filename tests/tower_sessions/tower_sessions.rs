//! Applications of tower-sessions, axum-login and axum-messages on stores of this crate.

#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

mod application;
mod applications;
mod cluster;
mod expectations;
mod processes;
mod support;
