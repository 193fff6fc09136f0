//! Playground processes: nodes and clusters that start, end, crash, hang, or receive connections
//! that are not from nodes.

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
mod undisturbed;
