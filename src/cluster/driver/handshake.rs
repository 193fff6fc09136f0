//! Handshakes: what this node presents to other nodes, and its answers to theirs.

use crate::cluster::admission::{find_rival, refusal_for};
use crate::cluster::driver::Driver;
use crate::cluster::replica::event::Input;
use crate::cluster::replica::node::{Node, SEEN_MAX};
use crate::cluster::wire::{Hello, HelloReply, RefusalDetails, RefusalReason};

impl Driver {
    /// Handles the incarnation number that a node has seen under this node's name or address, in a
    /// handshake made as `me`. Returns `true` if this node therefore continues in another
    /// incarnation.
    pub(crate) fn continue_above(&self, me: &Node, seen: u64) -> bool {
        if seen < me.incarnation || seen > SEEN_MAX || self.me() != *me {
            return false;
        }
        self.input(Input::Seen { incarnation: seen });
        self.me() != *me
    }

    /// Returns why this node must be refused, or `None` if it may join.
    pub(crate) fn refusal_for(&self, node: &Node) -> Option<RefusalReason> {
        let members = self.replica.status().members;
        let nodes = members.iter().map(|member| &member.node);
        refusal_for(node, &self.me(), nodes)
    }

    /// Returns this node's handshake.
    pub(crate) fn hello(&self) -> Hello {
        self.admission.hello(self.me())
    }

    /// Answers a handshake.
    pub(crate) fn answer_hello(&self, hello: &Hello) -> HelloReply {
        let me = self.me();
        let members = self.replica.status().members;
        let nodes = members.iter().map(|member| &member.node);
        let seen = self
            .sightings
            .latest(hello, nodes.clone().chain(std::iter::once(&me)));
        if let Some(refusal) = self.admission.refusal(hello, &me, nodes) {
            let (name, serves) = (&hello.node.name, self.replica.is_ready());
            let rival =
                find_rival(name, &me, serves, &members).filter(|_| refusal == RefusalReason::Name);
            let details = match refusal {
                // An unauthenticated node gets no information.
                RefusalReason::Cluster | RefusalReason::Myself => RefusalDetails::default(),
                _ => RefusalDetails { seen, rival },
            };
            return HelloReply::Refused { refusal, details };
        }
        if hello.node.incarnation > 0 {
            self.sightings.record_handshake(hello);
        }
        HelloReply::Welcome {
            proto: hello.common_protocol().unwrap_or_default(),
            node: me,
            seen,
        }
    }

    /// Refuses a node without a secret, when this node has one.
    pub(crate) fn refuse_plain(&self, hello: &Hello) -> RefusalReason {
        let refusal = if hello.cluster == self.hello().cluster {
            RefusalReason::Secret
        } else {
            RefusalReason::Cluster
        };
        self.admission
            .record_refusal(&hello.node, &self.me(), refusal);
        refusal
    }
}
