//! Handshakes: how nodes find, accept and reject each other, as the driver and its links do.
//!
//! A node dials all addresses at which other nodes are or were, and reports the results to its
//! replica. [`Addresses`], [`Sightings`] and the [admission](crate::cluster::admission) rules are
//! those of a real node; only the path between two nodes is simulated.
//!
//! [`Addresses`]: crate::cluster::outlook::Addresses
//! [`Sightings`]: crate::cluster::sightings::Sightings

use std::iter::once;
use std::net::SocketAddr;

use rand::RngExt;

use crate::cluster::admission::{find_rival, refusal_for};
use crate::cluster::replica::event::Input;
use crate::cluster::replica::node::Node;
use crate::cluster::sim::event::SimEvent;
use crate::cluster::sim::link::SimLink;
use crate::cluster::sim::pending::PendingInput;
use crate::cluster::sim::world::World;
use crate::cluster::transport::{DialResult, Lookup, Rejection};
use crate::cluster::wire::{Hello, HelloReply, RefusalDetails, RefusalReason, Rival};

impl World {
    /// Dials all nodes to which it has no link, repeatedly.
    pub(super) fn dial(&mut self, index: usize) {
        if self.nodes[index].replica.is_none() {
            return;
        }
        if self.is_running(index) {
            self.look_up(index);
            for other in 0..self.nodes.len() {
                self.connect(index, other);
            }
            self.dial_former_addresses(index);
            self.report_outlook(index);
        }
        let again = self.rng.random_range(50_000..500_000);
        self.after(again, SimEvent::Dial { node: index });
    }

    /// Resolves the name of each node to its current address.
    fn look_up(&mut self, index: usize) {
        let now = self.clock(index);
        for other in 0..self.nodes.len() {
            let found = Lookup::Addresses(vec![self.nodes[other].me.address]);
            let addresses = &self.nodes[index].addresses;
            addresses.resolved(now, &host_name(other), &found);
        }
    }

    /// Dials addresses at which nodes have been.
    fn dial_former_addresses(&mut self, index: usize) {
        let is_former = |address: &SocketAddr| {
            let mut nodes = self.nodes.iter();
            nodes.all(|node| node.me.address != *address)
        };
        let dialed = self.nodes[index].dialed.iter().copied();
        for address in dialed.filter(is_former).collect::<Vec<_>>() {
            self.found(index, address, self.nothing());
        }
    }

    /// The result of dialing an address without a node.
    const fn nothing(&self) -> DialResult {
        if self.plan.crash_is_noticed {
            DialResult::Closed
        } else {
            DialResult::Silence
        }
    }

    fn found(&mut self, index: usize, address: SocketAddr, answer: DialResult) {
        let now = self.clock(index);
        let node = &mut self.nodes[index];
        node.dialed.insert(address);
        node.addresses.dialed(now, address, answer);
    }

    /// Passes the state of the addresses to the replica, if it has changed.
    pub(super) fn report_outlook(&mut self, index: usize) {
        let node = &self.nodes[index];
        let me = node.me.address;
        if let Some(outlook) = node.addresses.changed(|address| *address == me) {
            self.input(index, Input::Outlook(outlook));
        }
    }

    /// Connects a node to another one, which then dials back.
    pub(super) fn connect(&mut self, index: usize, other: usize) {
        if other == index || !self.is_running(index) || self.is_linked(index, other) {
            return;
        }
        let dialed = self.nodes[other].me.clone();
        let is_open = self.network.is_open(index, other) && self.network.is_open(other, index);
        if is_open && self.nodes[other].replica.is_none() {
            return self.found(index, dialed.address, self.nothing());
        }
        if !is_open || !self.is_running(other) {
            return self.found(index, dialed.address, DialResult::Silence);
        }
        let dialer = self.nodes[index].me.clone();
        let hello = self.hello(index, dialer.clone());
        let seen = match self.answer_hello(other, &hello) {
            HelloReply::Refused { refusal, details } => {
                self.turned_away(index, dialed.address, refusal, &details);
                return self.correct(index, &dialer, details.seen);
            }
            HelloReply::Welcome { seen, .. } => seen,
        };
        self.accept(other, dialer.clone());
        // A node that handles an input after a long pause may continue under another identity.
        if self.nodes[index].me != dialer || self.nodes[other].me != dialed {
            return;
        }
        self.correct(index, &dialer, seen);
        if self.nodes[index].me == dialer {
            self.welcomed(index, other, dialed);
        }
    }

