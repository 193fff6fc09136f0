//! The Redis store over real servers, which the tests start themselves.

mod access;
#[path = "../common/mod.rs"]
mod common;
mod contract;
mod copies;
mod failures;
mod groups;
mod proxy;
mod secure;
mod support;
