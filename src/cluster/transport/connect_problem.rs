//! Problems with a peer that an operator has to solve, and their log lines.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::tls::AuthError;
use crate::cluster::replica::node::Node;
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
    Stranger,
}

/// The problem that was last logged for one address, and when.
#[derive(Debug, Default)]
pub(super) struct LastLogged(Option<(ConnectProblem, Instant)>);

impl LastLogged {
    /// Logs a problem: when it begins, and from time to time while it continues.
    pub(super) fn log(&mut self, me: &Node, address: SocketAddr, problem: ConnectProblem) {
        let is_recent = |(known, at): (ConnectProblem, Instant)| {
            known == problem && at.elapsed() < LOG_AGAIN_AFTER
        };
        if !self.0.is_some_and(is_recent) {
            self.0 = Some((problem, Instant::now()));
            log_problem(me, address, problem);
        }
    }
}

fn log_problem(me: &Node, address: SocketAddr, problem: ConnectProblem) {
    match problem {
        ConnectProblem::Refused(RefusalReason::Cluster) => {
            tracing::warn!(peer = %address, "a replication peer belongs to another cluster");
        }
        ConnectProblem::Refused(RefusalReason::Protocol) => {
            tracing::warn!(
                peer = %address,
                "a replication peer uses another version of the replication protocol"
            );
        }
        ConnectProblem::Refused(RefusalReason::Name) => tracing::error!(
            peer = %address,
            node = %me.name,
            "a replication peer rejects this node, because another node has its name; give each \
             node a name of its own"
        ),
        ConnectProblem::Refused(RefusalReason::Unreachable) => tracing::error!(
            peer = %address,
            "a replication peer rejects this node, because one of the two can only be reached \
             from its own machine; `bind` or `advertise` an address that the other nodes reach"
        ),
        ConnectProblem::Refused(RefusalReason::Copies) => tracing::error!(
            peer = %address,
            "a replication peer keeps another number of copies; give all nodes the same `copies`"
        ),
        ConnectProblem::Refused(RefusalReason::Busy) => {
            tracing::warn!(peer = %address, "a replication peer has no room for another link");
        }
        ConnectProblem::Refused(RefusalReason::Full) => tracing::error!(
            peer = %address,
            cause = RefusalReason::Full.reason(),
            "a replication peer rejects this node"
        ),
        ConnectProblem::Refused(RefusalReason::Secret) => {
            log_problem(me, address, ConnectProblem::Untrusted(AuthError::Tls))
        }
        ConnectProblem::Refused(RefusalReason::Myself) => {}
        ConnectProblem::Untrusted(error) => {
            let cause = error.to_string();
            tracing::warn!(peer = %address, cause, "a replication peer is not trusted");
        }
        ConnectProblem::Silent => tracing::warn!(
            peer = %address,
            "a replication peer does not answer: check its address, the network and the firewalls"
        ),
        ConnectProblem::HungUp => tracing::warn!(
            peer = %address,
            "a replication peer closes connections without an answer: check its address and its log"
        ),
        ConnectProblem::Stranger => tracing::warn!(
            peer = %address,
            "what answers at the address of a replication peer is no node: check the address"
        ),
    }
}

/// Interval at which a problem that continues is logged.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);
