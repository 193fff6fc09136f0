//! Summary of the addresses at which other nodes may be: the basis of the decision to serve.

/// The state of the addresses at which other nodes may be, except this node's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Outlook {
    /// Configured addresses, and names that do not resolve.
    pub(crate) configured: usize,
    /// Addresses whose nodes have accepted this one.
    pub(crate) accepting: usize,
    /// Addresses whose nodes are of the same cluster and reject this one.
    pub(crate) rejecting: usize,
    /// Addresses whose nodes reject this one because the cluster's name or the secret differs.
    pub(crate) foreign: usize,
    /// Rejecting addresses that exclude this node: a member has its name, or the cluster is full.
    pub(crate) excluding: usize,
    /// Addresses that do not answer, or whose state is not certain yet.
    pub(crate) silent: usize,
}
