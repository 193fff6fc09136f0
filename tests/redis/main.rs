//! The Redis store over real servers, which the tests start themselves.

#[path = "../common/mod.rs"]
mod common;
mod contract;
mod failures;
mod proxy;
mod support;
