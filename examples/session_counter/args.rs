//! The flags of the example.

use clap::{Parser, ValueEnum};

/// Counts how often you come back, on any of its nodes.
#[derive(Parser)]
pub(crate) struct Args {
    /// Where to serve HTTP [default: the first free port of 127.0.0.1:8080 to 8099]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// This node's name [default: node1 on port 8080, node2 on port 8081, …]
    #[arg(long)]
    pub(crate) route: Option<String>,
    /// Another node's cluster port; may be given several times [default: 127.0.0.1:4000 to 4009]
    #[arg(long, value_name = "ADDR")]
    pub(crate) peer: Vec<String>,
    /// Where sessions live
    #[arg(long, value_enum, default_value = "replicated")]
    pub(crate) store: Store,
}

#[derive(ValueEnum, Clone, Copy)]
pub(crate) enum Store {
    Memory,
    Replicated,
}
