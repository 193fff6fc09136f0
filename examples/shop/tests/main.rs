//! The shop, from what its visitors see.

#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod forms;
mod live;
mod nodes;
mod processes;
#[path = "../../../tests/common/replicas.rs"]
mod replicas;
mod visitor;
