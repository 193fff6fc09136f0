//! Problems with a peer that an operator has to solve, and their log lines.

use std::net::SocketAddr;

use crate::clock;
use crate::cluster::replica::node::Node;
use crate::cluster::throttle::{LOG_EVERY, Throttle};
use crate::cluster::transport::tls::AuthError;
use crate::cluster::wire::RefusalReason;

/// A problem that prevents a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectProblem {
    Refused(RefusalReason),
    Untrusted(AuthError),
    /// There is no answer, or not in time.
    Silent,
    /// Connections are closed before the handshake is answered.
    HungUp,
    /// The answer is not that of a node.
    NotANode,
}

/// The problem that was last logged for one address, and when.
#[derive(Debug, Default)]
pub(super) struct LastLogged(Option<(ConnectProblem, Throttle)>);

impl LastLogged {
    /// Logs a problem: when it begins, and from time to time while it continues.
    pub(super) fn log(&mut self, me: &Node, address: SocketAddr, problem: ConnectProblem) {
        let (known, throttle) = self
            .0
            .get_or_insert_with(|| (problem, Throttle::new(LOG_EVERY)));
        if *known != problem {
            (*known, *throttle) = (problem, Throttle::new(LOG_EVERY));
        }
        if throttle.is_due(clock::now()) {
            log_problem(me, address, problem);
        }
    }
}

fn log_problem(me: &Node, address: SocketAddr, problem: ConnectProblem) {
    match problem {
        ConnectProblem::Refused(RefusalReason::Cluster) => {
            tracing::warn!(%address, "a replication peer belongs to another cluster");
        }
        ConnectProblem::Refused(RefusalReason::Protocol) => {
            tracing::warn!(
                %address,
                "a replication peer uses another version of the replication protocol"
            );
        }
        ConnectProblem::Refused(RefusalReason::Name) => tracing::error!(
            %address,
            node = %me.name,
            "a replication peer rejects this node, because another node has its name; give each \
             node a name of its own"
        ),
        ConnectProblem::Refused(RefusalReason::Unreachable) => tracing::error!(
            %address,
            "a replication peer rejects this node, because one of the two can only be reached \
             from its own machine; `bind` or `advertise` an address that the other nodes reach"
        ),
        ConnectProblem::Refused(RefusalReason::Copies) => tracing::error!(
            %address,
            "a replication peer keeps another number of copies; give all nodes the same `copies`"
        ),
        ConnectProblem::Refused(RefusalReason::Busy) => {
            tracing::warn!(%address, "a replication peer has no room for another link");
        }
        ConnectProblem::Refused(RefusalReason::Full) => tracing::error!(
            %address,
            cause = RefusalReason::Full.reason(),
            "a replication peer rejects this node"
        ),
        ConnectProblem::Refused(RefusalReason::Secret) => {
            log_problem(me, address, ConnectProblem::Untrusted(AuthError::Tls))
        }
        ConnectProblem::Refused(RefusalReason::Myself) => {}
        ConnectProblem::Untrusted(error) => {
            let cause = error.message();
            tracing::warn!(%address, cause, "a replication peer is not trusted");
        }
        ConnectProblem::Silent => tracing::warn!(
            %address,
            "a replication peer does not answer: check its address, the network and the firewalls"
        ),
        ConnectProblem::HungUp => tracing::warn!(
            %address,
            "a replication peer closes connections without an answer: check its address and its log"
        ),
        ConnectProblem::NotANode => tracing::warn!(
            %address,
            "a replication peer's address is served by another program; check the address"
        ),
    }
}
