//! The tasks of a node.

/// A running node.
#[derive(Debug)]
pub(crate) enum Cluster {}
