//! Slow links, large sessions, stopped processes and partitions: nodes that are late but not down.

mod backlog;
mod bandwidth;
#[path = "../common/mod.rs"]
mod common;
mod growth;
mod latency;
mod load;
mod measured;
mod min_copies;
mod network;
mod partition;
mod relay;
