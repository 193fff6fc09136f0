//! Playground processes: what nodes and clusters of them do when they start, end, die, hang, or are
//! among strangers.

mod certainty;
#[path = "../common/mod.rs"]
mod common;
mod events;
mod failover;
mod failures;
mod flood;
mod logs;
mod namespaces;
mod playground;