    /// Called when a node was accepted by another one.
    fn welcomed(&mut self, index: usize, other: usize, dialed: Node) {
        let address = dialed.address;
        self.found(index, address, DialResult::Accepts { at: address });
        if let Some(refusal) = self.objection(index, &dialed) {
            return self.found(index, address, rejects(Rejection::Own, refusal));
        }
        self.last_link += 1;
        let (me, rules) = (self.nodes[index].me.clone(), self.plan.link_rules);
        let link = SimLink::new(self.last_link, me, dialed.clone(), rules, self.now);
        self.break_link(index, other);
        self.links.insert(index, other, link);
        self.input(index, Input::LinkUp { node: dialed });
        let after = self.rng.random_range(500..20_000);
        let dial_back = SimEvent::DialBack {
            node: other,
            from: index,
        };
        self.after(after, dial_back);
    }

    /// Called when a node was refused by the one at this address.
    fn turned_away(
        &mut self,
        index: usize,
        at: SocketAddr,
        refusal: RefusalReason,
        details: &RefusalDetails,
    ) {
        let by = Rejection::of(&self.nodes[index].me, at, refusal, details);
        if let Some(Rival { node, serves: true }) = &details.rival {
            let node = node.clone();
            self.input(index, Input::Rival { node });
        }
        self.found(index, at, rejects(by, refusal));
    }

    /// Informs a node that has identified itself as `me` of the latest incarnation number seen.
    fn correct(&mut self, index: usize, me: &Node, seen: u64) {
        if seen >= me.incarnation && self.nodes[index].me == *me {
            self.input(index, Input::Seen { incarnation: seen });
        }
    }

    fn accept(&mut self, index: usize, node: Node) {
        if self.is_free(index) {
            self.input(index, Input::Accepted { node });
        } else {
            self.postpone(index, PendingInput::Accepted { node });
        }
    }

    fn hello(&self, index: usize, me: Node) -> Hello {
        Hello::new(CLUSTER, me, self.nodes[index].process, self.plan.copies)
    }

    /// Returns a node's answer to a handshake.
    fn answer_hello(&self, index: usize, hello: &Hello) -> HelloReply {
        let me = &self.nodes[index].me;
        let status = self.replica(index).status();
        let nodes = status.members.iter().map(|member| &member.node);
        let sightings = &self.nodes[index].sightings;
        let seen = sightings.latest(hello, nodes.chain(once(me)));
        if let Some(refusal) = self.objection(index, &hello.node) {
            let name = &hello.node.name;
            let rival = find_rival(name, me, status.ready, &status.members);
            let rival = rival.filter(|_| refusal == RefusalReason::Name);
            let details = RefusalDetails { seen, rival };
            return HelloReply::Refused { refusal, details };
        }
        sightings.record_handshake(hello);
        HelloReply::Welcome {
            proto: hello.common_protocol().unwrap_or_default(),
            node: me.clone(),
            seen,
        }
    }

    /// Returns the reason why one node refuses another.
    fn objection(&self, index: usize, node: &Node) -> Option<RefusalReason> {
        let members = self.replica(index).status().members;
        let members = members.iter().map(|member| &member.node);
        refusal_for(node, &self.nodes[index].me, members)
    }

    /// Returns the latest incarnation number that any reachable node has seen of this node, as a
    /// node asks when it starts.
    pub(super) fn highest_seen(&self, index: usize) -> u64 {
        let mut me = self.nodes[index].me.clone();
        me.incarnation = 0;
        let hello = self.hello(index, me);
        let can_be_asked = |other: &usize| {
            *other != index
                && self.is_running(*other)
                && self.network.is_open(index, *other)
                && self.network.is_open(*other, index)
        };
        let seen = |other: usize| {
            let members = self.replica(other).status().members;
            let nodes = members.iter().map(|member| &member.node);
            let node = &self.nodes[other];
            node.sightings.latest(&hello, nodes.chain(once(&node.me)))
        };
        let all = (0..self.nodes.len()).filter(can_be_asked).map(seen);
        all.max().unwrap_or(0)
    }
}

const fn rejects(by: Rejection, refusal: RefusalReason) -> DialResult {
    let reason = refusal.reason();
    DialResult::Rejects { by, reason }
}

/// The name under which a node can be found.
pub(super) fn host_name(index: usize) -> String {
    format!("node{index}.example:4000")
}

const CLUSTER: &str = "simulation";
