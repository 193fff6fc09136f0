//! Latest incarnations of other nodes, by address and by name.
//!
//! A node that was restarted after its clock was set back has an incarnation number that the
//! members have already seen, and do not accept again. Therefore the answer to every handshake
//! names the latest one seen under the node's address or name, and the node continues above it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::session::Timestamp;
use crate::sync::lock;

use crate::cluster::replica::node::Node;
use crate::cluster::wire::Hello;

/// The latest incarnations, by address and by name.
#[derive(Debug, Default)]
pub(super) struct Sightings(Mutex<SightingTable>);

#[derive(Debug, Default)]
struct SightingTable {
    addresses: HashMap<SocketAddr, Sighting>,
    names: HashMap<Arc<str>, Sighting>,
}

#[derive(Clone, Debug)]
struct Sighting {
    node: Node,
    /// The process that has identified itself as this node.
    process: Option<u64>,
    /// Since when it is a member.
    since: Option<Timestamp>,
}

impl Sightings {
    /// Records a handshake.
    pub(super) fn record_handshake(&self, hello: &Hello) {
        self.note(&hello.node, |sighting| {
            sighting.process = Some(hello.process);
        });
    }

    /// Records a new member.
    pub(super) fn joined(&self, now: Timestamp, node: &Node) {
        self.note(node, |sighting| sighting.since = Some(now));
    }

    /// Returns when the node became a member.
    pub(super) fn since(&self, node: &Node) -> Option<Timestamp> {
        let seen = self.seen();
        let sighting = seen.addresses.get(&node.address)?;
        sighting.since.filter(|_| sighting.node == *node)
    }

    /// Returns the latest incarnation number in which another process was seen under the address of
    /// a node, or under its name unless one of `members` has that name; 0 for none.
    pub(super) fn latest<'a>(
        &self,
        hello: &Hello,
        mut members: impl Iterator<Item = &'a Node>,
    ) -> u64 {
        let is_other = |sighting: &&Sighting| match sighting.process {
            Some(process) => process != hello.process,
            // It may be the same process: another member has named it.
            None => sighting.node.incarnation > hello.node.incarnation,
        };
        let seen = self.seen();
        let by_address = seen.addresses.get(&hello.node.address);
        let by_name = seen
            .names
            .get(&hello.node.name)
            .filter(|sighting| !members.any(|member| *member == sighting.node));
        let others = by_address.into_iter().chain(by_name).filter(is_other);
        others.map(|seen| seen.node.incarnation).max().unwrap_or(0)
    }

    fn note(&self, node: &Node, add: impl Fn(&mut Sighting)) {
        let mut seen = self.seen();
        let SightingTable { addresses, names } = &mut *seen;
        if addresses.len() < SEEN_MAX || addresses.contains_key(&node.address) {
            let known = addresses.entry(node.address);
            known.or_insert_with(|| Sighting::of(node)).take(node, &add);
        }
        if names.len() < SEEN_MAX || names.contains_key(&node.name) {
            let known = names.entry(node.name.clone());
            known.or_insert_with(|| Sighting::of(node)).take(node, &add);
        }
    }

    fn seen(&self) -> MutexGuard<'_, SightingTable> {
        lock(&self.0)
    }
}

impl Sighting {
    fn of(node: &Node) -> Self {
        Self {
            node: node.clone(),
            process: None,
            since: None,
        }
    }

    /// Updates the entry of a node, unless a later incarnation is already recorded.
    fn take(&mut self, node: &Node, add: impl Fn(&mut Self)) {
        if node.incarnation > self.node.incarnation {
            *self = Self::of(node);
        }
        if self.node == *node {
            add(self);
        }
    }
}

/// Most addresses, and most names, recorded.
const SEEN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::copies::Copies;

    fn hello(port: u16, incarnation: u64, process: u64) -> Hello {
        let node = Node {
            address: ([127, 0, 0, 1], port).into(),
            incarnation,
            name: "a".into(),
        };
        Hello::new("shop", node, process, Copies::All)
    }

    fn latest(sightings: &Sightings, hello: &Hello) -> u64 {
        sightings.latest(hello, std::iter::empty())
    }

    #[test]
    fn a_process_finds_earlier_ones_and_not_itself() {
        let sightings = Sightings::default();
        sightings.record_handshake(&hello(1, 7, 100));
        assert_eq!(latest(&sightings, &hello(1, 7, 100)), 0);
        assert_eq!(latest(&sightings, &hello(1, 5, 200)), 7);
        // If the clock stands still both have the same incarnation number.
        assert_eq!(latest(&sightings, &hello(1, 7, 200)), 7);
        // The same name at another address.
        assert_eq!(latest(&sightings, &hello(2, 5, 200)), 7);
    }

    #[test]
    fn a_node_that_another_member_has_named_may_be_the_same_process() {
        let sightings = Sightings::default();
        sightings.joined(Timestamp::default(), &hello(1, 7, 100).node);
        assert_eq!(latest(&sightings, &hello(1, 7, 100)), 0);
        assert_eq!(latest(&sightings, &hello(1, 6, 100)), 7);
    }

    #[test]
    fn a_living_member_of_the_same_name_is_no_earlier_incarnation() {
        let sightings = Sightings::default();
        let member = hello(1, 7, 100);
        sightings.record_handshake(&member);
        let double = hello(2, 5, 200);
        assert_eq!(sightings.latest(&double, [&member.node].into_iter()), 0);
    }

    #[test]
    fn an_earlier_incarnation_does_not_replace_a_later_one() {
        let sightings = Sightings::default();
        let now = Timestamp::from_millis(9);
        sightings.joined(now, &hello(1, 7, 100).node);
        sightings.record_handshake(&hello(1, 6, 200));
        assert_eq!(sightings.since(&hello(1, 7, 100).node), Some(now));
        assert_eq!(sightings.since(&hello(1, 6, 200).node), None);
    }
}
