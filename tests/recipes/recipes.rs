//! The recipes of the guide, compiled and tested.
//!
//! The code that the guide shows is in `src/docs/recipes`. Each module here has one of these files
//! as its module `recipe`, and tests it through requests.
#![expect(clippy::unwrap_used, reason = "it is how a test fails")]
#![expect(
    unreachable_pub,
    reason = "recipes are to be copied, also to libraries"
)]

mod csrf;
mod error_page;
mod events;
mod flash;
mod grpc;
mod guards;
mod jobs;
mod layers;
mod login;
mod logs;
mod plain;
#[path = "../common/scratch.rs"]
mod scratch;
mod sql_store;
#[path = "../tower_sessions/support.rs"]
mod support;
mod two_applications;
mod websocket;

/// The service that `build.rs` has generated.
mod shop {
    #![allow(clippy::all, unused_qualifications, reason = "it is generated")]
    include!(concat!(env!("OUT_DIR"), "/shop.Cart.rs"));
}
