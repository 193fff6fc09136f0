//! The Redis store over real servers, which the tests start themselves.
#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

mod access;
mod away;
#[path = "../common/mod.rs"]
mod common;
mod contract;
mod copies;
mod earlier_states;
mod encryption;
mod event_groups;
mod events;
mod failures;
mod front;
mod groups;
mod late_attempts;
mod lists;
mod moves;
mod nodes;
mod proxy;
mod request_options;
mod runtimes;
mod secrets;
mod secure;
mod sentinels;
mod settings;
mod slow_links;
mod support;
