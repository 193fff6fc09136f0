//! Why a node cannot be replicated with, until somebody does something about it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::security::Distrust;
use crate::cluster::replica::node::Node;
use crate::cluster::wire::Refusal;

/// What somebody has to do something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectProblem {
    Refused(Refusal),
    Distrusted(Distrust),
    /// Nothing answers, or not in time.
    Silent,
    /// Connections are closed before an introduction is answered.
    HungUp,
    /// What answers is no node.
    Stranger,
}

/// What operators have been told of one address, and when.
#[derive(Debug, Default)]
pub(super) struct Told(Option<(ConnectProblem, Instant)>);

impl Told {
    /// Says what is wrong: when it begins, and now and then while it goes on.
    pub(super) fn tell(&mut self, me: &Node, address: SocketAddr, obstacle: ConnectProblem) {
        let told = |(known, at): (ConnectProblem, Instant)| {
            known == obstacle && at.elapsed() < TELL_AGAIN_AFTER
        };
        if !self.0.is_some_and(told) {
            self.0 = Some((obstacle, Instant::now()));
            say(me, address, obstacle);
        }
    }
}

fn say(me: &Node, address: SocketAddr, obstacle: ConnectProblem) {
    match obstacle {
        ConnectProblem::Refused(Refusal::Cluster) => {
            tracing::warn!("{address} belongs to another replication cluster");
        }
        ConnectProblem::Refused(Refusal::Protocol) => {
            tracing::warn!("{address} speaks another version of the replication protocol");
        }
        ConnectProblem::Refused(Refusal::Name) => tracing::error!(
            "{address} cannot be replicated with: two nodes are called {}; give each node a name \
             of its own",
            me.name
        ),
        ConnectProblem::Refused(Refusal::Unreachable) => tracing::error!(
            "{address} cannot be replicated with: one of the two nodes can only be reached from \
             its own machine; bind or advertise it to an address that the others reach"
        ),
        ConnectProblem::Refused(Refusal::Copies) => tracing::error!(
            "{address} cannot be replicated with: it keeps another number of copies; give all nodes \
             the same `copies`"
        ),
        ConnectProblem::Refused(Refusal::Busy) => {
            tracing::warn!("{address} has no room for another link");
        }
        ConnectProblem::Refused(Refusal::Full) => tracing::error!(
            "{address} cannot be replicated with: {}",
            Refusal::Full.reason()
        ),
        ConnectProblem::Refused(Refusal::Secret) => {
            say(me, address, ConnectProblem::Distrusted(Distrust::Tls))
        }
        ConnectProblem::Refused(Refusal::Myself) => {}
        ConnectProblem::Distrusted(distrust) => {
            tracing::warn!("{address} cannot be replicated with: it {distrust}");
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

/// How often operators are told of an obstacle that stays.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(60);
