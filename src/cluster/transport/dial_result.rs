//! Results of dialing the addresses at which other nodes may be.

use std::net::SocketAddr;

use crate::cluster::replica::node::Node;
use crate::cluster::wire::{RefusalDetails, RefusalReason};

/// The result of dialing an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialResult {
    /// A node that accepts this one, and is reached at this address.
    Accepts { at: SocketAddr },
    /// A node that rejects this one, or that this one rejects.
    Rejects { by: Rejection, reason: &'static str },
    /// Connections are refused.
    Closed,
    /// No answer, or not one of a node.
    Silence,
}

/// The consequence of a rejection for this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// A node of the same cluster rejects this one.
    Peer,
    /// A node of the same cluster rejects this one because there is no place for it.
    Exclusion,
    /// The cluster's name or the secret differs.
    Foreign,
    /// The other node is the one to be rejected.
    Own,
    /// A node of the same cluster has the node to be rejected as a member. It may have sessions,
    /// and does not answer for them before it is informed.
    Younger,
}

impl Rejection {
    /// Returns the consequence, for `me`, of a refusal by the node at address `at`.
    pub(crate) fn of(
        me: &Node,
        at: SocketAddr,
        refusal: RefusalReason,
        details: &RefusalDetails,
    ) -> Self {
        let is_elder =
            |node: &Node| (me.incarnation, me.address) < (node.incarnation, node.address);
        match (refusal, &details.rival) {
            // A rival that serves is never the one to yield. One that was just restarted is the
            // younger: an older node of its name would ignore it and its members, serve alone, and
            // log their users out.
            (_, Some(rival)) if !rival.serves && is_elder(&rival.node) => {
                if rival.node.address == at {
                    Self::Own
                } else {
                    Self::Younger
                }
            }
            (RefusalReason::Cluster | RefusalReason::Secret, _) => Self::Foreign,
            (RefusalReason::Name | RefusalReason::Full, _) => Self::Exclusion,
            _ => Self::Peer,
        }
    }
}
